"""Statistics of a few seeds: intervals of means, and how often a rule about them says what is not so."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kexue.nn import checks

__all__ = ["Alarms", "Interval", "false_alarms", "mean_interval"]

LARGEST = 1e150
"""Beyond that, squares overflow."""


class Interval(NamedTuple):
    """A mean with the bounds of its confidence interval; of several means, arrays.

    f"{interval:+.2f}" is "+0.31 (+0.10 to +0.52)".
    """

    mean: Any
    low: Any
    high: Any

    def beyond(self, bound: float = 0.0) -> bool | None:
        """True where all of it lies above the bound, False where all is below, None where the bound is in it.

        Raises TypeError for an interval of several means.
        """
        if np.ndim(self.mean):
            raise TypeError(f"interval must be of one mean, got {np.size(self.mean)}")
        return True if self.low > bound else False if self.high < bound else None

    def within(self, low: float, high: float) -> bool | None:
        """True where all of it lies between the bounds, False where all is outside, None where it holds one.

        Raises TypeError for an interval of several means.
        """
        above, below = self.beyond(low), self.beyond(high)
        return False if above is False or below is True else True if above and below is False else None

    @property
    def sign(self) -> int:
        """1, −1, or 0 where it holds 0."""
        above = self.beyond()
        return 0 if above is None else 1 if above else -1

    def __format__(self, spec: str) -> str:
        mean, low, high = (format(float(value), spec) for value in self)
        return f"{mean} ({low} to {high})"


def mean_interval(
    samples: ArrayLike, axis: int = -1, confidence: float = 0.95, overlap: float = 0.0
) -> Interval:
    """Mean of samples and its Student-t confidence interval.

    The variance of the mean is (1/n + overlap) times that of a sample. For independent samples
    `overlap` is 0. For scores on random splits of one data set it is the size of the test set over
    that of the training set (Nadeau and Bengio 2003), since such scores are correlated.

    Raises TypeError for samples that are no real numbers, and ValueError for fewer than two, samples that are
    not finite or beyond 1e150, no such axis, a confidence outside (0, 1), or a negative overlap.
    """
    try:
        if np.iscomplexobj(samples):
            raise TypeError
        values = np.asarray(samples, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"samples must be real numbers, got {samples!r:.80}") from None
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"samples must have an axis {axis}, got shape {values.shape}")
    n = values.shape[axis]
    if n < 2:
        raise ValueError(f"samples must hold at least 2 values along axis={axis}, got {n}")
    bad = ~(np.abs(values) <= LARGEST)
    if bad.any():
        raise ValueError(f"samples must be finite, within ±{LARGEST}, got {values[bad][0]}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if overlap < 0:
        raise ValueError(f"overlap must not be negative, got {overlap}")
    mean = values.mean(axis)
    deviation = values.std(axis, ddof=1) * np.sqrt(1 / n + overlap)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * deviation
    return Interval(mean, mean - half, mean + half)


class Alarms(NamedTuple):
    """How often a rule decides, as shares of simulated experiments."""

    holds: float
    """Says "holds" where there is no effect, a false alarm."""
    refuted: float
    """Says "refuted" where there is no effect, a false alarm unless the claim says that there is none."""
    power: float
    """Says "holds" at the given effect."""
    error: float
    """Of these shares; the standard error is at most 1/(2√draws)."""


def false_alarms(
    rule: Callable[[np.ndarray], bool | None],
    spread: float,
    seeds: int,
    effect: float = 0.0,
    draws: int = 10_000,
    generator: np.random.Generator | None = None,
) -> Alarms:
    """How often a rule decides about differences of so many seeds that are noise, and at a given effect.

    Differences are drawn from a normal distribution, with mean 0 and with mean `effect`.

    Args:
        rule: maps the differences, (seeds,), to True ("holds"), False ("refuted") or None ("open"), as
            `Interval.beyond` does.
        spread: standard deviation of the difference from seed to seed, as observed.
        seeds: how many there are.
        effect: for the power; the size that the article reports, for example.
        draws: simulated experiments, for either mean.
        generator: NumPy's; if None, a new one of seed 0, so that the numbers are the same each time.

    Raises:
        TypeError: seeds or draws are no ints, spread or effect no numbers, the generator is not NumPy's, the
            rule is no function, or gives anything else.
        ValueError: a spread that is not positive and finite, an effect that is not finite, either beyond
            1e150, no seeds or draws.
    """
    checks.function("rule", rule)
    checks.number("spread", spread)
    checks.number("effect", effect)
    checks.count("seeds", seeds, 1)
    checks.count("draws", draws, 1)
    if not 0 < spread <= LARGEST:
        raise ValueError(f"spread must be positive and finite, within ±{LARGEST}, got {spread}")
    if not abs(effect) <= LARGEST:
        raise ValueError(f"effect must be finite, within ±{LARGEST}, got {effect}")
    if generator is not None and not isinstance(generator, np.random.Generator):
        raise TypeError(f"generator must be a numpy Generator or None, got {type(generator).__name__}")
    rng = np.random.default_rng(0) if generator is None else generator
    noise = rng.normal(0.0, spread, (draws, seeds))
    none, some = ([_decided(rule, row) for row in noise + mean] for mean in (0.0, effect))
    return Alarms(
        none.count(True) / draws, none.count(False) / draws, some.count(True) / draws, 0.5 / draws**0.5
    )


def _decided(rule: Callable[[np.ndarray], bool | None], differences: np.ndarray) -> bool | None:
    found = rule(differences)
    if found is not None and not isinstance(found, bool | np.bool_):
        raise TypeError(f"rule must give True, False or None, got {found!r}")
    return None if found is None else bool(found)
