"""How the book's networks are trained."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from kexue.runs.loop import train
from kexue.runs.step import warm_up_then_down


def train_network(
    model: nn.Module,
    training: Any,
    config: Any,
    folder: Path,
    stop_after: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`train` with what one object says.

    Args:
        model, config, folder, stop_after, options: as in `train`.
        training: with the `loss`, `evaluate` and `finish` of `train`.
        optimizer: if None, Adam with the configuration's `learning_rate`.
    """
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    return train(
        model,
        training.loss,
        optimizer,
        config=config,
        folder=folder,
        evaluate=training.evaluate,
        finish=training.finish,
        stop_after=stop_after,
        **options,
    )


def train_transformer(
    model: nn.Module,
    training: Any,
    config: Any,
    folder: Path,
    stop_after: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    max_norm: float | None = 1.0,
) -> dict[str, Any]:
    """`train_network` in bfloat16, with a rate that warms up and then goes down (`warm_up_then_down`).

    Args:
        model, training, config, folder, stop_after, max_norm: as in `train_network`. The configuration also
            says `warmup`.
        optimizer: if None, AdamW with β = (0.9, 0.98) and the configuration's `learning_rate` and
            `weight_decay`.
    """
    # What is allocated is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if optimizer is None:
        rate, decay = config.learning_rate, config.weight_decay
        optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.98), weight_decay=decay, fused=True)
    options = {"schedule": warm_up_then_down(config.warmup, config.steps), "max_norm": max_norm}
    return train_network(model, training, config, folder, stop_after, optimizer, bf16=True, **options)
