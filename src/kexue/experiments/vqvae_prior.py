"""Autoregressive models of the codes of handwritten digits: attention and convolution, three orders.

    python -m kexue.experiments.vqvae_prior --model cnn --seed 1        one run, in _build/runs
    python -m kexue.experiments.vqvae_prior --record '*'                all missing runs of the book
    python -m kexue.experiments.vqvae_prior --scale gpu --codes FOLDER  the codes of vqvae_digits

The codes are those of the run runs/vqvae_digits/0. The chapter `vqvae` (vqvae.claim5, vqvae.claim6) reads
what is recorded in runs/.
"""

import csv
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kexue import data, runs
from kexue.experiments import RecordedRun
from kexue.nn import randomness
from kexue.vqvae import ORDERS, VQVAE, Order, PixelAttention, PixelCNN


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    model: Literal["attention", "cnn"] = "attention"
    order: Order = "raster"
    """Of generation; the convolutions know raster order only."""
    width: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    learning_rate: float = 1e-3
    seed: int = 0
    steps: int = 1000
    batch_size: int = 64
    codes: str = "vqvae_digits/0"
    """The run of the autoencoder: a folder, or one within the recorded runs."""
    full_mnist: bool = False
    every: int = 100
    keep_weights: bool = False
    keep_samples: bool = False
    """Codes of 200 drawn digits, a row each, in samples.csv."""


SCALES = {
    "live": Config(steps=100, every=50),
    "run": Config(),
    "gpu": Config(width=512, layers=12, heads=8, steps=50_000, batch_size=256, every=2000, full_mnist=True),
}

# Of the same size: 0.8 million parameters each.
MODELS = {"attention": Config(), "cnn": Config("cnn", width=80, layers=6)}

# The same trials for both, half as long.
TUNING = {
    f"vqvae_prior_tuning/{model}-lr{rate:g}-dropout{dropout:g}": replace(
        config, learning_rate=rate, dropout=dropout, steps=500
    )
    for model, config in MODELS.items()
    for rate in (3e-4, 1e-3, 3e-3, 1e-2)
    for dropout in (0.1, 0.3)
}

# The best of each, by the bits of the validation digits (the chapter compares).
CHOSEN = {
    "attention": replace(MODELS["attention"], learning_rate=3e-3, dropout=0.1),
    "cnn": replace(MODELS["cnn"], learning_rate=3e-3, dropout=0.3),
}
FINAL = {
    **{
        f"vqvae_prior_attention/{order}-seed{seed}": replace(
            CHOSEN["attention"], order=order, seed=seed, keep_weights=seed == 0 and order == "raster"
        )
        for order in ORDERS
        for seed in range(3)
    },
    **{
        f"vqvae_prior_cnn/seed{seed}": replace(CHOSEN["cnn"], seed=seed, keep_samples=seed == 0)
        for seed in range(3)
    },
}

RECORDINGS = {**TUNING, **FINAL}
# What `make gpu` records, if it is missing: the lower its priority, the sooner. Minutes of one large GPU, by
# estimate; read without importing this script, so literal.
GPU_RECORDINGS = {
    "vqvae_prior_mnist/seed0": {
        "priority": 6,
        "minutes": 20,
        "settings": {"seed": 0, "codes": "vqvae_digits_mnist/seed0"},
    }
}


def autoencoder(folder: str) -> tuple[RecordedRun, VQVAE]:
    """The autoencoder that a run of vqvae_digits recorded."""
    found = RecordedRun(Path(folder) if Path(folder).is_dir() else runs.runs_folder() / folder)
    return found, cast(VQVAE, found.model())


@cache
@torch.no_grad()
def codes(folder: str, full_mnist: bool) -> tuple[int, tuple[Tensor, ...]]:
    """How many codes there are, and the codes of the digits for training, validation and the test."""
    found, model = autoencoder(folder)
    if found.config["full_mnist"] != full_mnist:
        raise ValueError(f"codes must be of a run with full_mnist = {full_mnist}, got {folder}")
    grids = [
        torch.cat(
            [model.quantizer(model.encode(x)).indices for x in (part.pixels[:, None] * 2 - 1).split(500)]
        )
        for part in data.mnist_parts(full_mnist)
    ]
    return model.quantizer.num_codes, tuple(grids)


def build(config: Config) -> nn.Module:
    num_codes, (train, _, _) = codes(config.codes, config.full_mnist)
    if config.model == "cnn":
        if config.order != "raster":
            raise ValueError(f"order must be 'raster' for the convolutions, got {config.order!r}")
        return PixelCNN(num_codes, config.width, config.layers, dropout=config.dropout)
    return PixelAttention(
        num_codes,
        cast(Any, train.shape[1:]),
        config.width,
        config.heads,
        config.layers,
        config.order,
        config.dropout,
    )


def samples(model: Any, config: Config, grid: tuple[int, int], path: Path) -> None:
    """Draw 200 grids of codes and write them, a row each, in the order in which one reads."""
    drawn = model.sample((200, *grid), randomness.generator(config.seed, 2)).flatten(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(f"code{place}" for place in range(drawn.shape[1]))
        writer.writerows(drawn.tolist())


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        _, (self.train, self.valid, self.test) = codes(config.codes, config.full_mnist)

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        x = step.share(self.train[step.batch(len(self.train), self.config.batch_size)])
        logits = model(x)
        return nn.functional.cross_entropy(logits.flatten(0, 2), x.flatten()) / math.log(2), {}

    def evaluate(self, model: Any) -> dict[str, Any]:
        return {"valid_bits": bits(model, self.valid)}

    def finish(self, model: Any) -> dict[str, Any]:
        metrics = {
            "test_bits": bits(model, self.test),
            "train_bits": bits(model, self.train),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        if self.config.keep_samples:
            samples(model.cpu(), self.config, cast(Any, self.train.shape[1:]), self.folder / "samples.csv")
        return metrics


def bits(model: Any, grids: Tensor) -> float:
    """−log₂ p of grids, for each code."""
    device = next(model.parameters()).device
    nats = -float(sum(model.log_prob(part).double().sum() for part in grids.to(device).split(500)))
    return nats / len(grids) / (math.log(2) * grids.shape[1] * grids.shape[2])


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    training = Training(config, folder)
    runs.set_seed(config.seed)
    model = build(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01, fused=True)
    schedule = runs.cosine(config.steps, warmup=min(100, 1 + config.steps // 10))
    return runs.train_network(
        model, training, config, folder, stop_after, optimizer, schedule=schedule, max_norm=1.0
    )


if __name__ == "__main__":
    runs.command_line("vqvae_prior", SCALES, RECORDINGS, run)
