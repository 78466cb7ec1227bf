"""A chapter's cell in a short form, or a recording, in a process of its own, which gpu.py starts.

`python tools/gpu_alone.py SPECIFICATION.json` writes SPECIFICATION.result.
"""

import dataclasses
import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_tasks import Status


class NotThere(Exception):
    """Something that must be downloaded is not there."""


# What a cell's settings ask for that must be downloaded, and what can be tried without it.
IN_ITS_PLACE: dict[str, tuple[Any, str]] = {
    "full_mnist": (False, "5,000 of the digits"),
    "images": (None, "the book's photographs"),
    "bert": ("", "the book's encoder"),
}
LENGTHS = ("steps", "every", "warmup", "examples", "searched", "pairs")
"""Settings that say how long an experiment takes, and not how large its model is."""


def imported(path: Path) -> Any:
    """An experiment."""
    name = f"kexue.experiments.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"no module {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def not_there(error: BaseException) -> str | None:
    """What is missing, if an error says that a package or a download is; None for any other error."""
    if isinstance(error, NotThere):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}"
    told = str(error).replace("\n", " ")
    if isinstance(error, FileNotFoundError) and "downloaded" in told:
        return "needs " + told.partition(" is not in")[0]
    if isinstance(error, OSError) and re.search(r"huggingface|hf\.co", told, re.IGNORECASE):
        return "needs a model of Hugging Face's: " + told[:120]
    if isinstance(error, OSError) and "offline" in told:
        return "needs a download: " + told[:120]
    return None


def set_fields(default: Any, options: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """--folder, and the settings that a command line gives, as the types of the defaults say."""
    folder, fields = None, {}
    for option, value in zip(options[::2], options[1::2], strict=True):
        name = option.removeprefix("--").replace("-", "_")
        if name == "folder":
            folder = value
        elif name != "scale":
            kind = type(getattr(default, name))
            fields[name] = kind(value) if kind in (int, float) else value
    return folder, fields


class ShortCell:
    """A GPU cell's commands, with its sizes and the lengths of the scale "live"; nothing goes into runs/."""

    def __init__(self, root: Path, work: Path, device: str) -> None:
        self.root, self.work, self.device = root, work, device
        self.instead: dict[str, Any] = {}
        self.missing: list[str] = []
        self.count = 0

    def folder_of(self, named: str | None) -> Path:
        self.count += 1
        return self.work / (named.replace("../", "") if named else f"run{self.count}")

    def __call__(self, line: str) -> Any:
        """What `%run -m module options` does, shortened."""
        _, name, *options = shlex.split(line)
        module = imported(self.root.joinpath("src", *name.split(".")).with_suffix(".py"))
        scale = options[options.index("--scale") + 1] if "--scale" in options else "run"
        named, fields = set_fields(module.SCALES[scale], options)
        config = dataclasses.replace(module.SCALES[scale], **fields)
        live = module.SCALES.get("live", config)
        config = dataclasses.replace(config, **{n: getattr(live, n) for n in LENGTHS if hasattr(config, n)})
        if getattr(config, "average_from", 0):
            config = dataclasses.replace(config, average_from=max(1, config.steps // 2))
        if isinstance(codes := getattr(config, "codes", None), str) and codes.startswith("../"):
            config = dataclasses.replace(config, codes=str(self.work / codes.replace("../", "")))
        folder = self.folder_of(named)
        while True:
            shutil.rmtree(folder, ignore_errors=True)
            known = {name: value for name, value in self.instead.items() if hasattr(config, name)}
            config = dataclasses.replace(config, **known)
            try:
                if isinstance(images := getattr(config, "images", None), str) and not Path(images).is_dir():
                    raise NotThere(f"needs photographs in a folder {images}")
                result = module.run(config, folder)
                break
            except Exception as error:
                asked = [
                    name
                    for name, (value, _) in IN_ITS_PLACE.items()
                    if hasattr(config, name) and getattr(config, name) != value and getattr(config, name)
                ]
                if (reason := not_there(error)) is None or not asked:
                    raise
                value, words = IN_ITS_PLACE[asked[0]]
                self.instead[asked[0]] = value
                self.missing.append(f"{reason}; passes with {words} instead")
        on_the_gpu(folder, self.device)
        return result


def on_the_gpu(folder: Path, device: str) -> None:
    """Raises RuntimeError if a run says that it was on another device."""
    path = folder / "run.json"
    record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if "environment" in record and (found := record["environment"].get("device")) != device:
        raise RuntimeError(f"ran on {found}, not on {device}")


def code_of(source: str) -> str:
    """A cell's source as Python: %run, which a chapter's script holds as a comment, becomes a call."""
    return re.sub(r"^# %run (.+)$", lambda m: f"run_script({m[1]!r})", source, flags=re.MULTILINE)


def run_cell(spec: Mapping[str, Any]) -> tuple[Status, str]:
    short = ShortCell(Path(spec["root"]), Path(spec["folder"]), spec["device"])
    exec(
        compile(code_of(spec["source"]), spec["name"], "exec"), {"__name__": "__main__", "run_script": short}
    )
    return ("untried", short.missing[0]) if short.missing else ("passed", "")


def run_recording(spec: Mapping[str, Any]) -> tuple[Status, str]:
    module = imported(Path(spec["root"], "src/kexue/experiments", spec["script"]))
    images = spec["settings"].get("images")
    if images and not Path(images).is_dir():
        raise NotThere(f"needs photographs in a folder {images}")
    config = dataclasses.replace(module.SCALES["gpu"], **spec["settings"])
    if (runs := getattr(module, "runs", None)) is not None:
        runs.loop.stop_at = time.monotonic() + spec["seconds"]
        known, new = runs.runs_folder(), Path(spec["folder"]).parents[1]
        # What was recorded just now counts as recorded, for a run that builds on it.
        runs.runs_folder = runs.run.runs_folder = lambda: (
            new if (new / str(getattr(config, "codes", "-"))).is_dir() else known
        )
    folder = Path(spec["folder"])
    summary = module.run(config, folder)
    if step := summary.get("stopped after step"):
        return "unfinished", f"step {step} of {config.steps}; the next call goes on"
    on_the_gpu(folder, spec["device"])
    return "passed", ""


def no_network(*_: Any, **__: Any) -> Any:
    raise OSError("this machine is taken to be offline")


def main(path: Path) -> None:
    """Does what a file specifies, and writes beside it what came of it."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":  # a download would be tried for minutes
        socket.getaddrinfo = no_network
    spec = json.loads(path.read_text("utf-8"))
    work: Callable[[Mapping[str, Any]], tuple[Status, str]] = {"cell": run_cell, "recording": run_recording}[
        spec["kind"]
    ]
    result: tuple[Status, str]
    try:
        result = work(spec)
    except BaseException as error:
        traceback.print_exc()
        reason = not_there(error)
        told = f"{type(error).__name__}: {error}".splitlines()[0][:400]
        result = ("untried", reason) if reason else ("failed", told)
    path.with_suffix(".result").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
