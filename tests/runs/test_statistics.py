"""Intervals of a few seeds, and how often rules about them are wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from kexue.runs.statistics import Interval, false_alarms, mean_interval


def test_mean_interval_is_the_t_interval():
    samples = np.random.default_rng(0).normal(size=(3, 12))
    mean, low, high = mean_interval(samples, confidence=0.9)
    for row, m, lo, hi in zip(samples, mean, low, high, strict=True):
        expected = stats.ttest_1samp(row, 0).confidence_interval(0.9)
        assert (m, lo, hi) == pytest.approx((row.mean(), expected.low, expected.high))


def test_mean_interval_covers_as_often_as_it_says():
    samples = np.random.default_rng(1).normal(2.0, 3.0, size=(4000, 5))
    _, low, high = mean_interval(samples)
    assert 0.94 < np.mean((low <= 2) & (high >= 2)) < 0.96


def test_bad_samples_and_confidence_are_named():
    with pytest.raises(ValueError, match=r"samples must be finite, within ±1e\+150, got nan"):
        mean_interval([1.0, np.nan])
    for confidence in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match=f"confidence must lie between 0 and 1, got {confidence}"):
            mean_interval([1.0, 2.0], confidence=confidence)


def test_overlap_widens_the_interval():
    samples = np.arange(10.0)
    mean, low, _ = mean_interval(samples)
    _, wide, _ = mean_interval(samples, overlap=0.7)
    assert (mean - wide) / (mean - low) == pytest.approx(np.sqrt((0.1 + 0.7) / 0.1))
    with pytest.raises(ValueError, match=r"overlap must not be negative, got -0\.1"):
        mean_interval(samples, overlap=-0.1)


def test_mean_interval_needs_two_samples():
    with pytest.raises(ValueError, match="samples must hold at least 2 values along axis=-1, got 1"):
        mean_interval([[1.0], [2.0]])


def test_an_interval_says_on_which_side_of_a_bound_it_lies():
    interval = Interval(0.31, 0.1, 0.52)
    assert (interval.beyond(), interval.beyond(0.2), interval.beyond(0.6)) == (True, None, False)
    assert interval.beyond(0.1) is None  # the bound belongs to it
    assert [Interval(m, m - 1, m + 1).sign for m in (-2.0, 0.5, 2.0)] == [-1, 0, 1]
    assert f"{interval:+.2f}" == "+0.31 (+0.10 to +0.52)"
    mean, low, high = interval
    assert (mean, low, high) == interval
    with pytest.raises(TypeError, match="interval must be of one mean, got 3"):
        mean_interval(np.zeros((3, 4))).beyond()


def test_an_interval_lies_within_bounds_or_outside_or_holds_one():
    interval = Interval(1.0, 0.9, 1.1)
    assert interval.within(0.8, 1.25) is True
    for low, high in ((1.2, 2.0), (0.1, 0.8)):
        assert interval.within(low, high) is False
    for low, high in ((1.0, 1.25), (0.8, 1.0), (0.95, 1.05), (0.9, 2.0), (0.0, 1.1)):
        assert interval.within(low, high) is None
    with pytest.raises(TypeError, match="interval must be of one mean, got 3"):
        mean_interval(np.zeros((3, 4))).within(0, 1)


def above_zero(differences):
    return mean_interval(differences).beyond()


@pytest.mark.slow
def test_the_false_alarms_and_the_power_of_a_t_test_are_those_of_theory():
    seeds, spread, effect = 5, 2.0, 3.0
    found = false_alarms(above_zero, spread, seeds, effect)
    assert found.error == 0.005
    assert found.holds == pytest.approx(0.025, abs=0.006)
    assert found.refuted == pytest.approx(0.025, abs=0.006)
    bound = stats.t.ppf(0.975, seeds - 1)
    power = stats.nct.sf(bound, seeds - 1, effect / spread * seeds**0.5)
    assert found.power == pytest.approx(power, abs=0.02)
    assert found == false_alarms(above_zero, spread, seeds, effect)
    assert found != false_alarms(above_zero, spread, seeds, effect, generator=np.random.default_rng(1))


def test_a_rule_that_cannot_fail_is_seen():
    """The larger mean wins: half of all noise, and never open."""
    found = false_alarms(lambda differences: differences.mean() > 0, 1.0, 3, draws=4000)
    assert found.holds == pytest.approx(0.5, abs=0.03)
    assert found.holds + found.refuted == 1
    assert false_alarms(lambda _: True, 1.0, 3, draws=10)[:3] == (1.0, 0.0, 1.0)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"spread": 0.0}, ValueError, "spread must be positive and finite, .* got 0.0"),
        ({"spread": math.nan}, ValueError, "spread must be positive and finite, .* got nan"),
        ({"effect": math.inf}, ValueError, "effect must be finite, .* got inf"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"draws": 1.5}, TypeError, "draws must be an int, got float"),
        ({"generator": 3}, TypeError, "generator must be a numpy Generator or None, got int"),
        ({"rule": lambda _: "holds"}, TypeError, "rule must give True, False or None, got 'holds'"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        false_alarms(**{"rule": above_zero, "spread": 1.0, "seeds": 3, **change})
