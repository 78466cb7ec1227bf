"""VQ-VAE on photographs: reconstruction, the health of the codebook, and five ways to quantise.

    python -m kexue.experiments.vqvae_photos --num-codes 64 --seed 1       one run, in _build/runs
    python -m kexue.experiments.vqvae_photos --record '*'                  all missing runs of the book
    python -m kexue.experiments.vqvae_photos --scale gpu --images FOLDER   a folder of JPEG and PNG files
    accelerate launch --num_processes 2 -m kexue.experiments.vqvae_photos  one run on two GPUs

The chapter `vqvae` (vqvae.claim2, vqvae.claim3, vqvae.claim4) reads what it records in runs/.
"""

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from kexue import data, runs
from kexue.nn import randomness
from kexue.vqvae import (
    VQVAE,
    FiniteScalarQuantizer,
    Quantized,
    TwoLevelVQVAE,
    VectorQuantizer,
    gradient_agreement,
    image_quality,
)

Quantiser = Literal["loss", "ema", "rotation", "fsq", "two_levels"]


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    quantiser: Quantiser = "ema"
    """A codebook trained by the loss, or as a moving average; with the rotated gradient; two levels of
    codes (both average, too); or finite scalars, which read `levels` and none of the codebook's settings."""
    num_codes: int = 512
    levels: tuple[int, ...] = (8, 8, 8)
    """Of FSQ, whose number of codes is their product."""
    downsample: int = 8
    size: int = 64
    """Height and width of the crops."""
    colours: Literal["kept", "mixed"] = "kept"
    """Whether half of the crops have their channels interchanged: colours that few photographs have."""
    hidden: int = 64
    dim: int = 64
    blocks: int = 3
    beta: float = 1.0
    gamma: float = 0.25
    ema_decay: float = 0.99
    restart_after: int | None = 100
    """Codes that no vector chose in that many steps start again at a random vector."""
    start: Literal["data", "random"] = "data"
    """The codebook starts from vectors of the first batch, or from small random numbers."""
    learning_rate: float = 1e-3
    seed: int = 0
    steps: int = 1000
    batch_size: int = 16
    images: str | None = None
    """A folder of photographs, JPEG or PNG, instead of the book's."""
    every: int = 250
    keep_weights: bool = False
    keep_picture: bool = False
    """Of a held-out photograph, as the trained model gives it back; and how gradients agree in all."""


SCALES = {
    "live": Config(steps=100, every=50),
    "run": Config(),
    "gpu": Config(
        downsample=4,
        size=128,
        hidden=128,
        dim=128,
        batch_size=64,
        steps=100_000,
        every=2000,
        keep_weights=True,
    ),
}

HEADLINE = {
    f"vqvae_photos/{seed}": Config(
        downsample=4, size=128, colours="mixed", steps=2000, every=250, seed=seed, keep_weights=seed == 0
    )
    for seed in range(3)
}

# One seed each: the number of codes, and the grid from 16 × 16 down to a single code. Five codes (2.3 bits)
# on a grid have about as many bits as 512 codes (9 bits) on the next smaller one.
SWEEP = {
    f"vqvae_photos_sweep/f{downsample}-k{num_codes}": Config(
        downsample=downsample, num_codes=num_codes, steps=1500, keep_picture=num_codes in (5, 512)
    )
    for downsample, num_codes in (
        *((4, k) for k in (5, 64, 512, 1024)),
        (8, 5),
        (8, 512),
        (16, 512),
        (64, 512),
    )
}

# The best rate of the tuning below for each (the chapter compares), on the validation photograph.
RATES = {"loss": 2e-3, "ema": 2e-3, "rotation": 1e-3, "fsq": 1e-3, "two_levels": 5e-4}

# The codebook's health; and the weights β and γ, with restarts, beside loss-data-restart (β = 1, γ = 0.25).
HEALTH = {
    f"vqvae_photos_health/{name}-seed{seed}": replace(config, seed=seed)
    for name, config in {
        **{
            f"{quantiser}-{start}-{'restart' if restart else 'stay'}": Config(
                quantiser, start=cast(Any, start), restart_after=restart, learning_rate=RATES[quantiser]
            )
            for quantiser in ("loss", "ema")
            for start, restart in (("random", None), ("data", None), ("data", 100))
        },
        **{
            name: Config("loss", learning_rate=RATES["loss"], **cast(Any, {name[:-1]: float(name[-1])}))
            for name in ("gamma0", "gamma1", "gamma4", "beta4")
        },
    }.items()
    for seed in range(3)
}

# What the field does now, beside the moving average with restarts (HEALTH), at 512 codes or nearly.
TODAY = {
    f"vqvae_photos_today/{quantiser}-seed{seed}": Config(
        quantiser, seed=seed, dim=3 if quantiser == "fsq" else 64, learning_rate=RATES[quantiser]
    )
    for quantiser in ("rotation", "fsq", "two_levels")
    for seed in range(3)
}

# Four learning rates for each quantiser; and whether to mix colours.
TUNING = {
    f"vqvae_photos_tuning/{quantiser}-lr{rate:g}": Config(
        quantiser, learning_rate=rate, dim=3 if quantiser == "fsq" else 64
    )
    for quantiser in ("loss", "ema", "rotation", "fsq", "two_levels")
    for rate in (5e-4, 1e-3, 2e-3, 4e-3)
}

TUNING |= {
    f"vqvae_photos_tuning/colours-{colours}": Config(downsample=4, colours=colours, steps=600)
    for colours in ("kept", "mixed")
}

RECORDINGS = {**TUNING, **HEADLINE, **SWEEP, **HEALTH, **TODAY}
# What `make gpu` records, if it is missing: the lower its priority, the sooner. Minutes of one large GPU, by
# estimate; read without importing this script, so literal.
GPU_RECORDINGS = {
    "vqvae_photographs/seed0": {
        "priority": 2,
        "minutes": 10,
        "settings": {"seed": 0, "images": "photographs", "steps": 20_000},
    }
}


@cache
def photographs(images: str | None) -> dict[str, dict[str, Tensor]]:
    """Photographs by part and name. Of a folder, one in ten is for validation and one for the test."""
    parts: dict[str, dict[str, Tensor]] = {"train": {}, "valid": {}, "test": {}}
    if images is None:
        for name, photograph in data.photographs().items():
            parts[photograph.part][name] = photograph.pixels
        return parts
    for path in sorted(p for p in Path(images).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        number = hashlib.sha256(path.name.encode()).digest()[0]
        part = "valid" if number < 26 else "test" if number < 52 else "train"
        parts[part][str(path)] = data.read_photograph(path)
    if empty := [part for part, found in parts.items() if not found]:
        raise ValueError(f"images must hold photographs for {', '.join(empty)} too, got {images}")
    return parts


@cache
def crops(images: str | None, size: int, mixed: bool = False) -> Callable[[int, torch.Generator], Tensor]:
    """Draws random crops, in [−1, 1]: of a scene, a picture of it, a scale, a place, and perhaps mirrored.

    With `mixed`, half of the crops have their channels in a random order.
    """
    scenes: dict[str, list[list[Tensor]]] = {}
    for name, pixels in photographs(images)["train"].items():
        scales = [
            data.smaller(pixels, factor)
            for factor in (1, 1.5, 2, 3, 4, 6, 8)
            if min(pixels.shape[1:]) / factor >= size
        ]
        scene = name.split("_")[0] if images is None else name
        scenes.setdefault(scene, []).append(scales)
    pictures = list(scenes.values())
    orders = list(itertools.permutations(range(3)))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        found = []
        for u in torch.rand(count, 6, generator=generator).tolist():
            scene = pictures[int(u[0] * len(pictures))]
            scales = scene[int(u[1] * len(scene))]
            pixels = scales[int(u[2] * len(scales))]
            top, left = (int(v * (n - size + 1)) for v, n in zip(u[3:5], pixels.shape[1:], strict=True))
            crop = pixels[:, top : top + size, left : left + size]
            found.append(crop.flip(2) if u[5] < 0.5 else crop)
        if mixed:
            for i, u in enumerate(torch.rand(count, 2, generator=generator)):
                if u[0] < 0.5:
                    found[i] = found[i][list(orders[int(u[1] * len(orders))])]
        return torch.stack(found) * 2 - 1

    return draw


def build(config: Config) -> nn.Module:
    def codes() -> VectorQuantizer:
        return VectorQuantizer(
            config.num_codes,
            config.dim,
            config.beta,
            config.gamma,
            ema_decay=None if config.quantiser == "loss" else config.ema_decay,
            estimator="rotation" if config.quantiser == "rotation" else "straight_through",
            restart_after=config.restart_after,
        )

    quantizer: VectorQuantizer | FiniteScalarQuantizer
    match config.quantiser:
        case "two_levels":
            return TwoLevelVQVAE(
                3, config.hidden, config.dim, config.downsample, (codes(), codes()), config.blocks
            )
        case "fsq":
            quantizer = FiniteScalarQuantizer(config.levels)
        case "loss" | "ema" | "rotation":
            quantizer = codes()
        case other:
            raise ValueError(f"quantiser must be one of {get_args(Quantiser)}, got {other!r}")
    return VQVAE(
        3, config.hidden, quantizer.num_codes, quantizer.dim, config.downsample, config.blocks, quantizer
    )


@torch.no_grad()
def picture(model: nn.Module, config: Config, path: Path) -> dict[str, float]:
    """Write what the model makes of the middle of the photograph of Chelsea; how gradients agree in all."""
    held_out = photographs(config.images)["test"]
    device = next(model.parameters()).device
    face = data.centre_square(held_out["chelsea"], config.size)[None] * 2 - 1
    pixels = ((model(face.to(device))[0][0].clamp(-1, 1) + 1) / 2 * 255).round().byte().cpu()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, optimize=True)
    views = [data.views(pixels, config.size) * 2 - 1 for pixels in held_out.values()]
    agreement = [gradient_agreement(x, model(x.to(device))[0].float().cpu()) for x in views]
    return dict(zip(("test_sharpness", "test_cosine"), np.mean(agreement, 0).tolist(), strict=True))


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config, folder: Path) -> None:
        if config.keep_picture and config.images is not None:
            raise ValueError(
                f"keep_picture must be False for photographs of one's own, got images = {config.images!r}"
            )
        if config.start == "random" and config.quantiser not in ("loss", "ema"):
            raise ValueError(f"start must be 'data' for {config.quantiser!r}, got 'random'")
        self.config, self.folder = config, folder
        self.draw = crops(config.images, config.size, config.colours == "mixed")

    def start(self, model: Any) -> None:
        """Gives the codebook its first codes."""
        config = self.config
        # A moving average starts from its first batch, unless it seems to have started; the loss does not.
        if config.quantiser == "loss" and config.start == "data":
            with torch.no_grad():
                first = self.draw(config.batch_size, randomness.generator(config.seed, 2))
                model.quantizer.start(model.encode(first), randomness.generator(config.seed, 3))
        if config.quantiser == "ema" and config.start == "random":
            model.quantizer.size.fill_(1.0)

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        generator = step.generator()
        x = step.share(self.draw(self.config.batch_size, generator))
        y, extra, levels = forward(model, x.contiguous(memory_format=torch.channels_last), generator)
        error = mse_loss(y, x)
        return error + extra, {"mse": error.detach(), "perplexity": levels[-1].perplexity}

    def evaluate(self, model: Any) -> dict[str, Any]:
        valid = list(self.measured(model, "valid").values())
        mean = {f"valid_{key}": float(np.mean([v[key] for v in valid])) for key in valid[0]}
        return mean | usage(model, self.config)

    def finish(self, model: Any) -> dict[str, Any]:
        test = self.measured(model, "test")
        mean = {f"test_{key}": float(np.mean([t[key] for t in test.values()])) for key in ("psnr", "ssim")}
        if self.config.keep_picture:
            mean |= picture(model, self.config, self.folder / "chelsea.png")
        if self.config.images is not None:
            return mean
        return mean | {f"{key}_{name}": value for name, t in test.items() for key, value in t.items()}

    def measured(self, model: Any, part: str) -> dict[str, dict[str, float]]:
        """PSNR and SSIM of each photograph's views, by its name."""
        device = next(model.parameters()).device
        found = {}
        for name, pixels in photographs(self.config.images)[part].items():
            views = data.views(pixels, self.config.size) * 2 - 1
            shown = torch.cat([forward(model, x.to(device))[0].float().cpu() for x in views.split(64)])
            psnr, ssim = image_quality(views, shown)
            found[name] = {"psnr": float(psnr.mean()), "ssim": float(ssim.mean())}
        return found


def forward(model: nn.Module, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Any, Any]:
    """Reconstructions, the codebooks' loss, and what each quantiser gave."""
    y, quantized = model(x, generator)
    levels = (quantized,) if isinstance(quantized, Quantized) else quantized
    return y, sum(q.loss for q in levels), levels


def usage(model: nn.Module, config: Config) -> dict[str, float]:
    """How many codes the vectors of 256 crops of the training photographs use."""
    generator = randomness.generator(0, 4)
    device = next(model.parameters()).device
    natural = crops(config.images, config.size)
    found = [forward(model, natural(32, generator).to(device))[2] for _ in range(8)]
    used: dict[str, float] = {}
    for level, name in zip(zip(*found, strict=True), ("", "_fine"), strict=False):
        counts = torch.cat([q.indices.flatten() for q in level]).bincount().float()
        share = counts / counts.sum()
        used |= {
            f"codes_used{name}": int((counts > 0).sum()),
            f"usage{name}": math.exp(torch.special.entr(share).sum()),
        }
    return used


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    training, model = Training(config, folder), build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training.start(model)
    schedule = runs.cosine(config.steps)
    return runs.train_network(model, training, config, folder, stop_after, schedule=schedule, max_norm=1.0)


if __name__ == "__main__":
    runs.command_line("vqvae_photos", SCALES, RECORDINGS, run)
