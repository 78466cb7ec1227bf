"""The page of the status: what was executed, tested, recorded, when and where, from what the tools noted.

A page that has a fence of the kind {status} is filled when the book is built.
"""

import datetime
import json
import platform
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kexue.book import pages
from kexue.runs import processor, runs_folder

__all__ = ["fill", "here", "status_text"]

UNKNOWN = "not noted"


def here() -> dict[str, str]:
    """This moment, this machine, and the versions: what a tool notes beside its result."""
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy")},
    }


def fill(text: str, root: Path) -> str:
    """The text of a page, its fence filled."""
    fence = "```{status}\n```\n"
    return text.replace(fence, status_text(root)) if fence in text else text


def status_text(root: Path) -> str:
    """The sections of the page, of the book whose sources are in `root`."""
    runs = root / "runs" if (root / "runs").is_dir() else runs_folder()  # `make book` copies no runs
    parts = [_chapters(root), _tests(root), _runs(runs), _gpu(root, runs / "gpu.json")]
    return "\n\n".join(line for part in parts for line in part) + "\n"


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(columns)
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(root: Path, slug: str) -> tuple[list[Any], str]:
    """The code cells of a chapter as it is shown, and when it was executed."""
    notebook = json.loads((root / "chapters" / f"{slug}.ipynb").read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return code, notebook["metadata"].get("kexue", {}).get("finished", UNKNOWN)[:10]


def _chapters(root: Path) -> list[str]:
    rows = []
    for slug in pages.slugs(root):
        code, day = _cells(root, slug)
        texts = ["".join(o.get("data", {}).get("text/markdown", "")) for c in code for o in c["outputs"]]
        card = dict(re.findall(r"^\| (\w[\w ]*) \| (.*) \|$", "\n".join(texts), re.M))
        noted = [card.get(name, UNKNOWN) for name in ("Running time", "Hardware", "Software")]
        done = sum(cell["execution_count"] is not None for cell in code)
        rows.append([f"{{doc}}`{slug} <../chapters/{slug}>`", day, f"{done} of {len(code)}", *noted])
    columns = ["chapter", "executed", "cells", "in", "on", "with"]
    common = ""
    if len({tuple(row[4:]) for row in rows}) == 1:  # said once
        common = f" All of them: {rows[0][4]}; {rows[0][5]}."
        columns, rows = columns[:4], [row[:4] for row in rows]
    return [
        "## Chapters",
        "When and where each chapter was executed as it is shown, by its card. `make test` executes all of "
        f"them again, and compares. Cells for a GPU were not executed.{common}",
        _table(columns, rows),
    ]


def _tests(root: Path) -> list[str]:
    noted = json.loads((root / "ledger" / "evidence.json").read_text("utf-8"))
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for row in {*noted["verifies"], *noted["fails"]}:
        tests = {*noted["verifies"].get(row, []), *noted["fails"].get(row, [])}
        rows[row.partition(".")[0]].update({"rows": 1, "tests": len(tests)})
    made = noted.get("made", {})
    where = ", ".join(f"{name} {made[name]}" for name in ("python", "torch", "numpy") if name in made)
    text = (
        f"on {made['finished'][:10]} on {made['processor']}, {where}"
        if made
        else f"at a time that was {UNKNOWN}"
    )
    lines = [[slug, rows[slug]["rows"], rows[slug]["tests"]] for slug in pages.slugs(root)]
    return [
        "## Tests",
        f"The tests that are evidence for a row of {{doc}}`the ledger <ledger>` passed when `make ledger` "
        f"was last run, {text}. `make test` asks again whether the same tests pass.",
        _table(["article", "rows with tests", "tests (one of two rows counts twice)"], lines),
    ]


def _runs(folder: Path) -> list[str]:
    replayed = set(json.loads((folder / "replayed.json").read_text("utf-8")))
    groups: dict[tuple[str, str, str], list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for path in sorted(folder.glob("*/*/run.json")):
        record = json.loads(path.read_text("utf-8"))
        if "summary" not in record:  # not finished
            continue
        noted = record["environment"]
        device = noted["processor"] if noted["device"] == "cpu" else noted["device"]
        groups[path.parts[-3], device, noted["torch"]].append((f"{path.parts[-3]}/{path.parts[-2]}", noted))
    rows = []
    for (name, device, torch), found in groups.items():
        days = sorted(noted["finished"][:10] for _, noted in found)
        minutes = statistics.median(noted["seconds"] for _, noted in found) / 60
        rows.append(
            [
                name,
                len(found),
                days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}",
                device,
                torch,
                f"{minutes:.1f}",
                f"{sum(run in replayed for run, _ in found)} of {len(found)}",
            ]
        )
    return [
        "## Recorded trainings",
        "What takes longer than a chapter may. *Replayed*: when `make replay ALL=1` was last run, the first "
        "steps gave the same again.",
        _table(["experiment", "runs", "finished", "on", "PyTorch", "minutes, median", "replayed"], rows),
    ]


def _gpu(root: Path, path: Path) -> list[str]:
    report = json.loads(path.read_text("utf-8")) if path.is_file() else None
    lines = ["## On a GPU"]
    if report is None:
        cells = {
            slug: sum("gpu" in cell["metadata"].get("tags", []) for cell in _cells(root, slug)[0])
            for slug in pages.slugs(root)
        }
        named = ", ".join(f"{slug} ({number})" for slug, number in cells.items() if number)
        return [
            *lines,
            f"Cells for a GPU: {named or 'none'}. It is {UNKNOWN} that they, tests with the mark `gpu` or "
            "the benchmarks of a GPU ever ran on one: `make gpu` runs them, and "
            "`python tools/gpu.py unpack report.json` notes it here. What was trained on one stands above.",
        ]
    items = [
        [i["kind"], i["name"], i["status"], i["reason"] or f"{i['seconds']:.0f} s"] for i in report["items"]
    ]
    return [
        *lines,
        f"`make gpu` was last noted on {report['device']}, {report['platform']}.",
        _table(["what", "name", "came out", "in, or why"], sorted(items)),
    ]
