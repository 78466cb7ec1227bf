"""Accuracy and F1 as losses: small networks on digits, some of whose labels are wrong.

    python -m kexue.experiments.smoothing_digits --loss f1      one run, in _build/runs
    python -m kexue.experiments.smoothing_digits --record '*'   all missing runs of the book
    python -m kexue.experiments.smoothing_digits --scale gpu    wider networks, more of them

The chapter `smoothing` (smoothing.ideal, smoothing.claim3, smoothing.classes) reads what it records in runs/.
A run trains networks 64–hidden–10 side by side: some on each split, for each share of wrong labels. Networks
of different losses and learning rates begin with the same weights and see the same minibatches.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from kexue import data, runs
from kexue.nn import randomness
from kexue.smoothing import soft_macro_f1

if TYPE_CHECKING:
    import pandas

CLASSES = 10

Loss = Literal[
    "cross_entropy",
    "accuracy",
    "two_stage_accuracy",
    "generalised_cross_entropy",
    "label_smoothing",
    "floored_accuracy",
    "f1",
    "two_stage_f1",
]


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    loss: Loss = "cross_entropy"
    noise: tuple[float, ...] = (0.0, 0.2, 0.4)
    """Shares of the labels, of training and validation, that are replaced by a random other class."""
    splits: tuple[int, ...] = (0, 1, 2)
    """Seeds of the divisions into training (half), validation (15 %) and test part (35 %)."""
    networks: int = 5
    """On each split."""
    hidden: int = 32
    zero_output: bool = False
    """Begin with an output layer of zeros, so that all classes have the probability 1/10."""
    first_stage: int = 400
    """Steps of cross-entropy, for losses that begin with it."""
    learning_rate: float = 1e-2
    seed: int = 0
    steps: int = 1200
    batch_size: int = 64
    every: int = 200
    keep_weights: bool = False


SCALES = {
    "live": Config(networks=1, steps=100, every=50, first_stage=30),
    "run": Config(),
    "gpu": Config(networks=50, hidden=256),
}

RATES = (
    3e-4,
    1e-3,
    3e-3,
    1e-2,
    3e-2,
    1e-1,
)  # the smallest: the best of cross-entropy was the edge of the others
SPLITS = (2000, 2001, 2002, 2003, 2004)

RECORDINGS = {
    f"smoothing_digits/{loss}-rate{rate:g}": Config(loss, splits=SPLITS, networks=10, learning_rate=rate)
    for loss in get_args(Loss)
    for rate in RATES
} | {
    f"smoothing_digits/zero_output_accuracy-rate{rate:g}": Config(
        "accuracy", splits=SPLITS, networks=10, zero_output=True, learning_rate=rate
    )
    for rate in RATES
}

NAMES = {
    "cross_entropy": "cross-entropy",
    "label_smoothing": "label smoothing",
    "generalised_cross_entropy": "generalised cross-entropy",
    "accuracy": "accuracy",
    "zero_output_accuracy": "accuracy, output layer of zeros",
    "two_stage_accuracy": "cross-entropy, then accuracy",
    "floored_accuracy": "accuracy, weight ≥ 0.1",
    "f1": "F1",
    "two_stage_f1": "cross-entropy, then F1",
}
"""What the chapter calls the losses."""

MEASURES = ("valid_accuracy", "valid_f1", "accuracy", "f1", "missed")
"""Of a network on its test part; `missed` has a bit for each class of which less than 5 % are found."""


class Networks(nn.Module):
    """Networks 64–hidden–10 side by side, and what they could do at each examination.

    The same initial weights for each share of wrong labels: weights are (noise, network, in, out).
    """

    history: Tensor
    examined: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        count = len(config.splits) * config.networks
        g = randomness.generator(config.seed)

        def layer(inputs: int, outputs: int, scale: float) -> nn.Parameter:
            first = scale * torch.randn(count, inputs, outputs, generator=g)
            return nn.Parameter(first.repeat(len(config.noise), 1, 1, 1))

        out = 0.0 if config.zero_output else config.hidden**-0.5
        self.w1, self.b1 = layer(64, config.hidden, 1 / 8), layer(1, config.hidden, 0.0)
        self.w2, self.b2 = layer(config.hidden, CLASSES, out), layer(1, CLASSES, 0.0)
        times = math.ceil(config.steps / config.every)
        shape = (times, len(MEASURES), len(config.noise), count)
        self.register_buffer("history", torch.zeros(shape))
        self.register_buffer("examined", torch.tensor(0))

    def forward(self, x: Tensor, which: slice = slice(None)) -> Tensor:
        """Scores of samples (network, n, 64) by the networks `which`: (noise, network, n, 10)."""
        w1, b1, w2, b2 = (p[:, which] for p in (self.w1, self.b1, self.w2, self.b2))
        return torch.relu(x @ w1 + b1) @ w2 + b2


def build(config: Config) -> Networks:
    return Networks(config)


def loss_at(name: Loss, step: int, first_stage: int, log_p: Tensor, label: Tensor) -> Tensor:
    """The loss of each network, (…), on a minibatch: log-probabilities (…, n, 10) and labels (…, n)."""
    kind = name.removeprefix("two_stage_")
    if kind != name and step < first_stage:
        kind = "cross_entropy"
    if kind == "f1":
        return -soft_macro_f1(log_p.exp(), label)
    own = log_p.gather(-1, label[..., None]).squeeze(-1)
    each = {
        "cross_entropy": lambda: -own,
        "accuracy": lambda: -own.exp(),
        "generalised_cross_entropy": lambda: 2 * (1 - (own / 2).exp()),
        "label_smoothing": lambda: -0.9 * own - 0.1 * log_p.mean(-1),
        # of cross-entropy's gradient p where p is above 0.1, else 0.1
        "floored_accuracy": lambda: torch.where(own > math.log(0.1), -own.exp(), -0.1 * own),
    }[kind]()
    return each.mean(-1)


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config) -> None:
        self.config = config
        digits = data.digits()
        self.pixels, self.truth = digits.pixels.flatten(1), digits.label
        parts = (
            data.stratified_split(self.truth, (0.5, 0.15, 0.35), randomness.generator(s))
            for s in config.splits
        )
        self.train, self.valid, self.test = (
            torch.stack(rows).repeat_interleave(config.networks, 0) for rows in zip(*parts, strict=True)
        )  # rows of each network: (network, n)
        shape = (len(config.noise), len(self.train), len(self.truth))
        g = randomness.generator(config.seed, 2)
        wrong = torch.rand(shape[1:], generator=g) < torch.tensor(config.noise)[:, None, None]
        other = (self.truth + torch.randint(1, CLASSES, shape[1:], generator=g)) % CLASSES
        self.label = torch.where(wrong, other, self.truth)  # (noise, network, image)

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        config = self.config
        shape = (len(self.train), config.batch_size)
        rows = self.train.gather(1, torch.randint(self.train.shape[1], shape, generator=step.generator()))
        mine = step.share(torch.arange(len(rows))).tolist()  # processes share the networks
        which = slice(mine[0], mine[-1] + 1)
        rows = rows[which]
        label = self.label[:, which].gather(-1, rows.expand(len(config.noise), -1, -1))
        log_p = log_softmax(model(self.pixels[rows].to(step.device), which), -1)
        value = loss_at(config.loss, step.index, config.first_stage, log_p, label.to(step.device))
        return step.processes * value.sum(), {}

    def evaluate(self, model: Any) -> dict[str, Any]:
        """Means over the networks; those of each are kept in the model."""
        found = self.measured(model)
        model.history[model.examined] = found
        model.examined += 1
        return dict(zip(MEASURES[:2], found[:2].mean((1, 2)).tolist(), strict=True))

    def measured(self, model: Any) -> Tensor:
        """MEASURES of each network: (measure, noise, network)."""
        results = {}
        for name, rows, label in (
            ("valid_", self.valid, self.label),
            ("", self.test, self.truth.expand_as(self.label)),
        ):
            label = label.gather(-1, rows.expand(len(label), -1, -1))
            called = model(self.pixels[rows].to(model.w1.device)).argmax(-1).cpu()
            t, p = one_hot(label, CLASSES), one_hot(called, CLASSES)
            hits, members, calls = (t * p).sum(-2), t.sum(-2), p.sum(-2)
            results[name + "accuracy"] = (called == label).float().mean(-1)
            results[name + "f1"] = (2 * hits / (members + calls).clamp(min=1)).mean(-1)
            results["missed"] = ((hits < 0.05 * members) * 2 ** torch.arange(CLASSES)).sum(-1)
        return torch.stack([results[name] for name in MEASURES])

    def finish(self, model: Any, folder: Path) -> dict[str, Any]:
        """Writes networks.csv, a row for each network and examination."""
        config, history = self.config, model.history.cpu()
        with (folder / "networks.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "noise", "split", "network", *MEASURES])
            for time, at_time in enumerate(history):
                step = min((time + 1) * config.every, config.steps)
                for i, noise in enumerate(config.noise):
                    for network, values in enumerate(at_time[:, i].T.tolist()):
                        split = config.splits[network // config.networks]
                        writer.writerow([step, noise, split, network, *(f"{v:.4g}" for v in values)])
        return {
            name: float(value)
            for name, value in zip(MEASURES[2:4], history[-1, 2:4].mean((1, 2)), strict=True)
        }


def ridge(config: Config) -> dict[float, float]:
    """Test accuracy of linear regression on the same one-hot labels, by the share of wrong ones."""
    return baseline(config, RidgeClassifierCV(np.logspace(-2, 2, 9)))


def nearest(config: Config) -> dict[float, float]:
    """The same of nearest neighbours, whose number is chosen by cross-validation."""
    return baseline(config, GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3, 5, 10, 20]}))


def baseline(config: Config, model: Any) -> dict[float, float]:
    """Test accuracy of a model of scikit-learn on the same splits and labels, by the share of wrong ones."""
    task = Training(config)
    x, found = task.pixels.numpy(), {}
    for noise, labels in zip(config.noise, task.label, strict=True):
        scores = []
        for i in range(0, len(task.train), config.networks):  # the first network's labels of each split
            model.fit(x[task.train[i]], labels[i][task.train[i]])
            scores.append(model.score(x[task.test[i]], task.truth[task.test[i]]))
        found[noise] = float(np.mean(scores))
    return found


# --- What the chapter reads of recorded runs ----------------------------------------------------


def networks(recorded: Mapping[str, runs.Run]) -> "pandas.DataFrame":
    """All networks at each examination, with the loss and the learning rate of their run."""
    import pandas  # belongs to the extra "book"

    return pandas.concat(
        pandas.DataFrame(run.columns("networks.csv")).assign(
            loss=trial.partition("-rate")[0], rate=run.config["learning_rate"]
        )
        for trial, run in recorded.items()
    )


def chosen(
    networks: "pandas.DataFrame", loss: str, noise: float, by: str = "valid_accuracy"
) -> "pandas.DataFrame":
    """Those at the learning rate and the time that are best on validation, in the mean; by network."""
    here = networks[(networks.loss == loss) & (networks.noise == noise)]
    rate, step = here.groupby(["rate", "step"])[by].mean().idxmax()
    return here[(here.rate == rate) & (here.step == step)].set_index("network").sort_index()


def accuracies(networks: "pandas.DataFrame") -> "dict[str, dict[str, pandas.Series]]":
    """Test accuracy in per cent, by the share of wrong labels and the name of the loss, but for F1."""
    return {
        f"{noise:.0%} of the labels wrong": {
            name: 100 * chosen(networks, loss, noise).accuracy
            for loss, name in NAMES.items()
            if "f1" not in loss
        }
        for noise in sorted({*networks.noise})
    }


def missing(networks: "pandas.DataFrame") -> "pandas.DataFrame":
    """At which share of the learning rates a network misses a class: clean labels, last step; by loss."""
    end = networks[(networks.step == networks.step.max()) & (networks.noise == 0)]
    return end.assign(missing=end.missed > 0).pivot_table(index="network", columns="loss", values="missing")


def gain(
    networks: "pandas.DataFrame",
    loss: str,
    noise: float,
    over: str = "cross_entropy",
    score: str = "accuracy",
) -> "pandas.Series":
    """Points of a test score over those of another loss, both as validation chooses by that score."""
    ours, theirs = (chosen(networks, each, noise, f"valid_{score}")[score] for each in (loss, over))
    return 100 * (ours - theirs)


def overview(networks: "pandas.DataFrame") -> list[dict[str, str]]:
    """A row for each loss: test F1 by noise; networks that miss a class, as chosen and at any rate."""
    lost, rows = missing(networks).mean(), []
    for loss, name in NAMES.items():
        best = {noise: chosen(networks, loss, noise, "valid_f1") for noise in sorted({*networks.noise})}
        rows.append(
            {"trained on": name}
            | {f"{noise:.0%} wrong": f"{100 * found.f1.mean():.1f}" for noise, found in best.items()}
            | {"lose a class": f"{(best[0.0].missed > 0).mean():.0%}", "over all rates": f"{lost[loss]:.0%}"}
        )
    return rows


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    training, model = Training(config), build(config)
    return runs.train(
        model,
        training.loss,
        torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True),
        config=config,
        folder=folder,
        evaluate=training.evaluate,
        finish=lambda model: training.finish(model, folder),
        stop_after=stop_after,
    )


if __name__ == "__main__":
    runs.command_line("smoothing_digits", SCALES, RECORDINGS, run)
