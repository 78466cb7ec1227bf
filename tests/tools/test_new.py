"""tools/new.py: a chapter that is begun passes what every chapter must, and bad words are refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import new
import pytest

ROOT = Path(__file__).parents[2]
GOOD = {
    "slug": "means",
    "title": "Means: one number for many",
    "article": "5448",
    "date": "2018-04-22",
    "zh": "均值",
}


@pytest.mark.system
@pytest.mark.first
def test_a_chapter_that_is_begun_passes(tmp_path):
    """In a copy: executed, its rows with evidence, three faults caught, the pair in step, nbval without a difference."""
    book = tmp_path / "a book"
    left_out = {path.name for path in ROOT.glob(".*")} | {"_build", "runs", "mutants"}
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT, book, ignore=lambda at, names: left_out if at == str(ROOT) else ignored(at, names))
    environment = {**os.environ, "PYTHONPATH": str(book / "src")}

    def call(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=book, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = call("tools/new.py", *GOOD.values())
    files = said.splitlines()[-1].removeprefix("grep -n TODO ").split()
    assert all((book / file).is_file() for file in files)
    assert "SLUG" not in "".join((book / file).read_text("utf-8") for file in files if "means" in file)
    assert (book / "_toc.yml").read_text().count("chapters/means") == 1
    call("-m", "ruff", "check", "--quiet", ".")
    call("-m", "ruff", "format", "--check", "--quiet", ".")
    tests = [
        "tests/test_means.py",
        "tests/test_faults.py",
        "tests/book/test_pairs.py",
        "tests/book/test_ledger.py",
    ]
    nbval = [
        "chapters/means.ipynb",
        "--nbval",
        "--nbval-current-env",
        "--nbval-sanitize-with",
        "tests/nbval_sanitize.cfg",
    ]
    said = call("-m", "pytest", "-q", "-p", "no:xdist", *tests, *nbval, "-k", "means or up_to_date or every")
    assert "failed" not in said
    assert int(said.splitlines()[-1].split()[0]) > 25


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        ("slug", "", "SLUG must be one word of 3 to 12 small letters, got ''"),
        ("slug", "Two words", "got 'Two words'"),
        ("slug", "import", "got 'import'"),
        ("slug", "masking", "SLUG must be new, but there is a kexue.masking"),
        ("slug", "data", "SLUG must be new"),
        ("title", "  ", "TITLE must be one line of plain text"),
        ("title", "two\nlines", "TITLE must be one line"),
        (
            "article",
            "https://example.org/1",
            "ARTICLE must be an address https://kexue.fm/archives/… or its number",
        ),
        ("date", "May 2019", "DATE must be a day like 2019-05-20, got 'May 2019'"),
    ],
)
def test_bad_words_are_refused_before_anything_is_written(word, value, said, capsys, monkeypatch):
    monkeypatch.setattr(new, "files", None)  # would be called next
    assert new.main(**{**GOOD, word: value}) == 2
    assert said in capsys.readouterr().err


def test_an_address_is_as_good_as_a_number():
    number, address = (
        new.values(**{**GOOD, "article": a}, root=ROOT) for a in ("5448", "https://kexue.fm/archives/5448")
    )
    assert number == address
    assert number["KEY"] == "su2018means"


def test_a_title_may_hold_quotes_and_backslashes():
    import tomllib

    title = 'A "mean", \\ and more'
    written = new.files(new.values(**{**GOOD, "title": title}, root=ROOT), ROOT)
    assert tomllib.loads(written["ledger/means.toml"])["title"] == title
    assert f"# # {title}\n" in written["chapters/means.py"]
