"""tools/execute.py: what it executes, what it knows to be up to date, and what it writes back."""

import re
from pathlib import Path

import execute
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A small root with chapters to execute."""
    for folder in ("chapters", "src/kexue", "ledger", "tests", "_static", "pages"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (
        "constraints.txt",
        "pyproject.toml",
        "_config.yml",
        "_toc.yml",
        "pages/intro.md",
        "pages/references.bib",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / "ledger" / "a.toml").write_text("rows")
    (tmp_path / "src" / "kexue" / "a.py").write_text("code")
    (tmp_path / "chapters" / "jupytext.toml").write_text((ROOT / "chapters" / "jupytext.toml").read_text())
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "CHAPTERS", tmp_path / "chapters")

    def add(name: str, *cells: str | nbformat.NotebookNode) -> Path:
        nb = new_notebook(cells=[new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells])
        nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        path = tmp_path / "chapters" / f"{name}.ipynb"
        nbformat.write(nb, path)
        path.with_suffix(".py").write_text(execute.script_of(nb), "utf-8")
        return path

    return add


def executed_text(tmp_path: Path, name: str) -> str:
    nb = nbformat.read(tmp_path / "build" / "source" / "chapters" / f"{name}.ipynb", as_version=4)
    return nb.cells[-1].outputs[0].text


@pytest.mark.system
def test_book_executes_once_and_continues_after_a_failure(workshop, tmp_path, capsys):
    good = workshop("good", "from pathlib import Path", "print(6 * 7, Path.cwd().name)")
    workshop("bad", "raise RuntimeError('out of tea')")
    workshop("dead", "import os\nos._exit(1)")
    (tmp_path / "chapters" / "scratch.ipynb").write_text("a learner's own notebook")
    before = good.read_bytes()
    assert execute.book(tmp_path / "build") == 1
    captured = capsys.readouterr()
    assert "bad: " in captured.err
    assert "out of tea" in captured.err
    assert "dead: Kernel died" in captured.err
    assert "2 of 3 chapters failed" in captured.err
    assert not (tmp_path / "build" / "executed" / "bad.sha256").exists()
    workshop("bad", "print('mended')")
    workshop("dead", "print('alive')")
    assert execute.book(tmp_path / "build") == 0
    report = capsys.readouterr().out
    assert re.search(r"good +up to date", report)
    assert re.search(r"bad +1 cells in \d+ s", report)
    assert executed_text(tmp_path, "good") == "42 chapters\n"
    assert executed_text(tmp_path, "bad") == "mended\n"
    assert (tmp_path / "build" / "source" / "pages" / "intro.md").read_text() == "pages/intro.md"
    assert good.read_bytes() == before  # committed files are not touched
    script = good.with_suffix(".py")  # what counts is the script
    script.write_text(script.read_text().replace("6 * 7", "6 * 8"))
    assert execute.book(tmp_path / "build") == 0
    assert executed_text(tmp_path, "good") == "48 chapters\n"


def test_an_interrupted_chapter_leaves_no_stamp(workshop, tmp_path, monkeypatch):
    """Not even that of what was kept before: its outputs may be written already."""
    workshop("one", "1")
    monkeypatch.setattr(execute, "execute", lambda slug, nb, *_: nb)
    (tmp_path / "one.sha256").write_text("an old key")
    monkeypatch.setattr(nbformat, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        execute._chapter("one", tmp_path, tmp_path, 1, 0)
    assert not (tmp_path / "one.sha256").exists()


@pytest.mark.system
def test_run_writes_outputs_back_and_keeps_ids(workshop, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    path = workshop("one", "x = 1", "x", "x", "import os\nprint(x, os.environ['OMP_NUM_THREADS'])")
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    script = path.with_suffix(".py")
    script.write_text(script.read_text().replace("print(x,", "print(x + 1,"))
    assert execute.run("one") == 0
    nb = nbformat.read(path, as_version=4)
    assert nb.cells[3].outputs[0].text == "2 3\n"
    assert [cell.id for cell in nb.cells[:3]] == ids[:3]  # also of equal cells
    assert len({cell.id for cell in nb.cells}) == 4
    assert "jupytext" not in nb.metadata
    assert "execution" not in nb.cells[0].metadata  # no times of day
    assert execute.run("none") == 2
    assert "SLUG must be one of one; got 'none'" in capsys.readouterr().err
    script.write_text(script.read_text().replace("print(x + 1,", "print(y,"))
    assert execute.run("one") == 1
    assert "NameError" in capsys.readouterr().err
    monkeypatch.setattr(execute, "TIMEOUT", 1)
    script.write_text("# %%\nimport time\ntime.sleep(60)\n")
    assert execute.run("one") == 1
    assert "timed out" in capsys.readouterr().err


# --- What is up to date ------------------------------------------------------------------------

CELLS = [
    new_markdown_cell("# A chapter"),
    new_code_cell("%matplotlib inline\nfrom kexue import outer\nfrom kexue.face import thing"),
    new_markdown_cell("Prose on unnamed."),
    new_code_cell("def late():\n    import kexue.nn.late\n    from kexue.runs import recorded"),
    new_code_cell("recorded('plain'), [recorded(f'many_{k}_runs') for k in 'ab'], 'named.eq1'"),
    new_code_cell("import unused\nrecorded('unnamed')", metadata={"tags": ["gpu", "skip-execution"]}),
]
TREE = {
    "src/kexue/__init__.py": "",
    "src/kexue/outer.py": "from .nn import layers",
    "src/kexue/nn/__init__.py": "",
    "src/kexue/nn/layers.py": "from ..deep import tree\nfrom kexue.experiments import training_script",
    "src/kexue/nn/late.py": "",
    "src/kexue/deep/__init__.py": "",
    "src/kexue/deep/tree.py": "from kexue.starred import *",
    "src/kexue/starred/__init__.py": "__all__ = ['one']",
    "src/kexue/starred/one.py": "",
    "src/kexue/face/__init__.py": "from .part import thing",
    "src/kexue/face/part.py": "def f():\n    return import_module('kexue.by_string')",
    "src/kexue/by_string.py": "WEIGHTS = recorded('of_a_module')",
    "src/kexue/runs/__init__.py": "",
    "src/kexue/book/fonts/font.otf": "",
    "src/kexue/experiments/__init__.py": "",
    "src/kexue/experiments/training_script.py": "",
    "src/kexue/experiments/maker.py": "from kexue import built\nSTART = recorded('started_from')",
    "src/kexue/built.py": "def recorded(name):\n    return runs.recorded(name)",
    "runs/plain/0/run.json": '{"module": "kexue.experiments.maker"}',
    "runs/started_from/0/run.json": "{}",
    "runs/plain/0/weights.safetensors": "",
    "runs/many_a_runs/0/run.json": "{}",
    "runs/of_a_module/0/run.json": "{}",
    "ledger/one.toml": "",
    "ledger/named.toml": "",
    "constraints.txt": "",
}
NOT_READ = {
    "src/kexue/unused.py": "",
    "src/kexue/nn/unused.py": "",
    "src/kexue/__pycache__/outer.pyc": "",
    "src/kexue/experiments/unused.py": "",
    "runs/unnamed/0/run.json": "{}",
    "runs/many_others/0/run.json": "{}",
    "ledger/other.toml": "",
    "tests/test_one.py": "",
    "pyproject.toml": "",
}


@pytest.fixture
def key(workshop, tmp_path):
    """Writes the tree, and gives the key of its chapter with the given cells."""
    for name, text in (TREE | NOT_READ).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def of(cells=CELLS):
        workshop("one", *cells)
        return execute.fingerprint("one")

    return of


@pytest.mark.parametrize("name", TREE)
def test_a_file_that_a_chapter_reads_counts(key, tmp_path, name):
    before = key()
    with open(tmp_path / name, "a") as file:
        file.write("# more")
    assert key() != before


@pytest.mark.parametrize("name", NOT_READ)
def test_a_file_that_a_chapter_does_not_read_does_not_count(key, tmp_path, name):
    before = key()
    with open(tmp_path / name, "a") as file:
        file.write("# more")
    assert key() == before


@pytest.mark.parametrize(
    "name", ["runs/plain/1/run.json", "runs/many_b_runs/0/run.json", "src/kexue/book/fonts/b"]
)
def test_a_new_file_counts_where_it_will_be_read(key, tmp_path, name):
    before = key()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert key() != before


@pytest.mark.parametrize(
    "code", ["import_module(f'kexue.{name}')", "importlib.import_module(name)", "__import__(name)"]
)
def test_the_whole_package_counts_where_an_import_is_computed(key, tmp_path, code):
    (tmp_path / "src/kexue/face/part.py").write_text(code)
    before = key()
    (tmp_path / "src/kexue/nn/unused.py").write_text("# more")
    assert key() != before


def test_all_runs_count_where_the_name_of_one_is_computed(key, tmp_path):
    cells = [*CELLS, new_code_cell("recorded(name)")]
    before = key(cells)
    (tmp_path / "runs/unnamed/0/run.json").write_text("{ }")
    assert key(cells) != before


def test_versions_count_locked_installed_and_of_python(key, monkeypatch):
    class Installed:
        name, version = "numpy", "2.0"

    def after(change):
        execute.installed_versions.cache_clear()
        change()
        return key()

    monkeypatch.setattr(execute.metadata, "distributions", lambda: [Installed()])
    seen = {
        after(lambda: None),
        after(lambda: monkeypatch.setattr(Installed, "version", "2.1")),
        after(lambda: monkeypatch.setattr(execute.sys, "version", "4.0")),
    }
    monkeypatch.undo()
    execute.installed_versions.cache_clear()
    assert len(seen) == 3  # that of constraints.txt is among the files
    assert any(name.startswith("numpy==") for name in execute.installed_versions())


def changed(index: int, source: str | None = None, **metadata) -> list[nbformat.NotebookNode]:
    cells = [nbformat.from_dict(cell) for cell in CELLS]
    cells[index].source = cells[index].source if source is None else source
    cells[index].metadata.update(metadata)
    return cells


CODE = {
    "a line": changed(3, "def late():\n    import kexue.nn.late"),
    "a comment in code": changed(4, CELLS[4].source + "  # comment"),  # tracebacks and sources show it
    "order": [*CELLS[:3], CELLS[4], CELLS[3], CELLS[5]],
    "a cell less": [*CELLS[:3], *CELLS[4:]],
    "a cell more": [*CELLS, new_code_cell("1")],
    "two cells of one": [*CELLS, new_code_cell("1"), new_code_cell("2")],
    "one cell of two": [*CELLS, new_code_cell("1\n2")],
    "a cell that may raise": changed(4, tags=["raises-exception"]),
    "a cell for a GPU": changed(4, tags=["skip-execution"]),
    "a GPU's cell for all": changed(5, tags=["gpu"]),
}
PROSE = {
    "a word": changed(2, "Other prose on unnamed."),
    "a paragraph more": [*CELLS[:4], new_markdown_cell("recorded('unnamed')"), *CELLS[4:]],
    "no prose": [cell for cell in CELLS if cell.cell_type == "code"],
    "a hidden cell": changed(4, tags=["hide-input", "nbval-ignore-output"]),
    "a caption": changed(4, mystnb={"figure": {"caption": "A figure."}}),
    "what a GPU would run": changed(5, "print('on a GPU')"),
}


def test_code_counts(key):
    keys = [key(), *map(key, CODE.values())]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("change", PROSE)
def test_prose_does_not_count_nor_how_a_cell_is_shown(key, change):
    assert key(PROSE[change]) == key()


def test_after_a_change_of_prose_nothing_is_executed_and_the_new_prose_is_shown(key, tmp_path, monkeypatch):
    def stand_in(slug, nb, *_):
        executed.append(slug)
        for number, cell in enumerate(execute.executed_cells(nb), 1):
            cell.outputs, cell.execution_count = [new_output("stream", text=f"output {number}")], number
        nb.metadata["language_info"] = {"name": "python"}
        return nb

    executed = []
    monkeypatch.setattr(execute, "execute", stand_in)
    page = tmp_path / "build" / "source" / "chapters" / "one.ipynb"
    key()
    assert execute.book(tmp_path / "build") == 0
    first = nbformat.read(page, as_version=4)
    for cells in PROSE.values():
        key(cells)
        assert execute.book(tmp_path / "build") == 0
        shown = nbformat.read(page, as_version=4)
        assert [c.source for c in shown.cells] == [c.source for c in cells]
        assert [c.metadata for c in shown.cells] == [c.metadata for c in cells]
        assert shown.metadata == first.metadata
        for cell, old in zip(execute.executed_cells(shown), execute.executed_cells(first), strict=True):
            assert (cell.outputs, cell.execution_count) == (old.outputs, old.execution_count)
            assert len(cell.outputs) == 1
    assert executed == ["one"]
    key(CODE["a line"])
    assert execute.book(tmp_path / "build") == 0
    assert executed == ["one", "one"]


@pytest.mark.slow
def test_of_the_books_chapters_what_their_scripts_name_counts():
    """By another reading of the scripts, line by line."""
    for slug in execute.slugs():
        script = re.sub(r"^# .*$", "", (ROOT / "chapters" / f"{slug}.py").read_text("utf-8"), flags=re.M)
        code = execute.parsed([cell.source for cell in execute.executed_cells(execute.read_script(slug))])
        modules = {file.relative_to(ROOT / "src").as_posix() for file in execute.imported_files(code)}
        named = re.findall(r"^from kexue\.(\w+) import", script, re.M)
        assert named
        assert {f"kexue/{name}.py" for name in named} <= modules | {
            f"kexue/{n}.py" for n in named if f"kexue/{n}/__init__.py" in modules
        }
        runs = {run.name for run in execute.runs_named(code)}
        assert set(re.findall(r"""recorded\(["'](\w+)["']\)""", script)) <= runs
        assert len(modules) < len(list((ROOT / "src").rglob("*.py")))
