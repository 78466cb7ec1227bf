"""tools/next_book.py: Jupyter Book's configuration translated, and what of two books it calls different."""

from pathlib import Path

import next_book
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = """<html><body><article><h1>A<a class="headerlink" href="#{anchor}">#</a></h1>
<div class="math"><span class="eqno">(1)</span>{formula}</div>{more}</article></body></html>"""


def test_the_translation_is_jupyter_books_own():
    from jupyter_book.config import get_final_config

    ours = next_book.settings(yaml.safe_load((ROOT / "_config.yml").read_text("utf-8")))
    theirs, _ = get_final_config(user_yaml=ROOT / "_config.yml", cli_config={"latex_individualpages": False})
    lists = {"extensions", "exclude_patterns"}
    later = {"html_static_path", "html_css_files", "html_js_files", "external_toc_path"}  # set as it builds
    for name in set(ours) - {"project"} - lists - later:
        assert ours[name] == theirs[name], name
    assert set(ours["exclude_patterns"]) <= set(theirs["exclude_patterns"])
    # What only Jupyter Book needs: itself, LaTeX, numbers of parts, comments, live cells, other projects.
    assert set(ours["extensions"]) <= set(theirs["extensions"])


def test_a_key_that_is_not_translated_is_an_error():
    with pytest.raises(ValueError, match=r"not translated: \['html.favicon'\]"):
        next_book.settings({"title": "A", "html": {"favicon": "a.png"}})


@pytest.fixture
def books(tmp_path):
    """Two books of one page, the second with what is given."""

    def write(anchor="a", formula="x = 1", more="<p>Text.</p>"):
        for name, page in (
            ("old", PAGE.format(anchor="a", formula="x = 1", more="<p>Text.</p>")),
            ("new", PAGE.format(anchor=anchor, formula=formula, more=more)),
        ):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "a.html").write_text(page, "utf-8")
        return tmp_path / "old", tmp_path / "new"

    return write


def test_the_same_content_with_other_anchors_and_spaces_is_the_same(books):
    assert list(next_book.differences(*books(anchor="b", formula=" x=1 "))) == []


@pytest.mark.parametrize(
    ("changes", "sort"),
    [
        ({"formula": "x = 2"}, "equations"),
        ({"more": "<p>Text.</p><h2>B</h2>"}, "headings"),
        ({"more": "<p>Other.</p>"}, "paragraphs"),
        ({"more": "<p>Text.</p><img alt='A picture'>"}, "figures"),
        ({"more": "<p>Text.</p><div class='kexue-verdict'>holds</div>"}, "verdicts"),
        ({"more": "<p>Text.</p><a href='b.html'>b</a>"}, "links"),
    ],
)
def test_what_differs_is_listed(books, changes, sort):
    assert next(next_book.differences(*books(**changes))).startswith(f"a.html: {sort}: ")


def test_a_page_that_one_book_lacks_is_listed(books):
    old, new = books()
    (new / "b.html").write_text("", "utf-8")
    assert list(next_book.differences(old, new)) == ["b.html: only in the new book"]
