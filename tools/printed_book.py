"""The book as one file: `python tools/printed_book.py HTML TARGET`, which is `make pdf` and `make epub`.

HTML is the folder of the built book; TARGET ends in .pdf or .epub. All pages become one, in the order of
_toc.yml (`Book.document`); Chromium typesets its mathematics and draws its interactive figures, and then prints
it, or hands its pages back with MathML and pictures. Needs Chromium (or its path in CHROMIUM).
"""

import base64
import functools
import html
import json
import os
import posixpath
import re
import shutil
import sys
import time
import tomllib
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import lxml.html
import yaml
from kexue.book.sphinx import repository
from lxml.html import HtmlElement, builder
from playwright.sync_api import Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HOST = "http://book/"  # answered from the folder of the built book; nothing else is
STYLE = Path(__file__).with_suffix(".css").read_text("utf-8")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
TEXT_WIDTH = 604  # CSS pixels: A4 without its margins, 160 mm

COLOURED = ("c", "k", "s")  # of code: comments, keywords and strings

Node = HtmlElement

PAPER = """
@page { size: A4; margin: 22mm 25mm; @bottom-center { content: counter(page); font: 9pt sans-serif } @top-right { font: 8pt sans-serif } }
@page front { @bottom-center { content: none } }
#title { page: front }
body { font-size: 10pt }
img { max-width: 112mm; max-height: 210mm }
.draft > section:not(#contents) { visibility: hidden }
"""

ABOUT = """This edition is made from the pages at <a href="{0}">{0}</a>. What they fold it leaves out where it is the
code behind figures, tables and tests, which stand there under “Show code cell source” and in the ledger; the
solutions of exercises, the protocols and the details of verdicts it shows in small type. A figure that moves there
stands still here. Beside an equation’s number, and before a verdict, ✓ says that it holds, ◐ that it holds under a
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
        """Where the workflow `publish` puts the book."""
        owner, name = urlsplit(repository(ROOT)).path.strip("/").split("/")
        return f"https://{owner}.github.io/{name}/"

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
        front = [self.title_page(), contents(sections)]
        heads = (
            f'@page {each.get("id")} {{ @top-right {{ content: {json.dumps(short(each), ensure_ascii=False)} }} }} '
            f'#{each.get("id")} {{ page: {each.get("id")} }}\n'
            for each in sections
        )
        style = builder.STYLE(f"{STYLE}\n{PAPER}\n{''.join(heads)}")
        return builder.HTML({"lang": "en", "data-theme": "light"}, self.head(style), builder.BODY(*front, *sections))

    def head(self, style: Node) -> Node:
        first = (self.html / f"{self.parts[0][1][0]}.html").read_text("utf-8")
        (mathjax,) = re.findall(r"<script>(window\.MathJax = .*?)</script>", first, re.S)
        link = builder.LINK(rel="stylesheet", href="_static/pygments.css")
        scripts = [builder.SCRIPT(src=f"_static/{name}") for name in ("mathjax/tex-chtml.js", "plotly.min.js")]
        return builder.HEAD(
            builder.META(charset="utf-8"), builder.TITLE(self.config["title"]), link, style,
            builder.SCRIPT(f"{mathjax}; Object.assign(MathJax.options, {{menuOptions: {{settings: {{assistiveMml: false}}}}}})"),
            *scripts,
        )

    def title_page(self) -> Node:
        return lxml.html.fragment_fromstring(
            f'<section class="page" id="title"><p class="name">{html.escape(self.config["title"])}</p>'
            f'<p>{html.escape(self.config["author"])}</p><p>Version {self.version}</p>'
            f'<div class="about"><p>{ABOUT.format(self.address)}</p>'
            f'<p>{html.escape(self.config["html"]["extra_footer"])}</p></div></section>'
        )

    def section(self, page: str) -> Node:
        """One page, with what paper needs of it; its anchors begin with the page's name."""
        text = (self.html / f"{page}.html").read_text("utf-8")
        parser = lxml.html.HTMLParser(encoding="utf-8")
        article = lxml.html.document_fromstring(text.encode(), parser=parser).find(".//article")
        assert article is not None
        trim(article)
        for element in list(article.iter(lxml.etree.Element)):
            if (name := element.get("id")) and not name.startswith("plotly-"):
                element.set("id", f"{self.pages[page]}--{name}")
            if (address := element.get("href")) is not None:
                element.set("href", self.aim(page, address))
            if element.tag == "img":
                element.set("src", self.below(page, element.get("src", "")))
            if "kexue-interactive" in element.get("class", ""):
                element.set("data-live", f"{self.address}{page}.html")
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
    """Remove what only a screen has a use for, open what is folded, and name the tests instead of printing them."""
    for element in article.xpath(
        ".//a[contains(@class, 'headerlink')] | .//div[contains(@class, 'toctree-wrapper')]"
        " | .//script[@src or not(ancestor::figure)] | .//summary//svg | .//*[contains(@class, 'sd-stretched-link')]"
        " | .//div[contains(@class, 'tag_hide-input')]/details"
    ):
        element.drop_tree()
    for details in article.xpath(".//div[contains(@class, 'ledger-row')]//details"):
        details.set("class", "tests")
        for code in details.xpath("./div"):
            code.drop_tree()
        for test in details.xpath("./p[@id]"):
            path, space, rest = (test.text or "").partition(" ")
            test.text = f"{path}::{test.get('id')}{space}{rest}"
    for details in list(article.iter("details")):
        summary = details.find("summary")
        assert summary is not None
        shown = " ".join(summary.text_content().split())
        details.tag, details.attrib["class"] = "div", f"{details.get('class') or ''} unfolded".strip()
        if shown == "More" or shown.startswith("Show code cell"):
            summary.drop_tree()
        else:
            summary.tag = "p"
            summary.attrib.clear()
            summary.set("class", "unfolded-title")
    for token in article.xpath(".//*[self::pre or self::code or self::dt]//span"):
        if (token.get("class") or "")[:1] not in COLOURED:
            token.drop_tag()
    for element in article.xpath(".//*[@tabindex or @role]"):  # the second with a value that is no longer one
        element.attrib.pop("tabindex", None)
        element.attrib.pop("role", None)
    for name in article.xpath(".//div[@data-row]//strong[1]"):
        name.tag = "a"
        name.set("href", f"../pages/ledger.html#{name.text_content().replace('.', '-')}")


def short(section: Node) -> str:
    """A page's title up to its colon."""
    return heading(section).text_content().partition(":")[0]


def heading(section: Node) -> Node:
    return section.xpath("(.//*[self::h1 or self::h2][not(@class = 'part')])[1]")[0]


def contents(sections: list[Node]) -> Node:
    """Parts, chapters and their sections, as nested lists; the span in each link is for the number of its page."""

    def entry(target: str, title: Node, below: list[Node]) -> Node:
        link = builder.A(title.text_content(), builder.SPAN("000", {"class": "number", "data-to": target}))
        link.set("href", f"#{target}")
        return builder.LI(link, *([builder.OL(*below)] if below else []))

    entries = builder.OL()
    for section in sections:
        if (part := section.find("h1[@class='part']")) is not None:
            entries.append(builder.LI(builder.SPAN(part.text, {"class": "part"}), builder.OL()))
        title = heading(section)
        below = [
            entry(parent.get("id", ""), each, [])
            for each in section.iter(f"h{int(title.tag[1]) + 1}")
            if (parent := each.getparent()) is not None
        ]
        within = entries if title.tag == "h1" else entries[-1][-1]
        within.append(entry(section.get("id", ""), title, below))
    return builder.SECTION({"class": "page", "id": "contents"}, builder.H1("Contents"), entries)


# --- In the browser ----------------------------------------------------------------------------------------


def browser() -> str:
    """The path of Chromium, or of its like."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no Chromium found: install one, or name it in CHROMIUM")


@contextmanager
def opened(book: Book) -> Iterator[Page]:
    """The one document in Chromium, as wide as paper, its mathematics typeset. No request leaves the folder."""
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
        chromium = playwright.chromium.launch(executable_path=browser(), args=FLAGS)
        page = chromium.new_page(viewport={"width": TEXT_WIDTH, "height": 900})
        page.set_default_timeout(180_000)
        page.emulate_media(media="print")
        page.route("**/*", answer)
        page.goto(HOST, wait_until="load")
        page.evaluate("() => MathJax.startup.promise.then(() => document.fonts.ready).then(() => null)")
        wrong = page.evaluate("() => [...document.querySelectorAll('mjx-merror')].map(e => e.textContent)")
        if missing or wrong:
            raise RuntimeError(f"not in the built book: {missing}; not typeset: {wrong}")
        yield page
        chromium.close()


# Each interactive figure becomes a picture of what it shows first, or of a story's end, and its caption says so.
STILLS = """async format => {
  for (const plot of document.querySelectorAll('.plotly-graph-div')) {
    const figure = plot.closest('figure'), [slider] = plot.layout.sliders, [menu] = plot.layout.updatemenus ?? [];
    const step = menu ? slider.steps.at(-1) : slider.steps[slider.active];
    if (menu) await Plotly[step.method](plot, ...step.args);
    const {width, height, _size} = plot._fullLayout;
    const layout = {...plot.layout, sliders: [], updatemenus: [], paper_bgcolor: '#fff'};
    for (const axis of ['xaxis', 'yaxis']) layout[axis] = {...layout[axis], automargin: true};
    const size = {format, width, height: height - _size.b + 60, scale: 3};  // without the slider
    const src = await Plotly.toImage({data: plot.data, layout}, size);
    const img = Object.assign(document.createElement('img'), {alt: figure.getAttribute('aria-label'), src});
    await img.decode();
    const live = figure.dataset.live, at = `${menu ? menu.buttons[0].label + ', ' : ''}${slider.currentvalue.prefix}${step.label}`;
    figure.querySelector('figcaption').insertAdjacentHTML('beforeend',
      ` Still (${at}) of an interactive figure, which moves at <a href="${live}">${live}</a>.`);
    figure.querySelectorAll('script').forEach(e => e.remove());
    for (const name of ['role', 'aria-label', 'data-live']) figure.removeAttribute(name);
    plot.parentElement.replaceWith(img);
  }
}"""

# What is wider than the text becomes smaller. What then still sticks out is returned.
FIT = """width => {
  const all = s => [...document.querySelectorAll(s)];
  for (const line of all('div.math')) {
    const formula = line.querySelector('mjx-container'), number = line.querySelector('.eqno');
    const room = line.clientWidth - (number ? 2 * number.offsetWidth + 8 : 0);
    const wide = formula.querySelector('mjx-math').getBoundingClientRect().width;
    if (wide > room) formula.style.fontSize = `${parseFloat(formula.style.fontSize || 100) * room / wide}%`;
  }
  for (const table of all('table')) {
    const room = table.parentElement.clientWidth;
    if (table.offsetWidth > room) table.style.zoom = room / table.offsetWidth;
  }
  return all('body *').filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 200));
}"""


def print_pdf(book: Book, target: Path) -> None:
    """Print twice: the second time with the numbers of the pages, which the first has shown, in the contents."""
    from pypdf import PdfReader

    with opened(book) as page:
        page.evaluate(STILLS, "svg")
        if out := page.evaluate(FIT, TEXT_WIDTH):
            raise RuntimeError(f"wider than the page: {out[:5]}")
        paper = {"path": target, "prefer_css_page_size": True, "print_background": True}
        page.evaluate("() => document.body.classList.add('draft')")  # nothing is painted but the contents
        page.pdf(**paper)
        reader = PdfReader(target)
        numbers = {
            unquote(name.removeprefix("/")): reader.get_destination_page_number(place) + 1
            for name, place in reader.named_destinations.items()
        }
        page.evaluate(
            """numbers => { document.body.classList.remove('draft');
              for (const e of document.querySelectorAll('#contents .number')) e.textContent = numbers[e.dataset.to] }""",
            numbers,
        )
        page.pdf(**paper, outline=True, tagged=True)


# --- E-book ------------------------------------------------------------------------------------------------

# Formulas as MathML, with their TeX for readers that show none; then each page as XHTML.
PAGES = """() => {
  for (const item of MathJax.startup.document.math) {
    const text = MathJax.startup.toMML(item.root);
    const math = document.importNode(new DOMParser().parseFromString(text, 'application/xml').documentElement, true);
    for (const e of [math, ...math.querySelectorAll('*')])
      for (const {name} of [...e.attributes]) if (name.startsWith('data-') || name === 'class') e.removeAttribute(name);
    math.setAttribute('alttext', item.math.trim());
    item.typesetRoot.replaceWith(math);
  }
  document.querySelectorAll('script, #contents .number').forEach(e => e.remove());
  const serial = new XMLSerializer();
  const title = e => e.querySelector('h1:not(.part), h2')?.textContent ?? document.title;
  return [...document.querySelectorAll('section.page')].map(e => [e.id, title(e), serial.serializeToString(e)]);
}"""

CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""

PACKAGE = """<?xml version="1.0" encoding="UTF-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{uuid}</dc:identifier>
<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator><dc:language>en</dc:language><dc:language>zh</dc:language>
<dc:source>{address}</dc:source><dc:rights>{rights}</dc:rights>
<meta property="dcterms:modified">{modified}</meta>
<meta property="schema:accessMode">textual</meta><meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta><meta property="schema:accessibilityFeature">MathML</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
<meta property="schema:accessibilitySummary">Every figure has a description; formulas are MathML.</meta>
</metadata>
<manifest>
{manifest}
</manifest>
<spine>
{spine}
</spine>
</package>"""


def write_epub(book: Book, target: Path) -> None:
    """One XHTML file a page, MathML, PNG pictures, no scripts; the contents are EPUB's navigation."""
    with opened(book) as page:
        page.evaluate(STILLS, "png")
        sections: list[tuple[str, str, str]] = page.evaluate(PAGES)
    files: dict[str, bytes] = {"style.css": STYLE.encode()}
    for name, title, body in sections:
        body = re.sub(r'href="#(\w+)', lambda found: f'href="{found[1]}.xhtml#{found[1]}', body)
        for picture in re.findall(r'src="(_images/[^"]+)"', body):
            files[picture] = (book.html / picture).read_bytes()
        body = re.sub(r'src="data:image/png;base64,([^"]+)"', lambda found: still(found[1], files), body)
        if name == "contents":
            body = body.replace("<section", '<nav xmlns:epub="http://www.idpf.org/2007/ops" epub:type="toc"', 1)
            body = f"{body.removesuffix('</section>')}</nav>"
        files[f"{name}.xhtml"] = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n'
            '<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">'
            f'<head><title>{html.escape(title)}</title><link rel="stylesheet" href="style.css"/></head>'
            f"<body>{body}</body></html>"
        ).encode()
    manifest = [item(name, content) for name, content in files.items()]
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    package = PACKAGE.format(
        uuid=uuid.uuid5(uuid.NAMESPACE_URL, book.address),
        title=html.escape(book.config["title"]),
        author=html.escape(book.config["author"]),
        address=book.address,
        rights=html.escape(book.config["html"]["extra_footer"]),
        modified=time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        manifest="\n".join(manifest),
        spine="\n".join(f'<itemref idref="{name}"/>' for name, *_ in sections),
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("EPUB/package.opf", package)
        for name, content in files.items():
            archive.writestr(f"EPUB/{name}", content)


def still(encoded: str, files: dict[str, bytes]) -> str:
    """Put a picture of a page among the files, and give its address as an attribute."""
    name = f"_images/still{sum('still' in each for each in files)}.png"
    files[name] = base64.b64decode(encoded)
    return f'src="{name}"'


def item(name: str, content: bytes) -> str:
    """A file in the package's list."""
    stem, _, ending = posixpath.basename(name).rpartition(".")
    kind = {"css": "text/css", "png": "image/png", "xhtml": "application/xhtml+xml"}[ending]
    properties = " ".join(
        word for word, there in (("nav", stem == "contents"), ("mathml", b"<math" in content)) if there
    )
    # An id may not begin with a digit, as the names of pictures may.
    name_of = stem if ending == "xhtml" else f"{ending}-{stem}"
    extra = f' properties="{properties}"' if properties else ""
    return f'<item id="{name_of}" href="{name}" media-type="{kind}"{extra}/>'


WRITERS = {".pdf": print_pdf, ".epub": write_epub}


def main(folder: str, name: str) -> int:
    book, target = Book(Path(folder)), Path(name)
    if not (book.html / "index.html").is_file() or target.suffix not in WRITERS:
        print(f"Needs a built book (make html) and a name in {' or '.join(WRITERS)}: {folder} {name}", file=sys.stderr)
        return 2
    try:
        WRITERS[target.suffix](book, target)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The book: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
