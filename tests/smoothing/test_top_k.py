"""The k best: the recursion, a solver by bisection, proved bounds, gradients."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seeded import F64, gen, randn
from torch.autograd import gradcheck, gradgradcheck

from kexue import smoothing
from kexue.smoothing import soft_k_max, soft_top_k


def recursion(x: list[float], k: int) -> list[float]:
    """The article's algorithm in plain Python."""
    n, low = len(x), min(x)
    p = [0.0] * n
    for _ in range(k):
        y = [(1 - p[i]) * (x[i] - low) for i in range(n)]
        weights = [math.exp(v - max(y)) for v in y]
        p = [p[i] + weights[i] / sum(weights) for i in range(n)]
    return p


@pytest.mark.verifies("smoothing.alg1")
@given(st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=1, max_size=12), st.data())
def test_soft_k_max_is_the_recursion_and_sums_to_k(values, data):
    k = data.draw(st.integers(1, len(values)))
    out = smoothing.soft_k_max(torch.tensor(values, dtype=F64), k)
    torch.testing.assert_close(out, torch.tensor(recursion(values, k), dtype=F64), atol=1e-9, rtol=1e-9)
    assert float(out.sum()) == pytest.approx(k)


@pytest.mark.verifies("smoothing.alg1")
@pytest.mark.parametrize("n", [2, 3, 6])
def test_soft_k_max_limits(n):
    u = torch.arange(n, 0, -1, dtype=F64)
    for k in range(1, n):
        indicator = (torch.arange(n) < k).double()
        torch.testing.assert_close(smoothing.soft_k_max(300 * u, k), indicator, atol=1e-9, rtol=0)
    wrong = torch.full((n,), 1 + 1 / n, dtype=F64)
    wrong[-1] = 1 / n
    torch.testing.assert_close(smoothing.soft_k_max(300 * u, n), wrong, atol=1e-9, rtol=0)


@pytest.mark.fails("smoothing.alg1")
@pytest.mark.verifies("smoothing.recursion")
def test_soft_k_max_fails_for_all_of_the_scores_and_at_ties():
    two = smoothing.soft_k_max(torch.tensor([40.0, 0], dtype=F64), 2)
    torch.testing.assert_close(two, torch.tensor([1.5, 0.5], dtype=F64), atol=1e-6, rtol=0)
    # x₁ = x₂: the third overtakes the second exactly if σ(0) < x₃/x₂
    above = smoothing.soft_k_max(300 * torch.tensor([1, 1, 0.55, 0], dtype=F64), 2)
    below = smoothing.soft_k_max(300 * torch.tensor([1, 1, 0.45, 0], dtype=F64), 2)
    torch.testing.assert_close(above, torch.tensor([0.5, 0.5, 1, 0], dtype=F64), atol=0.06, rtol=0)
    torch.testing.assert_close(below, torch.tensor([1.0, 1, 0, 0], dtype=F64), atol=0.06, rtol=0)


def bisection(values: list[float], k: int, sharpness: float) -> list[float]:
    """An independent solver: 200 halvings in plain Python."""

    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z)) if z > -700 else 0.0

    low, high = min(values) - 60 / sharpness, max(values) + 60 / sharpness
    for _ in range(200):
        middle = (low + high) / 2
        if math.fsum(sigma(sharpness * (v - middle)) for v in values) > k:
            low = middle
        else:
            high = middle
    return [sigma(sharpness * (v - low)) for v in values]


@pytest.mark.verifies("smoothing.shared")
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=10), st.floats(0.05, 20), st.data())
def test_soft_top_k_equals_bisection(values, sharpness, data):
    k = data.draw(st.integers(1, len(values) - 1))
    out = smoothing.soft_top_k(torch.tensor(values, dtype=F64), k, sharpness)
    torch.testing.assert_close(
        out, torch.tensor(bisection(values, k, sharpness), dtype=F64), atol=1e-8, rtol=1e-6
    )


@pytest.mark.verifies("smoothing.shared")
@pytest.mark.parametrize("scale", [1e-8, 1e-2, 1.0, 30.0, 1e4])
@pytest.mark.parametrize(("n", "k"), [(2, 1), (7, 1), (7, 3), (7, 6), (400, 20), (400, 399)])
def test_soft_top_k_is_a_soft_indicator(n, k, scale):
    x = scale * randn(50, n, seed=n + k)
    p = smoothing.soft_top_k(x, k)
    assert ((p >= 0) & (p <= 1)).all()
    torch.testing.assert_close(p.sum(-1), torch.full((50,), float(k), dtype=F64), atol=n * 1e-14, rtol=1e-13)
    ordered = p.gather(-1, x.argsort(-1))
    assert (ordered.diff(dim=-1) >= 0).all()


@pytest.mark.verifies("smoothing.shared")
@given(st.integers(2, 9), st.floats(0.1, 100), st.integers(0, 10**6), st.data())
def test_soft_top_k_misplaces_no_more_than_proved(n, sharpness, seed, data):
    k = data.draw(st.integers(1, n - 1))
    x = randn(n, seed=seed).sort(descending=True).values
    misplaced = float(smoothing.soft_top_k(x, k, sharpness)[k:].sum())
    gap = float(x[k - 1] - x[k])
    assert misplaced <= math.sqrt(k * (n - k)) * math.exp(-sharpness * gap / 2) + 1e-12


def test_soft_top_k_resolves_what_is_far_below_the_rounding_error_of_k():
    # both sides of the constraint are about e^{-200}; the threshold must lie in the middle all the same
    p = soft_top_k(torch.tensor([400.0, 0, 0], dtype=F64), 1)
    assert float(p[1]) == pytest.approx(math.exp(-200) / math.sqrt(2), rel=1e-9, abs=0)


def test_soft_top_k_of_all_is_one_with_zero_gradient():
    x = torch.cat([randn(2, 4), torch.zeros(1, 4, dtype=F64)]).requires_grad_()
    p = soft_top_k(x, 4, 7.0)
    assert torch.equal(p, torch.ones(3, 4, dtype=F64))
    (gradient,) = torch.autograd.grad(p.sum(), x)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_soft_top_k_shares_equally_among_ties_and_is_invariant():
    p = soft_top_k(torch.tensor([2.0, 2, 2, 0], dtype=F64), 2, 200.0)
    torch.testing.assert_close(p, torch.tensor([2 / 3, 2 / 3, 2 / 3, 0], dtype=F64), atol=1e-12, rtol=0)
    x = randn(6, 9)
    torch.testing.assert_close(soft_top_k(x + 5, 4, 2.0), soft_top_k(x, 4, 2.0))
    torch.testing.assert_close(soft_top_k(2 * x, 4), soft_top_k(x, 4, 2.0))
    torch.testing.assert_close(soft_top_k(-x, 5, 2.0), 1 - soft_top_k(x, 4, 2.0))
    order = torch.randperm(9, generator=gen())
    torch.testing.assert_close(soft_top_k(x[:, order], 4), soft_top_k(x, 4)[:, order])


@pytest.mark.parametrize("sharpness", [1e-6, 0.3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("n", [2, 7, 40])
def test_the_laplace_step_in_closed_form_sums_to_k(n, sharpness):
    x = randn(60, n, seed=n)
    x[:20] = x[:20].round()  # ties
    for k in range(1, n):
        p = soft_top_k(x, k, sharpness, step="laplace")
        assert ((p >= 0) & (p <= 1)).all()
        torch.testing.assert_close(p.sum(-1), torch.full((60,), float(k), dtype=F64), atol=1e-10, rtol=0)
        # one threshold for all: where p is inside (0, 1), x - F^-1(p)/K is the same
        u = torch.where(p < 0.5, (2 * p).log(), -(2 * (1 - p)).log())
        place = (x - u / sharpness).masked_fill((p < 1e-9) | (p > 1 - 1e-6), torch.nan)
        spread = place.nan_to_num(-1e9).amax(-1) - place.nan_to_num(1e9).amin(-1)
        assert spread.max() < 1e-6 * (1 + 1 / sharpness)


def test_the_laplace_step_takes_tensors_of_any_rank():
    x = randn(2, 3, 7)
    p = soft_top_k(x, 3, 2.0, step="laplace")
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(p[i, j], soft_top_k(x[i, j], 3, 2.0, step="laplace"))
    torch.testing.assert_close(soft_top_k(x.mT, 3, 2.0, dim=1, step="laplace"), p.mT)


def test_the_threshold_is_found_in_a_few_steps(monkeypatch):
    x, calls, sub = randn(50, 400), [], torch.sub
    monkeypatch.setattr(torch, "sub", lambda *given, **options: calls.append(1) or sub(*given, **options))
    for k in (1, 20, 200, 399):
        for sharpness, dtype in itertools.product((0.1, 1.0, 30.0), (F64, torch.float32)):
            calls.clear()
            soft_top_k(x.to(dtype), k, sharpness)
            assert 1 <= len(calls) <= 10  # of at most 100


def test_the_gradient_of_the_laplace_step():
    assert gradcheck(lambda z: soft_top_k(z, 3, 2.5, step="laplace"), randn(4, 7, seed=5).requires_grad_())


@pytest.mark.verifies("smoothing.shared")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_soft_top_k_gradient_is_the_implicit_one(k):
    x = randn(3, 6, seed=k).requires_grad_()
    assert gradcheck(lambda z: smoothing.soft_top_k(z, k, 2.5), x)
    assert gradgradcheck(lambda z: smoothing.soft_top_k(z, k, 2.5), x)
    p = smoothing.soft_top_k(x[0], k, 2.5)
    jacobian = torch.autograd.functional.jacobian(lambda z: smoothing.soft_top_k(z, k, 2.5), x[0].detach())
    w = (p * (1 - p)).detach()
    torch.testing.assert_close(jacobian, 2.5 * (torch.diag(w) - torch.outer(w, w) / w.sum()))


@pytest.mark.parametrize("sharpness", [1.0, 1e3, 1e9, 1e20])
def test_soft_top_k_gradient_survives_where_sigmoid_rounds_to_1(sharpness):
    x = torch.tensor([35 / sharpness, 0.0], requires_grad=True)  # λ lies in the middle: a = ±17.5
    p = soft_top_k(x, 1, sharpness)
    (gradient,) = torch.autograd.grad(p[0], x)
    w = 1 / (1 + math.exp(17.5)) * (1 / (1 + math.exp(-17.5)))
    torch.testing.assert_close(gradient, sharpness * w / 2 * torch.tensor([1.0, -1.0]), rtol=1e-4, atol=0)
    (total,) = torch.autograd.grad(soft_top_k(x, 1, sharpness).sum(), x)
    assert float(total.abs().max()) < 1e-4 * sharpness * w


def test_soft_k_max_reports_a_gradient_that_overflows():
    x = (1e4 * (torch.arange(30) < 16)).float().requires_grad_()
    p = soft_k_max(x, 20)
    assert torch.isfinite(p).all()
    with pytest.raises(
        ValueError,
        match=r"gradient of soft_k_max .* like the scale of x to the power k\. .* or use soft_top_k$",
    ):
        torch.autograd.grad(p[0], x)
    exact = x.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_k_max(exact, 20)[0], exact)
    assert torch.isfinite(gradient).all()


def test_float32_keeps_the_digits_that_matter():
    x = randn(20, 50)
    torch.testing.assert_close(
        soft_top_k(x.float(), 7, 3.0).double(), soft_top_k(x, 7, 3.0), atol=1e-6, rtol=0
    )
    # scores far from 0: the shift comes before the multiplication
    far = torch.tensor([1000.0, 1000.001, 1000.002])
    near = (far - 1000).double()
    torch.testing.assert_close(
        soft_top_k(far, 1, 5000.0).double(), soft_top_k(near, 1, 5000.0), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        soft_top_k(x.bfloat16(), 7).double(), soft_top_k(x.bfloat16().double(), 7), atol=4e-3, rtol=0
    )


def forgets_the_shift(x, k, dim=-1):
    p = torch.zeros_like(x)
    for _ in range(k):
        p = p + torch.softmax((1 - p) * x, dim)
    return p


def without_implicit_gradient(x, k, sharpness=1.0, dim=-1):
    p = soft_top_k(x, k, sharpness, dim).detach()
    return torch.sigmoid(sharpness * x + (torch.logit(p) - sharpness * x).detach())


def test_a_sharpness_whose_gradient_half_precision_cannot_hold_is_named():
    x = torch.zeros(4).half().requires_grad_()
    with pytest.raises(
        ValueError, match=r"sharpness must be at most 6.55e\+04 for torch.float16, got 1000000.0"
    ):
        soft_top_k(x, 2, 1e6)
    (gradient,) = torch.autograd.grad(soft_top_k(x, 2, 65504.0)[0], x)
    assert torch.isfinite(gradient).all()


FAULTS = [
    (test_soft_k_max_is_the_recursion_and_sums_to_k, "soft_k_max", forgets_the_shift),
    (lambda: test_soft_top_k_gradient_is_the_implicit_one(3), "soft_top_k", without_implicit_gradient),
    (test_soft_top_k_equals_bisection, "soft_top_k", lambda x, k, sharpness=1.0, dim=-1: soft_k_max(sharpness * x, k, dim)),
]  # fmt: skip
