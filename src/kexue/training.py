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
import numbers
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

# What CUDA needs to be deterministic; read when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

FIRST = 20  # that many steps are recorded one by one: what `replay` runs again

stop_at: float | None = None
"""A time, of time.monotonic(), at which `train` writes a checkpoint and leaves; in one process only."""

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

    def batch_of_similar(self, lengths: Tensor, batch_size: int) -> Tensor:
        """The same of sequences of like lengths, so that batches have little padding.

        Each epoch sorts by length anew, equal lengths in random order, and goes through the batches at
        random. The last few, which fill no batch, are dropped.
        """
        if not 1 <= batch_size <= len(lengths):
            raise ValueError(
                f"batch_size must be between 1 and the size of the data, {len(lengths)}, got {batch_size}"
            )
        batches = len(lengths) // batch_size
        epoch, place = divmod(self.index, batches)
        random = generator(self.seed, 1, epoch)
        order = (lengths + torch.rand(len(lengths), generator=random, dtype=torch.float64)).argsort()
        start = int(torch.randperm(batches, generator=random)[place]) * batch_size
        return order[start : start + batch_size]

    def share(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a tensor for the whole batch, on this process's device."""
        if whole.shape[dim] % self.processes:
            raise ValueError(f"the batch must divide by {self.processes} processes, got {whole.shape[dim]}")
        return whole.chunk(self.processes, dim)[self.process].to(self.device)


def warm_up_then_down(warmup: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at step i, from 0: min((i + 1)/warmup, (steps − i)/(steps − warmup)).

    It grows to 1 in `warmup` steps and falls in a straight line, to end just above 0.

    Raises ValueError where warmup is not between 1 and steps − 1.
    """
    if not 1 <= warmup < steps:
        raise ValueError(f"warmup must be between 1 and steps − 1 = {steps - 1}, got {warmup}")
    return lambda index: min((index + 1) / warmup, (steps - index) / (steps - warmup))


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
        model: trained in place; newly made, also when the run goes on.
        loss: of one step; see `Loss`. It must draw randomness from `Step.generator` only.
        optimizer: of the model's parameters.
        config: a dataclass with an int `seed`; written to config.json. A folder that holds a run of
            another configuration is an error.
        folder: of the run.
        steps: how many in all.
        every: after that many steps, a row of means is recorded, `evaluate` called and a checkpoint
            written; the first 20 steps are recorded one by one besides.
        evaluate: metrics of the model, on data held out for choosing settings.
        finish: metrics of the trained model, for the summary. What it writes into the folder besides, as
            CSV and PNG files, belongs to the run.
        schedule: factor of the learning rate at each step, from 0.
        max_norm: gradients are scaled down to this norm.
        bf16: compute the loss under autocast to bfloat16.
        keep_weights: write the weights in half precision, those of frozen parameters excepted.
        stop_after: leave after this step, unfinished, with the metrics so far and the last checkpoint:
            for `replay` and tests. At the time `stop_at` of this module it leaves, too, with a checkpoint of
            the last step.

    Returns:
        The content of summary.json, which is steps, the last metrics and those of `finish`. If the loss
        became NaN or infinite the run ends there, and the summary says after which step.

    Raises:
        TypeError: loss or evaluate give something else than described.
        ValueError: the folder holds another configuration, or another number of steps; steps, every,
            max_norm or stop_after not positive; a metric that is not finite, or has a reserved name.
    """
    # Here, since chapters import this module: accelerate imports what warns in a notebook.
    from accelerate import Accelerator
    from tqdm import tqdm

    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be positive, got {steps} and {every}")
    if stop_after is not None and stop_after < 1:
        raise ValueError(f"stop_after must be positive, got {stop_after}")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    accelerator = Accelerator()
    record = _Record(Path(folder), config, steps, every, accelerator)
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
    return record.finish(summary, bare if keep_weights else None)


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


def _settings(config: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def different_settings(recorded: Mapping[str, Any], config: Any) -> list[str]:
    """Names of the settings in which a recorded configuration is not this one.

    One that the record lacks is younger than the run. It counts as its default, which must therefore mean
    what was done before; `replay` sees whether it does.
    """
    settings = _settings(config)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if field.default is not dataclasses.MISSING
    }
    old = {**json.loads(json.dumps(defaults)), **recorded}
    return sorted(k for k in {*old, *settings} if k not in old or k not in settings or old[k] != settings[k])


class _Record:
    """Writes the files of a run, in the main process only, and finds where an earlier call stopped."""

    def __init__(self, folder: Path, config: Any, steps: int, every: int, accelerator: Any) -> None:
        if (
            isinstance(config, type)
            or not dataclasses.is_dataclass(config)
            or not isinstance(getattr(config, "seed", None), int)
        ):
            raise TypeError(f"config must be a dataclass with an int seed, got {config!r}")
        self.folder, self.accelerator, self.length = folder, accelerator, [steps, every]
        self.rows: list[dict[str, float]] = []
        self.window: dict[str, list[float]] = defaultdict(list)
        """Metrics of the steps since the last row with `every`."""
        self.seconds = 0.0
        path = folder / "config.json"
        if path.is_file() and (different := different_settings(json.loads(path.read_text("utf-8")), config)):
            raise ValueError(f"folder {folder} holds a run with other settings ({', '.join(different)})")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(path, _settings(config))
        done = folder / "summary.json"
        self.summary = json.loads(done.read_text("utf-8")) if done.is_file() else None
        if self.summary is not None and self.summary.get("steps", steps) != steps:
            raise ValueError(
                f"folder {folder} holds a run of {self.summary['steps']} steps, got steps = {steps}"
            )
        if self.summary is not None and accelerator.is_main_process:
            for checkpoint in folder.glob("checkpoint-*"):  # of a kill at the very end
                shutil.rmtree(checkpoint)

    def add(self, step: int, span: int, values: Metrics) -> None:
        """A row: means over the `span` steps up to `step`, and what `evaluate` gave after it."""
        self.rows.append({"step": step, "span": span, **{k: _rounded(k, v) for k, v in values.items()}})

    def resume(self) -> int:
        """Load the last checkpoint, if there is one; how many steps are done."""
        folders = sorted(self.folder.glob("checkpoint-*[0-9]"))
        if not folders:
            return 0
        self.accelerator.load_state(str(folders[-1]))
        progress = json.loads((folders[-1] / "progress.json").read_text("utf-8"))
        if progress["length"] != self.length:
            raise ValueError(
                f"folder {self.folder} holds steps, every = {progress['length']}, got {self.length}"
            )
        self.rows, self.seconds = progress["rows"], progress["seconds"]
        self.window.update(progress.get("window", {}))
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
            _write_json(
                partial / "progress.json",
                {
                    "step": step,
                    "length": self.length,
                    "seconds": self.seconds,
                    "rows": self.rows,
                    "window": self.window,
                },
            )
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
        self.summary = {name: _rounded(name, value) for name, value in summary.items()}
        self.write_metrics()
        if self.accelerator.is_main_process:
            written = (path.name for kind in ("*.csv", "*.png") for path in self.folder.glob(kind))
            files = ["config.json", *sorted(written)]
            if model is not None:
                _save_weights(model, self.folder / "weights.safetensors")
                files.append("weights.safetensors")
            environment = _environment(self.accelerator) | {"seconds": round(self.seconds, 1)}
            environment["sha256"] = {name: sha256((self.folder / name).read_bytes()) for name in files}
            environment["sha256"]["summary.json"] = sha256(_json(self.summary).encode())
            _write_json(self.folder / "environment.json", environment)
            _write_json(self.folder / "summary.json", self.summary)  # the last: it says that all is there
            for checkpoint in self.folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        self.accelerator.wait_for_everyone()
        return self.summary


def _rounded(name: str, value: float) -> float:
    """To 7 digits, as much as float32 holds."""
    if not math.isfinite(value):
        raise ValueError(f"metrics must be finite, got {name} = {value}")
    return value if isinstance(value, int) else float(f"{value:.7g}")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(_json(content).encode())
    partial.replace(path)  # at once: a kill leaves the whole file or none


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _save_weights(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    state = {name: value for name, value in model.state_dict().items() if name not in frozen}
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value.half()).all():
            raise ValueError(f"weights must fit into half precision, but {name} does not")
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
        return self.columns("metrics.csv")

    def columns(self, file: str) -> dict[str, np.ndarray]:
        """The columns of one of its tables; NaN where a row has no value."""
        with (self.folder / file).open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one metric, at the ends of the intervals of `every` steps."""
        step, span, values = (self.metrics[column] for column in ("step", "span", name))
        keep = (span > 1) | (span.max() == 1)
        keep[-1] = True
        keep &= np.isfinite(values)
        return step[keep], values[keep]

    def load_weights(self, model: nn.Module) -> None:
        """Put the recorded weights, kept in half precision, into a model.

        Parameters that were frozen are not recorded: they must be frozen in the model, too, and stay as they
        are.

        Raises RuntimeError where the weights are not those of this model.
        """
        from safetensors.torch import load_file

        frozen = {name: one for name, one in model.named_parameters() if not one.requires_grad}
        state = load_file(self.folder / "weights.safetensors")
        model.load_state_dict(
            frozen | {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        )


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
    parser.add_argument("--scale", choices=list(scales))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--record", metavar="PATTERN")
    options, rest = parser.parse_known_args()
    if options.record is not None:
        if rest or options.folder or options.scale:
            parser.error("--record goes alone: the recorded configurations stand in the script")
        chosen = [name for name in recordings if fnmatch.fnmatch(name, options.record)]
        if not chosen:
            parser.error(f"--record: no run matches {options.record!r}; there are {', '.join(recordings)}")
        for name in chosen:
            print(name, json.dumps(run(recordings[name], runs_folder() / name)), flush=True)
        return
    scale = options.scale or "run"
    description = (
        f"--scale {{{','.join(scales)}}} chooses the defaults below. --folder FOLDER: where to record. "
        "--record PATTERN, alone: all of the book's runs whose name matches and that are not finished."
    )
    config = tyro.cli(type(scales["run"]), default=scales[scale], args=rest, description=description)
    folder = options.folder or Path("_build", "runs", f"{experiment}-{scale}", str(config.seed))
    print(json.dumps(run(config, folder), indent=1))
