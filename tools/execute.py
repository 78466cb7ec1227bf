"""Execute chapters.

    python tools/execute.py book DIR    every chapter, into a copy of the book's sources in DIR
    python tools/execute.py run SLUG    one chapter; its outputs go into chapters/SLUG.ipynb

`book` runs the chapters in parallel and keeps what is up to date, so that it goes on where it was
interrupted. It does not touch committed files. What is executed is the script, chapters/SLUG.py.
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
from nbclient.exceptions import CellControlSignal, CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
TIMEOUT = 600  # seconds for a cell
# What the pages of the book are made from
BOOK_SOURCES = ("_static", "chapters", "ledger", "src", "tests", "ledger.json", "pyproject.toml")
BOOK_PATTERNS = ("_*.yml", "*.md", "*.bib")


class ChapterError(Exception):
    """A chapter stopped; the message says where and why."""


def slugs() -> list[str]:
    """The chapters that there are; a learner's own notebooks in the folder are none."""
    return sorted(path.stem for path in CHAPTERS.glob("*.py"))


def fingerprint(slug: str) -> str:
    """Changes when the chapter, the package, the ledger, the locked versions or Python do."""
    digest = hashlib.sha256(sys.version.encode())
    files = [*ROOT.glob("src/kexue/*.py"), *ROOT.glob("ledger/*.toml"), ROOT / "constraints.txt"]
    for file in [CHAPTERS / f"{slug}.py", *sorted(files)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


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
        slug: pool.submit(_chapter, slug, store, max(1, cores // workers), i % workers)
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
    for slug in jobs:
        shutil.copyfile(store / f"{slug}.ipynb", source / "chapters" / f"{slug}.ipynb")
    return 0


def _chapter(slug: str, store: Path, threads: int, position: int) -> str:
    target, stamp = store / f"{slug}.ipynb", store / f"{slug}.sha256"
    key = fingerprint(slug)
    if target.is_file() and stamp.is_file() and stamp.read_text() == key:
        tqdm.write(f"{slug:<12} up to date")
        return ""
    start = time.perf_counter()
    try:
        nb = execute(slug, read_script(slug), threads, position)
    except ChapterError as error:
        return str(error)
    nbformat.write(nb, target)
    stamp.write_text(key)  # last, so that an interruption leaves no stamp
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
    for pattern in BOOK_PATTERNS:
        for path in ROOT.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, target / path.name)


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
