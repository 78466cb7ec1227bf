"""Mathematics of kexue.smoothing: closed forms, bounds, invariances, brute force, gradients, bad input."""

import itertools
import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from printed import printed
from seeded import F64, gen, randn
from sklearn import metrics
from torch.autograd import gradcheck, gradgradcheck

from kexue import smoothing
from kexue.smoothing import (
    floored_accuracy,
    smooth_max,
    soft_accuracy,
    soft_argmax,
    soft_f1,
    soft_k_max,
    soft_macro_f1,
    soft_onehot,
    soft_precision,
    soft_recall,
    soft_top_k,
)

EXAMPLE = torch.tensor([2.0, 1, 4, 5, 3], dtype=F64)

lists = st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=1, max_size=12)
sharpnesses = st.floats(1e-2, 1e3)


# --- max and argmax ----------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["soft_onehot", "soft_argmax", "smooth_max", "soft_k_max", "soft_top_k"])
def test_dim_moves_the_axis_and_the_gradient_is_right(name):
    function, x = getattr(smoothing, name), randn(2, 3, 4)
    argument = 2 if name in ("soft_k_max", "soft_top_k") else 1.7
    for dim in (0, 1, -1):
        moved = function(x.movedim(dim, -1), argument)
        if moved.ndim == 3:
            moved = moved.movedim(-1, dim)
        torch.testing.assert_close(function(x, argument, dim=dim), moved)
        assert gradcheck(lambda z, d=dim: function(z, argument, dim=d), x.requires_grad_())


# --- Accuracy, recall, precision, F1 -----------------------------------------------------------


@pytest.mark.verifies("smoothing.eq11", "smoothing.eq12")
def test_inner_products_of_onehot_vectors_count_hits():
    for n in (2, 5):
        eye = torch.eye(n)
        for i, j in itertools.product(range(n), repeat=2):
            assert float(eye[i] @ eye[j]) == (i == j)
    g = gen()
    target, predicted = torch.randint(4, (2, 60), generator=g)
    hits = torch.einsum("sc,sc->", torch.eye(4)[target], torch.eye(4)[predicted])
    assert float(hits) / 60 == pytest.approx(metrics.accuracy_score(target, predicted))


@pytest.mark.verifies("smoothing.eq13")
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))
def test_soft_accuracy_of_hard_predictions_is_accuracy(n, classes, seed):
    g = gen(seed)
    target, predicted = torch.randint(classes, (2, n), generator=g)
    probs = torch.eye(classes, dtype=F64)[predicted]
    assert float(smoothing.soft_accuracy(probs, target)) == pytest.approx(
        metrics.accuracy_score(target, predicted)
    )


@pytest.mark.verifies("smoothing.weight")
def test_the_gradient_of_accuracy_is_that_of_cross_entropy_weighted_by_p():
    logits, target = randn(5, 4).requires_grad_(), torch.tensor([0, 3, 1, 1, 2])
    p = torch.softmax(logits, -1)
    (ours,) = torch.autograd.grad(-soft_accuracy(p, target), logits)
    nats = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    weight = p.gather(-1, target[:, None]).squeeze(-1).detach()
    (theirs,) = torch.autograd.grad((weight * nats).mean(), logits)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.verifies("smoothing.threshold")
@given(st.integers(0, 10**6))
def test_the_best_decisions_for_f1_are_those_above_half_of_it(seed):
    # By brute force over all decisions of a few groups, each with a size and a share of positives.
    rng = np.random.default_rng(seed)
    size, share = rng.uniform(0.1, 1, 5), rng.uniform(0, 1, 5)

    def f1(chosen):
        hit = (size * share * chosen).sum()
        return 2 * hit / ((size * share).sum() + (size * chosen).sum())

    best = max((np.array(c) for c in itertools.product([0, 1], repeat=5)), key=f1)
    assert (best == (share > f1(best) / 2)).all()


@pytest.mark.verifies("smoothing.eq13")
def test_soft_accuracy_is_the_expected_accuracy_exactly():
    probs = torch.softmax(randn(3, 4), -1)
    target = torch.tensor([2, 0, 3])
    expected = 0.0
    for draw in itertools.product(range(4), repeat=3):  # every possible prediction, with its probability
        weight = math.prod(float(probs[s, c]) for s, c in enumerate(draw))
        expected += weight * sum(c == t for c, t in zip(draw, target.tolist(), strict=True)) / 3
    assert float(smoothing.soft_accuracy(probs, target)) == pytest.approx(expected, abs=1e-12)


def test_soft_accuracy_batches_and_accepts_every_integer_type():
    probs = torch.softmax(randn(2, 5, 3), -1)
    target = torch.tensor([[0, 1, 2, 2, 1], [1, 1, 0, 2, 0]])
    expected = torch.stack([soft_accuracy(p, t) for p, t in zip(probs, target, strict=True)])
    for dtype in (torch.uint8, torch.int32, torch.int64):
        torch.testing.assert_close(soft_accuracy(probs, target.to(dtype)), expected)


@pytest.mark.parametrize("floor", [0.02, 0.1, 0.7, 1.0])
def test_the_gradient_of_floored_accuracy_is_that_of_cross_entropy_weighted_by_p_or_the_floor(floor):
    scores, target = (3 * randn(8, 4)).requires_grad_(), torch.arange(8) % 4
    log_p = torch.log_softmax(scores, -1)
    own = log_p.gather(-1, target[:, None]).squeeze(-1)
    assert floor == 1 or (own.exp() > floor).any()
    assert floor == 0.02 or (own.exp() < floor).any()
    (ours,) = torch.autograd.grad(smoothing.floored_accuracy(log_p, target, floor), scores, retain_graph=True)
    weight = own.detach().exp().clamp(min=floor)
    (theirs,) = torch.autograd.grad((weight * own).mean(), scores)
    torch.testing.assert_close(ours, theirs)
    assert gradcheck(lambda z: smoothing.floored_accuracy(torch.log_softmax(z, -1), target, floor), scores)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=6), st.floats(0.01, 1))
def test_floored_accuracy_is_p_above_the_floor_and_its_tangent_in_log_p_below(values, floor):
    log_p = torch.tensor(values, dtype=F64).log()[:, None]
    expected = [p if p >= floor else floor + floor * (math.log(p) - math.log(floor)) for p in values]
    found = floored_accuracy(log_p, torch.zeros(len(values), dtype=torch.long), floor)
    assert float(found) == pytest.approx(math.fsum(expected) / len(values), rel=1e-9, abs=1e-9)


def test_floored_accuracy_lies_between_accuracy_and_one_minus_cross_entropy():
    scores, target = 2 * randn(3, 20, 5), torch.arange(60).reshape(3, 20) % 5
    log_p = torch.log_softmax(scores, -1)
    nats = torch.stack([torch.nn.functional.cross_entropy(s, t) for s, t in zip(scores, target, strict=True)])
    torch.testing.assert_close(floored_accuracy(log_p, target, 1.0), 1 - nats)
    torch.testing.assert_close(floored_accuracy(log_p, target, 1e-30), soft_accuracy(log_p.exp(), target))
    assert torch.equal(floored_accuracy(log_p, target), floored_accuracy(log_p, target, 0.1))
    # probabilities that round to 0 have a value and a gradient
    far = torch.tensor([[0.0, 500.0]]).requires_grad_()
    value = floored_accuracy(torch.log_softmax(far, -1), torch.tensor([0]))
    assert float(value.detach()) == pytest.approx(0.1 * (1 - 500 + math.log(10)))
    (gradient,) = torch.autograd.grad(value, far)
    torch.testing.assert_close(gradient, torch.tensor([[0.1, -0.1]]))


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))
def test_macro_f1_of_hard_predictions_is_that_of_scikit_learn(n, classes, seed):
    target, predicted = torch.randint(classes, (2, n), generator=gen(seed))
    probs = torch.eye(classes, dtype=F64)[predicted]
    expected = metrics.f1_score(
        target, predicted, labels=list(range(classes)), average="macro", zero_division=0
    )
    assert float(soft_macro_f1(probs, target)) == pytest.approx(expected, abs=1e-7)


def test_macro_f1_is_the_mean_of_the_classes_f1():
    probs, target = torch.softmax(randn(2, 7, 3), -1), torch.arange(14).reshape(2, 7) % 3
    for eps in (1e-8, 0.5):
        of_class = [soft_f1(probs[..., c], target == c, eps) for c in range(3)]
        torch.testing.assert_close(smoothing.soft_macro_f1(probs, target, eps), torch.stack(of_class).mean(0))
    assert torch.equal(smoothing.soft_macro_f1(probs, target), smoothing.soft_macro_f1(probs, target, 1e-8))
    assert gradcheck(
        lambda z: smoothing.soft_macro_f1(torch.softmax(z, -1), target), randn(2, 7, 3).requires_grad_()
    )


BINARY = {
    soft_recall: metrics.recall_score,
    soft_precision: metrics.precision_score,
    soft_f1: metrics.f1_score,
}


@pytest.mark.verifies("smoothing.recall", "smoothing.eq14")
@pytest.mark.parametrize("name", [function.__name__ for function in BINARY])
def test_binary_scores_agree_with_scikit_learn(name):
    ours, theirs, g = getattr(smoothing, name), BINARY[globals()[name]], gen(3)
    for rate in (0.0, 0.1, 0.5, 1.0):
        target = (torch.rand(25, generator=g) < rate).double()
        hard = (torch.rand(25, generator=g) < 0.4).double()
        for probs in (hard, torch.zeros(25, dtype=F64), torch.ones(25, dtype=F64)):
            expected = theirs(target.int(), probs.int(), zero_division=0)
            assert float(ours(probs, target)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.verifies("smoothing.recall", "smoothing.eq14")
@given(st.integers(1, 20), st.integers(0, 1000))
def test_f1_is_the_harmonic_mean_of_soft_precision_and_recall(n, seed):
    g = gen(seed)
    probs = torch.rand(n, generator=g, dtype=F64)
    target = torch.rand(n, generator=g) < 0.5
    target[0] = True
    precision, recall = smoothing.soft_precision(probs, target), smoothing.soft_recall(probs, target)
    harmonic = float(2 * precision * recall / (precision + recall))
    assert float(smoothing.soft_f1(probs, target)) == pytest.approx(harmonic, abs=1e-6)


@pytest.mark.verifies("smoothing.eq14")
def test_gradient_of_f1():
    probs = torch.rand(3, 6, generator=gen(), dtype=F64).requires_grad_()
    target = torch.tensor([[1.0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1]], dtype=F64)
    assert gradcheck(lambda p: smoothing.soft_f1(p.clamp(0, 1), target), probs)
    (gradient,) = torch.autograd.grad(smoothing.soft_f1(probs, target).sum(), probs)
    f1 = smoothing.soft_f1(probs, target)[:, None]
    torch.testing.assert_close(
        gradient, (2 * target - f1) / (target + probs).sum(-1, keepdim=True), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("function", BINARY)
def test_binary_scores_reduce_the_last_axis_for_any_label_type(function):
    probs = torch.rand(4, 9, generator=gen(1), dtype=F64)
    target = torch.rand(4, 9, generator=gen(2)) < 0.4
    expected = torch.stack([function(p, t) for p, t in zip(probs, target, strict=True)])
    assert expected.shape == (4,)
    for dtype in (torch.bool, torch.int64, torch.float32):
        torch.testing.assert_close(function(probs, target.to(dtype)), expected)


def test_eps_is_added_to_the_denominator_alone():
    probs, target, nothing = torch.tensor([0.5, 0.25], dtype=F64), torch.tensor([1, 0]), torch.tensor([0])
    for function, denominator in ((soft_f1, 1.75), (soft_recall, 1.0), (soft_precision, 0.75)):
        numerator = 1.0 if function is soft_f1 else 0.5
        for eps in (1.0, 1e-8):
            assert float(function(probs, target, eps)) == pytest.approx(
                numerator / (denominator + eps), rel=1e-12
            )
        assert function(probs, target) == function(probs, target, 1e-8)
        assert function(torch.zeros(1, dtype=F64), nothing) == 0


# --- soft-k-max --------------------------------------------------------------------------------


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
@given(lists, st.data())
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


# --- soft-top-k --------------------------------------------------------------------------------


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


# --- Extremes, precision, devices --------------------------------------------------------------

SCORES = {
    "smooth_max": smooth_max,
    "soft_onehot": soft_onehot,
    "soft_argmax": soft_argmax,
    "soft_k_max": lambda x: soft_k_max(x, 2),
    "soft_top_k": lambda x: soft_top_k(x, 2),
}


@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize(
    "values", [[1e4, -1e4, 0, 1e4], [1e4] * 4, [-1e4, -1e4, -1e4, 0], [0.0, 0, 0, 1e-30]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_large_and_tiny_scores_give_finite_values_and_gradients(function, values, dtype):
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    out = function(x)
    assert out.dtype == dtype
    assert torch.isfinite(out).all()
    (gradient,) = torch.autograd.grad((out * torch.arange(1, out.numel() + 1).reshape(out.shape)).sum(), x)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("dtype", "k", "tolerance"),
    [(torch.float32, 1.2e-38, 1e-5), (torch.float64, 2.3e-308, 1e-12), (torch.float16, 1e-5, 1e-3)],
)
def test_a_range_that_overflows_the_difference_is_resolved(dtype, k, tolerance):
    big = 0.6 * torch.finfo(dtype).max
    x = torch.tensor([big, -big], dtype=dtype)
    first = 1 / (1 + math.exp(-2 * k * float(x[0])))
    assert 0.5 < first < 0.999
    assert float(soft_onehot(x, k)[0]) == pytest.approx(first, abs=tolerance)
    assert float(soft_argmax(x, k)) == pytest.approx(1 - first, abs=tolerance)
    logit = k * float(x[0])  # σ(k(x₀ − λ)) with λ = 0 by symmetry
    assert float(soft_top_k(x, 1, k)[0]) == pytest.approx(1 / (1 + math.exp(-logit)), abs=tolerance)


@pytest.mark.parametrize(
    "function",
    [
        soft_onehot,
        soft_argmax,
        smooth_max,
        lambda x, sharpness: soft_top_k(x, 2, sharpness),
        lambda x, sharpness: soft_top_k(x, 2, sharpness, step="laplace"),
    ],
)
def test_the_largest_floats_and_sharpnesses_do_not_overflow(function):
    x = torch.tensor([3e38, -3e38, 0.0, 1.0], requires_grad=True)
    for sharpness in (1e-30, 1.0, 1e38):
        out = function(x, sharpness)
        (gradient,) = torch.autograd.grad(out.ravel()[0], x)
        assert torch.isfinite(out).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("sharpness", [1.0, 1e3, 1e9, 1e20])
def test_soft_top_k_gradient_survives_where_sigmoid_rounds_to_1(sharpness):
    x = torch.tensor([35 / sharpness, 0.0], requires_grad=True)  # λ lies in the middle: a = ±17.5
    p = soft_top_k(x, 1, sharpness)
    (gradient,) = torch.autograd.grad(p[0], x)
    w = 1 / (1 + math.exp(17.5)) * (1 / (1 + math.exp(-17.5)))
    torch.testing.assert_close(gradient, sharpness * w / 2 * torch.tensor([1.0, -1.0]), rtol=1e-4, atol=0)
    (total,) = torch.autograd.grad(soft_top_k(x, 1, sharpness).sum(), x)
    assert float(total.abs().max()) < 1e-4 * sharpness * w


def test_half_precision_is_computed_in_float32():
    for dtype in (torch.float16, torch.bfloat16):
        zeros, many = torch.zeros(3, dtype=dtype), torch.ones(70_000, dtype=dtype)
        for function in BINARY:
            assert function(zeros, torch.zeros(3, dtype=torch.long)) == 0  # eps does not vanish
            assert function(many, torch.ones(70_000)) == 1  # sums do not overflow
            assert function(zeros, torch.zeros(3)).dtype == dtype
        one_class = torch.zeros(70_000, dtype=torch.long)
        assert soft_accuracy(torch.ones(70_000, 1, dtype=dtype), one_class) == 1
        assert soft_macro_f1(torch.ones(70_000, 1, dtype=dtype), one_class) == 1
        assert floored_accuracy(torch.zeros(70_000, 1, dtype=dtype), one_class) == 1
        probs, target = torch.softmax(randn(30, 3), -1).to(dtype), torch.arange(30) % 3
        for function, values in ((soft_macro_f1, probs), (floored_accuracy, probs.log())):
            assert function(values, target).dtype == dtype
            assert torch.equal(function(values, target), function(values.float(), target).to(dtype))
        x = torch.zeros(50_000, dtype=dtype)
        assert float(smooth_max(x)) == pytest.approx(math.log(50_000), rel=5e-3)
        assert float(soft_argmax(x)) == pytest.approx(24_999.5, rel=5e-3)
        x[5] = 100
        assert soft_argmax(x) == 5
        y = randn(20).to(dtype)
        for function in SCORES.values():
            torch.testing.assert_close(function(y), function(y.float()).to(dtype), rtol=0, atol=0)


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16])
def test_classes_are_counted_in_full_for_narrow_targets(dtype):
    probs = torch.eye(300)[[5, 7, 100]]
    target = torch.tensor([5, 7, 9]).to(dtype)
    assert soft_accuracy(probs, target) == pytest.approx(2 / 3)
    assert soft_macro_f1(probs, target) == pytest.approx(2 / 300)


@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES)
def test_each_vector_of_a_batch_is_on_its_own(function):
    x = torch.stack(
        [randn(5), randn(5, seed=1) + 3000, randn(5, seed=2) - 3000, 500.0 * randn(5), torch.zeros(5)]
    )
    torch.testing.assert_close(function(x), torch.stack([function(row) for row in x]))
    assert function(x[:0]).shape == function(x)[:0].shape  # an empty batch stays one


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


@pytest.mark.gpu
@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES)
def test_cuda_agrees_with_the_processor(function):
    x = randn(8, 30)
    torch.testing.assert_close(function(x.cuda()).cpu(), function(x))


# --- Bad input ---------------------------------------------------------------------------------

X = torch.tensor([1.0, 2.0, 3.0])
P = torch.tensor([0.2, 0.7])
T = torch.tensor([0, 1])
NAN = float("nan")

ONE, K = [(smooth_max, ()), (soft_onehot, ()), (soft_argmax, ())], [(soft_k_max, (1,)), (soft_top_k, (1,))]
BAD = [
    *(
        (f, (bad, *rest), {}, error, match)
        for f, rest in ONE + K
        for bad, error, match in (
            (torch.tensor([1, 2]), TypeError, r"x must have a floating-point dtype of 16 to 64 bits, got torch.int64"),
            (torch.tensor([1.0, NAN]), ValueError, r"x must be finite, got nan"),
            (torch.zeros(0), ValueError, r"x must not be empty along dim=-1, got shape \(0,\)"),
        )
    ),
    # what kexue.nn.checks refuses anywhere
    (smooth_max, ([1.0],), {}, TypeError, r"x must be a torch.Tensor, got list"),
    (smooth_max, (X.to_sparse(),), {}, TypeError, r"x must be a dense tensor, got layout torch.sparse_coo"),
    (smooth_max, (X.to(torch.float8_e5m2),), {}, TypeError, r"x must have .*, got torch.float8_e5m2"),
    (smooth_max, (X + 0j,), {}, TypeError, r"x must have .*, got torch.complex64"),
    (smooth_max, (torch.tensor(1.0),), {}, ValueError, r"dim must be an axis of x, whose shape is \(\), got -1"),
    (smooth_max, (X,), {"dim": -2}, ValueError, r"dim must be .*, got -2"),
    *((f, (X, *rest), {"dim": 1}, ValueError, r"dim must be .* \(3,\), got 1") for f, rest in ONE + K),
    (smooth_max, (torch.zeros(10_000), 1.2e-38), {}, ValueError, r"result must fit into torch.float32, but log\(n\)/sharpness is too large for sharpness = 1.2e-38"),
    (soft_argmax, (torch.zeros(140_000).half(),), {}, ValueError, r"result must fit into torch.float16, but x has 140000 positions"),
    # sharpness and eps
    *(
        (smooth_max, (X, bad), {}, ValueError, rf"sharpness must be positive and finite, within \[1\.2e-38, 3\.4e\+38\], got {got}")
        for bad, got in ((0, "0"), (-1.5, "-1.5"), (math.inf, "inf"), (NAN, "nan"), (1e-50, "1e-50"), (10**400, "1000"))
    ),
    (smooth_max, (X, True), {}, TypeError, "sharpness must be a number, got bool"),
    *((f, (X, *rest), {"sharpness": 0}, ValueError, "sharpness must be positive and finite") for f, rest in [*ONE[1:], K[1]]),
    *((f, (P, T, 0), {}, ValueError, "eps must be positive and finite") for f in BINARY),
    # counts
    *(
        (f, (X, bad), {}, error, match)
        for f, _ in K
        for bad, error, match in (
            (0, ValueError, r"k must be between 1 and n = 3, .*, got 0"),
            (4, ValueError, r"k must be between 1 and n = 3, .*, got 4"),
            (1.0, TypeError, r"k must be an int, got float"),
        )
    ),
    (soft_k_max, (torch.tensor([3e38, -3e38]), 1), {}, ValueError, r"x must span less than 3.40282e\+38"),
    # probabilities
    *(
        (f, (bad, T) if f in BINARY else (bad[None], T[:1]), {}, error, match)
        for f in (soft_accuracy, soft_macro_f1, *BINARY)
        for bad, error, match in (
            (torch.tensor([0.5, 1.25]), ValueError, r"probs must lie in \[0, 1\], got 1.25"),
            (torch.tensor([-0.25, 1.0]), ValueError, r"probs must lie in \[0, 1\], got -0.25"),
            (torch.tensor([NAN, 1.0]), ValueError, r"probs must lie in \[0, 1\], got nan"),
        )
    ),
    # targets
    *(
        (f, bad, {}, error, match)
        for f in BINARY
        for bad, error, match in (
            ((P, torch.tensor([0, 2])), ValueError, r"target must be 0 or 1, got 2"),
            ((P, torch.tensor([0, 1j])), TypeError, r"target must have a real dtype, got torch.complex64"),
            ((P, T[:1]), ValueError, r"target must have the shape of probs, \(2,\), got \(1,\)"),
            ((P[:0], T[:0]), ValueError, r"at least one sample, got shape \(0,\)"),
            ((P[0], T[0]), ValueError, r"at least one sample, got shape \(\)"),
        )
    ),
    *(
        (f, (values[None], bad), {}, error, match)
        for f, name, values in ((soft_accuracy, "probs", P), (soft_macro_f1, "probs", P), (floored_accuracy, "log_probs", P.log()))
        for bad, error, match in (
            *((bad, TypeError, f"target must have an integer dtype, got {bad.dtype}") for bad in (T[:1].float(), T[:1].bool(), T[:1] + 0j)),
            (torch.tensor([2]), ValueError, rf"target must lie in 0 … 1, the classes of {name}, got 2"),
            (torch.tensor([-1]), ValueError, rf"target must lie in 0 … 1, the classes of {name}, got -1"),
            (T, ValueError, rf"{name} must have the shape of target, \(2,\), and an axis of classes, got \(1, 2\)"),
            ([0], TypeError, r"target must be a torch.Tensor, got list"),
        )
    ),
    (floored_accuracy, (P[None], T[:1]), {}, ValueError, r"log_probs must be at most 0, got 0.6\d*"),
    (floored_accuracy, (torch.tensor([[-torch.inf, 0.0]]), T[:1]), {}, ValueError, r"log_probs must be finite, got -inf"),
    (floored_accuracy, (T[None], T[:1]), {}, TypeError, r"log_probs must have a floating-point dtype"),
    *((floored_accuracy, (P.log()[None], T[:1], bad), {}, ValueError, match) for bad, match in ((0.0, "floor must be positive"), (1.5, r"floor must be at most 1, got 1.5"))),
    (floored_accuracy, (P.log()[None], T[:1], "0.1"), {}, TypeError, "floor must be a number, got str"),
    (soft_macro_f1, (P[None], T[:1], 0), {}, ValueError, "eps must be positive and finite"),
    (soft_top_k, (X, 1), {"step": "normal"}, ValueError, r"step must be one of \('logistic', 'laplace'\), got 'normal'"),
    (soft_accuracy, (P, torch.tensor(0)), {}, ValueError, r"probs must have the shape of target, \(\), .* got \(2,\)"),
    (soft_accuracy, (torch.zeros(0, 3), T[:0]), {}, ValueError, r"at least one sample, got shape \(0,\)"),
]  # fmt: skip


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("function", "args", "kwargs", "error", "match"),
    BAD,
    ids=[f"{case[0].__name__}-{i}" for i, case in enumerate(BAD)],
)
def test_bad_input_is_named(function, args, kwargs, error, match):
    with pytest.raises(error, match=match):
        function(*args, **kwargs)


def test_shapes_are_checked_while_testing():
    from jaxtyping import TypeCheckError

    with pytest.raises(TypeCheckError):
        soft_f1(torch.rand(3), torch.rand(4))


# --- What the chapter prints -------------------------------------------------------------------


def test_the_printed_implementation_equals_the_package_in_value_and_gradient():
    minimal = printed("smoothing", torch=torch)
    x, probs, target = randn(6, 5), torch.rand(6, 5, generator=gen(), dtype=F64), torch.arange(6) % 5
    calls = {
        "smooth_max": [(x,), (x, 7.0)],
        "soft_onehot": [(x,), (x, 7.0)],
        "soft_argmax": [(x,), (x, 7.0)],
        "soft_accuracy": [(probs, target)],
        "soft_f1": [(probs, (x > 0).double())],
        "soft_macro_f1": [(probs, target)],
        "soft_k_max": [(x, k) for k in range(1, 6)],
        "soft_top_k": [(x, k, sharpness) for k in range(1, 5) for sharpness in (0.5, 3.0)],
    }
    assert set(minimal) == set(calls)
    for name, several in calls.items():
        for first, *others in several:
            results = []
            for function in (minimal[name], getattr(smoothing, name)):
                given = first.clone().requires_grad_()
                value = function(given, *others)
                weights = torch.arange(1.0, value.numel() + 1, dtype=F64).reshape(value.shape)
                (gradient,) = torch.autograd.grad((value * weights).sum(), given)
                results.append((value.detach(), gradient))
            torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)


# --- The verifiers can fail --------------------------------------------------------------------


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
    (test_smooth_max_tends_to_max, "smooth_max", lambda x, sharpness=1.0, dim=-1: torch.logsumexp(x, dim)),
    (test_smooth_max_is_within_log_n_over_k, "smooth_max", lambda x, sharpness=1.0, dim=-1: torch.logsumexp(x, dim)),
    (test_soft_argmax_of_the_article, "soft_argmax", lambda *given: soft_argmax(*given) + 1),
    (test_soft_onehot_of_the_article, "soft_onehot", lambda x, *given: soft_onehot(-x, *given)),
    (test_soft_accuracy_is_the_expected_accuracy_exactly, "soft_accuracy", lambda probs, target: probs.mean((-2, -1))),
    (lambda: test_binary_scores_agree_with_scikit_learn("soft_f1"), "soft_f1", lambda p, t, eps=1e-8: (t * p).sum(-1) / ((t + p).sum(-1) + eps)),
    (lambda: test_the_gradient_of_floored_accuracy_is_that_of_cross_entropy_weighted_by_p_or_the_floor(0.1), "floored_accuracy", lambda log_p, target, floor: soft_accuracy(log_p.exp(), target)),
    (test_macro_f1_is_the_mean_of_the_classes_f1, "soft_macro_f1", lambda probs, target, eps=1e-8: soft_accuracy(probs, target)),
    (test_soft_k_max_is_the_recursion_and_sums_to_k, "soft_k_max", forgets_the_shift),
    (lambda: test_soft_top_k_gradient_is_the_implicit_one(3), "soft_top_k", without_implicit_gradient),
    (test_soft_top_k_equals_bisection, "soft_top_k", lambda x, k, sharpness=1.0, dim=-1: soft_k_max(sharpness * x, k, dim)),
]  # fmt: skip
