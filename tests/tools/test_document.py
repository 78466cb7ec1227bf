"""tools/printed_book.py: where links lead in one document of all pages, and what paper leaves out."""

from pathlib import Path

import lxml.html
import printed_book
import pytest

BOOK = printed_book.Book(Path("html"))
LIVE = "https://kexue-book.github.io/executable-scientific-spaces/"


@pytest.mark.parametrize(
    ("page", "address", "aim"),
    [
        ("chapters/gumbel", "#here", "#gumbel--here"),
        ("chapters/gumbel", "../pages/ledger.html#a-b", "#ledger--a-b"),
        ("chapters/gumbel", "vqvae.html", "#vqvae"),
        ("pages/ledger", "../chapters/gumbel.html#%E5%87%BD", "#gumbel--函"),
        ("chapters/gumbel", "../genindex.html", f"{LIVE}genindex.html"),
        ("chapters/gumbel", "https://kexue.fm/a.html#b", "https://kexue.fm/a.html#b"),
    ],
)
def test_links_lead_to_the_same_place(page, address, aim):
    assert BOOK.aim(page, address) == aim


def trimmed(text):
    article = lxml.html.fragment_fromstring(f"<article>{text}</article>")
    printed_book.trim(article)
    return lxml.html.tostring(article, encoding="unicode")


def test_folded_code_goes_and_other_folds_open():
    cell = "<div class='cell {}'><details><summary>Show code cell source</summary><pre>x</pre></details><p>out</p></div>"
    assert "<pre>" not in trimmed(cell.format("tag_hide-input"))
    assert "<p>out</p>" in trimmed(cell.format("tag_hide-input"))
    kept = trimmed(cell.format("tag_hide-cell"))
    assert "<pre>x</pre>" in kept
    assert "Show code" not in kept
    assert '<p class="unfolded-title">Why</p>' in trimmed(
        "<details><summary>Why</summary><p>So.</p></details>"
    )


def test_tests_are_named_instead_of_printed():
    text = trimmed(
        "<div class='ledger-row'><details><summary>1 test</summary><p id='test_x'>tests/a.py (where it fails)</p>"
        "<div><pre>def test_x(): ...</pre></div></details></div>"
    )
    assert "tests/a.py::test_x (where it fails)" in text
    assert "def test_x" not in text


def test_a_folder_without_a_book_is_an_error(tmp_path, capsys):
    assert printed_book.main([str(tmp_path), "book.pdf"]) == 2
    assert "make html" in capsys.readouterr().err
