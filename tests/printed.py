"""The minimal implementation that a chapter prints: its cells with the tag `minimal`."""

from pathlib import Path
from typing import Any

import jupytext

CHAPTERS = Path(__file__).parents[1] / "chapters"


def printed(slug: str, **given: Any) -> dict[str, Any]:
    """The names that the cells define, by executing them; `given` are names that they use."""
    cells = jupytext.read(CHAPTERS / f"{slug}.py").cells
    minimal = [cell.source for cell in cells if "minimal" in cell.metadata.get("tags", [])]
    assert minimal, f"no cell of chapters/{slug}.py has the tag minimal"
    found = dict(given)
    for source in minimal:
        exec(source, found)
    return {name: found[name] for name in found if name not in given and not name.startswith("__")}
