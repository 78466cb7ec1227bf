"""What a script's results can depend on: its code, that of all it imports, and the packages they use.

Read from the text: nothing is executed. Standard library only.
"""

import ast
import importlib.metadata
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def code(text: str) -> str:
    """A module's text without comments, docstrings and empty lines: what can change a result."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    kept, dropped = set[int](), set[int]()  # rows: of strings, in which empty lines count, and of docstrings
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.Expr | ast.Constant | ast.JoinedStr):
            rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if not isinstance(node, ast.Expr):
                kept |= set(rows)
            # as a statement a string does nothing, be it a module's, a function's or an attribute's
            elif _is_string(node.value) and lines[node.lineno - 1].lstrip().startswith(_QUOTES):
                dropped |= set(rows)
    return "\n".join(
        line
        for row, line in enumerate(lines, start=1)
        if row not in dropped and (line.strip() or row in kept)
    )


_QUOTES = ('"', "'", 'r"', "r'")


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _names(path: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names of everything that a module imports, also inside functions; `package` is its own."""
    for node in ast.walk(_tree(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = (*above, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


def imported(script: Path, folders: Iterable[Path]) -> list[Path]:
    """The script, and every module below one of the folders that it imports, directly or not; sorted.

    Folders are those that Python would search: "src", for a package in it, and the script's own. What
    is imported inside a function counts, as do the packages on the way (`__init__.py`).
    """
    folders, found = list(folders), set[Path]()
    waiting: list[tuple[Path, tuple[str, ...]]] = [(script, ())]
    while waiting:
        path, package = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _names(path, package):
            for folder in folders:
                for length in range(1, len(name) + 1):
                    place = folder.joinpath(*name[:length])
                    if (place / "__init__.py").is_file():
                        waiting.append((place / "__init__.py", name[:length]))
                    elif place.with_suffix(".py").is_file():
                        waiting.append((place.with_suffix(".py"), name[: length - 1]))
    return sorted(found)


def strings(paths: Iterable[Path]) -> set[str]:
    """All strings that stand in these modules: names of files, of recorded runs, of packages with data."""
    return {
        node.value
        for path in paths
        for node in ast.walk(_tree(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def locked(paths: Iterable[Path], constraints: Path) -> list[str]:
    """The lines of constraints.txt of the packages that these modules import or name in a string; sorted."""
    paths = list(paths)
    used = strings(paths) | {name[0] for path in paths for name in _names(path, ("",) * 9)}
    distributions = _distributions()
    names = {re.sub(r"[-_.]+", "-", d).lower() for name in used for d in distributions.get(name, [name])}
    lines = constraints.read_text("utf-8").splitlines()
    return sorted(line for line in lines if re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() in names)


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
