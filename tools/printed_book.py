"""The book as one PDF: `python tools/printed_book.py HTML PDF`, which is `make pdf`.

HTML is the folder of the built book. All its pages become one document, in the order of _toc.yml, without
what only a screen needs; Chromium (or what CHROMIUM names) typesets the mathematics, draws the interactive
figures, and prints it. tools/ebook.py makes an e-book of the same document.
"""

import functools
import html
import json
import os
import posixpath
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import lxml.html
import pypdfium2
import yaml
from lxml.html import builder
from playwright.sync_api import Page, Route, sync_playwright

from kexue.book.site import address
from kexue.book.sphinx import repository

ROOT = Path(__file__).resolve().parent.parent
HOST = "http://book/"  # answered from the folder of the built book; nothing else is
STYLE = Path(__file__).with_suffix(".css").read_text("utf-8")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
TEXT_WIDTH = 604  # CSS pixels: A4 without its margins, 160 mm
COLOURED = ("c", "k", "s")  # of code: comments, keywords and strings

Node: TypeAlias = Any  # an element of lxml

PAPER = """
@page { size: A4; margin: 22mm 25mm; @bottom-center { content: counter(page); font: 9pt sans-serif } }
@page front { @bottom-center { content: none } }
#title { page: front }
body { font-size: 10pt }
.kexue-interactive img { width: 112mm }
.draft > section:not(#contents) { visibility: hidden }
"""

ABOUT = """This edition is made from the pages at <a href="{0}">{0}</a>. Of what is folded there, it leaves
out the code of figures, tables and tests, and shows in small type the solutions of exercises, the
protocols and the details of verdicts. A figure that moves there stands still here. Beside the
number of an equation, and before a verdict, ✓ says that it holds, ◐ that it holds under a
condition, ✗ that it does not."""


# --- One document of all pages -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Book:
    """The built book in the folder `html`."""

    html: Path

    @functools.cached_property
    def parts(self) -> list[tuple[str, list[str]]]:
        """Caption and pages of each part; the first has the front page, and no caption."""
        toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
        named = [(part["caption"], [each["file"] for each in part["chapters"]]) for part in toc["parts"]]
        return [("", [toc["root"]]), *named]

    @functools.cached_property
    def pages(self) -> dict[str, str]:
        """The short name of each page, by its path without ending."""
        return {page: posixpath.basename(page) for _, pages in self.parts for page in pages}

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))

    @functools.cached_property
    def address(self) -> str:
        return address(repository(ROOT))

    @functools.cached_property
    def licence(self) -> str:
        return self.config["sphinx"]["config"]["html_theme_options"]["extra_footer"]

    @functools.cached_property
    def version(self) -> str:
        return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    def document(self) -> Node:
        """All pages in one <html>, after a title page and the contents."""
        sections = []
        for caption, pages in self.parts:
            for number, page in enumerate(pages):
                section = self.section(page)
                if caption:
                    for heading in section.iter("h1", "h2", "h3", "h4", "h5"):
                        heading.tag = f"h{int(heading.tag[1]) + 1}"
                if caption and not number:
                    section.insert(0, builder.H1(caption, {"class": "part"}))
                sections.append(section)
        heads = (
            f"@page {each.get('id')} {{ @top-right {{ content: '{short(each)}'; font: 8pt sans-serif }} }}\n"
            f"#{each.get('id')} {{ page: {each.get('id')} }}"
            for each in sections
        )
        style = builder.STYLE("\n".join([STYLE, PAPER, *heads]))
        figures = [each.get("id") for section in sections for each in section.find_class("plotly-graph-div")]
        data = [builder.SCRIPT(src=f"_static/figures/{name}.js") for name in figures]
        body = builder.BODY(self.title_page(), contents(sections), *sections, *data)
        return builder.HTML({"lang": "en", "data-theme": "light"}, self.head(style), body)

    def head(self, style: Node) -> Node:
        first = (self.html / f"{self.parts[0][1][0]}.html").read_text("utf-8")
        (found,) = re.findall(r"<script>window\.MathJax = (.*?)</script>", first, re.S)
        mathjax = json.loads(found)
        mathjax.pop("loader", None)  # what typesets a formula only when it is seen
        mathjax["options"]["menuOptions"] = {"settings": {"assistiveMml": False}}  # or each is there twice
        return builder.HEAD(
            builder.META(charset="utf-8"),
            builder.TITLE(self.config["title"]),
            builder.LINK(rel="stylesheet", href="_static/pygments.css"),
            style,
            builder.SCRIPT(f"window.MathJax = {json.dumps(mathjax)}"),
            builder.SCRIPT(src="_static/mathjax/tex-chtml.js"),
            builder.SCRIPT(src="_static/plotly.min.js"),
        )

    def title_page(self) -> Node:
        return lxml.html.fragment_fromstring(
            f'<section class="page" id="title"><p class="name">{html.escape(self.config["title"])}</p>'
            f"<p>{html.escape(self.config['author'])}</p><p>Version {self.version}</p>"
            f'<div class="about"><p>{ABOUT.format(self.address)}</p>'
            f"<p>{html.escape(self.licence)}</p></div></section>"
        )

    def section(self, page: str) -> Node:
        """One page, with what paper needs of it; its anchors begin with the page's name."""
        text = (self.html / f"{page}.html").read_text("utf-8")
        parser = lxml.html.HTMLParser(encoding="utf-8")
        article = lxml.html.document_fromstring(text.encode(), parser=parser).find(".//article")
        assert article is not None
        trim(article)
        for title in article.iter(
            "h1", "h2", "h3", "h4", "h5"
        ):  # a section may begin a sheet before its title
            if (name := title.getparent().attrib.pop("id", None)) is not None:
                title.set("id", name)
        for element in list(article.iter(lxml.etree.Element)):
            if (name := element.get("id")) and not name.startswith("plotly-"):
                element.set("id", f"{self.pages[page]}--{name}")
            if (address := element.get("href")) is not None:
                element.set("href", self.aim(page, address))
            if element.tag == "img":
                element.set("src", self.below(page, element.get("src", "")))
                element.attrib.pop("loading", None)  # all at once
            if "kexue-interactive" in element.get("class", ""):
                element.set("data-live", f"{self.address}{page}.html")
                for part in element.xpath(".//script | .//label"):  # what is of no use on paper
                    part.drop_tree()
        return builder.SECTION({"class": "page", "id": self.pages[page]}, *article)

    @staticmethod
    def below(page: str, address: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address)))

    def aim(self, page: str, address: str) -> str:
        """Where a link of a page leads in the one document, or on the web."""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return address
        path = self.below(page, parts.path).removesuffix(".html") if parts.path else page
        if path not in self.pages:
            return self.address + self.below(page, parts.path)
        anchor = f"--{unquote(parts.fragment)}" if parts.fragment else ""
        return f"#{self.pages[path]}{anchor}"


def trim(article: Node) -> None:
    """Remove what only a screen needs, open what is folded, and name tests instead of printing them."""
    for element in article.xpath(
        ".//a[contains(@class, 'headerlink') or contains(@class, 'sd-stretched-link')] | .//summary//svg"
        " | .//div[contains(@class, 'toctree-wrapper')] | .//script[@src or not(ancestor::figure)]"
        " | .//div[contains(@class, 'tag_hide-input')]/details"
    ):
        element.drop_tree()
    name_tests(article)
    unfold(article)
    for token in article.xpath(".//*[self::pre or self::code or self::dt]//span"):
        if (token.get("class") or "")[:1] not in COLOURED:
            token.drop_tag()
    for element in article.xpath(".//*[@tabindex or @role]"):  # e-books no longer know Sphinx's roles
        element.attrib.pop("tabindex", None)
        element.attrib.pop("role", None)
    for name in article.xpath(".//div[@data-row]//strong[1]"):
        name.tag = "a"
        name.set("href", f"../pages/ledger.html#{name.text_content().replace('.', '-')}")


def name_tests(article: Node) -> None:
    for details in article.xpath(".//div[contains(@class, 'ledger-row')]//details"):
        details.set("class", "tests")
        for code in details.xpath("./div"):
            code.drop_tree()
        for test in details.xpath("./p[@id]"):
            path, space, rest = (test.text or "").partition(" ")
            test.text = f"{path}::{test.get('id')}{space}{rest}"


def unfold(article: Node) -> None:
    for details in list(article.iter("details")):
        summary = details.find("summary")
        shown = " ".join(summary.text_content().split())
        details.tag = "div"
        details.set("class", f"{details.get('class') or ''} unfolded".strip())
        if shown == "More" or shown.startswith("Show code cell"):
            summary.drop_tree()
        else:
            summary.tag = "p"
            summary.attrib.clear()
            summary.set("class", "unfolded-title")


def short(section: Node) -> str:
    """A page's title up to its colon."""
    return heading(section).text_content().partition(":")[0]


def heading(section: Node) -> Node:
    return section.xpath("(.//*[self::h1 or self::h2][not(@class = 'part')])[1]")[0]


def contents(sections: list[Node]) -> Node:
    """Parts, chapters and their sections; the span in each link is for the number of its page."""

    def entry(target: str, title: Node, below: list[Node]) -> Node:
        link = builder.A(title.text_content(), builder.SPAN("000", {"class": "number", "data-to": target}))
        link.set("href", f"#{target}")
        return builder.LI(link, *([builder.OL(*below)] if below else []))

    entries = builder.OL()
    for section in sections:
        if (part := section.find("h1[@class='part']")) is not None:
            entries.append(builder.LI(builder.SPAN(part.text, {"class": "part"}), builder.OL()))
        title = heading(section)
        below = [entry(each.get("id", ""), each, []) for each in section.iter(f"h{int(title.tag[1]) + 1}")]
        within = entries if title.tag == "h1" else entries[-1][-1]
        within.append(entry(section.get("id", ""), title, below))
    return builder.SECTION({"class": "page", "id": "contents"}, builder.H1("Contents"), entries)


# --- In the browser ----------------------------------------------------------------------------------------


class NoBrowserError(Exception):
    """There is no Chromium."""


def browser() -> str:
    """The path of Chromium, or of its like."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if found := shutil.which(name):
            return found
    raise NoBrowserError("no Chromium found: install one, or name it in CHROMIUM")


@contextmanager
def opened(book: Book) -> Iterator[Page]:
    """The document in Chromium, as wide as paper, mathematics typeset. No request leaves the folder."""
    document = lxml.html.tostring(book.document(), encoding="unicode", doctype="<!DOCTYPE html>")

    def answer(route: Route) -> None:
        path = book.html / unquote(urlsplit(route.request.url).path.removeprefix("/"))
        if route.request.url == HOST:
            route.fulfill(body=document, content_type="text/html; charset=utf-8")
        elif route.request.url.startswith(HOST) and path.is_file():
            route.fulfill(path=path)
        else:
            missing.append(route.request.url)
            route.abort()

    missing: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=FLAGS, timeout=180_000)
        page = chromium.new_page(viewport={"width": TEXT_WIDTH, "height": 900})
        page.set_default_timeout(180_000)
        page.emulate_media(media="print")
        page.route("**/*", answer)
        page.goto(HOST, wait_until="load")
        page.add_script_tag(path=Path(__file__).with_suffix(".js"))
        page.evaluate("() => MathJax.startup.promise.then(() => document.fonts.ready).then(() => null)")
        wrong = page.evaluate("() => [...document.querySelectorAll('mjx-merror')].map(e => e.textContent)")
        if missing or wrong:
            raise RuntimeError(f"not in the built book: {missing}; not typeset: {wrong}")
        yield page
        chromium.close()


def print_pdf(book: Book, target: Path) -> None:
    """Print twice: the first time shows the numbers of the pages, which the second has in its contents.

    And again, should they differ then.
    """
    paper: dict[str, Any] = {"path": target, "prefer_css_page_size": True, "print_background": True}
    with opened(book) as page:
        page.evaluate("stills", "svg")
        if out := page.evaluate("fit", TEXT_WIDTH):
            raise RuntimeError(f"wider than the page: {out[:5]}")
        numbers = None
        for _ in range(4):
            page.evaluate("number", numbers)
            page.pdf(**paper, outline=numbers is not None, tagged=numbers is not None)
            with pypdfium2.PdfDocument(target) as pdf:
                found = {place: sheet_of(pdf, place) for place in page.evaluate("places")}
            if found == numbers:
                return
            numbers = found
    raise RuntimeError("the numbers of the pages do not come to rest")


def sheet_of(pdf: pypdfium2.PdfDocument, place: str) -> int:
    found = pypdfium2.raw.FPDF_GetNamedDestByName(pdf, place.encode())
    return int(pypdfium2.raw.FPDFDest_GetDestPageIndex(pdf, found)) + 1


def main(arguments: Sequence[str], write: Callable[[Book, Path], None] = print_pdf) -> int:
    folder, target = map(Path, arguments)
    book = Book(folder)
    if not (book.html / "index.html").is_file():
        print(f"no book in {folder}: make html", file=sys.stderr)
        return 2
    try:
        write(book, target)
    except NoBrowserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The book: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
