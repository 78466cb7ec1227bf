"""F1 as a loss where one class is rare: logistic regressions, which have one threshold to learn.

    python -m kexue.experiments.smoothing_f1                 the chapter's study, in _build/runs
    python -m kexue.experiments.smoothing_f1 --seed 4000     the same on other draws

The chapter `smoothing` (smoothing.claim2, smoothing.claim3, smoothing.recipe, smoothing.threshold) calls
these functions: they take seconds, so nothing is recorded. Regressions are fitted side by side, one a draw.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize, stats
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from kexue import data, runs
from kexue.runs.statistics import Interval, mean_interval
from kexue.smoothing import soft_f1

SHIFT = 1.5
"""The mean of the positives; that of the negatives is 0, and both have the variance 1."""

FIRST_SPLIT = 600
"""The seed of the first division of the patients."""


@dataclass(frozen=True)
class Config:
    """The settings of a study."""

    positives: tuple[float, ...] = (0.01, 0.02, 0.05)
    """Shares of the positive class, a problem each."""
    samples: int = 5000
    """Of each draw, in each of the parts for training, validation and test."""
    draws: int = 30
    seed: int = 3000
    """Of the draws."""
    steps: int = 3
    """Rows that a run records: problems."""
    every: int = 1
    keep_weights: bool = False


SCALES = {"live": Config(), "run": Config(), "gpu": Config(samples=50_000)}

RECORDINGS: dict[str, Config] = {}

LEARNING_RATES = (0.03, 0.1, 0.3, 1.0)


# --- Data ---------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Samples of several draws."""

    x: Float[Tensor, "draw n features"]
    """The last feature is 1."""
    t: Float[Tensor, "draw n"]
    """1 for the positives, else 0."""


class Problem(NamedTuple):
    """What is learned from, chosen by, and tested on."""

    train: Part
    valid: Part
    test: Part
    rate: float | None
    """The share of positives, where the distributions are known."""
    overlap: float
    """Of the draws' test parts, as in `mean_interval`."""

    @property
    def all_positive(self) -> float:
        """Test F1 of calling everything positive."""
        share = float(self.test.t.mean())
        return 2 * share / (1 + share)

    @property
    def best_f1(self) -> float:
        """F*, the highest that `true_f1` gets."""
        found = optimize.minimize_scalar(
            lambda x: -true_f1(x, cast(float, self.rate)), bounds=(-1, 5), method="bounded"
        )
        return -float(found.fun)


def gaussian(rate: float, config: Config, generator: torch.Generator) -> Part:
    """Draws of two normal distributions, of which the one of the rare positives is shifted."""
    size = (config.draws, config.samples)
    t = (torch.rand(size, generator=generator) < rate).float()
    x = torch.randn(size, generator=generator) + SHIFT * t
    return Part(torch.stack([x, torch.ones_like(x)], -1), t)


def patients(draws: int) -> Problem:
    """Who is among the tenth of diabetes patients that fared worst? Random splits, which overlap."""
    sick = data.diabetes()
    worst = sick.target > sick.target.quantile(0.9)
    x = torch.cat([sick.features, torch.ones(len(worst), 1)], 1)
    fractions = (0.5, 0.2, 0.3)
    splits = [
        data.stratified_split(worst.long(), fractions, torch.Generator().manual_seed(FIRST_SPLIT + draw))
        for draw in range(draws)
    ]
    train, valid, test = (
        Part(x[rows], worst[rows].float()) for rows in map(torch.stack, zip(*splits, strict=True))
    )
    return Problem(train, valid, test, None, overlap=fractions[2] / fractions[0])


def problems(config: Config, generator: torch.Generator) -> dict[str, Problem]:
    """The Gaussian problems, drawn from the generator, and the patients, by name."""
    found = {}
    for rate in config.positives:
        train, valid, test = (gaussian(rate, config, generator) for _ in range(3))
        found[f"{rate:.0%} positives"] = Problem(train, valid, test, rate, overlap=0.0)
    return found | {"diabetes": patients(config.draws)}


# --- Training -----------------------------------------------------------------------------------

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of scores and labels, (draw, n); one number a draw."""


def cross_entropy(z: Tensor, t: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(z, t, reduction="none").mean(-1)


def minus_f1(z: Tensor, t: Tensor) -> Tensor:
    return -soft_f1(torch.sigmoid(z), t)


def scores(part: Part, w: Tensor) -> Float[Tensor, "draw n"]:
    """w·x of each sample, by the weights of its draw, (draw, features, 1)."""
    return (part.x @ w).squeeze(-1)


def fit(
    train: Part,
    loss: Loss,
    rate: float,
    updates: int = 300,
    batch: int | None = None,
    first_stage: int = 0,
) -> Float[Tensor, "draw features 1"]:
    """Weights after Adam's steps on `batch` samples each, or on all."""
    (draws, n), g = train.t.shape, torch.Generator().manual_seed(0)
    w = torch.randn(draws, train.x.shape[-1], 1, generator=g) / 2
    optimizer = torch.optim.Adam([w.requires_grad_()], lr=rate, fused=True)
    for step in range(updates):
        x, t = train
        if batch is not None:
            rows = torch.randint(n, (draws, batch), generator=g)
            x, t = x.take_along_dim(rows[..., None], 1), t.gather(1, rows)
        now = cross_entropy if step < first_stage else loss
        optimizer.zero_grad()
        now((x @ w).squeeze(-1), t).sum().backward()
        optimizer.step()
    return w.detach()


class Fitted(NamedTuple):
    """Regressions for one problem."""

    problem: Problem
    weights: list[Tensor]
    """At each of LEARNING_RATES, (draw, features, 1)."""
    best: Tensor
    """Those with the best F1 on validation, in the mean."""

    @property
    def enters(self) -> bool:
        """Whether the mean test F1 is above that of calling everything positive."""
        return float(at_half(self).mean()) > self.problem.all_positive


def fits(problems: Mapping[str, Problem], loss: Loss, **settings: Any) -> dict[str, Fitted]:
    """Regressions for each problem; settings as in `fit`."""
    found = {}
    for name, problem in problems.items():
        weights = [fit(problem.train, loss, rate, **settings) for rate in LEARNING_RATES]
        valid = [float(f1(problem.valid, w).mean()) for w in weights]
        found[name] = Fitted(problem, weights, weights[valid.index(max(valid))])
    return found


# --- What is measured: F1, with a threshold at ½, tuned, or plugged in -----------------------------


def f1(part: Part, w: Tensor, threshold: float | Tensor = 0.0) -> Float[Tensor, " draw"]:
    """F1 of the decisions w·x > threshold."""
    return soft_f1((scores(part, w) > threshold).float(), part.t).double()


def at_half(fitted: Fitted) -> Float[Tensor, " draw"]:
    """Test F1 with the threshold at a probability of ½."""
    return f1(fitted.problem.test, fitted.best)


def gain(ours: Fitted, theirs: Fitted) -> Float[Tensor, " draw"]:
    """Test F1 over that of other regressions for the same problem, both at ½."""
    return at_half(ours) - at_half(theirs)


def tuned(fitted: Fitted) -> Float[Tensor, " draw"]:
    """Test F1 with the threshold that is best on validation."""
    problem, w = fitted.problem, fitted.best
    grid = torch.linspace(-5, 1, 61)
    at = torch.stack([f1(problem.valid, w, c) for c in grid]).argmax(0)
    return f1(problem.test, w, grid[at][:, None])


def plugged_in(fitted: Fitted) -> Float[Tensor, " draw"]:
    """Test F1 with the threshold F/2, F the best one expected if the probabilities are right."""
    problem, w = fitted.problem, fitted.best
    p = torch.sigmoid(scores(problem.valid, w)).sort(-1, descending=True).values
    called = torch.arange(1, p.shape[-1] + 1)  # the most probable ones
    expected = 2 * p.cumsum(-1) / (called + p.sum(-1, keepdim=True))
    half = expected.amax(-1, keepdim=True) / 2
    return f1(problem.test, w, torch.logit(half))


def astray(fitted: Fitted) -> Float[Tensor, " draw"]:
    """The share of the learning rates at which a draw ends below calling everything positive."""
    problem = fitted.problem
    below = torch.stack([f1(problem.test, w) < problem.all_positive for w in fitted.weights])
    return below.double().mean(0)


def gaussian_mean(
    measure: Callable[[Fitted], Tensor], fitted: Mapping[str, Fitted]
) -> Float[Tensor, " draw"]:
    """The mean of a measure over the Gaussian problems."""
    return torch.stack([measure(one) for one in fitted.values() if one.problem.rate]).mean(0)


def smooth_in_batches(
    fitted: Fitted, sizes: tuple[int, ...], generator: torch.Generator
) -> tuple[float, dict[str, Interval]]:
    """Smooth F1 of the first draw on all of its test samples, and the mean of 4,000 random minibatches, with
    its 99 % interval, for each size."""
    x, t = (values[0] for values in fitted.problem.test)
    p, t = torch.sigmoid(x @ fitted.best[0]).squeeze(-1).double(), t.double()
    rows = torch.randint(len(t), (4000, max(sizes)), generator=generator)
    whole = float(soft_f1(p, t))
    return whole, {
        f"smooth F1 at B = {n} (all data: {whole:.3f})": mean_interval(
            soft_f1(p[rows[:, :n]], t[rows[:, :n]]), confidence=0.99
        )
        for n in sizes
    }


# --- What is true of the normal distributions ------------------------------------------------------


def boundary(w: Tensor) -> Float[Tensor, " draw"]:
    """Where a regression on one input and a constant says ½."""
    return -(w[:, 1] / w[:, 0]).squeeze(-1).double()


def posterior(x: Tensor, rate: float) -> Tensor:
    """P(t = 1 | x), by Bayes: σ(s·x − s²/2 + log(rate / (1 − rate))), s the shift."""
    return torch.sigmoid(SHIFT * x - SHIFT**2 / 2 + np.log(rate / (1 - rate)))


def true_f1(x: Any, rate: float) -> Any:
    """F1 of "positive above x", of infinitely many samples."""
    hit, false = rate * stats.norm.sf(x - SHIFT), (1 - rate) * stats.norm.sf(x)
    return 2 * hit / (rate + hit + false)


def learned(fitted: Fitted) -> Float[Tensor, " draw"]:
    """P(t = 1 | x) where the regressions say ½."""
    return posterior(boundary(fitted.best), cast(float, fitted.problem.rate))


def boundary_f1(fitted: Fitted) -> Float[np.ndarray, " draw"]:
    """`true_f1` of the decision that the regressions have learned."""
    return true_f1(boundary(fitted.best).numpy(), cast(float, fitted.problem.rate))


def over_best(
    name: str, measure: Callable[[Fitted], Any], fitted: Mapping[str, Fitted], share: float = 1.0
) -> dict[str, Interval]:
    """What is measured over F*, or a share of it, with its 95 % interval, for each Gaussian problem."""
    return {
        f"{name}, {problem}": mean_interval(measure(one) / (share * one.problem.best_f1))
        for problem, one in fitted.items()
        if one.problem.rate
    }


# --- A study of its own ----------------------------------------------------------------------------


def row(config: Config, index: int) -> dict[str, float]:
    """Means over the draws, for one of the shares of positives."""
    drawn = problems(config, torch.Generator().manual_seed(config.seed))
    name, problem = list(drawn.items())[index]
    by_f1, by_entropy = (fits({name: problem}, loss)[name] for loss in (minus_f1, cross_entropy))
    measured = {
        "boundary": learned(by_f1) / (problem.best_f1 / 2),
        "f1": at_half(by_f1),
        "cross_entropy": at_half(by_entropy),
        "cross_entropy_tuned": tuned(by_entropy),
    }
    return {"positives": cast(float, problem.rate)} | {
        name: float(values.mean()) for name, values in measured.items()
    }


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    return runs.measure(lambda step: row(config, step), config=config, folder=folder, stop_after=stop_after)


if __name__ == "__main__":
    runs.command_line("smoothing_f1", SCALES, RECORDINGS, run)
