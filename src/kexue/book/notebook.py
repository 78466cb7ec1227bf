"""What every chapter does at its head and at its end, and how it shows the package's code."""

import ast
import inspect
import math
import os
import platform
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.display import Markdown, display
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from kexue.book import ledger
from kexue.data import SOURCES
from kexue.runs import processor
from kexue.runs.statistics import false_alarms, mean_interval

__all__ = [
    "alarms",
    "card",
    "decided",
    "reading_minutes",
    "relative_times",
    "seconds",
    "setup",
    "source",
    "table",
]

_started: dict[str, float] = {}

_WORDS_PER_MINUTE = 180  # technical prose; a formula or a line of code counts as its words
_PACKAGES = ("kexue", "torch", "numpy", "matplotlib", "scikit-learn", "plotly")


def setup(slug: str, seed: int = 0, threads: int = 1) -> torch.Generator:
    """Prepare a chapter and show its head: what it checks, how long it takes, what it needs.

    Seeds torch's global generator, demands deterministic algorithms, sets the style of the figures
    and the number of threads of all libraries (at most OMP_NUM_THREADS, where that is set). Small
    tensors run as fast on one thread, and much faster beside other programs. Returns a generator with
    the same seed for the cells to draw from.

    Raises ValueError for a slug without a ledger.
    """
    from kexue.book import plotting

    article = ledger.load(slug)
    _started[slug] = time.perf_counter()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA needs to be deterministic
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    threads = min(threads, int(os.environ.get("OMP_NUM_THREADS", threads)))
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # of what else is loaded: NumPy, scikit-learn
    plotting.use_style()
    display(Markdown(_head(article)))
    return torch.Generator().manual_seed(seed)


def source(*objects: Callable[..., object] | type) -> None:
    """Show functions or classes as they stand in the package; of each docstring, the first line."""
    blocks = []
    for item in objects:
        module = inspect.getmodule(item)
        assert module is not None
        path = f"src/{module.__name__.replace('.', '/')}.py"
        blocks.append(f"```python\n# {path}\n{_without_long_docstrings(inspect.getsource(item))}```")
    display(Markdown("\n\n".join(blocks)))


def table(rows: Iterable[Mapping[str, object]]) -> None:
    """Show a table of results: one mapping a row, by column; numbers have two digits after the point.

    Raises ValueError for no rows, or rows with other columns than the first.
    """
    listed = [dict(row) for row in rows]
    if not listed:
        raise ValueError("rows must hold at least one, got none")
    columns = list(listed[0])
    if others := [list(row) for row in listed if list(row) != columns]:
        raise ValueError(f"rows must all have the columns {columns}, got {others[0]}")
    aligned = ["---" if isinstance(value, str) else "--:" for value in listed[0].values()]
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(aligned) + "|"]
    for row in listed:
        cells = (value if isinstance(value, str) else f"{value:.2f}" for value in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    display(Markdown("\n".join(lines)))


def decided(sides: Iterable[bool | None], refuted: Callable[[Iterable[bool]], bool] = all) -> bool | None:
    """What a rule says for which every side counts: `verdict(…, holds=decided(…))`.

    True where all sides are True. False where all are False; with `refuted=any`, where one is. Else None.

    Args:
        sides: on which side of its bound each interval lies, as `Interval.beyond` and `within` say it.
        refuted: `all` or `any`: how many sides must be False.

    Raises ValueError for no sides.
    """
    listed = list(sides)
    if not listed:
        raise ValueError("sides must hold at least one, got none")
    if all(listed):
        return True
    return False if refuted(side is False for side in listed) else None


def alarms(differences: Mapping[str, tuple[ArrayLike, float]], draws: int = 2000) -> None:
    """Show how often the 95 % interval of a mean excludes 0, by simulation with the observed spread.

    Columns: *false*, how often if there were no effect; *power*, how often it lies above 0 at an effect;
    *at*, the size of that effect.

    Args:
        differences: those of the runs, (runs,), and the effect, by the name of the rule.
        draws: simulated experiments.
    """
    rows = []
    for name, (values, effect) in differences.items():
        d = np.asarray(values)
        rule = false_alarms(lambda d: mean_interval(d).beyond(), d.std(ddof=1), len(d), effect, draws)
        shares = {"false": f"{rule.holds + rule.refuted:.1%}", "power": f"{rule.power:.0%}"}
        rows.append({"rule": name} | shares | {"at": f"{effect:g}"})
    table(rows)


def relative_times(
    function: Callable[[Any, Any], object],
    methods: Mapping[str, Any],
    inputs: Sequence[Any],
    rounds: int = 10,
) -> dict[str, list[float]]:
    """How long function(method, input) takes for each method, by input, over what the first method takes."""
    taken = {
        name: [seconds(function, method, one, rounds=rounds) for one in inputs]
        for name, method in methods.items()
    }
    first = next(iter(taken.values()))
    return {name: [a / b for a, b in zip(times, first, strict=True)] for name, times in taken.items()}


def seconds(function: Callable[..., object], *args: object, rounds: int = 3) -> float:
    """How long a call takes, the best of some; to be shown as a ratio to another one of the same run."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        function(*args)
        taken.append(time.perf_counter() - start)
    return min(taken)


def card(slug: str, sizes: Mapping[str, object], seed: int = 0) -> None:
    """Show the chapter's card: data, seeds, sizes, times, hardware and versions of this run."""
    article = ledger.load(slug)
    lines = {
        "Data": "; ".join(
            f"[{s.title}]({s.url}), {s.size}, {s.licence}" for s in map(SOURCES.__getitem__, article.data)
        ),
        "Seed": f"{seed}, and what the cells derive from it",
        **{name: str(value) for name, value in sizes.items()},
        "Reading time": f"about {reading_minutes(slug)} min" if _chapter_file(slug) else "unknown",
        "Running time": f"{time.perf_counter() - _started.get(slug, math.nan):.0f} s",
        "Peak memory": _peak_memory(),
        "Hardware": f"{processor()}, {torch.get_num_threads()} threads, {_accelerator()}",
        "Software": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in lines.items())
    display(Markdown(f"| | this run |\n|---|---|\n{table}"))


def reading_minutes(slug: str) -> int:
    """Reading time of a chapter's text and visible code, rounded to 5 minutes."""
    path = _chapter_file(slug)
    if path is None:
        raise FileNotFoundError(f"no chapter {slug}.py in {Path.cwd()}")
    cells = re.split(r"^# %%", path.read_text("utf-8"), flags=re.M)
    read = "".join(cell for cell in cells if not re.search(r"hide-(input|cell)", cell.partition("\n")[0]))
    words = len(re.findall(r"\w+", re.sub(r":::\{dropdown\}.*?:::", "", read, flags=re.S)))
    return max(5, 5 * round(words / _WORDS_PER_MINUTE / 5))


def _chapter_file(slug: str) -> Path | None:
    path = Path.cwd() / f"{slug}.py"  # a notebook's working directory is its folder
    return path if path.is_file() else None


def _head(article: ledger.Article) -> str:
    found = "; ".join(filter(None, (_found(article, sort) for sort in ledger.SORTS)))
    data = "; ".join(f"{SOURCES[name].title} ({SOURCES[name].size})" for name in article.data)
    minutes = f"about {reading_minutes(article.slug)} minutes; " if _chapter_file(article.slug) else ""
    return "\n".join(
        (
            f"- **Article**: 苏剑林, [《{article.title_zh}》]({article.url})"
            f" (*{article.gloss}*), {article.date}",
            f"- **Checked here**: {found}",
            f"- **Reading time**: {minutes}what this page trains, a laptop's processor trains while you wait",
            f"- **You should know**: {', '.join(article.prerequisites)}",
            f"- **Data**: {data}",
            "- **Edition**: the first, which is being revised" if article.edition == 1 else _MARKS,
        )
    )


_MARKS = (
    "- **Marks**: beside an equation’s number ✓ says that tests confirm it, ◐ under a condition, ✗ not; "
    "each leads to its tests. *Restricted* means true under a condition that the article does not state, "
    "*open* tried but undecided, *untested* not tried yet"
)


def _found(article: ledger.Article, sort: ledger.Sort) -> str:
    counts = article.count(sort)
    if not (total := sum(counts.values())):
        return ""
    outcomes = ", ".join(f"{counts[o]} {ledger.OUTCOME_VERBS[o]}" for o in ledger.OUTCOMES if counts[o])
    return f"{ledger.counted(total, sort)} ({outcomes})"


def _without_long_docstrings(code: str) -> str:
    code = textwrap.dedent(code)
    lines = code.splitlines(keepends=True)
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or ast.get_docstring(node) is None:
            continue
        doc = node.body[0]
        assert doc.end_lineno is not None
        first, last = doc.lineno - 1, doc.end_lineno
        if last - first > 1:
            head = lines[first].rstrip()
            lines[first:last] = [f'{head}"""\n', *([""] * (last - first - 1))]
    return "".join(lines)


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "unknown"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30:.1f} GiB"


def _accelerator() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
