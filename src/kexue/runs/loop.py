"""One training loop for all experiments."""

import math
import numbers
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kexue.runs.recorder import Config, Recorder, check_config
from kexue.runs.step import Metrics, Step

# What CUDA needs to be deterministic; read when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

FIRST = 20  # that many steps are recorded one by one: what `replay` runs again

stop_at: float | None = None
"""A time, of time.monotonic(), at which `train` writes a checkpoint and leaves; in one process only."""

# The loss of a step, and what else to record: means over this process's share of the batch.
Loss = Callable[[nn.Module, Step], tuple[Tensor, Mapping[str, Tensor | float]]]


def train(
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    config: Config,
    folder: Path,
    evaluate: Callable[[nn.Module], Metrics] | None = None,
    finish: Callable[[nn.Module], Metrics] | None = None,
    schedule: Callable[[int], float] | None = None,
    max_norm: float | None = None,
    bf16: bool = False,
    stop_after: int | None = None,
    carried: Any = None,
) -> dict[str, Any]:
    """Train, record, and return the summary; go on where an earlier call with this folder stopped.

    Args:
        model: trained in place; newly made, also when the run goes on.
        loss: of one step; see `Loss`. It must draw randomness from `Step.generator` only.
        optimizer: of the model's parameters.
        config: a dataclass, written to run.json; see `Config` for the settings that the loop reads. A folder
            that holds a run of another configuration is an error.
        folder: of the run.
        evaluate: metrics of the model, on data held out for choosing settings.
        finish: metrics of the trained model, for the summary. What it writes into the folder besides, as
            CSV and PNG files, belongs to the run.
        schedule: factor of the learning rate at each step, from 0.
        max_norm: gradients are scaled down to this norm.
        bf16: compute the loss under autocast to bfloat16.
        stop_after: leave after this step, unfinished, with the metrics so far and the last checkpoint:
            for `replay` and tests. At the time `stop_at` of this module it leaves, too, with a checkpoint of
            the last step.
        carried: what the loss keeps from step to step, with `state_dict` and `load_state_dict`, as part of
            the checkpoints; in one process only.

    Returns:
        The summary, which is steps, the last metrics and those of `finish`. If the loss
        became NaN or infinite the run ends there, and the summary says after which step.

    Raises:
        TypeError: config is not as described, or loss or evaluate give something else than described.
        ValueError: the folder holds another configuration; steps, every, max_norm or stop_after not
            positive; a metric that is not finite, or has a reserved name; something carried in several
            processes.
    """
    # Here, since chapters import this module: accelerate imports what warns in a notebook.
    from accelerate import Accelerator
    from tqdm import tqdm

    check_config(config)
    steps, every = config.steps, config.every
    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be positive, got {steps} and {every}")
    if stop_after is not None and stop_after < 1:
        raise ValueError(f"stop_after must be positive, got {stop_after}")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    accelerator = Accelerator()
    if carried is not None:
        if accelerator.num_processes > 1:
            raise ValueError(f"carried must be None in {accelerator.num_processes} processes")
        accelerator.register_for_checkpointing(carried)
    record = Recorder(Path(folder), config, accelerator)
    if record.summary is not None:
        return record.summary

    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    done = record.resume()
    began, spent = time.perf_counter(), record.seconds
    window = record.window
    quiet = not (accelerator.is_main_process and sys.stderr.isatty())
    bar = tqdm(initial=done, total=steps, desc=str(folder), leave=False, disable=quiet)
    model.train()
    for index in range(done, steps if stop_after is None else min(steps, stop_after)):
        step = Step(
            index, config.seed, accelerator.process_index, accelerator.num_processes, accelerator.device
        )
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (schedule(index) if schedule else 1.0)
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
            value, extra = _checked(loss(model, step))
        accelerator.backward(value)
        if max_norm is not None:
            accelerator.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
        bar.update()

        here = {"loss": value.detach(), **extra}
        values = torch.stack(
            [torch.as_tensor(v, dtype=torch.float32, device=value.device) for v in here.values()]
        )
        means = dict(zip(here, accelerator.reduce(values, "mean").tolist(), strict=True))
        if not math.isfinite(means["loss"]):
            return record.finish({"diverged after step": index + 1})
        for name, number in means.items():
            window[name].append(number)
        if index < FIRST and every > 1:
            record.add(index + 1, 1, means)
        if (index + 1) % every == 0 or index + 1 == steps:
            row = {name: float(np.mean(each)) for name, each in window.items()}
            row |= _evaluated(evaluate, bare, accelerator)
            record.add(index + 1, len(window["loss"]), row)
            window.clear()
            record.seconds = spent + time.perf_counter() - began
            record.checkpoint(index + 1)
        if _time_is_up(accelerator) and index + 1 < steps:
            if window:  # else the checkpoint has just been written
                record.seconds = spent + time.perf_counter() - began
                record.checkpoint(index + 1)
            bar.close()
            record.write_metrics()
            return {"stopped after step": index + 1}
    bar.close()
    if stop_after is not None and stop_after < steps:
        record.write_metrics()
        return {"stopped after step": stop_after}
    last = {name: value for name, value in record.rows[-1].items() if name not in ("step", "span")}
    summary = {"steps": steps, **last, **_evaluated(finish, bare, accelerator)}
    return record.finish(summary, bare if config.keep_weights else None)


def _time_is_up(accelerator: Any) -> bool:
    # Several processes might decide differently, and then wait for each other.
    return stop_at is not None and accelerator.num_processes == 1 and time.monotonic() >= stop_at


def _checked(result: Any) -> tuple[Tensor, dict[str, Any]]:
    """What a loss gave, if it is what `Loss` says."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)):
        raise TypeError(f"loss must give a tensor and a mapping of metrics, got {type(result).__name__}")
    value, extra = result
    if value.ndim:
        raise TypeError(f"loss must give a tensor of shape (), got {tuple(value.shape)}")
    return value, _named(extra, "loss")


def _named(metrics: Any, source: str) -> dict[str, Any]:
    """Metrics by name, if they are single numbers and their names are free."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"{source} must give a mapping of metrics, got {type(metrics).__name__}")
    if taken := {"loss", "step", "span", "steps"} & set(metrics):
        raise ValueError(
            f"{source} must give metrics other than loss, step, span and steps, got {sorted(taken)}"
        )
    for name, value in metrics.items():
        if not (isinstance(value, Tensor) and value.ndim == 0) and not isinstance(value, numbers.Real):
            raise TypeError(f"{source} must give single numbers, got {name} = {value!r}")
    return dict(metrics)


def _evaluated(
    evaluate: Callable[[nn.Module], Metrics] | None, model: nn.Module, accelerator: Any
) -> Metrics:
    if evaluate is None or not accelerator.is_main_process:
        return {}
    model.eval()
    with torch.no_grad():
        metrics = _named(evaluate(model), "evaluate")
    model.train()
    return {name: float(value) for name, value in metrics.items()}
