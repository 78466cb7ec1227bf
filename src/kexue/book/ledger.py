"""The ledger: what each article says, and what the code found.

`ledger/<slug>.toml` holds the rows. A chapter's cell calls `verdict` with a computed truth value; a
test carries `@pytest.mark.verifies("<id>")`. `make ledger` joins the three into the page `ledger.md`
(tools/ledger_page.py).
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

__all__ = [
    "KINDS",
    "MIME_TYPE",
    "OUTCOMES",
    "OUTCOME_VERBS",
    "SORTS",
    "SORT_NAMES",
    "SYMBOLS",
    "Article",
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

# What the article defines or derives, what it says of the world, and what is ours, beyond the article.
Kind = Literal["definition", "identity", "bound", "limit", "algorithm", "claim", "addition"]
Outcome = Literal["holds", "restricted", "refuted", "open", "unreached"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
KINDS: tuple[Kind, ...] = get_args(Kind)
# Never mixed in a count: what an article says of the world, which an experiment decides; what it defines
# or derives, which mathematics decides; and what is ours, beyond the article.
Sort = Literal["claim", "addition", "equation"]
SORTS: tuple[Sort, ...] = get_args(Sort)
SORT_NAMES: dict[Sort, tuple[str, str]] = {
    "claim": ("claim", "claims"),
    "equation": ("equation, definition or algorithm", "equations, definitions and algorithms"),
    "addition": ("addition of ours", "additions of ours"),
}

# "17 hold, 4 restricted"
OUTCOME_VERBS = {
    "holds": "hold",
    "restricted": "restricted",
    "refuted": "refuted",
    "open": "open",
    "unreached": "unreached",
}

MIME_TYPE = "application/vnd.kexue.verdict+json"

SYMBOLS: dict[Outcome, str] = {"holds": "✓", "restricted": "◐", "refuted": "✗", "open": "?", "unreached": "–"}
# Each has at least 4.5:1 contrast with white text.
_COLOURS: dict[Outcome, str] = {
    "holds": "#1b6e4b",
    "restricted": "#8a5a00",
    "refuted": "#a8322d",
    "open": "#5a5f66",
    "unreached": "#5b4a8a",
}


class VerdictError(AssertionError):
    """A computed verdict is not the one that the ledger's row expects."""


@dataclass(frozen=True)
class Row:
    """One row: an equation, an algorithm or a claim of the article."""

    id: str
    kind: Kind
    place: str
    statement: str
    expected: Outcome
    why: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind of {self.id} must be one of {KINDS}, got {self.kind!r}")
        if self.expected not in OUTCOMES:
            raise ValueError(f"expected of {self.id} must be one of {OUTCOMES}, got {self.expected!r}")
        if self.expected != "holds" and not self.why:
            raise ValueError(f"{self.id} is {self.expected}: its row must say why")

    @property
    def sort(self) -> Sort:
        return self.kind if self.kind in ("claim", "addition") else "equation"


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
    known = sorted(file.stem for file in (folder or ledger_folder()).glob("*.toml"))
    if slug not in known:
        raise ValueError(f"slug must be one of {known}, got {slug!r}")
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
    measured: Mapping[str, SupportsFloat | str] | None = None,
) -> None:
    """Show what the code found about a row, and stop where the ledger expects something else.

    Args:
        row_id: the row, for example "smoothing.eq2".
        holds: computed; True if the statement holds as the article makes it, False if not, None if
            the experiment could not decide.
        restricted: computed; whether the statement holds under the restriction that the row states.
        reached: computed; whether the better of the compared models beats the trivial baseline, without
            which the comparison would say nothing of the claim.
        measured: the numbers behind it, by name; shown beside the verdict, not compared by tests.

    Raises:
        VerdictError: the outcome is not the one in the row.
        ValueError: no such row, or a measured value that is not finite.
        TypeError: `holds`, `restricted` or `reached` is not a truth value.
    """
    entry = row(row_id)
    outcome = outcome_of(holds, restricted, reached)
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


def _plain(name: str, value: SupportsFloat | str) -> float | int | str:
    if isinstance(value, str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if getattr(value, "ndim", 0) > 0:
        raise TypeError(f"measured[{name!r}] must be a single number, got {value!r}")
    number = float(value.detach() if hasattr(value, "detach") else value)  # a tensor may carry a gradient
    if not math.isfinite(number):
        raise ValueError(f"measured[{name!r}] must be finite, got {number}")
    return float(f"{number:.4g}")


def _explain(entry: Row, outcome: Outcome, values: Mapping[str, Any]) -> str:
    lines = [
        f"{entry.id} came out as '{outcome}', but its row in the ledger says '{entry.expected}'.",
        f"  The statement ({entry.place}): {entry.statement}",
        f"  Why the row says so: {entry.why or 'it is expected to hold without restriction'}",
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
    """The verdict as HTML. nbval's sanitiser removes the span `measured` before it compares."""
    badge = (
        f'<span style="background:{_COLOURS[outcome]};color:#fff;border-radius:3px;padding:.1em .5em;'
        f'font-weight:600;white-space:nowrap">{SYMBOLS[outcome]} {outcome}</span>'
    )
    why = f"<div><em>{_mathematics(entry.why)}</em></div>" if entry.why else ""
    numbers = "; ".join(
        f"{html.escape(name)} = {html.escape(_text(value))}" for name, value in values.items()
    )
    measured = f'<span class="measured">Measured: {numbers}</span>' if numbers else ""
    return (
        f'<div class="kexue-verdict tex2jax_process mathjax_process" data-row="{html.escape(entry.id)}" '
        f'style="border-left:4px solid {_COLOURS[outcome]};padding:.3em .8em;margin:.4em 0">'
        f"<div>{badge} <strong>{html.escape(entry.id)}</strong></div>"
        f"<div>{_mathematics(entry.statement)}</div>{why}{measured}</div>"
    )


def _mathematics(text: str) -> str:
    """HTML of a statement, with $...$ as MathJax's \\(...\\)."""
    return re.sub(r"\$(.+?)\$", r"\\(\1\\)", html.escape(text, quote=False))


def _text(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
