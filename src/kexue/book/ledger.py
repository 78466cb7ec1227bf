"""The ledger: what each article says, and what the code found.

`ledger/<slug>.toml` holds the rows. A chapter's cell calls `verdict` with a computed truth value; a test
carries `@pytest.mark.verifies("<id>")`, or `fails` where it shows that the statement does not hold as it
stands. The pages are made of the three when the book is built (`kexue.book.pages`).
"""

import html
import math
import numbers
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, SupportsFloat, get_args

from kexue.nn import arguments
from kexue.runs.statistics import Interval

__all__ = [
    "ERRATA",
    "KINDS",
    "MIME_TYPE",
    "OUTCOMES",
    "OUTCOME_VERBS",
    "SORTS",
    "SORT_NAMES",
    "SYMBOLS",
    "Article",
    "Erratum",
    "Kind",
    "Outcome",
    "Row",
    "Sort",
    "VerdictError",
    "box",
    "counted",
    "ledger_folder",
    "load",
    "outcome_of",
    "row",
    "verdict",
]

# Never mixed in a count: what an article says of the world, which an experiment decides; what it defines,
# states or derives, which mathematics decides; and what is ours, beyond the article.
Sort = Literal["claim", "addition", "equation"]
SORTS: tuple[Sort, ...] = get_args(Sort)
SORT_NAMES: dict[Sort, tuple[str, str]] = {
    "claim": ("claim", "claims"),
    "equation": ("equation, definition or algorithm", "equations, definitions and algorithms"),
    "addition": ("addition of ours", "additions of ours"),
}
Kind = Literal["definition", "identity", "bound", "limit", "algorithm"]
"""What an equation is."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Outcome = Literal["holds", "restricted", "refuted", "open", "unreached", "untested"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# "17 hold, 4 restricted"
OUTCOME_VERBS = {outcome: "hold" if outcome == "holds" else outcome for outcome in OUTCOMES}

Erratum = Literal["correction", "condition", "not reproduced", "not reached"]
ERRATA: tuple[Erratum, ...] = get_args(Erratum)
"""What an article's author would want to know, the gravest first."""

MIME_TYPE = "application/vnd.kexue.verdict+json"

SYMBOLS: dict[Outcome, str] = {
    "holds": "✓",
    "restricted": "◐",
    "refuted": "✗",
    "open": "?",
    "unreached": "–",
    "untested": "○",
}
# Each has at least 4.5:1 contrast with white text.
_COLOURS: dict[Outcome, str] = {
    "holds": "#1b6e4b",
    "restricted": "#8a5a00",
    "refuted": "#a8322d",
    "open": "#5a5f66",
    "unreached": "#5b4a8a",
    "untested": "#5a5f66",
}


class VerdictError(AssertionError):
    """A computed verdict is not the one that the ledger's row expects."""


@dataclass(frozen=True)
class Row:
    """One row: an equation or a claim of the article, or an addition of ours."""

    id: str
    sort: Sort
    place: str
    """Where the article says it: section and paragraph."""
    statement: str
    """What the article says, no more."""
    expected: Outcome
    kind: Kind | None = None
    """Of an equation."""
    why: str = ""
    """Why it is not simply so: what is true instead, the condition, what was not reached."""
    ours: str = ""
    """What we add to the statement to make it one that can be tested: a condition, a quantifier, a bound."""
    rule: str = ""
    """Of a claim or an addition that an experiment decides: what makes it hold, fail, stay open."""
    entry: str = ""
    """Of a claim: what the better model must beat before the comparison says anything."""
    fixed: str = ""
    """When the rule was fixed, and whether results were known then."""
    shown: bool = True
    """Whether an equation is a labelled one of the chapter; if not, `why_hidden` says why."""
    why_hidden: str = ""
    erratum: Erratum | None = None
    """Where the outcome alone would put it in the wrong part of the errata."""
    grave: str = ""
    """Of an erratum: how much depends on it."""
    code: str = ""
    """Of an erratum: at most five lines, with an assertion, that show it."""

    def __post_init__(self) -> None:
        for name, known in (("sort", SORTS), ("expected", OUTCOMES), ("kind", KINDS), ("erratum", ERRATA)):
            value = getattr(self, name)
            if not (value is None and name in ("kind", "erratum")):
                arguments.choice(f"{name} of {self.id}", value, known)
        if (self.kind is not None) != (self.sort == "equation"):
            raise ValueError(
                f"{self.id} must have a kind if it is an equation, and only then, got {self.kind!r}"
            )
        if self.expected not in ("holds", "untested") and not self.why:
            raise ValueError(f"{self.id} is {self.expected}: its row must say why")
        if self.expected == "untested" and self.sort != "claim":
            raise ValueError(f"{self.id} is untested: only a claim may be")
        if not self.shown and not self.why_hidden:
            raise ValueError(f"{self.id} is not shown: its row must say why_hidden")
        if len(self.code.strip().splitlines()) > 5:
            raise ValueError(f"code of {self.id} must have at most five lines")

    @property
    def part_of_errata(self) -> Erratum | None:
        """Where the errata list it, or None: what is ours, what holds, and what is undecided is none."""
        if self.sort == "addition" or self.expected in ("holds", "open", "untested"):
            return None
        if self.erratum is not None:
            return self.erratum
        if self.expected == "unreached":
            return "not reached"
        if self.expected == "restricted":
            return "condition"
        return "correction" if self.sort == "equation" else "not reproduced"


@dataclass(frozen=True)
class Article:
    """What `ledger/<slug>.toml` says of an article and its chapter."""

    slug: str
    title: str
    title_zh: str
    gloss: str
    date: str
    url: str
    prerequisites: tuple[str, ...]
    data: tuple[str, ...]
    edition: int
    """Of the chapter: rows of a second edition name their rules."""
    rows: tuple[Row, ...]

    def count(self, sort: Sort) -> dict[Outcome, int]:
        """How many rows of a sort are expected to end in each outcome."""
        found = [row.expected for row in self.rows if row.sort == sort]
        return {outcome: found.count(outcome) for outcome in OUTCOMES}


def ledger_folder() -> Path:
    """Where the rows are: inside an installed package, or in the source tree."""
    installed = Path(__file__).parents[1] / "_ledger"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "ledger"


@cache
def load(slug: str, folder: Path | None = None) -> Article:
    """The rows of one article. Raises ValueError for an unknown slug or a row that is not well formed."""
    path = (folder or ledger_folder()) / f"{slug}.toml"
    known = sorted(f.stem for f in (folder or ledger_folder()).glob("*.toml") if f.stem != "retired")
    arguments.choice("slug", slug, known)
    data = tomllib.loads(path.read_text("utf-8"))
    rows = tuple(_row(path.name, entry) for entry in data.pop("row", []))
    ids = [row.id for row in rows]
    if len(ids) != len(set(ids)):
        raise ValueError(
            f"{path.name}: ids must be unique, got {sorted({i for i in ids if ids.count(i) > 1})}"
        )
    if foreign := [i for i in ids if not i.startswith(f"{slug}.")]:
        raise ValueError(f"{path.name}: ids must start with '{slug}.', got {foreign}")
    for name in ("prerequisites", "data"):
        data[name] = tuple(data.get(name, ()))
    try:
        return Article(slug=slug, rows=rows, **data)
    except TypeError as error:  # a field is missing or unknown
        raise ValueError(f"{path.name}: {error}") from error


def _row(file: str, entry: dict[str, Any]) -> Row:
    try:
        return Row(**entry)
    except TypeError as error:
        raise ValueError(f"{file}, row {entry.get('id', '?')}: {error}") from error


def counted(number: int, sort: Sort) -> str:
    """For example "7 claims"."""
    return f"{number} {SORT_NAMES[sort][number != 1]}"


def row(row_id: str) -> Row:
    """The row with this id. Raises ValueError where there is none."""
    for candidate in load(row_id.partition(".")[0]).rows:
        if candidate.id == row_id:
            return candidate
    raise ValueError(f"the ledger has no row {row_id!r}: add it to ledger/{row_id.partition('.')[0]}.toml")


def outcome_of(holds: object, restricted: object = False, reached: object = True) -> Outcome:
    """The outcome that the truth values stand for.

    Args:
        holds: True if the statement holds as the article makes it, False if not, None if the
            experiment could not decide.
        restricted: whether it holds under the restriction that the row states; only read where
            `holds` is False.
        reached: whether the better of the compared models beats the trivial baseline. Where it does
            not, the comparison says nothing of the claim, and the other values are not read.
    """
    if not _truth("reached", reached):
        return "unreached"
    if holds is None:
        return "open"
    if _truth("holds", holds):
        return "holds"
    return "restricted" if _truth("restricted", restricted) else "refuted"


def verdict(
    row_id: str,
    holds: object,
    *,
    restricted: object = False,
    reached: object = True,
    measured: Mapping[str, SupportsFloat | str | Interval] | None = None,
    bound: float | None = None,
) -> None:
    """Show what the code found about a row, and stop where the ledger expects something else.

    Args:
        row_id: the row, for example "smoothing.eq2".
        holds: computed; True if the statement holds as the article makes it, False if not, None if
            the experiment could not decide.
        restricted: computed; whether the statement holds under the restriction that the row states.
        reached: computed; whether the better of the compared models beats the trivial baseline, without
            which the comparison would say nothing of the claim.
        measured: the numbers behind it, by name, the decisive one first, which is shown beside the verdict;
            the others unfold. Not compared by tests.
        bound: what the first number was compared with, if that is an interval: where the bound lies
            in it, the verdict can only be open or unreached.

    Raises:
        VerdictError: the outcome is not the one in the row.
        ValueError: no such row; a measured value that is not finite; a verdict although the interval
            contains the bound; a bound without an interval.
        TypeError: `holds`, `restricted` or `reached` is not a truth value.
    """
    entry = row(row_id)
    outcome = outcome_of(holds, restricted, reached)
    if bound is not None:
        first = next(iter((measured or {}).values()), None)
        if not isinstance(first, Interval):
            raise ValueError(f"measured must begin with an Interval where there is a bound, got {first!r}")
        if first.beyond(bound) is None and outcome not in ("open", "unreached"):
            raise ValueError(
                f"holds must be None where the interval {first:.4g} contains {bound}, got {holds!r}"
            )
    values = {name: _plain(name, value) for name, value in (measured or {}).items()}
    if outcome != entry.expected:
        raise VerdictError(_explain(entry, outcome, values))
    _show(entry, outcome, values)


def _truth(name: str, value: object) -> bool:
    # bool, numpy.bool and one-element tensors of truth values, but no numbers and no strings
    if isinstance(value, bool):
        return value
    if str(getattr(value, "dtype", "")) in ("bool", "torch.bool") and getattr(value, "ndim", 1) == 0:
        return bool(value)
    raise TypeError(f"{name} must be a single truth value, got {value!r}")


def _plain(name: str, value: SupportsFloat | str | Interval) -> float | int | str:
    if isinstance(value, str):
        return value
    if isinstance(value, Interval):
        if not all(math.isfinite(part) for part in value):
            raise ValueError(f"measured[{name!r}] must be finite, got {value}")
        return _interval(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if getattr(value, "ndim", 0) > 0:
        raise TypeError(f"measured[{name!r}] must be a single number, got {value!r}")
    number = float(value.detach() if hasattr(value, "detach") else value)  # a tensor may carry a gradient
    if not math.isfinite(number):
        raise ValueError(f"measured[{name!r}] must be finite, got {number}")
    return float(f"{number:.4g}")


def _interval(value: Interval) -> str:
    """With two digits of the half width: "2.15 (1.74 to 2.55)"."""
    half = (value.high - value.low) / 2
    digits = 3 if half == 0 else max(0, 1 - math.floor(math.log10(half)))
    return f"{Interval(*(round(float(part), digits) + 0.0 for part in value)):.{digits}f}"


_DEFAULT_WHY = {"holds": "it is expected to hold without restriction", "untested": "nobody has tried it yet"}


def _explain(entry: Row, outcome: Outcome, values: Mapping[str, Any]) -> str:
    lines = [
        f"{entry.id} came out as '{outcome}', but its row in the ledger says '{entry.expected}'.",
        f"  The statement ({entry.place}): {entry.statement}",
        f"  Why the row says so: {entry.why or _DEFAULT_WHY.get(entry.expected)}",
        *(f"  measured: {name} = {value}" for name, value in values.items()),
        "If you changed the experiment, this is its new result: look at the numbers before you change",
        f"the row in ledger/{entry.id.partition('.')[0]}.toml. If you changed nothing, please report it.",
    ]
    return "\n".join(lines)


def _show(entry: Row, outcome: Outcome, values: Mapping[str, Any]) -> None:
    text = f"{entry.id}: {outcome}"
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        print(text, dict(values) if values else "")
        return
    data = {
        "text/plain": text,
        "text/html": box(entry, outcome, values),
        # a list, since notebooks sort the keys of a mapping, and the numbers would lose their order
        MIME_TYPE: {"id": entry.id, "verdict": outcome, "measured": [list(pair) for pair in values.items()]},
    }
    display(data, raw=True)


def box(entry: Row, outcome: Outcome, values: Mapping[str, Any]) -> str:
    """The verdict as HTML: a sentence and a number; what else there is unfolds.

    nbval's sanitiser removes the spans `measured` before it compares.
    """
    badge = (
        f'<span style="background:{_COLOURS[outcome]};color:#fff;border-radius:3px;padding:.1em .5em;'
        f'font-weight:600;white-space:nowrap">{SYMBOLS[outcome]} {outcome}</span>'
    )
    shown = [f"{html.escape(name)} = {html.escape(_text(value))}" for name, value in values.items()]
    number = f'<div><span class="measured">{shown[0]}</span></div>' if shown else ""
    more = [
        f"<div>{name}{_mathematics(text)}</div>"
        for name, text in (
            ("", entry.why),
            ("Ours: ", entry.ours),
            ("Rule: ", entry.rule),
            ("Entry: ", entry.entry),
        )
        if text
    ]
    if shown[1:]:
        more.append(f'<div><span class="measured">{"; ".join(shown[1:])}</span></div>')
    details = f"<details><summary>More</summary>{''.join(more)}</details>" if more else ""
    return (
        f'<div class="kexue-verdict tex2jax_process mathjax_process" data-row="{html.escape(entry.id)}" '
        f'style="border-left:4px solid {_COLOURS[outcome]};padding:.3em .8em;margin:.4em 0">'
        f"<div>{badge} {_mathematics(entry.statement)} <strong>{html.escape(entry.id)}</strong></div>"
        f"{number}{details}</div>"
    )


def _mathematics(text: str) -> str:
    """HTML of a statement, with $...$ as MathJax's \\(...\\)."""
    return re.sub(r"\$(.+?)\$", r"\\(\1\\)", html.escape(text, quote=False))


def _text(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
