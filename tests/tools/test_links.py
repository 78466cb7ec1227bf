"""tools/links.py: which links it calls faulty, on small books."""

import links
import pytest

PAGE = "<!DOCTYPE html><html><head><title>t</title></head><body><h1 id='here'>t</h1>{}</body></html>"


@pytest.fixture
def book(tmp_path):
    """A book of two pages, a picture, a stylesheet; `add` writes a page with the given elements."""
    root = tmp_path / "html"

    def add(name: str, elements: str):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(elements), "utf-8")
        return root

    add("index.html", "<a href='below/other.html#here'>l</a>")
    add("below/other.html", "<a name='old' href='../index.html?q=a#here'>l</a><p id='函数'></p>")
    (root / "a picture.png").write_bytes(b"png")
    (root / "style.css").write_text("p { background: url('a%20picture.png') } i { src: url(data:font) }")
    (tmp_path / "secret.html").write_text("outside")
    return add


SOUND = [
    "<a href='#here'>l</a><a href='#'>l</a><a href='#top'>l</a>",
    "<a href='below/other.html#%E5%87%BD%E6%95%B0'>l</a><a href='below/other.html#函数'>l</a>",
    "<a href='below/../below/./other.html#old'>l</a>",
    "<img src='a%20picture.png' srcset='a%20picture.png 1x, a%20picture.png 2x'><img src='data:image/png;base64,x'>",
    "<link rel='stylesheet' href='style.css?digest=1'><a href='mailto:a@b.c'>l</a>",
    "<a href='https://kexue.fm/archives/6620#函数'>l</a><a href='https://doi.org/10.1000/a(b)c'>l</a>",
    "<meta http-equiv='Refresh' content='0; url=below/other.html'>",
]


@pytest.mark.parametrize("elements", SOUND)
def test_sound_links_are_not_reported(book, elements):
    assert links.check(book("page.html", elements)) == []


FAULTY = {
    "<a href='none.html'>l</a>": "page.html: 'none.html': no such file",
    "<a href='below/none.html#here'>l</a>": "page.html: 'below/none.html#here': no such file",
    "<a href='Index.html'>l</a>": "page.html: 'Index.html': no such file (capitals count)",
    "<a href='below/'>l</a>": "page.html: 'below/': no such file",
    "<img src='a.png'>": "page.html: 'a.png': no such file",
    "<img src=''>": "page.html: '': empty",
    "<img srcset='a%20picture.png 1x, a.png 2x'>": "page.html: 'a.png': no such file",
    "<script src='a.js'></script>": "page.html: 'a.js': no such file",
    "<link rel='stylesheet' href='a.css'>": "page.html: 'a.css': no such file",
    "<meta http-equiv='Refresh' content='0; url=none.html'>": "page.html: 'none.html': no such file",
    "<a href='#nowhere'>l</a>": "page.html: '#nowhere': no such anchor on page.html",
    "<a href='below/other.html#nowhere'>l</a>": "page.html: 'below/other.html#nowhere': no such anchor on below/other.html",
    "<a href='#Here'>l</a>": "page.html: '#Here': no such anchor on page.html",
    "<a href='../secret.html'>l</a>": "page.html: '../secret.html': leads out of the book",
    "<a href='below/../../html/index.html'>l</a>": "page.html: 'below/../../html/index.html': leads out of the book",
    "<a href='/index.html'>l</a>": "page.html: '/index.html': leads out of the book",
    "<a href='http://kexue.fm'>l</a>": "page.html: 'http://kexue.fm': not a well-formed https address",
    "<a href='https://kexue'>l</a>": "page.html: 'https://kexue': not a well-formed https address",
    "<a href='https://kexue.fm/a b'>l</a>": "page.html: 'https://kexue.fm/a b': not a well-formed https address",
    "<a href='//kexue.fm'>l</a>": "page.html: '//kexue.fm': not a well-formed https address",
    "<a href='https://[kexue.fm'>l</a>": "page.html: 'https://[kexue.fm': Invalid IPv6 URL",
}


@pytest.mark.parametrize("elements", FAULTY)
def test_a_faulty_link_is_reported_with_its_page(book, elements):
    (found,) = links.check(book("page.html", elements))
    assert found.startswith(FAULTY[elements])


def test_links_of_every_page_are_checked_from_where_the_page_is(book):
    root = book("below/page.html", "<a href='other.html'>l</a><a href='index.html'>l</a>")
    book("page.html", "<a href='other.html'>l</a><a href='other.html'>l</a>")
    assert [found.partition(": no")[0] for found in links.check(root)] == [
        "below/page.html: 'index.html'",
        "page.html: 'other.html'",
    ]


def test_a_stylesheet_names_files_that_are_there(book):
    root = book("page.html", "")
    (root / "below" / "style.css").write_text('@font-face { src: url("font.woff2") format("woff2") }')
    assert links.check(root) == ["below/style.css: 'font.woff2': no such file (capitals count)"]


def test_pages_that_the_theme_ships_are_none_of_the_book(book):
    assert links.check(book("_static/demonstration.html", "<a href='none.html'>l</a>")) == []


def test_the_command_says_what_is_wrong_and_fails(book, tmp_path, capsys):
    root = book("page.html", "")
    assert links.main(str(root)) == 0
    assert capsys.readouterr().out == "0 faulty links\n"
    book("page.html", "<a href='none.html'>l</a>")
    assert links.main(str(root)) == 1
    assert "page.html: 'none.html': no such file" in capsys.readouterr().out
    assert links.main(str(tmp_path / "none")) == 2
    assert "make html" in capsys.readouterr().err
