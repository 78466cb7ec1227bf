"""What there is to do on a GPU, and what became of it; read from files, with nothing of them imported."""

import ast
import dataclasses
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["test", "cell", "benchmark", "recording"]
Status = Literal["passed", "failed", "untried", "unfinished"]


def marked_gpu(decorated: ast.expr) -> bool:
    """Whether an expression is pytest.mark.gpu, or a list that has it."""
    parts = decorated.elts if isinstance(decorated, ast.List | ast.Tuple) else [decorated]
    return any(ast.unparse(part) == "pytest.mark.gpu" for part in parts)


def marked_tests(root: Path, folder: str) -> dict[str, list[str]]:
    """The tests of a folder that carry the mark `gpu`, by file; read, not imported."""
    found = {}
    for path in sorted((root / folder).rglob("test_*.py")):
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
            found[path.relative_to(root).as_posix()] = names
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
    """A run at the scale of a GPU, which an experiment declares in GPU_RECORDINGS."""

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
    for path in sorted((root / "src/kexue/experiments").glob("[!_]*.py")):
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
        each for each in declared_recordings(root) if not finished(root / "runs" / each.name / "run.json")
    ]


def finished(record: Path) -> bool:
    """Whether a run.json has a summary."""
    return record.is_file() and "summary" in json.loads(record.read_text("utf-8"))


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


# --- What became of it -------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one test, cell, benchmark or recording."""

    kind: Kind
    name: str
    status: Status
    reason: str = ""
    seconds: float = 0.0


def last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "no output"


def stopped_after(seconds: float) -> str:
    return f"stopped after {seconds:.0f} s"


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
