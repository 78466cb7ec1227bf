"""All that needs a GPU, in one command and a given time; with no Jupyter and no environment of its own.

    python tools/gpu.py run --minutes 8     tests, the chapters' GPU cells, benchmarks, recordings: `make gpu`
    python tools/gpu.py plan                what there is to do
    python tools/gpu.py pack FOLDER         data and packages for a machine that cannot download them
    python tools/gpu.py unpack RESULTS      finished recordings of a results.tar.gz, into runs/

The Python that runs this is the one that is used; it should hold PyTorch. The standard library is enough for
the rest, so that whatever else is missing is reported and not fatal.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_pack import pack, revision, unpack, write_results
from gpu_tasks import (
    Cell,
    Kind,
    Outcome,
    Recording,
    as_text,
    cases_of,
    gpu_cells,
    last_line,
    marked_tests,
    missing_recordings,
    outcome_without_case,
    plan,
    stopped_after,
    with_medians,
)

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 150
"""Seconds that one file of tests, or one cell, may take."""
LEAST = 10
"""Seconds below which nothing is begun."""
FOR_THE_REPORT = 10
"""Seconds kept for the report and the results."""
NO_TIME = "no time was left"


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


def run_alone(
    session: Session, kind: Kind, spec: Mapping[str, Any], longest: float, grace: float = 0.0
) -> Outcome:
    """A cell or a recording, in a fresh process: gpu_alone.py."""
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
    command = [sys.executable, str(Path(__file__).resolve().with_name("gpu_alone.py")), str(path)]
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
    options = parser.parse_args(arguments)
    if options.command == "plan":
        print(plan(root))
    elif options.command == "pack":
        print(json.dumps(pack(root, options.folder, options.python), indent=1))
    elif options.command == "unpack":
        if options.results.suffix == ".json":  # a report, for the page of the status
            shutil.copyfile(options.results, root / "runs" / "gpu.json")
        else:
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
