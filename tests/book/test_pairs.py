"""Each chapter is one notebook in two files, executed, without warnings; and nbval notices a change."""

import ast
import re
from pathlib import Path

import execute
import jupytext
import nbformat
import pytest
from execute import script_of
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]
CHAPTERS = ROOT / "chapters"
STEMS = sorted({path.stem for path in CHAPTERS.glob("*.*") if path.suffix in (".py", ".ipynb")})


# --- What must be true of a pair ---------------------------------------------------------------


def problems(notebook: Path) -> list[str]:
    """What is wrong with a pair of notebook and script, one line each."""
    script = notebook.with_suffix(".py")
    if not script.is_file() or not notebook.is_file():
        return [f"{notebook.stem}: one file of the pair is missing"]
    nb = jupytext.read(notebook)
    found = []
    if script_of(nb) != script.read_text("utf-8"):
        found.append(f"{notebook.stem}: .py and .ipynb differ; make run SLUG={notebook.stem}")
    for number, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        where = f"{notebook.stem}, cell {number}"
        if "gpu" in cell.metadata.get("tags", []):
            if missing := {"skip-execution", "nbval-ignore-output"} - set(cell.metadata.tags):
                found.append(f"{where}: a cell tagged gpu also needs {sorted(missing)}")
        elif cell.execution_count is None:
            found.append(f"{where}: was never executed; make run SLUG={notebook.stem}")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{where}: ends in {output.ename}")
            if output.get("name") == "stderr" or re.search(r"warning\b", str(output.get("text", "")), re.I):
                found.append(f"{where}: a warning or stderr in its output")
    return found


def literal_verdicts(script: str) -> list[int]:
    """Lines on which `verdict` is given a constant instead of something computed."""
    code = "\n".join(
        "" if line.startswith("%") else line for line in script.splitlines()
    )  # magics are no Python
    tree = ast.parse(code)
    constants = {  # names that are only ever bound to constants
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and not computed(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "verdict":
            truths = ("holds", "restricted", "reached")
            values = [*node.args[1:2], *(k.value for k in node.keywords if k.arg in truths)]
            if not values or not all(computed(value, constants) for value in values):
                lines.append(node.lineno)
    return lines


def computed(value: ast.expr, constants: set[str]) -> bool:
    """Whether an expression depends on anything but constants."""
    names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    return bool(names - constants - {"bool", "not", "all", "any"})


@pytest.mark.parametrize("stem", STEMS)
def test_chapter(stem):
    assert problems(CHAPTERS / f"{stem}.ipynb") == []


@pytest.mark.parametrize("stem", STEMS)
def test_verdicts_are_computed(stem):
    assert literal_verdicts((CHAPTERS / f"{stem}.py").read_text("utf-8")) == []


@pytest.mark.parametrize("stem", STEMS)
def test_figures_have_captions_and_descriptions(stem):
    for cell in jupytext.read(CHAPTERS / f"{stem}.ipynb").cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            options = cell.metadata.get("mystnb", {})
            assert options.get("figure", {}).get("caption"), cell.source[:80]
            assert len(options.get("image", {}).get("alt", "")) > 40, cell.source[:80]


@pytest.mark.parametrize("stem", STEMS)
def test_the_regression_test_sees_most_of_the_chapter(stem):
    code = [cell for cell in jupytext.read(CHAPTERS / f"{stem}.ipynb").cells if cell.cell_type == "code"]
    ignored = sum("nbval-ignore-output" in cell.metadata.get("tags", []) for cell in code)
    assert ignored < len(code) / 3
    for cell in code:  # every verdict is compared
        if re.search(r"^verdict\(", cell.source, re.M):
            assert "nbval-ignore-output" not in cell.metadata.get("tags", []), cell.source[:80]


# --- The checks notice what they are for -------------------------------------------------------


def executed(source: str, text: str = "", **metadata) -> nbformat.NotebookNode:
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    return new_code_cell(source, execution_count=1, outputs=outputs, metadata=metadata)


def write_pair(folder: Path, *cells: nbformat.NotebookNode) -> Path:
    nb = new_notebook(cells=[new_markdown_cell("# A throw-away chapter"), *cells])
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path = folder / "sample.ipynb"
    nbformat.write(nb, path)
    path.with_suffix(".py").write_text(script_of(jupytext.read(path)), "utf-8")
    return path


def test_a_good_pair_has_no_problems(tmp_path):
    gpu = new_code_cell("1", metadata={"tags": ["gpu", "skip-execution", "nbval-ignore-output"]})
    assert problems(write_pair(tmp_path, executed("print(1)", "1\n"), gpu)) == []


def test_a_desynchronised_pair_is_caught(tmp_path):
    path = write_pair(tmp_path, executed("print(1)", "1\n"))
    script = path.with_suffix(".py")
    script.write_text(script.read_text().replace("print(1)", "print(2)"))
    assert "differ" in problems(path)[0]
    script.unlink()
    assert "missing" in problems(path)[0]


def test_an_unexecuted_cell_is_caught(tmp_path):
    assert "never executed" in problems(write_pair(tmp_path, new_code_cell("print(1)")))[0]


def test_an_error_is_caught(tmp_path):
    cell = new_code_cell("1/0", execution_count=1)
    cell.outputs = [new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])]
    assert "ZeroDivisionError" in problems(write_pair(tmp_path, cell))[0]


@pytest.mark.parametrize(("name", "text"), [("stderr", "anything"), ("stdout", "UserWarning: careful")])
def test_a_warning_in_an_output_is_caught(tmp_path, name, text):
    cell = new_code_cell("f()", execution_count=1, outputs=[new_output("stream", name=name, text=text)])
    assert "a warning or stderr" in problems(write_pair(tmp_path, cell))[0]


def test_a_gpu_cell_without_its_other_tags_is_caught(tmp_path):
    cell = new_code_cell("1", metadata={"tags": ["gpu"]})
    assert "skip-execution" in problems(write_pair(tmp_path, cell))[0]


@pytest.mark.parametrize(
    ("call", "caught"),
    [
        ("verdict('a.eq1', True)", True),
        ("verdict('a.eq1', holds=False, restricted=True)", True),
        ("verdict('a.eq1', holds=not False)", True),
        ("verdict('a.eq1', holds=bool(1))", True),
        ("verdict('a.eq1', holds=error < 1, restricted=True)", True),
        ("verdict('a.eq1', holds=error < 1, reached=True)", True),
        ("ledger.verdict('a.eq1', True)", True),
        ("ok = True\nverdict('a.eq1', holds=ok)", True),
        ("ok = error < 1\nverdict('a.eq1', holds=ok)", False),
        ("verdict('a.eq1', holds=error < 1)", False),
        ("verdict('a.eq1', holds=None, restricted=check(x))", True),
        ("verdict('a.eq1', holds=None if low < 0 < high else low > 0)", False),
    ],
)
def test_a_literal_verdict_is_caught(call, caught):
    assert bool(literal_verdicts(f"%pip install x\n{call}")) == caught


# --- nbval notices what it is for --------------------------------------------------------------

VERDICT = """
from kexue.book.ledger import Row, _show
row = Row("a.eq1", "claim", "eq. (1)", "$a = a$", "{expected}", why="a reason")
_show(row, row.expected, {{"error": {measured}}})
"""


PLOTLY = """
from IPython.display import display
display({"application/vnd.plotly.v1+json": {"data": [{"x": [1, 2]}], "layout": {}}}, raw=True)
"""


class Outcomes:
    """A plugin of pytest's: for each cell of a notebook, by number, if it passed, and what is said of it."""

    def __init__(self) -> None:
        self.of: dict[int, str] = {}
        self.said: dict[int, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = int(report.nodeid.rpartition("::Cell ")[2])
        if report.when == "call" or not report.passed:
            self.of[cell], self.said[cell] = report.outcome, str(report.longrepr)


def nbval(path: Path) -> Outcomes:
    """What `make notebooks` finds, in this process."""
    arguments = ["-p", "conftest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-n", "0"]
    arguments += ["--nbval", "--nbval-current-env"]
    arguments += ["--nbval-sanitize-with", str(ROOT / "tests" / "nbval_sanitize.cfg"), str(path)]
    pytest.main(arguments, plugins=[outcomes := Outcomes()])
    return outcomes


@pytest.fixture(scope="module")
def nbval_report(tmp_path_factory) -> Outcomes:
    """What nbval says of one notebook with a cell for each mechanism."""
    folder = tmp_path_factory.mktemp("nbval")
    sources = [
        "print('same')",
        "print('changed')",
        VERDICT.format(expected="restricted", measured=0.25),
        VERDICT.format(expected="restricted", measured=0.25),
        "import warnings; warnings.warn('new', stacklevel=1)",
        PLOTLY,
        "raise RuntimeError('must not run without a GPU')",
    ]
    gpu = {"tags": ["gpu", "skip-execution", "nbval-ignore-output"]}
    cells = [new_code_cell(s, metadata=gpu if "GPU" in s else {}) for s in sources]
    path = write_pair(folder, *cells)
    nb = execute.execute("sample", nbformat.read(path, as_version=4), threads=1)
    assert nb.cells[-1].execution_count is None  # the build and nbclient leave GPU cells alone
    nb.cells[2].outputs[0].text = "committed\n"
    measured = nb.cells[3].outputs[0].data  # other numbers, same verdict
    measured["text/html"] = measured["text/html"].replace("0.25", "0.75")
    measured["application/vnd.kexue.verdict+json"]["measured"] = [["error", 0.75]]
    changed = nb.cells[4].outputs[0].data  # same numbers, other verdict
    changed["text/html"] = changed["text/html"].replace("restricted", "holds")
    nb.cells[5].outputs = []
    nb.cells[6].outputs[0].data["application/vnd.plotly.v1+json"]["data"][0]["x"] = [0.1, 0.2]
    nbformat.write(nb, path)
    return nbval(path)


@pytest.mark.system
@pytest.mark.parametrize(
    ("cell", "expected"),
    [(0, "passed"), (1, "failed"), (2, "passed"), (3, "failed"), (4, "failed"), (5, "passed")],
    ids=["same", "changed output", "other values", "changed verdict", "new warning", "other coordinates"],
)
def test_nbval_compares(nbval_report, cell, expected):
    assert nbval_report.of[cell] == expected, nbval_report.said


@pytest.mark.system
def test_a_gpu_cell_is_skipped_without_cuda_and_run_with_it(nbval_report):
    import torch

    if torch.cuda.is_available():
        assert nbval_report.of[6] == "failed"  # it ran, and raised
    else:
        assert nbval_report.of[6] == "skipped"
        assert "needs a CUDA device" in nbval_report.said[6]


def test_the_gpu_hook_follows_cuda(monkeypatch):
    import conftest

    class Item:
        parent = None

        def __init__(self, tags):
            self.cell = nbformat.from_dict({"metadata": {"tags": tags}})
            self.added, self.user_properties = [], []

        def get_closest_marker(self, name):
            return None

        def iter_markers(self, name):
            return []

        def add_marker(self, mark):
            self.added.append(mark)

    for cuda in (False, True):
        monkeypatch.setattr(conftest, "has_cuda", lambda cuda=cuda: cuda)
        plain, gpu = Item([]), Item(["gpu"])
        conftest.pytest_collection_modifyitems([plain, gpu])
        assert plain.added == []
        assert len(gpu.added) == (0 if cuda else 1)
