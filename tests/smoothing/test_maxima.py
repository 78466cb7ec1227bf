"""Smooth maxima: closed forms, bounds, and where the argmax misleads."""

import itertools
import math

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from seeded import F64, randn

from kexue import smoothing
from kexue.smoothing import smooth_max, soft_argmax, soft_onehot

EXAMPLE = torch.tensor([2.0, 1, 4, 5, 3], dtype=F64)
lists = st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=1, max_size=12)
sharpnesses = st.floats(1e-2, 1e3)


@pytest.mark.verifies("smoothing.eq1")
def test_smooth_max_tends_to_max():
    x = randn(300, 7)
    errors = [(smoothing.smooth_max(x, k) - x.amax(-1)).abs().max() for k in (1, 10, 100, 1000)]
    for near, far in itertools.pairwise(errors):
        assert far < near / 5
    assert errors[-1] < 1e-2


@pytest.mark.slow
@pytest.mark.verifies("smoothing.bound")
@given(lists, sharpnesses)
def test_smooth_max_is_within_log_n_over_k(values, k):
    x = torch.tensor(values, dtype=F64)
    error = float(smoothing.smooth_max(x, k) - x.max())
    assert -1e-9 <= error <= math.log(len(values)) / k + 1e-9


@pytest.mark.verifies("smoothing.eq2")
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 20.0])
def test_smooth_max_bounds_are_reached(sharpness):
    equal, lone = torch.full((9,), 3.7, dtype=F64), torch.zeros(9, dtype=F64)
    assert float(smooth_max(equal, sharpness)) == pytest.approx(3.7 + math.log(9) / sharpness)
    lone[4] = 1e4
    assert smooth_max(lone, sharpness) == 1e4


@pytest.mark.verifies("smoothing.eq2")
@given(lists, sharpnesses)
def test_smooth_max_is_the_formula(values, k):
    mine = float(smoothing.smooth_max(torch.tensor(values, dtype=F64), k))
    top = max(values)
    reference = top + math.log(math.fsum(math.exp(k * (v - top)) for v in values)) / k
    assert mine == pytest.approx(reference, rel=1e-12, abs=1e-12)


def test_smooth_max_defaults_to_a_sharpness_of_1_and_the_last_axis():
    x = randn(3, 4)
    torch.testing.assert_close(smooth_max(x), torch.logsumexp(x, -1))
    torch.testing.assert_close(smooth_max(x, 2.0, 0), torch.logsumexp(2 * x, 0) / 2)


@pytest.mark.verifies("smoothing.eq3")
def test_gradient_of_logsumexp_is_softmax():
    x = randn(20, 6).requires_grad_()
    for k in (1.0, 4.0):
        (gradient,) = torch.autograd.grad(smoothing.smooth_max(x, k).sum(), x)
        torch.testing.assert_close(gradient, torch.softmax(k * x, -1))
    symbols = sympy.symbols("a b c")
    lse = sympy.log(sum(sympy.exp(s) for s in symbols))
    for s in symbols:
        assert sympy.simplify(sympy.diff(lse, s) - sympy.exp(s - lse)) == 0


@pytest.mark.verifies("smoothing.eq3")
def test_k_equal_to_1_is_off_by_up_to_log_n_and_absorbing_k_scales_the_value():
    equal = torch.full((50,), 12.0, dtype=F64)
    assert float(smoothing.smooth_max(equal) - 12) == pytest.approx(math.log(50))
    x = randn(40, 5, seed=1)
    torch.testing.assert_close(smoothing.smooth_max(30 * x), 30 * smoothing.smooth_max(x, 30.0))


@pytest.mark.verifies("smoothing.eq4", "smoothing.eq7")
def test_soft_onehot_of_the_article():
    assert torch.nn.functional.one_hot(EXAMPLE.argmax(), 5).tolist() == [0, 0, 0, 1, 0]
    torch.testing.assert_close(
        smoothing.soft_onehot(EXAMPLE, 60.0), torch.tensor([0, 0, 0, 1.0, 0], dtype=F64), atol=1e-9, rtol=0
    )


@pytest.mark.verifies("smoothing.eq5", "smoothing.eq6")
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8, unique=True))
def test_shifted_exponential_is_within_e_to_minus_gap_of_onehot(values):
    x = torch.tensor(values, dtype=F64)
    shifted = x - x.max()
    assert shifted.max() == 0
    assert (shifted.argmax() == x.argmax()).all()
    onehot = torch.nn.functional.one_hot(x.argmax(), len(values))
    first, second = x.topk(2).values
    assert float((shifted.exp() - onehot).abs().max()) == pytest.approx(math.exp(second - first))


@pytest.mark.verifies("smoothing.eq7")
@given(lists, sharpnesses)
def test_soft_onehot_is_e_to_x_minus_logsumexp(values, k):
    x = torch.tensor(values, dtype=F64)
    out = smoothing.soft_onehot(x, k)
    torch.testing.assert_close(out, torch.exp(k * (x - smoothing.smooth_max(x, k))), atol=1e-9, rtol=1e-9)
    assert float(out.sum()) == pytest.approx(1)


def test_soft_onehot_is_the_softmax_at_each_sharpness():
    x = randn(3, 5)
    for sharpness in (0.5, 1.0, 2.0, 3.0):
        torch.testing.assert_close(soft_onehot(x, sharpness), torch.softmax(sharpness * x, -1))


@pytest.mark.verifies("smoothing.eq8", "smoothing.eq9", "smoothing.eq10")
def test_soft_argmax_of_the_article():
    assert int(EXAMPLE.argmax()) + 1 == 4
    onehot = torch.nn.functional.one_hot(EXAMPLE.argmax(), 5)
    assert int((torch.arange(1, 6) * onehot).sum()) == 4
    assert float(smoothing.soft_argmax(EXAMPLE)) + 1 == pytest.approx(3.73, abs=0.005)
    assert float(smoothing.soft_argmax(EXAMPLE, 60.0)) == pytest.approx(3)


@pytest.mark.verifies("smoothing.eq10")
@given(lists, sharpnesses)
def test_soft_argmax_is_the_mean_position(values, k):
    weights = [math.exp(k * (v - max(values))) for v in values]
    mean = math.fsum(i * w for i, w in enumerate(weights)) / math.fsum(weights)
    assert float(smoothing.soft_argmax(torch.tensor(values, dtype=F64), k)) == pytest.approx(mean, abs=1e-9)


@pytest.mark.verifies("smoothing.mean")
def test_soft_argmax_between_two_peaks_names_a_loser():
    peaks = torch.tensor([5, 0, 0, 0, 4.99], dtype=F64)
    for k in (1.0, 10.0):
        assert 1.5 < float(smoothing.soft_argmax(peaks, k)) < 2.5  # positions 0 and 4 have the peaks
    assert float(smoothing.soft_argmax(peaks, 2000.0)) < 0.01


FAULTS = [
    (test_smooth_max_tends_to_max, "smooth_max", lambda x, sharpness=1.0, dim=-1: torch.logsumexp(x, dim)),
    (test_smooth_max_is_within_log_n_over_k, "smooth_max", lambda x, sharpness=1.0, dim=-1: torch.logsumexp(x, dim)),
    (test_soft_argmax_of_the_article, "soft_argmax", lambda *given: soft_argmax(*given) + 1),
    (test_soft_onehot_of_the_article, "soft_onehot", lambda x, *given: soft_onehot(-x, *given)),
]  # fmt: skip
