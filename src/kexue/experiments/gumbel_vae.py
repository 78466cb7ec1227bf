"""An autoencoder with discrete latents on handwritten digits, trained with five gradient estimators.

    python -m kexue.experiments.gumbel_vae --estimator rloo --seed 1     one run, in _build/runs
    python -m kexue.experiments.gumbel_vae --record '*'                  all missing runs of the book
    accelerate launch --num_processes 2 -m kexue.experiments.gumbel_vae  one run on two GPUs
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m kexue.experiments.gumbel_vae  on two processors

The chapter `gumbel` (gumbel.claim5, gumbel.claim6) reads what it records in runs/.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from kexue import data, runs
from kexue.gumbel import ESTIMATORS, CategoricalVAE, Estimator, evaluate_elbo, gumbel_noise, vae_loss
from kexue.nn import randomness


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    estimator: Estimator = "gumbel"
    seed: int = 0
    steps: int = 6000
    batch_size: int = 100
    learning_rate: float = 1e-3
    encoder_factor: float = 1.0
    """The encoder's learning rate is that much of the decoder's."""
    tau_start: float = 1.0
    tau_end: float = 1.0
    """The temperature goes geometrically from the one to the other; only for the first two estimators."""
    num_latents: int = 32
    num_classes: int = 10
    channels: tuple[int, int] = (32, 64)
    hidden: int = 32
    full_mnist: bool = False
    every: int = 200
    keep_weights: bool = False


SCALES = {
    "live": Config(steps=300, every=50, tau_end=0.2),
    "run": Config(tau_end=0.2),
    "gpu": Config(steps=18000, every=600, tau_end=0.2, full_mnist=True),
}

RATES = (3e-4, 1e-3, 3e-3)

# The same number of trials for each estimator: three learning rates, and three values of what it has
# to be tuned besides: the final temperature, or how much slower the encoder is to learn.
SWEEP = {
    f"gumbel_vae_sweep/{estimator}-lr{rate:g}-{name}{value:g}": Config(
        estimator, steps=3000, learning_rate=rate, **cast(Any, {field: value})
    )
    for estimator in ESTIMATORS
    for rate in RATES
    for name, field, values in (
        ("tau", "tau_end", (0.2, 0.5, 1.0))
        if estimator in ("gumbel", "straight_through")
        else ("encoder", "encoder_factor", (0.1, 0.3, 1.0)),
    )
    for value in values
}

# The best trial of each, by its bound on the validation digits (the chapter compares), run for longer.
CHOSEN = {
    "gumbel": Config("gumbel", learning_rate=1e-3, tau_end=0.2),
    "straight_through": Config("straight_through", learning_rate=3e-3, tau_end=0.2),
    "score": Config("score", learning_rate=3e-3, encoder_factor=0.1),
    "score_baseline": Config("score_baseline", learning_rate=1e-3, encoder_factor=0.1),
    "rloo": Config("rloo", learning_rate=1e-3, encoder_factor=0.1),
}
HEADLINE = {
    f"gumbel_vae_{estimator}/{seed}": replace(
        config,
        seed=seed,
        # and one of those that do not learn, to see why
        keep_weights=seed == 0 or (estimator, seed) == ("straight_through", 3),
    )
    for estimator, config in CHOSEN.items()
    for seed in range(5)
}

# Fixed temperatures and annealed ones, three seeds each, at the learning rate that was best for all
# three schedules of Gumbel-Softmax in the sweep.
TEMPERATURE = {
    f"gumbel_vae_temperature/{name}{end:g}-seed{seed}": Config(
        seed=seed,
        steps=3000,
        learning_rate=1e-3,
        tau_start=start or end,
        tau_end=end,
        keep_weights=seed == 0 and (name, end) in (("fixed", 1.0), ("annealed", 0.25)),
    )
    for name, start, ends in (("fixed", None, (0.1, 0.25, 0.5, 1.0)), ("annealed", 1.0, (0.1, 0.25, 0.5)))
    for end in ends
    for seed in range(3)
}

RECORDINGS = {**SWEEP, **HEADLINE, **TEMPERATURE}
# What `make gpu` records, if it is missing: the lower its priority, the sooner. Minutes of one large GPU, by
# estimate; read without importing this script, so literal.
GPU_RECORDINGS = {"gumbel_vae_mnist/seed0": {"priority": 4, "minutes": 3, "settings": {"seed": 0}}}


def build(config: Config) -> CategoricalVAE:
    return CategoricalVAE(config.num_latents, config.num_classes, config.channels, config.hidden)


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config) -> None:
        self.config = config
        parts = data.mnist_parts(config.full_mnist)
        self.train, self.valid, self.test = (part.pixels.gt(0.5).float() for part in parts)
        self.samples = 2 if config.estimator == "rloo" else 1

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        config = self.config
        x = step.share(self.train[step.batch(len(self.train), config.batch_size)])
        shape = (self.samples, config.batch_size, config.num_latents, config.num_classes)
        noise = step.share(gumbel_noise(shape, step.generator()), dim=1)
        tau = config.tau_start * (config.tau_end / config.tau_start) ** (step.index / config.steps)
        value, bound = vae_loss(model, x, noise, config.estimator, tau)
        return value, {"elbo": bound, "tau": tau}

    def evaluate(self, model: Any) -> dict[str, Any]:
        return {"valid_elbo": mean_elbo(model, self.valid, 1)}

    def finish(self, model: Any) -> dict[str, Any]:
        return {
            "valid_elbo": mean_elbo(model, self.valid, 10),
            "test_elbo": mean_elbo(model, self.test, 10),
        }


def mean_elbo(model: CategoricalVAE, images: Tensor, samples: int) -> float:
    device = next(model.parameters()).device
    return float(evaluate_elbo(model, images.to(device), randomness.generator(0), samples).mean())


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    training, model = Training(config), build(config)
    rates = [config.learning_rate * config.encoder_factor, config.learning_rate]
    parts = zip((model.encoder, model.decoder), rates, strict=True)
    optimizer = torch.optim.Adam(
        [{"params": part.parameters(), "lr": rate} for part, rate in parts], fused=True
    )
    return runs.train_network(model, training, config, folder, stop_after, optimizer)


if __name__ == "__main__":
    runs.command_line("gumbel_vae", SCALES, RECORDINGS, run)
