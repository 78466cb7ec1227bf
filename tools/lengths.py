"""How long the chapters are: `python tools/lengths.py`. DESIGN's targets are to be looked at, not gamed."""

import re
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = {"hide-input", "hide-cell"}


def lengths(path: Path) -> dict[str, float]:
    """Words of prose, lines of code that are visible and hidden, the longest visible cell, verdict cells."""
    words = folded = verdicts = 0
    visible: list[int] = []
    hidden: list[int] = []
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"\$\$.*?\$\$( \([\w-]+\))?|\$[^$]*\$", " x ", cell.source, flags=re.S)
            whole = len(re.findall(r"[\w’'–-]+", text))
            inside = sum(
                len(re.findall(r"[\w’'–-]+", part))
                for part in re.findall(r":::\{dropdown\}.*?:::", text, re.S)
            )
            words, folded = words + whole - inside, folded + inside
        elif cell.cell_type == "code":
            lines = len([line for line in cell.source.splitlines() if line.strip()])
            (hidden if HIDDEN & set(cell.metadata.get("tags", [])) else visible).append(lines)
            verdicts += bool(re.search(r"^verdict\(", cell.source, re.M))
    return {
        "words": words,
        "folded words": folded,
        "visible lines": sum(visible),
        "hidden lines": sum(hidden),
        "longest visible cell": max(visible, default=0),
        "words a visible line": round(words / max(sum(visible), 1), 1),
        "verdict cells": verdicts,
    }


if __name__ == "__main__":
    found = {path.stem: lengths(path) for path in sorted((ROOT / "chapters").glob("*.py"))}
    print(f"{'':10}" + "".join(f"{name:>22}" for name in next(iter(found.values()))))
    for slug, row in found.items():
        print(f"{slug:10}" + "".join(f"{value:>22}" for value in row.values()))
