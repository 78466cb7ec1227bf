"""What a script's results can depend on: its code, that of all it imports, and the packages they use.

Read from the text: nothing is executed. Standard library only.
"""

import ast
import importlib.metadata
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path


@cache
def tree(text: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(text)


def code(text: str) -> str:
    """A module's text without comments, docstrings and empty lines: what can change a result."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    kept, dropped = set[int](), set[int]()  # rows: of strings, in which empty lines count, and of docstrings
    for node in ast.walk(tree(text)):
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


def imported(code: Iterable[ast.Module], roots: Sequence[Path]) -> set[Path]:
    """The files below the roots that the code imports, and that these import, inside functions as well.

    Roots are folders that Python would search. A module of kexue counts that a string names in full; the
    whole package does where code imports what it computes the name of.
    """
    found: set[Path] = set()
    waiting: list[tuple[ast.Module, tuple[str, ...]]] = [(module, ()) for module in code]
    while waiting:
        module, package = waiting.pop()
        for name in _imports(module, package):
            for file, root in _files(name, roots):
                if file not in found:
                    found.add(file)
                    waiting.append((tree(file.read_text("utf-8")), file.relative_to(root).parts[:-1]))
    return found


def _imports(module: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names that code in a package may import; one that ends in `*` stands for all below it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and not (node.args and _is_string(node.args[0])):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield "kexue.*"
    yield from (name for name in strings([module]) if re.fullmatch(r"kexue(\.\w+)+", name))


def _files(name: str, roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """The files that an import of a dotted name executes, each with the root that it was found below."""
    for root in roots:
        place = root
        for part in name.split("."):
            if part == "*":
                yield from ((file, root) for file in place.rglob("*.py"))
                break
            place = place / part
            for file in (place / "__init__.py", place.with_name(f"{part}.py")):
                if file.is_file():
                    yield file, root


def experiments(runs: Iterable[Path]) -> list[ast.Module]:
    """Code that imports what made recorded runs, given by their folders: a run can be asked for its model."""
    names = {
        name
        for run in runs
        for path in (run / "run.json", *run.glob("*/run.json"))
        if path.is_file()
        for name in re.findall(r'"module": "([\w.]+)"', path.read_text("utf-8"))
    }
    return [tree(f"import {name}") for name in sorted(names)]


def strings(code: Iterable[ast.Module]) -> set[str]:
    """All strings that stand in the code: names of files, of recorded runs, of packages with data."""
    return {
        node.value
        for module in code
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def locked(code: Sequence[ast.Module], constraints: Path) -> list[str]:
    """The lines of constraints.txt of the packages that the code imports or names in a string; sorted."""
    used = strings(code) | {name.partition(".")[0] for module in code for name in _imports(module, ("",) * 9)}
    distributions = _distributions()
    names = {_normal(d) for name in used for d in distributions.get(name, [name])}
    lines = constraints.read_text("utf-8").splitlines()
    return sorted(line for line in lines if _normal(line.partition("==")[0]) in names)


def _normal(distribution: str) -> str:
    """One spelling of a distribution's name, in which `_`, `.` and `-` are the same, and capitals too."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
