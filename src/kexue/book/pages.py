"""The pages of the ledger, from its rows, the verdicts in the chapters' outputs, and the tests that passed.

A page that has a fence of the kind {ledger} or {errata} is filled when the book is built (`fill`).
"""

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat

from kexue.book import ledger

__all__ = [
    "Evidence",
    "anchor",
    "errata_text",
    "evidence_of",
    "fill",
    "join",
    "ledger_text",
    "moved",
    "noted_rows",
    "slugs",
    "verdicts",
]

Evidence = dict[str, dict[str, list[str]]]
"""Node ids of tests by the id of a row, of those that verify it and of those that show where it fails."""

EDITIONS = {1: "first edition, being revised", 2: "second edition"}

ERRATA = {
    "correction": ("Mathematical corrections", "The article's formula or reason is not right as it stands."),
    "condition": ("Missing conditions", "True where a condition is met that the article does not state."),
    "not reproduced": ("Not reproduced", "Our experiment, which could have shown it, found something else."),
    "not reached": (
        "Not reached at our scale",
        "Our models are too small or too weak for their comparison to say anything of the claim.",
    ),
}


def evidence_of(root: Path) -> Evidence:
    """The tests that passed when `make ledger` was last run."""
    found = json.loads((root / "ledger" / "evidence.json").read_text("utf-8"))
    return {name: found[name] for name in ("verifies", "fails")}


def noted_rows(root: Path) -> set[str]:
    """The ids of all rows when `make ledger` was last run."""
    path = root / "ledger" / "evidence.json"
    return set(json.loads(path.read_text("utf-8")).get("rows", [])) if path.is_file() else set()


def moved(root: Path) -> dict[str, list[str]]:
    """Where rows that are gone or renumbered went, from ledger/retired.toml."""
    path = root / "ledger" / "retired.toml"
    entries = tomllib.loads(path.read_text("utf-8"))["moved"] if path.is_file() else []
    return {entry["id"]: entry["to"] for entry in entries}


def fill(text: str, joined: dict[str, Any]) -> str:
    """The text of a page, its fences filled."""
    for name, content in (("ledger", ledger_text), ("errata", errata_text)):
        fence = f"```{{{name}}}\n```\n"
        if fence in text:
            text = text.replace(fence, content(joined))
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
                box = output["data"].get("text/html", "")
                found[data["id"]] = {**data, "section": section, "box": box}
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
            tests, failing = (sorted(evidence[name].get(row.id, [])) for name in ("verifies", "fails"))
            by_tests = _outcome_of_tests(tests, failing)
            untested = row.expected == "untested" and by_tests == "no evidence" and not shown
            rows.append(
                {
                    **{name: getattr(row, name) for name in row.__dataclass_fields__},
                    "errata": row.part_of_errata,
                    "verdict": "untested" if untested else shown.get("verdict", by_tests),
                    "by_tests": by_tests,
                    "section": shown.get("section"),
                    "measured": shown.get("measured", []),
                    "tests": tests,
                    "failing": failing,
                }
            )
        articles[slug] = {
            "title": article.title,
            "title_zh": article.title_zh,
            "url": article.url,
            "edition": article.edition,
            "count": {
                sort: {
                    outcome: sum(r["sort"] == sort and r["verdict"] == outcome for r in rows)
                    for outcome in ledger.OUTCOMES
                }
                for sort in ledger.SORTS
            },
            "rows": rows,
        }
    return {"articles": articles}


def _outcome_of_tests(tests: list[str], failing: list[str]) -> str:
    """What tests alone say of an equation."""
    if failing:
        return "restricted" if tests else "refuted"
    return "holds" if tests else "no evidence"


# --- The ledger --------------------------------------------------------------------------------


def ledger_text(joined: dict[str, Any]) -> str:
    """What stands on the page of the ledger: counts, then the rows of each article.

    Claims come first, then what is ours; equations are folded. The tests unfold under their row, each
    test once: a later row that cites it again has a link.
    """
    lines: list[str] = []
    for sort in ledger.SORTS:
        lines += ["", *_summary(joined, sort)]
    cited: set[str] = set()
    for slug, article in joined["articles"].items():
        lines += ["", f"({slug})=", f"## {article['title']}", "", _source(article)]
        for sort in ledger.SORTS:
            rows = [row for row in article["rows"] if row["sort"] == sort]
            if not rows:
                continue
            blocks = [line for row in rows for line in ["", *_block(slug, row, cited)]]
            if sort == "equation":
                summary = f"{ledger.counted(len(rows), sort)}: {_found(article['count'][sort])}"
                lines += [
                    "",
                    f'<details class="ledger-equations"><summary>{summary}</summary>',
                    *blocks,
                    "",
                    "</details>",
                ]
            else:
                lines += blocks
    return "\n".join(lines) + "\n"


def _source(article: dict[str, Any]) -> str:
    return f"苏剑林, [《{article['title_zh']}》]({article['url']}); chapter: {EDITIONS[article['edition']]}."


def _found(count: dict[str, int]) -> str:
    return ", ".join(f"{n} {ledger.OUTCOME_VERBS[o]}" for o, n in count.items() if n)  # type: ignore[index]


def _summary(joined: dict[str, Any], sort: ledger.Sort) -> list[str]:
    """The table of one sort of rows: how many of each article came out how; each edition has its sum."""
    articles = joined["articles"]
    found = [o for o in ledger.OUTCOMES if any(a["count"][sort][o] for a in articles.values())]
    lines = [
        f"| {ledger.SORT_NAMES[sort][1]} | " + " | ".join([*found, "all"]) + " |",
        "|---|" + "--:|" * (len(found) + 1),
    ]

    def line(name: str, count: dict[str, int]) -> str:
        numbers = [*(count[outcome] for outcome in found), sum(count.values())]
        return f"| {name} | " + " | ".join(map(str, numbers)) + " |"

    for edition in sorted({a["edition"] for a in articles.values()}, reverse=True):
        total: Counter[str] = Counter()
        for slug, article in articles.items():
            if article["edition"] == edition:
                lines.append(line(f"[{article['title']}](#{slug})", article["count"][sort]))
                total.update(article["count"][sort])
        lines.append(line(f"**{EDITIONS[edition]}**", total))
    return lines


def _block(slug: str, row: dict[str, Any], cited: set[str]) -> list[str]:
    """One row: name and verdict, what is said, why it is so, and the tests, folded."""
    outcome = row["verdict"]
    symbol = ledger.SYMBOLS.get(outcome, "")
    place = ", ".join(filter(None, (row["place"], row["kind"])))
    ours = f" *Ours*: {row['ours']}." if row["ours"] else ""
    section = f" Decided in [{row['section']}]({_link(slug, row)})." if row["section"] else ""
    lines = [
        f"::::{{div}} ledger-row ledger-{outcome.replace(' ', '-')}",
        f'<span id="{row["id"].replace(".", "-")}"></span>[{symbol} {outcome}]{{.ledger-outcome}} '
        f"**{row['id']}** [{place}]{{.ledger-place}}",
        "",
        f"{_ended(row['statement'])}{ours} {row['why']}{section}",
    ]
    tests = [*row["tests"], *row["failing"]]
    if tests:
        lines += ["", f"<details><summary>{len(tests)} test{'s' * (len(tests) > 1)}</summary>", ""]
        for test in tests:
            lines += _test(test, test in row["failing"], cited)
        lines += ["</details>"]
    return [*lines, "::::"]


def _test(test: str, fails: bool, cited: set[str]) -> list[str]:
    path, _, name = test.partition("::")
    shows = " (where it fails)" if fails else ""
    if test in cited:
        return [f'<p><a href="#{name}">{name}</a>{shows}, above</p>', ""]
    cited.add(test)
    return [
        f'<p id="{name}">{path}{shows}</p>',
        "",
        f"```{{literalinclude}} ../{path}",
        ":language: python",
        f":pyobject: {name}",
        "```",
        "",
    ]


# --- Errata ------------------------------------------------------------------------------------


def errata_text(joined: dict[str, Any]) -> str:
    """What an article's author would want to know, the gravest sort first."""
    lines: list[str] = []
    for part, (title, lead) in ERRATA.items():
        entries = [
            _erratum(slug, article, row)
            for slug, article in joined["articles"].items()
            for row in article["rows"]
            if row["errata"] == part
        ]
        if entries:
            lines += ["", f"## {title}", "", lead]
            lines += [line for entry in entries for line in ("", *entry)]
    return "\n".join(lines) + "\n"


def _erratum(slug: str, article: dict[str, Any], row: dict[str, Any]) -> list[str]:
    numbers = "; ".join(f"{name} = {_number(value)}" for name, value in row["measured"][:3])
    section = f" See [{row['section']}]({_link(slug, row)})." if row["section"] else ""
    lines = [
        f"### {article['title'].partition(':')[0]}: {row['place']}",
        "",
        f"[《{article['title_zh']}》]({article['url']}); in the ledger: "
        f'<a href="ledger.html#{row["id"].replace(".", "-")}">{row["id"]}</a>',
        "",
        f"- **It says**: {_ended(row['statement'])}",
        f"- **What we find**: {row['why']}{section}",
        f"- **How much depends on it**: {_ended(row['grave'])}",
        *([f"- **Measured**: {numbers}."] if numbers else []),
    ]
    if row["code"]:
        lines += ["", "```python", *row["code"].strip().splitlines(), "```"]
    return lines


def _link(slug: str, row: dict[str, Any]) -> str:
    return f"../chapters/{slug}.ipynb#{anchor(row['section'])}"


def _ended(text: str) -> str:
    """A sentence: rows are written without capital and full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def anchor(heading: str) -> str:
    """The anchor that MyST (like GitHub) gives a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return text.replace(" ", "-")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
