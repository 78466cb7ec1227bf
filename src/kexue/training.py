"""One training loop for all experiments: resumable, recorded, the same on one process or several.

Whatever is random in a step is drawn from a generator that depends on the seed and the step alone, for
the whole batch, of which each process takes its share. So parameters and optimiser are all the state
there is: a run that was killed goes on to the same end, two processes follow the curve of one, and the
first steps of a recorded run can be run again and compared (`replay`).

A run is a folder, `runs/<name>/<trial>/` (the trial is the seed, where nothing else varies):
config.json, environment.json, metrics.csv, summary.json and, where a chapter needs them,
weights.safetensors in half precision.
"""

import argparse
import csv
import dataclasses
import datetime
import fnmatch
import hashlib
import json
import math
import os
import platform
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FIRST = 20  # that many steps are recorded one by one: what `replay` runs again

Metrics = Mapping[str, float]


def runs_folder() -> Path:
    """Where the recorded runs are: inside an installed package, or in the source tree."""
    installed = Path(__file__).parent / "_runs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "runs"


# --- A step ------------------------------------------------------------------------------------


def generator(seed: int, *key: int) -> torch.Generator:
    """A generator that depends on the seed and the key alone; zeros at the end of a key do not count."""
    state = np.random.SeedSequence((seed, *key)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


@dataclass(frozen=True)
class Step:
    """What a loss may depend on, besides the model: the step's index, from 0, the seed, and the process."""

    index: int
    seed: int
    process: int = 0
    processes: int = 1
    device: torch.device | str = "cpu"

    def generator(self) -> torch.Generator:
        """For this step's noise: the same in every process. Draw for the whole batch, then `share`."""
        return generator(self.seed, 0, self.index)

    def batch(self, size: int, batch_size: int) -> Tensor:
        """Indices of this step's batch, of all processes: each epoch is a new order of 0 … size−1.

        What is left of an epoch after its last whole batch is dropped.
        """
        if not 1 <= batch_size <= size:
            raise ValueError(
                f"batch_size must be between 1 and the size of the data, {size}, got {batch_size}"
            )
        epoch, place = divmod(self.index, size // batch_size)
        order = torch.randperm(size, generator=generator(self.seed, 1, epoch))
        return order[place * batch_size : (place + 1) * batch_size]

    def share(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a tensor for the whole batch, on this process's device."""
        if whole.shape[dim] % self.processes:
            raise ValueError(f"the batch must divide by {self.processes} processes, got {whole.shape[dim]}")
        return whole.chunk(self.processes, dim)[self.process].to(self.device)


# The loss of a step, and what else to record: means over this process's share of the batch.
Loss = Callable[[nn.Module, Step], tuple[Tensor, Mapping[str, Tensor | float]]]


# --- The loop ----------------------------------------------------------------------------------


def train(
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    config: Any,
    folder: Path,
    steps: int,
    every: int,
    evaluate: Callable[[nn.Module], Metrics] | None = None,
    finish: Callable[[nn.Module], Metrics] | None = None,
    schedule: Callable[[int], float] | None = None,
    max_norm: float | None = None,
    bf16: bool = False,
    keep_weights: bool = False,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train, record, and return the summary; go on where an earlier call with this folder stopped.

    Args:
        model: trained in place.
        loss: of one step; see `Loss`. It must draw randomness from `Step.generator` only.
        optimizer: of the model's parameters.
        config: a dataclass with an int `seed`; written to config.json. A folder that holds a run of
            another configuration is an error.
        folder: of the run.
        steps: how many in all.
        every: after that many steps, a row of means is recorded, `evaluate` called and a checkpoint
            written; the first 20 steps are recorded one by one besides.
        evaluate: metrics of the model, on data held out for choosing settings.
        finish: metrics of the trained model, for the summary.
        schedule: factor of the learning rate at each step, from 0.
        max_norm: gradients are scaled down to this norm.
        bf16: compute the loss under autocast to bfloat16.
        keep_weights: write the weights in half precision.
        stop_after: leave after this step, unfinished, with a checkpoint: for `replay` and tests.

    Returns:
        What summary.json holds: steps, the last metrics and those of `finish`. If the loss became
        NaN or infinite the run ends there, and the summary says after which step.

    Raises:
        ValueError: the folder holds another configuration; steps or every not positive.
    """
    # Here, since chapters import this module: accelerate imports what warns in a notebook.
    from accelerate import Accelerator
    from tqdm import tqdm

    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be positive, got {steps} and {every}")
    accelerator = Accelerator()
    record = _Record(folder, config, accelerator)
    if record.summary is not None:
        return record.summary

    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    done = record.resume()
    began, spent = time.perf_counter(), record.seconds
    window: dict[str, list[float]] = defaultdict(list)
    quiet = not (accelerator.is_main_process and sys.stderr.isatty())
    bar = tqdm(initial=done, total=steps, desc=str(folder), leave=False, disable=quiet)
    for index in range(done, steps):
        if index == stop_after:
            break
        step = Step(
            index, config.seed, accelerator.process_index, accelerator.num_processes, accelerator.device
        )
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (schedule(index) if schedule else 1.0)
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
            value, extra = loss(model, step)
        accelerator.backward(value)
        if max_norm is not None:
            accelerator.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
        bar.update()

        here = {"loss": value.detach(), **extra}
        numbers = torch.stack(
            [torch.as_tensor(v, dtype=torch.float32, device=value.device) for v in here.values()]
        )
        means = accelerator.reduce(numbers, "mean").tolist()
        for name, number in zip(here, means, strict=True):
            window[name].append(number)
        if index < FIRST:
            record.add(index + 1, 1, dict(zip(here, means, strict=True)))
        if not math.isfinite(means[0]):
            return record.finish({"diverged after step": index + 1})
        if (index + 1) % every == 0 or index + 1 == steps:
            row = {name: float(np.mean(values)) for name, values in window.items()}
            row |= _evaluated(evaluate, bare, accelerator)
            record.add(index + 1, len(window["loss"]), row)
            window.clear()
            record.seconds = spent + time.perf_counter() - began
            record.checkpoint(index + 1)
    bar.close()
    if stop_after is not None and stop_after < steps:
        record.write_metrics()
        return {"stopped after step": stop_after}
    last = {name: value for name, value in record.rows[-1].items() if name not in ("step", "span")}
    summary = {"steps": steps, **last, **_evaluated(finish, bare, accelerator)}
    return record.finish(summary, bare if keep_weights else None)


def _evaluated(
    evaluate: Callable[[nn.Module], Metrics] | None, model: nn.Module, accelerator: Any
) -> Metrics:
    if evaluate is None or not accelerator.is_main_process:
        return {}
    model.eval()
    with torch.no_grad():
        metrics = dict(evaluate(model))
    model.train()
    return metrics


class _Record:
    """Writes the files of a run, in the main process only, and finds where an earlier call stopped."""

    def __init__(self, folder: Path, config: Any, accelerator: Any) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        settings = json.loads(json.dumps(dataclasses.asdict(config)))
        path = folder / "config.json"
        if path.is_file() and (old := json.loads(path.read_text("utf-8"))) != settings:
            different = sorted(k for k in {*old, *settings} if old.get(k) != settings.get(k))
            raise ValueError(f"folder {folder} holds a run with other settings ({', '.join(different)})")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(path, settings)
        done = folder / "summary.json"
        self.summary = json.loads(done.read_text("utf-8")) if done.is_file() else None

    def add(self, step: int, span: int, values: Metrics) -> None:
        """A row: means over the `span` steps up to `step`, and what `evaluate` gave after it."""
        self.rows.append({"step": step, "span": span, **{k: _rounded(v) for k, v in values.items()}})

    def resume(self) -> int:
        """Load the last checkpoint, if there is one; how many steps are done."""
        folders = sorted(self.folder.glob("checkpoint-*[0-9]"))
        if not folders:
            return 0
        self.accelerator.load_state(str(folders[-1]))
        progress = json.loads((folders[-1] / "progress.json").read_text("utf-8"))
        self.rows, self.seconds = progress["rows"], progress["seconds"]
        return progress["step"]

    def checkpoint(self, step: int) -> None:
        """Write what `resume` needs under another name, then rename: a kill leaves none or a whole one."""
        older = list(self.folder.glob("checkpoint-*"))
        partial = self.folder / "checkpoint-partial"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            _write_json(partial / "progress.json", {"step": step, "seconds": self.seconds, "rows": self.rows})
            partial.rename(self.folder / f"checkpoint-{step:09d}")
            for folder in older:
                shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def write_metrics(self) -> None:
        if self.accelerator.is_main_process:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            with (self.folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)

    def finish(self, summary: Metrics, model: nn.Module | None = None) -> dict[str, Any]:
        """Write metrics, weights, environment and, last, the summary; delete the checkpoint."""
        self.summary = {name: _rounded(value) for name, value in summary.items()}
        self.write_metrics()
        if self.accelerator.is_main_process:
            files = ["config.json", "metrics.csv"]
            if model is not None:
                _save_weights(model, self.folder / "weights.safetensors")
                files.append("weights.safetensors")
            environment = _environment(self.accelerator) | {"seconds": round(self.seconds, 1)}
            environment["sha256"] = {name: sha256(self.folder / name) for name in files}
            _write_json(self.folder / "environment.json", environment)
            _write_json(self.folder / "summary.json", self.summary)
            for checkpoint in self.folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        self.accelerator.wait_for_everyone()
        return self.summary


def _rounded(value: float) -> float:
    """To 7 digits, as much as float32 holds."""
    return value if isinstance(value, int) else float(f"{value:.7g}")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _save_weights(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    state = model.state_dict()
    save_file(
        {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}, path
    )


def _environment(accelerator: Any) -> dict[str, Any]:
    device = accelerator.device
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "accelerate")},
        "platform": platform.platform(),
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The name of this machine's processor, and its number of cores."""
    info = Path("/proc/cpuinfo")
    if info.is_file() and (match := re.search(r"model name\s*: (.*)", info.read_text())):
        return f"{match[1]} ({os.cpu_count()} cores)"
    return f"{platform.processor() or platform.machine()} ({os.cpu_count()} cores)"


# --- Recorded runs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run as its folder records it."""

    folder: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text("utf-8"))

    @cached_property
    def environment(self) -> dict[str, Any]:
        return json.loads((self.folder / "environment.json").read_text("utf-8"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text("utf-8"))

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv; NaN where a row has no value."""
        with (self.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one metric, at the ends of the intervals of `every` steps."""
        step, span, values = (self.metrics[column] for column in ("step", "span", name))
        keep = ((span > 1) | (step > FIRST)) & np.isfinite(values)
        return step[keep], values[keep]

    def load_weights(self, model: nn.Module) -> None:
        """Put the recorded weights, kept in half precision, into a model."""
        from safetensors.torch import load_file

        state = load_file(self.folder / "weights.safetensors")
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def recorded(name: str, folder: Path | None = None) -> dict[str, Run]:
    """The finished runs of an experiment by trial. Raises ValueError where there are none."""
    root = folder or runs_folder()
    found = sorted((root / name).glob("*/summary.json"))
    if not found:
        known = sorted({path.parents[1].name for path in root.glob("*/*/summary.json")})
        raise ValueError(f"name must be one of the recorded runs, {known}, got {name!r}")
    return {path.parent.name: Run(path.parent) for path in found}


# --- The command line of an experiment ---------------------------------------------------------


def command_line(
    experiment: str,
    scales: Mapping[str, Any],
    recordings: Mapping[str, Any],
    run: Callable[[Any, Path], Mapping[str, Any]],
) -> None:
    """What `python experiments/<experiment>.py` does.

    Args:
        experiment: its name.
        scales: a configuration for each of "live", "run" and "gpu"; every field is an option.
        recordings: the configuration of every recorded run, "<name>/<trial>": what `--record` runs.
        run: trains one configuration in a folder.
    """
    import tyro  # belongs to the extra "book"

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--scale", choices=list(scales), default="run")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--record", metavar="PATTERN")
    options, rest = parser.parse_known_args()
    if options.record is not None:
        if rest or options.folder:
            parser.error("--record goes alone: the recorded configurations stand in the script")
        for name, config in recordings.items():
            if fnmatch.fnmatch(name, options.record):
                print(name, json.dumps(run(config, runs_folder() / name)), flush=True)
        return
    description = (
        f"--scale {{{','.join(scales)}}} chooses the defaults below. --folder FOLDER: where to record. "
        "--record PATTERN, alone: all of the book's runs whose name matches and that are not finished."
    )
    config = tyro.cli(type(scales["run"]), default=scales[options.scale], args=rest, description=description)
    folder = options.folder or Path("_build", "runs", f"{experiment}-{options.scale}", str(config.seed))
    print(json.dumps(run(config, folder), indent=1))
