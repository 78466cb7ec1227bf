"""Execute chapters.

    python tools/execute.py book DIR    every chapter, into a copy of the book's sources in DIR
    python tools/execute.py run SLUG    one chapter; its outputs go into chapters/SLUG.ipynb

`book` runs the chapters in parallel and keeps what is up to date, so that it goes on where it was
interrupted. It does not touch committed files.
"""

import argparse
import copy
import hashlib
import os
import re
import shutil
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
TIMEOUT = 600  # seconds for a cell
# What the pages of the book are made from
BOOK_SOURCES = ("_static", "chapters", "ledger", "src", "tests", "ledger.json", "pyproject.toml")
BOOK_PATTERNS = ("_*.yml", "*.md", "*.bib")


class ChapterError(Exception):
    """A chapter stopped; the message says where and why."""


def fingerprint(notebook: Path) -> str:
    """Changes when the chapter, the package, the ledger or the locked versions do."""
    digest = hashlib.sha256(sys.version.encode())
    files = [*ROOT.glob("src/kexue/*.py"), *ROOT.glob("ledger/*.toml"), ROOT / "constraints.txt"]
    for file in [notebook.with_suffix(".py"), *sorted(files)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def execute(notebook: Path, threads: int, position: int = 0) -> nbformat.NotebookNode:
    """The notebook with fresh outputs. Cells tagged skip-execution (those for a GPU) are left alone.

    Raises ChapterError when a cell fails.
    """
    nb = jupytext.read(notebook)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    with tqdm(
        total=len(nb.cells),
        desc=f"{notebook.stem:<12}",
        unit="cell",
        position=position,
        leave=False,
        disable=None,
    ) as bar:
        client = NotebookClient(
            nb,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(notebook.parent)}},
            record_timing=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            on_cell_complete=lambda **_: bar.update(),
        )
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            raise ChapterError(f"{notebook.stem}: {error}") from error
    return nb


def book(directory: Path) -> int:
    """Execute every chapter into a copy of the book's sources; 1 if any of them fails."""
    source, store = directory / "source", directory / "executed"
    copy_sources(source)
    store.mkdir(parents=True, exist_ok=True)
    notebooks = sorted(CHAPTERS.glob("*.ipynb"))
    workers = max(1, min(len(notebooks), os.cpu_count() or 1))
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ThreadPoolExecutor(workers) as pool:
        failed = [
            message
            for message in pool.map(
                lambda job: _chapter(job[1], store, threads, job[0] % workers), enumerate(notebooks)
            )
            if message
        ]
    for message in failed:
        print(f"\n{message}", file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of {len(notebooks)} chapters failed; see above.", file=sys.stderr)
        return 1
    for notebook in notebooks:
        shutil.copyfile(store / notebook.name, source / "chapters" / notebook.name)
    return 0


def _chapter(notebook: Path, store: Path, threads: int, position: int) -> str:
    target, stamp = store / notebook.name, store / f"{notebook.stem}.sha256"
    key = fingerprint(notebook)
    if target.is_file() and stamp.is_file() and stamp.read_text() == key:
        tqdm.write(f"{notebook.stem:<12} up to date")
        return ""
    start = time.perf_counter()
    try:
        nb = execute(notebook, threads, position)
    except ChapterError as error:
        return str(error)
    nbformat.write(nb, target)
    stamp.write_text(key)  # last, so that an interruption leaves no stamp
    tqdm.write(f"{notebook.stem:<12} {len(nb.cells)} cells in {time.perf_counter() - start:.0f} s")
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
    for pattern in BOOK_PATTERNS:
        for path in ROOT.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, target / path.name)


def script_of(nb: nbformat.NotebookNode) -> str:
    """The text of a notebook's paired .py, under the filters of chapters/jupytext.toml."""
    nb = copy.deepcopy(nb)
    nb.metadata["jupytext"] = tomllib.loads((CHAPTERS / "jupytext.toml").read_text("utf-8"))
    del nb.metadata["jupytext"]["formats"]
    text = jupytext.writes(nb, fmt="py:percent")
    # the filters are those of the folder and need not stand in each file
    return re.sub(r"#   jupytext:\n(#     .*\n)+", "", text, count=1)


def run(slug: str) -> int:
    """Execute one chapter from its .py, write its outputs back, and both in their canonical form."""
    script, notebook = CHAPTERS / f"{slug}.py", CHAPTERS / f"{slug}.ipynb"
    if not script.is_file():
        known = ", ".join(sorted(path.stem for path in CHAPTERS.glob("*.py")))
        print(f"SLUG must be one of {known}; got {slug!r}", file=sys.stderr)
        return 2
    old = jupytext.read(notebook) if notebook.is_file() else None
    nb = jupytext.read(script, as_version=4)
    if old is not None:  # keep the ids of cells that did not change: small diffs
        ids = {cell.source: cell.id for cell in reversed(old.cells)}
        used: set[str] = set()
        for cell in nb.cells:
            if (known_id := ids.get(cell.source)) and known_id not in used:
                cell["id"] = known_id
            used.add(cell.id)
    fresh = notebook.with_suffix(".tmp.ipynb")
    try:
        nbformat.write(nb, fresh)
        start = time.perf_counter()
        done = execute(fresh, threads=os.cpu_count() or 1)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        fresh.unlink(missing_ok=True)
    done.metadata.pop("jupytext", None)
    nbformat.write(done, notebook)
    script.write_text(script_of(done), "utf-8")
    print(
        f"{slug}: {len(done.cells)} cells in {time.perf_counter() - start:.0f} s, written to {notebook.name}"
    )
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
