"""What a training writes: metrics, summary, environment, checkpoints, weights."""

import csv
import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from kexue.nn import checks
from kexue.runs.step import Metrics


@runtime_checkable
class Config(Protocol):
    """Settings of a run that the loop reads, of a dataclass that may have any others."""

    @property
    def seed(self) -> int: ...
    @property
    def steps(self) -> int:
        """How many in all."""

    @property
    def every(self) -> int:
        """After that many steps, a row of means is recorded, `evaluate` called and a checkpoint written; the
        first 20 steps are recorded one by one besides."""

    @property
    def keep_weights(self) -> bool:
        """Whether to write the weights, in half precision, those of frozen parameters excepted."""


def check_config(config: Any) -> None:
    """Raises TypeError for what is no dataclass with the settings of `Config`."""
    kinds = {"seed": int, "steps": int, "every": int, "keep_weights": bool}
    if (
        isinstance(config, type)
        or not dataclasses.is_dataclass(config)
        or not all(isinstance(getattr(config, name, None), kind) for name, kind in kinds.items())
    ):
        names = ", ".join(f"{name}: {kind.__name__}" for name, kind in kinds.items())
        raise TypeError(f"config must be a dataclass with {names}, got {config!r}")


def _settings(config: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def different_settings(recorded: Mapping[str, Any], config: Any) -> list[str]:
    """Names of the settings in which a recorded configuration is not this one.

    One that the record lacks is younger than the run. It counts as its default, which must therefore mean
    what was done before; `replay` sees whether it does.

    Raises TypeError for what is no mapping, or no dataclass.
    """
    checks.instance("recorded", recorded, Mapping, "a mapping")
    if isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise TypeError(f"config must be a dataclass, got {type(config).__name__}")
    settings = _settings(config)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if field.default is not dataclasses.MISSING
    }
    old = {**json.loads(json.dumps(defaults)), **recorded}
    return sorted(k for k in {*old, *settings} if k not in old or k not in settings or old[k] != settings[k])


class Recorder:
    """Writes the files of a run, in the main process only, and finds where an earlier call stopped."""

    def __init__(self, folder: Path, config: "Config", accelerator: Any) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.rows: list[dict[str, float]] = []
        self.window: dict[str, list[float]] = defaultdict(list)
        """Metrics of the steps since the last row with `every`."""
        self.seconds = 0.0
        path = folder / "run.json"
        self.run: dict[str, Any] = {"module": _module_of(config), "config": _settings(config)}
        begun = path.is_file()
        if begun:
            self.run = json.loads(path.read_text("utf-8"))
            if different := different_settings(self.run["config"], config):
                raise ValueError(f"folder {folder} holds a run with other settings ({', '.join(different)})")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and not begun:
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(path, self.run)
        self.summary = self.run.get("summary")
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
        """Write metrics, weights and, last, all of run.json; delete the checkpoint."""
        self.summary = {name: _rounded(name, value) for name, value in summary.items()}
        self.write_metrics()
        if self.accelerator.is_main_process:
            written = (path.name for kind in ("*.csv", "*.png") for path in self.folder.glob(kind))
            files = sorted(written)
            if model is not None:
                _save_weights(model, self.folder / "weights.safetensors")
                files.append("weights.safetensors")
            self.run["environment"] = _environment(self.accelerator) | {"seconds": round(self.seconds, 1)}
            self.run["summary"] = self.summary
            self.run["sha256"] = {
                **{part: digest(self.run[part]) for part in ("config", "summary")},
                **{name: sha256((self.folder / name).read_bytes()) for name in files},
            }
            _write_json(self.folder / "run.json", self.run)  # the last: its summary says that all is there
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


def digest(part: Mapping[str, Any]) -> str:
    """The hash of a part of run.json, written by itself."""
    return sha256(_json(part).encode())


def _module_of(config: Any) -> str:
    """The module that declares a configuration, by the name under which it can be imported."""
    name = type(config).__module__
    started = getattr(sys.modules["__main__"], "__spec__", None)
    return started.name if name == "__main__" and started is not None else name


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
