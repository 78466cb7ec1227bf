"""Execute chapters.

    python tools/execute.py book DIR    every chapter, into a copy of the book's sources in DIR
    python tools/execute.py run SLUG    one chapter; its outputs go into chapters/SLUG.ipynb

`book` runs the chapters in parallel and keeps what is up to date, so that it goes on where it was
interrupted, and after a change of prose executes nothing. It does not touch committed files. What is
executed is the script, chapters/SLUG.py.
"""

import argparse
import ast
import copy
import hashlib
import os
import re
import shutil
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path

import imports
import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from kexue.book.status import here

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
TIMEOUT = 600  # seconds for a cell
TAGS_THAT_MATTER = {"gpu", "raises-exception"}  # and skip-execution: such cells are left out
# What the pages of the book are made from
BOOK_SOURCES = (
    "_config.yml",
    "_static",
    "_toc.yml",
    "chapters",
    "ledger",
    "pages",
    "pyproject.toml",
    "src",
    "tests",
)


class ChapterError(Exception):
    """A chapter stopped; the message says where and why."""


def slugs() -> list[str]:
    """The chapters that there are; a learner's own notebooks in the folder are none."""
    return sorted(path.stem for path in CHAPTERS.glob("*.py"))


def fingerprint(slug: str) -> str:
    """The key of a chapter's outputs: they are up to date while it stays the same.

    The one place where the project decides that; `make test` asks no key and executes everything. What
    counts: the code and the tags of the cells that are executed, in their order; the modules of ours that
    they import, at any remove; the package's files that are no code; the recorded runs and the rows of
    the ledger that they name; the locked versions, those that are installed, and Python's. Downloaded
    data count by the hashes that stand in the package. Where a name cannot be read off the code, all
    that it could mean counts.

    Prose does not count, nor how a cell is shown. (So the reading time in a chapter's head, which is that
    of its text in steps of five minutes, is from when the chapter was executed.)
    """
    code = [
        (cell.source, sorted(TAGS_THAT_MATTER & _tags(cell))) for cell in executed_cells(read_script(slug))
    ]
    own = parsed([source for source, _ in code])
    modules = {file: ast.parse(file.read_text("utf-8")) for file in imported_files(own)}
    ids = imports.strings(own)
    files = {
        *modules,
        *(path for path in _files(ROOT / "src" / "kexue") if path.suffix not in (".py", ".pyc")),
        *(path for run in runs_named([*own, *modules.values()]) for path in _files(run)),
        *(
            rows
            for rows in ROOT.glob("ledger/*.toml")
            if rows.stem == slug or any(name.startswith(f"{rows.stem}.") for name in ids)
        ),
        ROOT / "constraints.txt",
    }
    digest = hashlib.sha256(repr((sys.version, installed_versions(), code)).encode())
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()


@cache
def installed_versions() -> list[str]:
    """Of all distributions: what a chapter's libraries import in turn, nobody can say."""
    return sorted({f"{one.name}=={one.version}" for one in metadata.distributions()})


def executed_cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells that are executed, which are all but those for a GPU."""
    return [cell for cell in nb.cells if cell.cell_type == "code" and "skip-execution" not in _tags(cell)]


def parsed(cells: list[str]) -> list[ast.Module]:
    """The trees of cells, in which IPython's commands (%run, !ls) are calls."""
    return [ast.parse(TransformerManager().transform_cell(source)) for source in cells]


def _tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def imported_files(code: list[ast.Module]) -> set[Path]:
    """The files of ours that the code imports, at any remove; also the experiments whose runs it reads."""
    found = imports.imported(code, [ROOT / "src"])
    while True:
        modules = [ast.parse(path.read_text("utf-8")) for path in sorted(found)]
        more = found | imports.imported(imports.experiments(runs_named([*code, *modules])), [ROOT / "src"])
        if more == found:
            return found
        found = more


def runs_named(code: list[ast.Module]) -> set[Path]:
    """The folders of the recorded runs that code may read: those whose name is one of its strings.

    An f-string that `recorded` is given names all that it can stand for, a variable names all there are; but
    what a function was given is named by who calls it.
    """
    patterns = {re.escape(name) for name in imports.strings(code)}
    for tree in code:
        given = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and node.id in {one.arg for one in function.args.args}
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) == "recorded":
                argument = next(iter([*node.args, *(word.value for word in node.keywords)]), None)
                if id(argument) in given:
                    continue
                if isinstance(argument, ast.JoinedStr):
                    parts = argument.values
                    patterns.add(
                        "".join(
                            re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*" for p in parts
                        )
                    )
                elif not isinstance(argument, ast.Constant):
                    patterns.add(".*")
    matching = re.compile("|".join(patterns) or "(?!)")
    return {run for run in ROOT.glob("runs/*") if run.is_dir() and matching.fullmatch(run.name)}


def _called(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def with_outputs(nb: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the outputs of an earlier execution of the same code."""
    nb = copy.deepcopy(nb)
    nb.metadata = executed.metadata
    for cell, done in zip(executed_cells(nb), executed_cells(executed), strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    return nb


def read_script(slug: str) -> nbformat.NotebookNode:
    """The script as a notebook without outputs. A cell that its pair holds as well keeps its id."""
    nb = jupytext.read(CHAPTERS / f"{slug}.py", as_version=4)
    pair = CHAPTERS / f"{slug}.ipynb"
    if pair.is_file():
        ids: dict[str, list[str]] = {}
        for cell in jupytext.read(pair).cells:
            ids.setdefault(cell.source, []).append(cell.id)
        for cell in nb.cells:
            if known := ids.get(cell.source):
                cell["id"] = known.pop(0)
    nb.metadata.pop("jupytext", None)
    return nb


def script_of(nb: nbformat.NotebookNode) -> str:
    """The text of a notebook's paired .py, under the filters of chapters/jupytext.toml."""
    nb = copy.deepcopy(nb)
    nb.metadata["jupytext"] = tomllib.loads((CHAPTERS / "jupytext.toml").read_text("utf-8"))
    text = jupytext.writes(nb, fmt="py:percent")
    # the filters are those of the folder and need not stand in each file
    return re.sub(r"#   jupytext:\n(#     .*\n)+", "", text, count=1)


def execute(slug: str, nb: nbformat.NotebookNode, threads: int, position: int = 0) -> nbformat.NotebookNode:
    """The notebook with fresh outputs. Cells tagged skip-execution (those for a GPU) are left alone.

    Raises ChapterError when a cell fails, takes too long, or ends the kernel.
    """
    nb = copy.deepcopy(nb)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    with tqdm(
        total=len(nb.cells), desc=f"{slug:<12}", unit="cell", position=position, leave=False, disable=None
    ) as bar:
        client = NotebookClient(
            nb,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(CHAPTERS)}},
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            on_cell_complete=lambda **_: bar.update(),
        )
        try:
            client.execute(env=environment)
        except (CellExecutionError, CellTimeoutError, DeadKernelError, CellControlSignal) as error:
            raise ChapterError(f"{slug}: {error}") from error
    nb.metadata["kexue"] = here()  # for the page of the status; the pair's script has none of it
    return nb


def book(directory: Path) -> int:
    """Execute every chapter into a copy of the book's sources; 1 if any of them fails."""
    source, store = directory / "source", directory / "executed"
    copy_sources(source)
    store.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    workers = max(1, min(len(slugs()), cores))
    pool = ThreadPoolExecutor(workers)
    jobs = {
        slug: pool.submit(_chapter, slug, store, source / "chapters", max(1, cores // workers), i % workers)
        for i, slug in enumerate(slugs())
    }
    try:
        failed = [message for job in jobs.values() if (message := job.result())]
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        print(
            "\nInterrupted. What was finished is kept: the same command goes on from there.", file=sys.stderr
        )
        sys.stderr.flush()
        os._exit(130)  # the kernels see that their parent is gone and end
    pool.shutdown()
    for message in failed:
        print(f"\n{message}", file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of {len(jobs)} chapters failed; see above.", file=sys.stderr)
        return 1
    return 0


def _chapter(slug: str, store: Path, pages: Path, threads: int, position: int) -> str:
    """Write the executed chapter into `pages`; outputs that are up to date are taken from the store."""
    kept, stamp = store / f"{slug}.ipynb", store / f"{slug}.sha256"
    key, nb = fingerprint(slug), read_script(slug)
    if kept.is_file() and stamp.is_file() and stamp.read_text() == key:
        nbformat.write(with_outputs(nb, nbformat.read(kept, as_version=4)), pages / f"{slug}.ipynb")
        tqdm.write(f"{slug:<12} up to date")
        return ""
    start = time.perf_counter()
    try:
        nb = execute(slug, nb, threads, position)
    except ChapterError as error:
        return str(error)
    stamp.unlink(missing_ok=True)  # first and last, so that an interruption leaves none
    nbformat.write(nb, kept)
    stamp.write_text(key)
    nbformat.write(nb, pages / f"{slug}.ipynb")
    tqdm.write(f"{slug:<12} {len(nb.cells)} cells in {time.perf_counter() - start:.0f} s")
    return ""


def copy_sources(target: Path) -> None:
    """Copy what the pages are made from; the built pages never come from a half-updated tree."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in BOOK_SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=ignore)
        else:
            shutil.copyfile(path, target / name)


def run(slug: str) -> int:
    """Execute one chapter from its .py, write its outputs back, and both in their canonical form."""
    if slug not in slugs():
        print(f"SLUG must be one of {', '.join(slugs())}; got {slug!r}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    try:
        done = execute(slug, read_script(slug), threads=os.cpu_count() or 1)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    nbformat.write(done, CHAPTERS / f"{slug}.ipynb")
    (CHAPTERS / f"{slug}.py").write_text(script_of(done), "utf-8")
    print(f"{slug}: {len(done.cells)} cells in {time.perf_counter() - start:.0f} s, written to {slug}.ipynb")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("book").add_argument("directory", type=Path)
    commands.add_parser("run").add_argument("slug")
    arguments = parser.parse_args()
    if arguments.command == "book":
        return book(arguments.directory)
    return run(arguments.slug)


if __name__ == "__main__":
    sys.exit(main())
