"""VQ-VAE of handwritten digits: with straight-through and without, and the codes that vqvae_prior.py models.

    python -m kexue.experiments.vqvae_digits --num-codes 32  one run, in _build/runs
    python -m kexue.experiments.vqvae_digits --record '*'    all missing runs of the book
    python -m kexue.experiments.vqvae_digits --scale gpu     on the whole of MNIST

The chapter `vqvae` (vqvae.from_z, vqvae.claim5, vqvae.claim6) reads what it records in runs/.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from kexue import data, runs
from kexue.vqvae import VQVAE, VectorQuantizer


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    objective: Literal["straight_through", "from_z"] = "straight_through"
    """What the decoder is given in training: the codes (vqvae.eq10), or the vectors (vqvae.from_z)."""
    num_codes: int = 64
    dim: int = 32
    downsample: int = 4
    hidden: int = 64
    blocks: int = 2
    gamma: float = 0.25
    ema_decay: float = 0.99
    restart_after: int = 100
    learning_rate: float = 1e-3
    seed: int = 0
    steps: int = 3000
    batch_size: int = 64
    full_mnist: bool = False
    every: int = 250
    keep_weights: bool = False


SCALES = {
    "live": Config(steps=200, every=50),
    "run": Config(),
    "gpu": Config(
        num_codes=512,
        dim=64,
        hidden=128,
        blocks=3,
        steps=30_000,
        every=1000,
        full_mnist=True,
        keep_weights=True,
    ),
}

# Both objectives with the same three strengths of the pull of the vectors to the codes, three seeds each.
OBJECTIVES = {
    f"vqvae_digits_objective/{objective}-gamma{gamma:g}-seed{seed}": Config(
        objective, gamma=gamma, seed=seed, steps=1000
    )
    for objective in ("straight_through", "from_z")
    for gamma in (0.25, 1.0, 4.0)
    for seed in range(3)
}

RECORDINGS = {"vqvae_digits/0": Config(keep_weights=True), **OBJECTIVES}
# What `make gpu` records, if it is missing: the lower its priority, the sooner. Minutes of one large GPU, by
# estimate; read without importing this script, so literal.
GPU_RECORDINGS = {"vqvae_digits_mnist/seed0": {"priority": 5, "minutes": 6, "settings": {"seed": 0}}}


class FromVectors(VQVAE):
    """Trained to decode the vectors before they are quantised; used with the codes like any other."""

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Any]:
        if not self.training:
            return super().forward(x, generator)
        z = self.encode(x)
        return self.decode(z), self.quantizer(z, generator)


def build(config: Config) -> VQVAE:
    quantizer = VectorQuantizer(
        config.num_codes,
        config.dim,
        gamma=config.gamma,
        ema_decay=config.ema_decay,
        restart_after=config.restart_after,
    )
    kind = VQVAE if config.objective == "straight_through" else FromVectors
    sizes = (1, config.hidden, config.num_codes, config.dim, config.downsample, config.blocks)
    return kind(*sizes, quantizer)


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config) -> None:
        self.config = config
        parts = data.mnist_parts(config.full_mnist)
        self.train, self.valid, self.test = (part.pixels[:, None] * 2 - 1 for part in parts)

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        x = step.share(self.train[step.batch(len(self.train), self.config.batch_size)])
        y, quantized = model(x.contiguous(memory_format=torch.channels_last), step.generator())
        error = mse_loss(y, x)
        return error + quantized.loss, {"mse": error.detach(), "perplexity": quantized.perplexity}

    def evaluate(self, model: Any) -> dict[str, Any]:
        return measured(model, self.valid, "valid")

    def finish(self, model: Any) -> dict[str, Any]:
        return measured(model, self.test, "test")


def measured(model: VQVAE, images: Tensor, part: str) -> dict[str, float]:
    """Mean squared error, and how many codes are used."""
    device = next(model.parameters()).device
    found = [(x, *model(x)) for x in images.to(device).split(500)]
    error = sum(float((y - x).square().sum()) for x, y, _ in found) / images.numel()
    counts = torch.cat([q.indices.flatten() for _, _, q in found]).bincount()
    return {f"{part}_mse": error, f"{part}_codes_used": int((counts > 0).sum())}


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    training, model = Training(config), build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    schedule = runs.cosine(config.steps)
    return runs.train_network(model, training, config, folder, stop_after, schedule=schedule, max_norm=1.0)


if __name__ == "__main__":
    runs.command_line("vqvae_digits", SCALES, RECORDINGS, run)
