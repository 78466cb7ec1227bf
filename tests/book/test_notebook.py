"""A chapter's head, its card, and code shown from the package."""

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from kexue.book import ledger, notebook
from kexue.smoothing import smooth_max, soft_f1

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shown(monkeypatch):
    """What a cell would display, as Markdown source."""
    texts = []
    monkeypatch.setattr(notebook, "display", lambda item: texts.append(item.data))
    return texts


@pytest.fixture
def restored():
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with mpl.rc_context():
        yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("restored")
def test_setup_seeds_and_shows_the_head(shown, monkeypatch):
    monkeypatch.chdir(ROOT / "chapters")
    first = notebook.setup("smoothing", seed=3)
    a, b = torch.rand(4), torch.rand(4, generator=first)
    assert torch.are_deterministic_algorithms_enabled()
    again = notebook.setup("smoothing", seed=3)
    assert torch.equal(a, torch.rand(4))
    assert torch.equal(b, torch.rand(4, generator=again))
    head = shown[0]
    assert "《函数光滑化杂谈：不可导函数的可导逼近》" in head
    (found,) = re.findall(r"\*\*Checked here\*\*: (.*)", head)
    article = ledger.load("smoothing")
    counts = {sort: article.count(sort) for sort in ledger.SORTS}
    assert [int(number) for number in re.findall(r"(?:^|; )(\d+) ", found)] == [
        total for count in counts.values() if (total := sum(count.values()))
    ]
    assert sum(map(int, re.findall(r"(\d+) hold", found))) == sum(c["holds"] for c in counts.values())
    assert "**Edition**" not in head
    assert "**Marks**" in head
    notebook.setup("gumbel")
    assert "**Edition**: the first" in shown[-1]
    assert re.search(r"about \d+ minutes", head)
    assert "0.1 MB" in head


@pytest.mark.usefixtures("restored")
def test_setup_honours_the_number_of_threads(shown, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook.setup("smoothing", threads=2)
    assert torch.get_num_threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    notebook.setup("smoothing", threads=2)
    assert torch.get_num_threads() == 2
    notebook.setup("smoothing")
    assert torch.get_num_threads() == 1


def test_head_and_card_do_without_the_chapters_file(shown, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    notebook.card("smoothing", {"Sizes": "none"}, seed=5)
    assert "| Reading time | unknown |" in shown[0]
    assert "| Sizes | none |" in shown[0]
    assert "| Seed | 5," in shown[0]
    assert f"torch {torch.__version__.partition('+')[0]}" in shown[0]
    assert "CC BY 4.0" in shown[0]
    with pytest.raises(FileNotFoundError, match=r"no chapter smoothing\.py in"):
        notebook.reading_minutes("smoothing")


def test_card_names_the_gpu(shown, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A fine GPU")
    notebook.card("smoothing", {})
    assert "A fine GPU" in shown[0]


def test_reading_minutes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("word " * 3600)
    assert notebook.reading_minutes("a") == 20
    (tmp_path / "a.py").write_text("word")
    assert notebook.reading_minutes("a") == 5
    hidden = '# %% tags=["hide-input"]\n' + "word " * 3600
    folded = "# %% [markdown]\n:::{dropdown} More\n" + "word " * 3600 + "\n:::\n"
    (tmp_path / "a.py").write_text("word " * 1800 + "\n" + hidden + "\n" + folded)
    assert notebook.reading_minutes("a") == 10


def test_source_shows_the_code_and_one_line_of_docstring(shown):
    notebook.source(smooth_max, soft_f1)
    (text,) = shown
    for name in ("maxima", "scores"):
        assert f"```python\n# src/kexue/smoothing/{name}.py\n" in text
    assert (
        "result = torch.logsumexp(sharpen(scores, top, sharpness), dim) / sharpness + top.squeeze(dim)"
        in text
    )
    assert '"""Smooth maximum, (1/K)·log Σᵢ exp(K·xᵢ), along `dim`; K is the sharpness."""' in text
    assert "Raises" not in text


@pytest.mark.parametrize(
    ("sides", "by_all", "by_any"),
    [
        ([True, True], True, True),
        ([False, False], False, False),
        ([True, False], None, False),
        ([True, None], None, None),
        ([False, None], None, False),
        ([None], None, None),
    ],
)
def test_a_rule_holds_where_all_sides_do(sides, by_all, by_any):
    assert notebook.decided(sides) is by_all
    assert notebook.decided(iter(sides), refuted=any) is by_any


def test_a_rule_needs_a_side():
    with pytest.raises(ValueError, match="sides must hold at least one, got none"):
        notebook.decided([])


def test_alarms_shows_how_often_an_interval_errs(shown):
    wide, narrow = np.array([-1.0, 0, 1, 0, 0]), np.array([-0.1, 0, 0.1, 0, 0])
    notebook.alarms({"wide": (wide, 0.1), "narrow": (narrow, 0.1)}, draws=500)
    head, _, *rows = shown[0].splitlines()
    assert head == "| rule | false | power | at |"
    for row, least, most in zip(rows, (0, 50), (20, 100), strict=True):
        false, power = (float(number) for number in re.findall(r"([\d.]+)%", row))
        assert 2 < false < 8  # the intervals are of 95 %
        assert least <= power <= most
        assert row.endswith("| 0.1 |")


def test_times_are_relative_to_the_first_method(monkeypatch):
    monkeypatch.setattr(notebook, "seconds", lambda function, method, one, rounds: function(method, one))
    found = notebook.relative_times(lambda a, b: a * b + 1, {"first": 1, "other": 3}, [1, 2])
    assert found == {"first": [1, 1], "other": [4 / 2, 7 / 3]}
