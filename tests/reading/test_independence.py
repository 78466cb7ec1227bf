"""What independence costs: closed form, optimisation, and the gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from readers import MIXTURE, product_of
from seeded import F64, randn

from kexue import reading

total_correlation = reading.total_correlation
SHAPES = [(2, 2), (3, 2), (2, 2, 2), (3, 3, 2), (2, 1, 4), (5,)]


def random_joint(shape, seed=0, sharpness=1.5):
    return (sharpness * randn(*shape, seed=seed)).flatten().softmax(0).view(shape)


def optimised(joint):
    """min over independent q of KL(p‖q), and the best q."""
    free = [torch.zeros(n, dtype=F64, requires_grad=True) for n in joint.shape]
    optimizer = torch.optim.LBFGS(
        free, 1.0, 300, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def divergence():
        log_q = sum(
            one.log_softmax(0).view([-1 if axis == other else 1 for other in range(joint.ndim)])
            for axis, one in enumerate(free)
        )
        return torch.special.xlogy(joint, joint).sum() - (joint * log_q).sum()

    def closure():
        optimizer.zero_grad()
        loss = divergence()
        loss.backward()
        return loss

    optimizer.step(closure)
    return divergence().item(), product_of([one.detach().softmax(0) for one in free])


@pytest.mark.verifies("reading.gap")
@pytest.mark.parametrize("shape", SHAPES)
def test_no_optimiser_finds_a_better_independent_distribution(shape):
    for seed in range(2):
        joint = random_joint(shape, seed)
        least, best = optimised(joint)
        assert float(reading.total_correlation(joint)) == pytest.approx(least, abs=1e-9)
        torch.testing.assert_close(reading.product_of_marginals(joint), best, atol=1e-5, rtol=0)


@pytest.mark.verifies("reading.gap", "reading.crf")
def test_the_mixture_of_two_answers_costs_one_bit():
    assert float(reading.total_correlation(MIXTURE)) == pytest.approx(math.log(2), abs=1e-15)
    assert reading.product_of_marginals(MIXTURE).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    least, best = optimised(MIXTURE)
    assert least == pytest.approx(math.log(2), abs=1e-9)
    assert best.flatten().tolist() == pytest.approx([0.25] * 4, abs=1e-6)
    for n in (3, 4):  # a longer answer of two that share nothing costs a bit for each token but the first
        joint = torch.zeros([2] * n, dtype=F64)
        joint[(0,) * n] = joint[(1,) * n] = 0.5
        assert float(reading.total_correlation(joint)) == pytest.approx((n - 1) * math.log(2), abs=1e-12)


@pytest.mark.verifies("reading.gap")
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), st.integers(0, 999), st.floats(0.1, 8))
def test_the_divergence_from_any_independent_distribution(shape, seed, sharpness):
    joint = random_joint(shape, seed, sharpness)
    factors = [random_joint((n,), seed + 7 * axis) for axis, n in enumerate(shape)]
    divergence = torch.special.xlogy(joint, joint / product_of(factors)).sum()
    gap = float(reading.total_correlation(joint))
    total = gap
    for axis, factor in enumerate(factors):
        marginal = (
            joint.sum([other for other in range(joint.ndim) if other != axis]) if joint.ndim > 1 else joint
        )
        total += float(torch.special.xlogy(marginal, marginal / factor).sum())
    assert float(divergence) == pytest.approx(total, abs=1e-10)
    assert gap >= -1e-12
    order = list(range(joint.ndim))[::-1]
    assert float(reading.total_correlation(joint.permute(order))) == pytest.approx(gap, abs=1e-10)


@pytest.mark.verifies("reading.gap")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_unique_answer_and_independent_tokens_cost_nothing(shape):
    point = torch.zeros(shape, dtype=F64)
    point[tuple(n - 1 for n in shape)] = 1.0
    assert float(reading.total_correlation(point)) == 0
    assert torch.equal(reading.product_of_marginals(point), point)
    product = product_of([random_joint((n,), n) for n in shape])
    assert float(reading.total_correlation(product)) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(reading.product_of_marginals(product), product, atol=1e-14, rtol=0)


def test_the_gradient_of_the_total_correlation_is_finite_at_zeros():
    joint = (torch.eye(2, dtype=torch.float64) / 2).requires_grad_()
    (gradient,) = torch.autograd.grad(reading.total_correlation(joint), joint)
    assert torch.isfinite(gradient).all()
    inner = torch.rand(3, 4, dtype=torch.float64) + 0.1
    inner = (inner / inner.sum()).requires_grad_()
    # Away from zeros: log of p over the product, up to a constant, since KL's other terms are stationary.
    (gradient,) = torch.autograd.grad(reading.total_correlation(inner), inner)
    expected = inner.log() - reading.product_of_marginals(inner).log()
    torch.testing.assert_close(gradient - gradient[0, 0], (expected - expected[0, 0]).detach())


def uniform(joint):
    return torch.full_like(joint, 1 / joint.numel())


FAULTS = [
    (test_the_mixture_of_two_answers_costs_one_bit, "total_correlation", lambda joint: -total_correlation(joint)),
    (lambda: test_no_optimiser_finds_a_better_independent_distribution((3, 2)), "total_correlation", lambda joint: -total_correlation(joint)),
    (lambda: test_a_unique_answer_and_independent_tokens_cost_nothing((3, 2)), "product_of_marginals", uniform),
    (test_the_divergence_from_any_independent_distribution, "product_of_marginals", uniform),
]  # fmt: skip
