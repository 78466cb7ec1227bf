"""The pages of the ledger, from its rows, the verdicts in the chapters' outputs, and the tests that passed.

A page that has a fence of the kind {ledger} or {evidence} is filled when the book is built (`fill`).
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import nbformat

from kexue.book import ledger

__all__ = [
    "Evidence",
    "anchor",
    "evidence_of",
    "evidence_text",
    "fill",
    "join",
    "ledger_text",
    "slugs",
    "verdicts",
]

Evidence = dict[str, list[str]]
"""Node ids of tests, by the id of the row that they verify."""


def evidence_of(root: Path) -> Evidence:
    """The tests that passed when `make ledger` was last run."""
    found: Evidence = json.loads((root / "ledger" / "evidence.json").read_text("utf-8"))
    return found


def fill(text: str, joined: dict[str, Any], evidence: Evidence, root: Path) -> str:
    """The text of a page, its fences filled."""
    for name, content in (
        ("ledger", lambda: ledger_text(joined)),
        ("evidence", lambda: evidence_text(evidence, root)),
    ):
        fence = f"```{{{name}}}\n```\n"
        if fence in text:
            text = text.replace(fence, content())
    return text


def slugs(root: Path) -> list[str]:
    """The articles in the order of the book."""
    ordered = re.findall(r"^ *- file: chapters/(\w+)$", (root / "_toc.yml").read_text("utf-8"), re.M)
    return [slug for slug in ordered if (root / "ledger" / f"{slug}.toml").is_file()]


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


def join(evidence: Evidence, root: Path) -> dict[str, Any]:
    """The rows of all articles, with their verdicts, what was measured, and the tests that are evidence."""
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


def ledger_text(joined: dict[str, Any]) -> str:
    """What stands on the page of the ledger: counts, the rows of each article, errata."""
    lines: list[str] = []
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


def evidence_text(evidence: Evidence, root: Path) -> str:
    """The code of every test that the ledger cites."""
    cited: dict[str, list[str]] = {}
    for row_id, tests in evidence.items():
        for test in tests:
            cited.setdefault(test, []).append(row_id)
    lines: list[str] = []
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
