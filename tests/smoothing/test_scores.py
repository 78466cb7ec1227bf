"""Soft accuracy, recall, precision and F1: beside scikit-learn, by brute force, and their gradients."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seeded import F64, gen, randn
from sklearn import metrics
from torch.autograd import gradcheck

from kexue import smoothing
from kexue.smoothing import (
    floored_accuracy,
    soft_accuracy,
    soft_f1,
    soft_macro_f1,
    soft_precision,
    soft_recall,
)


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16])
def test_classes_are_counted_in_full_for_narrow_targets(dtype):
    probs = torch.eye(300)[[5, 7, 100]]
    target = torch.tensor([5, 7, 9]).to(dtype)
    assert soft_accuracy(probs, target) == pytest.approx(2 / 3)
    assert soft_macro_f1(probs, target) == pytest.approx(2 / 300)


FAULTS = [
    (test_soft_accuracy_is_the_expected_accuracy_exactly, "soft_accuracy", lambda probs, target: probs.mean((-2, -1))),
    (lambda: test_binary_scores_agree_with_scikit_learn("soft_f1"), "soft_f1", lambda p, t, eps=1e-8: (t * p).sum(-1) / ((t + p).sum(-1) + eps)),
    (lambda: test_the_gradient_of_floored_accuracy_is_that_of_cross_entropy_weighted_by_p_or_the_floor(0.1), "floored_accuracy", lambda log_p, target, floor: soft_accuracy(log_p.exp(), target)),
    (test_macro_f1_is_the_mean_of_the_classes_f1, "soft_macro_f1", lambda probs, target, eps=1e-8: soft_accuracy(probs, target)),
]  # fmt: skip
