"""Write the ledger's pages: `python tools/ledger_page.py write|check [--evidence FILE]`.

Joins the rows (ledger/*.toml), the verdicts in the committed outputs (chapters/*.ipynb) and the tests
that passed (FILE, written by `pytest --evidence FILE`; without it, the tests that carry the mark)
into pages/ledger.md, pages/evidence.md and ledger/ledger.json. `check` compares instead, and fails on a gap.
"""

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from kexue.book import ledger

ROOT = Path(__file__).resolve().parents[1]

Evidence = dict[str, list[str]]
"""Node ids of tests, by the id of the row that they verify."""


def slugs(root: Path = ROOT) -> list[str]:
    """The articles in the order of the book."""
    ordered = re.findall(r"^ *- file: chapters/(\w+)$", (root / "_toc.yml").read_text("utf-8"), re.M)
    return [slug for slug in ordered if (root / "ledger" / f"{slug}.toml").is_file()]


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
                            f"tests/{path.name}::{node.name}"
                        )
    return found


def verdicts(notebook: Path) -> dict[str, dict[str, Any]]:
    """The verdicts in a notebook's outputs, by row, each with the section in which it stands."""
    found: dict[str, dict[str, Any]] = {}
    section = ""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,4} +(.+?)\s*$", cell.source, re.M)
            section = headings[-1] if headings else section
        for output in cell.get("outputs", []):
            if data := output.get("data", {}).get(ledger.MIME_TYPE):
                if data["id"] in found:
                    raise ValueError(f"{notebook.name}: two verdicts on {data['id']}")
                found[data["id"]] = {**data, "section": section}
    return found


def join(evidence: Evidence, root: Path = ROOT) -> dict[str, Any]:
    """Everything that ledger/ledger.json holds."""
    articles = {}
    for slug in slugs(root):
        article = ledger.load(slug, root / "ledger")
        found = verdicts(root / "chapters" / f"{slug}.ipynb")
        rows = []
        for row in article.rows:
            shown = found.get(row.id, {})
            tests = sorted(evidence.get(row.id, []))
            rows.append(
                {
                    "id": row.id,
                    "kind": row.kind,
                    "sort": row.sort,
                    "place": row.place,
                    "statement": row.statement,
                    "expected": row.expected,
                    "why": row.why,
                    # a row without a verdict cell holds because its tests pass
                    "verdict": shown.get("verdict", "holds" if tests else "no evidence"),
                    "section": shown.get("section"),
                    "measured": shown.get("measured", []),
                    "tests": tests,
                }
            )
        count = {
            sort: {
                outcome: sum(r["sort"] == sort and r["verdict"] == outcome for r in rows)
                for outcome in ledger.OUTCOMES
            }
            for sort in ledger.SORTS
        }
        articles[slug] = {
            "title": article.title,
            "title_zh": article.title_zh,
            "url": article.url,
            "count": count,
            "rows": rows,
        }
    return {"articles": articles}


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
        shown = verdicts(root / "chapters" / f"{slug}.ipynb")
        problems += [f"chapters/{slug}.ipynb: no row for {i}" for i in shown if i not in known]
    problems += [
        f"{tests[0]} verifies {i}, which has no row" for i, tests in evidence.items() if i not in known
    ]
    return problems


def ledger_page(joined: dict[str, Any]) -> str:
    """pages/ledger.md"""
    lines = [
        "<!-- Written by `make ledger`; do not edit. -->",
        "# The ledger",
        "",
        "What each article says, and what the code found. A row **holds**, is **restricted** (true only",
        "under a condition that the article does not state), is **refuted**, or stays **open** (tried,",
        "and not decided). It is **unreached** where the better of the compared models does not beat the",
        "trivial baseline, so that the comparison would say nothing. An experiment in the chapter decides",
        "a *claim*, in the cell that the section link leads to; mathematics decides an *equation*, in the",
        "tests on {doc}`evidence`. *Additions* are ours, and count for no article. What is restricted or",
        "refuted stands again, with the reason, under [Errata](#errata).",
    ]
    for sort in ledger.SORTS:
        lines += ["", *_summary(joined, sort)]
    for slug, article in joined["articles"].items():
        lines += [
            "",
            f"({slug})=",
            f"## {article['title']}",
            "",
            f"苏剑林, [《{article['title_zh']}》]({article['url']})",
            "",
            ":::{div} ledger-table",
            "| row | what the article says, and the evidence | verdict |",
            "|---|---|---|",
            *(
                _table_row(slug, row)
                for sort in ledger.SORTS
                for row in article["rows"]
                if row["sort"] == sort
            ),
            ":::",
        ]
    lines += [
        "",
        "(errata)=",
        "## Errata",
        "",
        "Where an article is imprecise or wrong, and what was measured: what is refuted first, then what",
        "needs a condition. What we added ourselves is not among them.",
    ]
    for outcome in ("refuted", "restricted"):
        for slug, article in joined["articles"].items():
            for row in article["rows"]:
                if row["verdict"] == outcome and row["sort"] != "addition":
                    lines += ["", *_erratum(slug, row)]
    return "\n".join(lines) + "\n"


def _summary(joined: dict[str, Any], sort: ledger.Sort) -> list[str]:
    """The table of one sort of rows: how many of each article came out how."""
    found = [o for o in ledger.OUTCOMES if any(a["count"][sort][o] for a in joined["articles"].values())]
    lines = [
        f"| {ledger.SORT_NAMES[sort][1]} | " + " | ".join([*found, "all"]) + " |",
        "|---|" + "--:|" * (len(found) + 1),
    ]
    for slug, article in joined["articles"].items():
        count = article["count"][sort]
        numbers = [*(count[outcome] for outcome in found), sum(count.values())]
        lines.append(f"| [{article['title']}](#{slug}) | " + " | ".join(map(str, numbers)) + " |")
    return lines


def _erratum(slug: str, row: dict[str, Any]) -> list[str]:
    numbers = "; ".join(f"{name} = {_number(value)}" for name, value in row["measured"])
    return [
        f"**{row['id']}** ({row['place']}): **{row['verdict']}**. {row['why']}",
        f"{numbers and 'Measured: ' + numbers + '. '}"
        f"See [{row['section']}](../chapters/{slug}.ipynb#{anchor(row['section'])}).",
    ]


def _table_row(slug: str, row: dict[str, Any]) -> str:
    links = []
    if row["section"]:
        links.append(f"Section [{row['section']}](../chapters/{slug}.ipynb#{anchor(row['section'])})")
    tests = [test.partition("::")[2] for test in row["tests"]]
    if tests:
        links.append(
            "tests "
            + ", ".join(f"[{name.removeprefix('test_')}](evidence.md#{anchor(name)})" for name in tests)
        )
    # a bar would end the table's cell
    statement = row["statement"].replace("|", "\\|")
    symbol = ledger.SYMBOLS.get(row["verdict"], "")
    name = f'<span id="{row["id"].replace(".", "-")}"></span>**{row["id"]}**<br>{row["place"]}, {row["kind"]}'
    return f"| {name} | {statement}<br><small>{'; '.join(links)}</small> | {symbol}&nbsp;{row['verdict']} |"


def evidence_page(evidence: Evidence, root: Path = ROOT) -> str:
    """pages/evidence.md: the code of every test that the ledger cites."""
    cited: dict[str, list[str]] = {}
    for row_id, tests in evidence.items():
        for test in tests:
            cited.setdefault(test, []).append(row_id)
    lines = [
        "<!-- Written by `make ledger`; do not edit. -->",
        "# The tests behind the ledger",
        "",
        "Each of these passed when the ledger was written; `make test` runs them again.",
    ]
    for path in sorted({test.partition("::")[0] for test in cited}):
        lines += ["", f"## {path.removeprefix('tests/')}"]
        functions = [
            node.name
            for node in ast.parse((root / path).read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef)
        ]
        for name in functions:
            ids = cited.get(f"{path}::{name}")
            if ids:
                rows = ", ".join(
                    f'<a href="ledger.html#{i.replace(".", "-")}">{i}</a>' for i in sorted(ids, key=_natural)
                )
                lines += ["", f"### {name}", "", f"Evidence for {rows}.", ""]
                lines += [
                    f"```{{literalinclude}} ../{path}",
                    ":language: python",
                    f":pyobject: {name}",
                    "```",
                ]
    return "\n".join(lines) + "\n"


def _natural(text: str) -> list[tuple[bool, int, str]]:
    return [
        (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text)
    ]


def anchor(heading: str) -> str:
    """The anchor that MyST (like GitHub) gives a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return text.replace(" ", "-")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pages(evidence: Evidence, root: Path = ROOT) -> dict[str, str]:
    """The generated files, by name."""
    joined = join(evidence, root)
    return {
        "pages/ledger.md": ledger_page(joined),
        "pages/evidence.md": evidence_page(evidence, root),
        "ledger/ledger.json": json.dumps(joined, ensure_ascii=False, indent=1) + "\n",
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["write", "check"])
    parser.add_argument("--evidence", type=Path, help="what pytest --evidence wrote")
    arguments = parser.parse_args()
    evidence = json.loads(arguments.evidence.read_text()) if arguments.evidence else marked_tests()
    problems = gaps(join(evidence), evidence)
    for name, text in pages(evidence).items():
        path = ROOT / name
        if arguments.command == "write":
            path.write_text(text, "utf-8")
        elif not path.is_file() or path.read_text("utf-8") != text:
            problems.append(f"{name} is out of date: run `make ledger` and commit it")
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        rows = sum(len(article["rows"]) for article in join(evidence)["articles"].values())
        print(f"The ledger: {rows} rows, each with evidence.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
