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

from kexue.book import pages
from kexue.book.pages import Evidence

ROOT = Path(__file__).resolve().parents[1]


def marked_tests(root: Path = ROOT) -> Evidence:
    """Tests that carry @pytest.mark.verifies, passing or not, less those that are skipped everywhere
    or without a GPU: they must not be the evidence."""
    found: Evidence = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            if any(re.match(r"pytest\.mark\.(gpu|skip)", ast.unparse(d)) for d in node.decorator_list):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.verifies":
                    for argument in mark.args:
                        found.setdefault(ast.literal_eval(argument), []).append(
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
            if row["verdict"] == "no evidence":
                problems.append(f"{row['id']} has no evidence: neither a verdict cell nor a test that passes")
            elif row["verdict"] != row["expected"]:
                problems.append(f"{row['id']} is expected to be {row['expected']}, but is {row['verdict']}")
            if row["section"] is None and (row["kind"] == "claim" or row["expected"] != "holds"):
                problems.append(f"{row['id']} needs a verdict cell in chapters/{slug}.py")
        shown = pages.verdicts(root / "chapters" / f"{slug}.ipynb")
        problems += [f"chapters/{slug}.ipynb: no row for {i}" for i in shown if i not in known]
    problems += [
        f"{tests[0]} verifies {i}, which has no row" for i, tests in evidence.items() if i not in known
    ]
    return problems


def as_json(evidence: Evidence) -> str:
    return json.dumps({row: sorted(evidence[row]) for row in sorted(evidence)}, indent=1) + "\n"


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
    path = root / "ledger" / "evidence.json"
    if arguments.command == "write":
        path.write_text(as_json(evidence), "utf-8")
    elif not path.is_file() or path.read_text("utf-8") != as_json(evidence):
        problems.append("ledger/evidence.json is out of date: run `make ledger` and commit it")
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        rows = sum(len(article["rows"]) for article in joined["articles"].values())
        print(f"The ledger: {rows} rows, each with evidence.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
