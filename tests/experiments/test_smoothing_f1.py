"""F1 where one class is rare: closed forms against counts, fits and thresholds against libraries."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from seeded import gen, randn
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from kexue.experiments import smoothing_f1 as study
from kexue.experiments.smoothing_f1 import Config, Fitted, Part, Problem

SMALL = Config(samples=400, draws=3)


def problem(rate=0.3, config=SMALL, seed=0):
    g = gen(seed)
    return Problem(*(study.gaussian(rate, config, g) for _ in range(3)), rate, 0.0)


def fitted(w, seed=0):
    """Weights as if they had been learned, the same for all draws."""
    w = torch.tensor(w)[None, :, None].expand(3, -1, -1)
    return Fitted(problem(seed=seed), [w], w)


# --- Closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_the_true_f1_is_that_of_many_samples(rate):
    x, t = study.gaussian(rate, Config(samples=10**6, draws=1), gen())
    for bound in (-1.0, 0.5, 2.0):
        counted = metrics.f1_score(t[0], x[0, :, 0] > bound)
        assert study.true_f1(bound, rate) == pytest.approx(counted, rel=0.02)


def test_the_posterior_is_what_one_counts_and_what_bayes_says():
    rate, (x, t) = 0.3, study.gaussian(0.3, Config(samples=2 * 10**6, draws=1), gen())
    for place in (-1.0, 0.75, 2.0):
        near = (x[0, :, 0] - place).abs() < 0.02
        counted, exact = float(t[0][near].mean()), float(study.posterior(torch.tensor(place), rate))
        assert counted == pytest.approx(exact, abs=4 * (exact * (1 - exact) / int(near.sum())) ** 0.5)
        density = [rate * stats.norm.pdf(place - study.SHIFT), (1 - rate) * stats.norm.pdf(place)]
        assert exact == pytest.approx(density[0] / sum(density))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.4])
def test_the_best_f1_is_the_highest_and_its_half_is_the_posterior_there(rate):
    grid = np.linspace(-3, 6, 90_001)
    values = study.true_f1(grid, rate)
    best = problem(rate).best_f1
    assert best == pytest.approx(values.max(), abs=1e-8)
    there = float(study.posterior(torch.tensor(grid[values.argmax()]), rate))
    assert there == pytest.approx(best / 2, rel=1e-3)


def test_a_learned_decision_has_the_f1_and_the_posterior_of_its_boundary():
    config = Config(samples=200_000, draws=3)
    w = torch.tensor([2.0, -3.0])[None, :, None].expand(3, -1, -1)  # 2x > 3
    large = Fitted(problem(0.3, config), [w], w)
    assert study.boundary(w).tolist() == [1.5] * 3
    np.testing.assert_allclose(study.boundary_f1(large), study.true_f1(1.5, 0.3))
    np.testing.assert_allclose(study.at_half(large), study.boundary_f1(large), rtol=0.01)
    assert study.learned(large).tolist() == pytest.approx(
        3 * [float(study.posterior(torch.tensor(1.5), 0.3))]
    )


# --- Data ---------------------------------------------------------------------------------------


def test_the_classes_have_their_shares_means_and_variances():
    x, t = study.gaussian(0.3, Config(samples=50_000, draws=4), gen())
    assert x.shape == (4, 50_000, 2)
    assert torch.equal(x[..., 1], torch.ones(4, 50_000))
    assert float(t.mean()) == pytest.approx(0.3, abs=0.005)
    for label, mean in ((0, 0.0), (1, 1.5)):
        of_class = x[..., 0][t == label]
        assert float(of_class.mean()) == pytest.approx(mean, abs=0.02)
        assert float(of_class.std()) == pytest.approx(1, abs=0.02)


def test_problems_are_independent_parts_drawn_in_order():
    found = study.problems(SMALL, gen(5))
    assert list(found) == ["1% positives", "2% positives", "5% positives", "diabetes"]
    parts = [part.x for one in found.values() if one.rate for part in one[:3]]
    assert all(not torch.equal(a, b) for i, a in enumerate(parts) for b in parts[:i])
    assert torch.equal(parts[0], study.gaussian(0.01, SMALL, gen(5)).x)
    assert [one.rate for one in found.values()] == [0.01, 0.02, 0.05, None]
    assert [one.overlap for one in found.values()] == [0, 0, 0, 0.6]


def test_each_patient_is_in_one_part_of_a_split():
    sick = study.patients(2)
    for draw in range(2):
        rows = torch.cat([part.x[draw] for part in sick[:3]])
        assert len(rows) == 442 == len(rows.unique(dim=0))
        assert sum(int(part.t[draw].sum()) for part in sick[:3]) == 44  # of 442, the worst tenth
    assert [part.x.shape[1] / 442 for part in sick[:3]] == pytest.approx([0.5, 0.2, 0.3], abs=0.01)
    assert not torch.equal(sick.test.x[0], sick.test.x[1])


def test_f1_of_all_positive_is_that_of_scikit_learn():
    test = problem().test
    pooled = metrics.f1_score(test.t.flatten(), torch.ones(test.t.numel()))
    assert problem().all_positive == pytest.approx(pooled)


# --- Training -----------------------------------------------------------------------------------


def test_cross_entropy_ends_where_scikit_learn_does():
    train = problem().train
    w = study.fit(train, study.cross_entropy, 0.1)
    for draw in range(3):
        other = LogisticRegression(C=np.inf).fit(train.x[draw, :, :1], train.t[draw])
        expected = [other.coef_[0, 0], other.intercept_[0]]
        np.testing.assert_allclose(w[draw].squeeze(-1), expected, rtol=0.02)


def test_the_losses_are_those_of_scikit_learn():
    z, t = randn(2, 50).float(), (randn(2, 50, seed=1) > 0).float()
    nats = [metrics.log_loss(b, torch.sigmoid(a)) for a, b in zip(z.double(), t, strict=True)]
    assert study.cross_entropy(z, t).tolist() == pytest.approx(nats)
    hard = [metrics.f1_score(b, a > 0) for a, b in zip(z, t, strict=True)]
    assert study.minus_f1(1e4 * z, t).tolist() == pytest.approx([-v for v in hard])


def test_training_on_f1_raises_the_smooth_f1_and_draws_do_not_touch_each_other():
    train = problem(0.05).train
    start, w = (study.fit(train, study.minus_f1, 0.1, updates=n) for n in (0, 100))
    before, after = (study.minus_f1(study.scores(train, each), train.t) for each in (start, w))
    assert (after < before).all()
    alone = Part(train.x[:1], train.t[:1])
    first = study.fit(alone, study.minus_f1, 0.1, updates=100)
    torch.testing.assert_close(w[:1], first)  # weights begin with the first of the generator's numbers


def test_the_first_stage_is_cross_entropy_and_batches_are_random():
    train = problem().train
    arguments = {"rate": 0.1, "updates": 20, "batch": 16}
    by_entropy = study.fit(train, study.cross_entropy, **arguments)
    staged = study.fit(train, study.minus_f1, **arguments, first_stage=20)
    assert torch.equal(by_entropy, staged)
    later = study.fit(train, study.minus_f1, **arguments, first_stage=19)
    assert not torch.equal(by_entropy, later)
    whole = study.fit(train, study.cross_entropy, 0.1, updates=20)
    assert not torch.equal(by_entropy, whole)
    seen = []
    study.fit(train, lambda z, t: seen.append(z.shape) or study.minus_f1(z, t), 0.1, updates=2, batch=16)
    assert seen == [(3, 16)] * 2


def test_the_learning_rate_is_the_best_on_validation():
    given = {"a": problem(0.1)}
    one = study.fits(given, study.minus_f1, updates=5)["a"]
    assert len(one.weights) == len(study.LEARNING_RATES)
    valid = [float(study.f1(one.problem.valid, w).mean()) for w in one.weights]
    assert len(set(valid)) > 1
    assert float(study.f1(one.problem.valid, one.best).mean()) == max(valid)


# --- Thresholds ---------------------------------------------------------------------------------


def test_f1_is_that_of_scikit_learn_at_any_threshold():
    one = fitted([1.0, -0.5])
    x, t = one.problem.test
    for threshold in (-1.0, 0.0, 0.7):
        expected = [metrics.f1_score(b, a[:, 0] - 0.5 > threshold) for a, b in zip(x, t, strict=True)]
        assert study.f1(one.problem.test, one.best, threshold).tolist() == pytest.approx(expected)
    assert torch.equal(study.at_half(one), study.f1(one.problem.test, one.best, 0.0))
    other = fitted([1.0, 0.0])
    torch.testing.assert_close(study.gain(one, other), study.at_half(one) - study.at_half(other))


@pytest.mark.slow
def test_the_tuned_threshold_beats_any_other_on_validation():
    one = fitted([1.0, -2.0])
    same = one._replace(problem=one.problem._replace(test=one.problem.valid))
    for threshold in torch.linspace(-5, 1, 61):
        assert (study.tuned(same) >= study.f1(same.problem.valid, same.best, threshold)).all()
    # each draw has a threshold of its own, and it is applied to the test part
    valid, test = one.problem.valid, one.problem.test
    for draw in range(3):
        best = max(torch.linspace(-5, 1, 61), key=lambda c, d=draw: float(study.f1(valid, one.best, c)[d]))
        assert float(study.tuned(one)[draw]) == float(study.f1(test, one.best, best)[draw])


def test_the_plugged_in_threshold_calls_the_set_with_the_best_expected_f1():
    one = fitted([1.0, -1.0])
    valid, test = one.problem.valid, one.problem.test
    for draw in range(3):
        p = torch.sigmoid(valid.x[draw, :, 0] - 1).double().sort(descending=True).values
        expected = [2 * float(p[:n].sum()) / (n + float(p.sum())) for n in range(1, len(p) + 1)]
        half = max(expected) / 2
        assert int((p > half).sum()) == 1 + int(np.argmax(expected))  # those above half of it are the set
        called = torch.sigmoid(test.x[draw, :, 0] - 1) > half
        assert float(study.plugged_in(one)[draw]) == pytest.approx(metrics.f1_score(test.t[draw], called))


def test_a_draw_is_astray_below_calling_everything_positive():
    good, none = torch.tensor([1.0, -0.7]), torch.tensor([0.0, -1.0])  # the second calls nothing positive
    weights = [w[None, :, None].expand(3, -1, -1) for w in (good, none, none, good)]
    one = Fitted(problem(), weights, weights[0])
    assert study.astray(one).tolist() == [0.5] * 3
    assert one.enters
    assert not one._replace(best=weights[1]).enters


# --- What is made of it -------------------------------------------------------------------------


def test_means_are_over_the_gaussian_problems_only():
    a, b = fitted([1.0, -0.5]), fitted([1.0, 0.5], seed=1)
    sick = a._replace(problem=a.problem._replace(rate=None))
    mean = study.gaussian_mean(study.at_half, {"a": a, "b": b, "diabetes": sick})
    torch.testing.assert_close(mean, (study.at_half(a) + study.at_half(b)) / 2)
    found = study.over_best(
        "x", lambda one: one.problem.best_f1 * torch.tensor([0.4, 0.6]), {"a": a, "s": sick}, 0.5
    )
    assert list(found) == ["x, a"]
    assert found["x, a"].mean == pytest.approx(1)
    assert found["x, a"].high - found["x, a"].low == pytest.approx(2 * stats.t.ppf(0.975, 1) * 0.2)


def test_smooth_f1_is_biased_in_batches_but_where_a_ratio_of_sums_is_constant():
    one = fitted([1.0, -1.0])
    whole, means = study.smooth_in_batches(one, (2, 100), gen())
    small, large = means.values()
    assert list(means) == [f"smooth F1 at B = {n} (all data: {whole:.3f})" for n in (2, 100)]
    assert small.high < whole
    assert abs(large.mean - whole) < abs(small.mean - whole) / 10
    x, t = one.problem.test
    p = torch.sigmoid(x[0, :, 0] - 1)
    assert whole == pytest.approx(float(2 * (t[0] * p).sum() / (t[0] + p).sum()))
    constant = Part(torch.ones_like(x), torch.ones_like(t))  # p = σ(0) = ½, t = 1: 2·½/(1 + ½)
    whole, means = study.smooth_in_batches(
        one._replace(problem=one.problem._replace(test=constant)), (2,), gen()
    )
    assert whole == pytest.approx(2 / 3)
    assert next(iter(means.values())) == pytest.approx((2 / 3,) * 3)


@pytest.mark.slow
def test_a_run_records_a_row_for_each_share_of_positives(tmp_path):
    config = dataclasses.replace(SMALL, draws=2, samples=300, positives=(0.2, 0.3), steps=2)
    assert study.run(config, tmp_path)["steps"] == 2
    row = study.row(config, 1)
    assert row["positives"] == 0.3
    assert all(0 < value < 3 for value in row.values())
