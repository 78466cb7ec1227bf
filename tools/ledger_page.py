"""Which tests are evidence for which row: `python tools/ledger_page.py write|check [--evidence FILE]`.

The evidence are the tests that passed (FILE, written by `pytest --evidence FILE`; without it, the tests that
carry the mark). `write` puts it into ledger/evidence.json, from which the book's pages are made when they are
built (`kexue.book.pages`); `check` compares instead, and fails on a gap.
"""

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

from kexue.book import ledger, pages
from kexue.book.pages import Evidence
from kexue.book.status import here

ROOT = Path(__file__).resolve().parents[1]


def marked_tests(root: Path = ROOT) -> Evidence:
    """Tests that carry @pytest.mark.verifies or fails, passing or not, less those that are skipped
    everywhere or without a GPU: they must not be the evidence."""
    found: Evidence = {"verifies": {}, "fails": {}}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            if any(re.match(r"pytest\.mark\.(gpu|skip)", ast.unparse(d)) for d in node.decorator_list):
                continue
            for mark in node.decorator_list:
                name = (
                    ast.unparse(mark.func).removeprefix("pytest.mark.") if isinstance(mark, ast.Call) else ""
                )
                for argument in mark.args if name in found else ():  # type: ignore[attr-defined]
                    found[name].setdefault(ast.literal_eval(argument), []).append(
                        f"{path.relative_to(root).as_posix()}::{node.name}"
                    )
    return found


def gaps(joined: dict[str, Any], evidence: Evidence, root: Path = ROOT) -> list[str]:
    """What is missing or contradicts itself, one line each."""
    problems = []
    known = set()
    for slug, article in joined["articles"].items():
        for row in article["rows"]:
            known.add(row["id"])
            problems += [f"{row['id']} {problem}" for problem in gaps_of(row, article["edition"], slug)]
        shown = pages.verdicts(root / "chapters" / f"{slug}.ipynb")
        problems += [f"chapters/{slug}.ipynb: no row for {i}" for i in shown if i not in known]
        for row in ledger.load(slug, root / "ledger").rows:
            if row.id in shown and shown[row.id]["box"] != ledger.box(
                row, shown[row.id]["verdict"], dict(shown[row.id]["measured"])
            ):
                problems.append(f"chapters/{slug}.ipynb shows another text of {row.id}: make run SLUG={slug}")
    for name, rows in evidence.items():
        problems += [
            f"{tests[0]} {name} {i}, which has no row" for i, tests in rows.items() if i not in known
        ]
    moved = pages.moved(root)
    for old, new in moved.items():
        problems += [
            f"ledger/retired.toml: {old} went to {i}, which is no row" for i in new if i not in known
        ]
    lost = pages.noted_rows(root) - known - set(moved)
    problems += [f"{i} was a row: ledger/retired.toml must say where it went" for i in sorted(lost)]
    return problems


def gaps_of(row: dict[str, Any], edition: int, slug: str) -> list[str]:
    """What is missing for one row."""
    problems = []
    by_tests, expected = row["by_tests"], row["expected"]
    if expected == "untested":
        if row["section"] or row["tests"] or row["failing"]:
            problems.append("is untested, but has evidence")
    elif row["verdict"] == "no evidence":
        problems.append("has no evidence: neither a verdict cell nor a test that passes")
    elif row["verdict"] != expected:
        problems.append(f"is expected to be {expected}, but is {row['verdict']}")
    elif row["sort"] == "equation" and by_tests != expected:
        problems.append(
            f"is {expected}, which needs "
            + (
                "a test that verifies it, and one that fails it"
                if expected == "restricted"
                else "tests that say so"
            )
        )
    if row["sort"] == "claim" and row["section"] is None and expected != "untested":
        problems.append(f"has no verdict in chapters/{slug}.ipynb: write its cell, and make run SLUG={slug}")
    if row["sort"] == "claim" and edition > 1 and expected != "untested":
        problems += [
            f"is a claim of a second edition, and has no {name}"
            for name in ("rule", "entry", "fixed")
            if not row[name]
        ]
    if row["errata"] == "correction" and not row["code"]:
        problems.append("corrects the article, and has no code that shows it")
    if row["errata"] and not row["grave"]:
        problems.append("is an erratum: `grave` must say how much depends on it")
    return problems


def noted(evidence: Evidence, rows: list[str]) -> dict[str, Any]:
    """Evidence by row, and the ids of all rows, so that none disappears in silence."""
    ordered = {name: {row: sorted(found[row]) for row in sorted(found)} for name, found in evidence.items()}
    return {**ordered, "rows": sorted(rows)}


def noted_before(path: Path) -> dict[str, Any]:
    """The same from the file, without when and where it was made."""
    found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {name: value for name, value in found.items() if name != "made"}


def main(root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["write", "check"])
    parser.add_argument("--evidence", type=Path, help="what pytest --evidence wrote")
    arguments = parser.parse_args()
    evidence = json.loads(arguments.evidence.read_text()) if arguments.evidence else marked_tests(root)
    joined = pages.join(evidence, root)
    problems = gaps(joined, evidence, root)
    rows = [row["id"] for article in joined["articles"].values() for row in article["rows"]]
    path = root / "ledger" / "evidence.json"
    if arguments.command == "write":
        made = {"made": here()} if arguments.evidence else {}  # marks alone say nothing of a machine
        path.write_text(json.dumps({**noted(evidence, rows), **made}, indent=1) + "\n", "utf-8")
    elif noted_before(path) != noted(evidence, rows):
        problems.append("ledger/evidence.json is out of date: run `make ledger` and commit it")
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        untested = sum(
            row["verdict"] == "untested" for article in joined["articles"].values() for row in article["rows"]
        )
        source = "tests that passed" if arguments.evidence else "marks of tests, which were not run"
        print(f"The ledger: {len(rows)} rows, {untested} untested, each other with evidence ({source}).")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
