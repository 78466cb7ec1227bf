"""The page of the status says what was noted, and that something was not."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kexue.book import status

ROOT = Path(__file__).parents[2]
CARD = (
    "| | this run |\n|---|---|\n| Running time | {} s |\n| Hardware | a processor |\n| Software | Python 3 |"
)


def write(root: Path, slug: str, seconds: int, **metadata) -> None:
    card = new_output("display_data", data={"text/markdown": CARD.format(seconds)})
    gpu = new_code_cell("train()", metadata={"tags": ["gpu", "skip-execution"]})
    nb = new_notebook(
        cells=[new_code_cell("card()", execution_count=1, outputs=[card]), gpu], metadata=metadata
    )
    nbformat.write(nb, root / "chapters" / f"{slug}.ipynb")


def run(root: Path, name: str, device: str, seconds: float, day: str) -> None:
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    noted = {
        "finished": f"{day}T01:02:03+00:00",
        "torch": "2",
        "processor": "a CPU",
        "device": device,
        "seconds": seconds,
    }
    (folder / "run.json").write_text(json.dumps({"environment": noted, "summary": {}}))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    for name in ("chapters", "ledger", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "_toc.yml").write_text("      - file: chapters/a\n      - file: chapters/b\n")
    for slug in "ab":
        (tmp_path / "ledger" / f"{slug}.toml").touch()
    write(tmp_path, "a", 7, kexue={"finished": "2026-11-30T23:59:59+00:00"})
    write(tmp_path, "b", 8)
    evidence = {
        "verifies": {"a.eq1": ["t::x", "t::y"], "a.eq2": ["t::x"]},
        "fails": {"a.eq2": ["t::z"]},
        "rows": [],
    }
    (tmp_path / "ledger" / "evidence.json").write_text(json.dumps(evidence))
    run(tmp_path, "deep/0", "cpu", 60, "2026-11-01")
    run(tmp_path, "deep/1", "cpu", 180, "2026-11-03")
    run(tmp_path, "deep/2", "a GPU", 30, "2026-11-02")
    (tmp_path / "runs" / "deep" / "begun").mkdir()
    (tmp_path / "runs" / "deep" / "begun" / "run.json").write_text(json.dumps({"config": {}}))
    (tmp_path / "runs" / "replayed.json").write_text(json.dumps({"deep/0": "f"}))
    return tmp_path


def test_what_was_noted_and_what_was_not(book):
    lines = status.fill("# Status\n\n```{status}\n```\n", book).splitlines()
    for line in (
        "| {doc}`a <../chapters/a>` | 2026-11-30 | 1 of 2 | 7 s |",
        "| {doc}`b <../chapters/b>` | not noted | 1 of 2 | 8 s |",
        "| a | 2 | 4 |",
        "| b | 0 | 0 |",
        "| deep | 2 | 2026-11-01 to 2026-11-03 | a CPU | 2 | 2.0 | 1 of 2 |",
        "| deep | 1 | 2026-11-02 | a GPU | 2 | 0.5 | 0 of 1 |",
    ):
        assert line in lines
    text = "\n".join(lines)
    assert "All of them: a processor; Python 3." in text
    assert "`make ledger` was last run, at a time that was not noted." in text
    assert "Cells for a GPU: a (1), b (1). It is not noted that" in text


def test_what_is_noted_from_now_on(book):
    path = book / "ledger" / "evidence.json"
    here = status.here()
    path.write_text(json.dumps({**json.loads(path.read_text()), "made": here}))
    items = [
        {"kind": "cell", "name": "b, GPU cell 1", "status": "passed", "reason": "", "seconds": 3.2},
        {"kind": "cell", "name": "a, GPU cell 1", "status": "untried", "reason": "no time", "seconds": 0.0},
    ]
    report = {"device": "H200", "platform": "Linux", "items": items}
    (book / "runs" / "gpu.json").write_text(json.dumps(report))
    text = status.status_text(book)
    assert (
        f"last run, on {here['finished'][:10]} on {here['processor']}, python {here['python']}, torch "
        in text
    )
    assert "noted on H200, Linux." in text
    assert "| cell | a, GPU cell 1 | untried | no time |\n| cell | b, GPU cell 1 | passed | 3 s |" in text


def test_columns_that_differ_stay(book):
    path = book / "chapters" / "b.ipynb"
    path.write_text(path.read_text().replace("a processor", "another"))
    assert "| not noted | 1 of 2 | 8 s | another | Python 3 |" in status.status_text(book)
