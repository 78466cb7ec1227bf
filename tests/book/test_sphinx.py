"""The Sphinx side: Plotly figures, substitutions, a small project."""

import json
import struct
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kexue.book import interactive, ledger, site, sphinx

ROOT = Path(__file__).parents[2]


def slider():
    frames = [(f"{k}", [{"type": "scatter", "x": [0, 1], "y": [0, k]}]) for k in (1, 2, 3)]
    return interactive.slider_figure(
        frames, start=1, prefix="K = ", caption="a < b", alt='a "line"', xaxis={"visible": False}
    )


class Output:
    def __init__(self, content, mime_type=sphinx.PLOTLY_MIME):
        self.content, self.mime_type = content, mime_type


class Renderer:
    class renderer:
        class sphinx_env:
            class app:
                outdir = "."


def test_plotly_renderer_leaves_a_place_for_the_figure_and_a_script_with_its_data(tmp_path):
    Renderer.renderer.sphinx_env.app.outdir = tmp_path
    figure = json.loads(slider().to_json())
    (node,) = sphinx.PlotlyRenderer.handle_mime(Renderer, Output(figure), inline=False)
    text = node.astext()
    (script,) = (tmp_path / "_static" / "figures").iterdir()
    assert (
        f'<div class="plotly-graph-div" id="{script.stem}" style="height:{figure["layout"]["height"]}px">'
        in text
    )
    place, _, data = script.read_text().rstrip(";\n").partition(".figure = ")
    assert place == f'document.getElementById("{script.stem}")'
    data = json.loads(data)
    assert {name: data[name] for name in ("data", "layout", "frames")} == {
        name: figure[name] for name in ("data", "layout", "frames")
    }
    assert data["config"] == {"responsive": True, "displaylogo": False}
    assert 'aria-label="a &quot;line&quot;"' in text
    assert "<figcaption>a &lt; b</figcaption>" in text
    assert "<script" not in text
    assert sphinx.PlotlyRenderer.handle_mime(Renderer, Output("x", "text/plain"), inline=False) is None
    assert sphinx.PlotlyRenderer.handle_mime(Renderer, Output("{}"), inline=True) is None


def test_substitutions_sum_over_the_articles():
    count = {
        "a": {"claim": {"holds": 3, "refuted": 1}, "equation": {"holds": 7}, "addition": {"holds": 0}},
        "b": {
            "claim": {"restricted": 1},
            "equation": {"holds": 2, "restricted": 5},
            "addition": {"holds": 1},
        },
    }
    articles = {name: {"count": count[name], "edition": 1} for name in "ab"}
    values = sphinx.substitutions({"articles": articles})
    assert values == {
        "a_counts": "4 claims: **3** hold, **1** refuted",
        "b_counts": "1 claim: **1** restricted",
        "ledger_articles": "2",
        "ledger_claims": "5 claims",
        "ledger_claims_found": "**3** hold, **1** restricted, **1** refuted",
        "ledger_equations": "14 equations, definitions and algorithms",
        "ledger_equations_found": "**9** hold, **5** restricted",
        "ledger_additions": "1 addition of ours",
        "ledger_additions_found": "**1** hold",
    }
    articles["b"]["edition"] = 2
    values = sphinx.substitutions({"articles": articles})
    assert values["ledger_claims_found"] == (
        "second edition: **1** restricted; first edition, being revised: **3** hold, **1** refuted"
    )


def test_labelled_equations_wear_their_mark():
    body = (
        '<div class="math notranslate nohighlight" id="equation-a-eq1">\n<span class="eqno">(1)</span>x</div>'
        '<div class="math notranslate nohighlight" id="equation-a-other">\n<span class="eqno">(2)</span>y</div>'
        '<div class="math notranslate nohighlight">z</div>'
    )
    marked = sphinx.marked(body, {"a.eq1": "restricted"}, "../pages/ledger.html")
    mark = '<a class="kexue-mark kexue-restricted" href="../pages/ledger.html#a-eq1" title="a.eq1 restricted" aria-label="a.eq1 restricted">◐</a>'
    assert marked == body.replace('<span class="eqno">(1)', f'<span class="eqno">{mark}(1)')


def test_pictures_below_the_first_wait_and_have_their_sizes(tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.png").write_bytes(b"\x89PNG" + 12 * b"." + struct.pack(">II", 640, 480))
    (tmp_path / "_images" / "b.svg").write_text("<svg></svg>" + 30 * " ")
    logo, first, second = (
        '<img src="x_images/c.png">',
        '<img alt="1" src="_images/a.png" />',
        '<img src="_images/b.svg">',
    )
    page = f"{logo}<article>{first}{second}</article>"
    size = 'src="_images/a.png" width="640" height="480"'
    expected = page.replace('src="_images/a.png"', size).replace('b.svg"', 'b.svg" loading="lazy"')
    assert site.lightened(page, tmp_path) == expected


def test_cards_are_of_what_is_linked_from_another_page():
    row = '<div class="ledger-row x"><p><span id="a-eq1"></span>holds</p>\n<p>It is <a href="x.html" id="i">so</a>.</p><p>no</p></div>'
    pages = {
        "pages/ledger.html": f'<article><a href="#a-eq1"></a>{row}{row.replace("eq1", "eq2")}</article>',
        "chapters/a.html": '<article><a href="../pages/ledger.html#a-eq1">✓</a></article><a href="b.html#equation-e"></a>',
        "chapters/b.html": '<article><div class="math" id="equation-e"><span class="eqno">(1)</span>\\[x\\]</div></article>',
    }
    assert site.cards(pages) == {"pages/ledger.html#a-eq1": "<p>holds</p> <p>It is <a>so</a>.</p>"}
    pages["chapters/a.html"] = pages["chapters/a.html"].replace("</article>", "") + "</article>"
    assert site.cards(pages)["chapters/b.html#equation-e"] == "\\[x\\]"


def test_a_description_is_short_and_its_letters_are_harmless():
    found = site.tags('A "title"', "chapters/a", "https://a.github.io/b/", 50 * "word ")
    assert 'content="A &quot;title&quot;"' in found
    assert 39 * " word" + "…" in found.replace('="word', '=" word')
    assert "description" not in site.tags("T", "a", "https://h/", "")


@pytest.mark.system
def test_the_extension_in_a_small_sphinx_project(tmp_path):
    from sphinx.application import Sphinx

    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text(
        "extensions = ['myst_nb', 'sphinx_design', 'kexue.book.sphinx']\nhtml_theme = 'sphinx_book_theme'\nmyst_substitutions = {}\n"
        "myst_enable_extensions = ['substitution', 'dollarmath', 'colon_fence', 'attrs_inline']\nnb_execution_mode = 'off'\nhtml_theme_options = {}\n"
    )
    (source / "pyproject.toml").write_text("[project.urls]\nRepository = 'https://github.com/a/book'\n")
    (source / "ledger").mkdir()
    (source / "ledger" / "a.toml").write_text(
        "title='T'\ntitle_zh='题'\ngloss='g'\ndate='2019'\nurl='http://u'\nprerequisites=[]\ndata=[]\nedition=1\n"
        "[[row]]\nid='a.claim1'\nsort='claim'\nplace='¶ 1'\nstatement='it helps'\nexpected='refuted'\nwhy='it harms'\ngrave='much'\n"
    )
    (source / "ledger" / "evidence.json").write_text(json.dumps({"verifies": {}, "fails": {}, "rows": []}))
    (source / "_toc.yml").write_text("      - file: chapters/a\n")
    (source / "chapters").mkdir()
    shown = new_code_cell("verdict", execution_count=1)
    verdict = {"id": "a.claim1", "verdict": "refuted", "measured": [["harm", 3]]}
    shown.outputs = [
        nbformat.v4.new_output("display_data", data={ledger.MIME_TYPE: verdict, "text/html": "<p></p>"})
    ]
    nbformat.write(
        new_notebook(
            cells=[
                new_markdown_cell("# A\n\n## It harms\n\nMuch harm, and harm again; `pain`, charm."),
                shown,
            ]
        ),
        source / "chapters" / "a.ipynb",
    )
    (source / "pages").mkdir()
    (source / "pages" / "glossary.md").write_text(
        "# G\n\n| 中 | p | e |\n|---|---|---|\n| 熵 | shāng | harm, pain (of) |\n"
    )
    for name in ("ledger", "errata"):
        (source / "pages" / f"{name}.md").write_text(f"# A page\n\nBefore.\n\n```{{{name}}}\n```\n")
    (source / "index.md").write_text(
        "# Title\n\n{{ ledger_claims_found }}\n\n```{toctree}\nplot\npages/glossary\npages/ledger\npages/errata\nchapters/a\n```\n"
    )
    cell = new_code_cell("figure", execution_count=1)
    cell.outputs = [
        nbformat.v4.new_output("display_data", data={sphinx.PLOTLY_MIME: json.loads(slider().to_json())})
    ]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Plot"), cell]), source / "plot.ipynb")
    (source / "plot.py").write_text("figure\n")
    app = Sphinx(
        str(source), str(source), str(tmp_path / "html"), str(tmp_path / "trees"), "html", status=None
    )
    app.build()
    assert app.config.html_theme_options["repository_url"] == "https://github.com/a/book"
    assert "<strong>1</strong> refuted" in (tmp_path / "html" / "index.html").read_text()
    filled = (tmp_path / "html" / "pages" / "ledger.html").read_text()
    assert 'id="a-claim1"' in filled
    assert "{ledger}" not in filled
    assert "harm = 3." in (tmp_path / "html" / "pages" / "errata.html").read_text()
    chapter = (tmp_path / "html" / "chapters" / "a.html").read_text()
    link = '<a class="kexue-term reference internal" href="../pages/glossary.html#term-harm-pain-of">harm</a>'
    assert f"Much {link}, and harm again; <code" in chapter
    assert chapter.count("kexue-term") == 1
    assert '<meta property="og:url" content="https://a.github.io/book/chapters/a.html" />' in chapter
    kept = (tmp_path / "html" / "_static" / "cards.js").read_text()
    assert '"pages/glossary.html#term-harm-pain-of": "<p>熵</p> <p>shāng</p> <p>harm, pain (of)</p>"' in kept
    assert "<loc>https://a.github.io/book/plot.html</loc>" in (tmp_path / "html" / "sitemap.xml").read_text()
    assert "location.host ===" in (tmp_path / "html" / "404.html").read_text()
    page = (tmp_path / "html" / "plot.html").read_text()
    assert "all.min.js" not in page
    assert "kexue-interactive" in page
    assert "THEBE_JS_URL" not in page
    assert "_sources/plot.py" in page
    assert (tmp_path / "html" / "_sources" / "plot.py").read_text() == "figure\n"
    assert (tmp_path / "html" / "_static" / "plotly.min.js").stat().st_size > 1e6
