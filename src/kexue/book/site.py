"""What makes the built pages quick and helpful, while Sphinx writes them and after it wrote them.

Cards that show what a link leads to; links to the glossary; pictures and formulas that wait until they are
seen; a font of the icons that occur; tags for previews, a map of the site, a page for a wrong address.
Nothing here asks another host.
"""

import html
import json
import logging
import posixpath
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

__all__ = ["address", "cards", "finish", "lightened", "link_terms", "lost", "sitemap", "tags", "terms"]

GLOSSARY = "pages/glossary"
_ICONS = "_static/vendor/fontawesome"


def address(repository: str) -> str:
    """Where GitHub Pages shows a repository's book."""
    owner, name = urlsplit(repository).path.strip("/").split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


# --- While pages are written -------------------------------------------------------------------


def terms(english: str) -> list[str]:
    """The terms of a cell of the glossary: "sampling, drawing" has two; brackets are left out."""
    found = re.sub(r"\(.*?\)", "", english).split(",")
    return [" ".join(term.split()) for term in found if term.strip()]


def link_terms(app: "Sphinx", doctree: "nodes.document", page: str) -> None:
    """Give each row of the glossary an anchor; in a chapter, link each term where it first occurs."""
    from docutils import nodes

    if app.builder.format != "html" or not (page == GLOSSARY or page.startswith("chapters/")):
        return
    glossary = doctree if page == GLOSSARY else app.env.get_doctree(GLOSSARY)
    anchors = {}
    for row in glossary.findall(nodes.row):
        if not isinstance(row.parent, nodes.thead):
            english = row[-1].astext()
            row["ids"] = [f"term-{nodes.make_id(english)}"]
            anchors.update(dict.fromkeys(terms(english), row["ids"][0]))
    if page == GLOSSARY or not anchors:
        return
    longest_first = sorted(anchors, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b")
    root = app.builder.get_relative_uri(page, GLOSSARY)
    for text in list(doctree.findall(nodes.Text)):
        paragraph = text.parent
        if not isinstance(paragraph, nodes.paragraph) or not isinstance(paragraph.parent, nodes.section):
            continue
        parts: list[nodes.Node] = []
        end = 0
        for match in pattern.finditer(text):
            if match[0] not in anchors:  # linked before
                continue
            anchor = anchors.pop(match[0])
            link = nodes.reference(
                "", match[0], refuri=f"{root}#{anchor}", internal=True, classes=["kexue-term"]
            )
            parts += [nodes.Text(text[end : match.start()]), link]
            end = match.end()
        if parts:
            paragraph.replace(text, [*parts, nodes.Text(text[end:])])


def tags(title: str, page: str, base: str, text: str) -> str:
    """What other sites show of a page that is linked there. `text` is its first paragraph."""
    short = text if len(text) <= 200 else text[:199].rpartition(" ")[0] + "…"
    found = {
        "og:type": "article",
        "og:title": title,
        "og:url": f"{base}{page}.html",
        "og:description": short,
        "og:image": f"{base}_static/social.png",
        "og:image:alt": "A staircase and the smooth curves that approach it: Executable Scientific Spaces",
        "twitter:card": "summary_large_image",
    }
    lines = [
        f'<meta property="{name}" content="{html.escape(value)}" />' for name, value in found.items() if value
    ]
    return "\n".join([f'<meta name="description" content="{html.escape(short)}" />' if short else "", *lines])


def lost(app: "Sphinx") -> Iterator[tuple[str, dict[str, Any], str]]:
    """The page 404.html, shown at any address: at the book's own host, a base makes its links right."""
    base = app.config.html_baseurl
    host, path = urlsplit(base).netloc, urlsplit(base).path
    script = (
        f"if (location.host === {json.dumps(host)}) "
        f"document.write('<base href=' + JSON.stringify({json.dumps(path)}) + '>')"
    )
    body = (
        "<h1>No such page</h1><p>The address may be wrong, or the page was renamed. The menu lists all "
        'chapters; <a href="search.html">search</a> looks through all of them, and '
        '<a href="pages/intro.html">the first page</a> says what they are.</p>'
    )
    yield (
        "404",
        {"title": "No such page", "body": body, "metatags": f"<script>{script}</script>"},
        "page.html",
    )


def sitemap(base: str, pages: list[str]) -> str:
    """The addresses of all pages, for search engines."""
    found = "\n".join(f"<url><loc>{base}{page}.html</loc></url>" for page in sorted(pages))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{found}\n</urlset>\n'
    )


# --- When they are written ---------------------------------------------------------------------


def finish(app: "Sphinx", exception: Exception | None) -> None:
    """The last step: pages lighter, icons that occur, cards, the map of the site."""
    if exception is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    names = {path.relative_to(out).as_posix(): path for path in out.rglob("*.html")}
    pages = {
        name: lightened(path.read_text("utf-8"), path.parent)
        for name, path in names.items()
        if not name.startswith("_static/")
    }
    for name, text in pages.items():
        names[name].write_text(text, "utf-8")
    content = json.dumps(cards(pages), ensure_ascii=False, indent=0, sort_keys=True)
    (out / "_static" / "cards.js").write_text(f"window.kexueCards = {content};\n", "utf-8")
    known = [page for page in app.env.found_docs if f"{page}.html" in pages]
    (out / "sitemap.xml").write_text(sitemap(app.config.html_baseurl, known), "utf-8")
    for style in out.glob(f"{_ICONS}/*/css/all.min.css"):  # newer themes bring none
        _only_used_icons(style.parents[1], out)


def lightened(page: str, folder: Path) -> str:
    """A page's HTML that shows its text as soon as it can.

    Icons are a font: the script that draws them again, and the command to load the font before the text, go.
    Pictures below the first are loaded when they come near, and have their sizes, so that nothing moves then.
    """
    page = re.sub(rf'\s*<script src="[^"]*{_ICONS}[^"]*"></script>', "", page)
    page = re.sub(r'\s*<link rel="preload" as="font"[^>]*>', "", page)
    # The sidebar is a part of the page that can be jumped to, its logo included.
    page = page.replace(
        '<div class="bd-sidebar-primary ',
        '<div role="complementary" aria-label="The book" class="bd-sidebar-primary ',
    )
    head, article, body = page.partition("<article")
    seen = 0

    def picture(found: re.Match[str]) -> str:
        nonlocal seen
        seen += 1
        with open(folder / found["path"], "rb") as file:
            start = file.read(24)
        size = (
            '" width="{}" height="{}'.format(*struct.unpack(">II", start[16:]))
            if start[1:4] == b"PNG"
            else ""
        )
        return found[0].replace(found["path"], found["path"] + size) + (' loading="lazy"' if seen > 1 else "")

    return (
        head
        + article
        + re.sub(r'<img(?=[^>]*src="(?P<path>[^":]*_images/[^"]*)")[^>]*?(?=\s*/?>)', picture, body)
    )


# Each with the anchor and what the card shows, as Sphinx writes them.
_PLACES = [
    re.compile(pattern, re.S)
    for pattern in (
        r'<div class="[^"]*ledger-row[^"]*">\s*(?P<card><p><span id="(?P<id>[^"]+)">.*?</p>\s*<p>.*?</p>)',
        r'<div class="citation" id="(?P<id>[^"]+)".*?(?P<card><p>.*?</p>)',
        r'<tr[^>]* id="(?P<id>term-[^"]+)"[^>]*>(?P<card>.*?)</tr>',
        r'<div class="math[^"]*" id="(?P<id>[^"]+)">.*?</span>(?P<card>\\\[.*?)</div>',
    )
]


def cards(pages: Mapping[str, str]) -> dict[str, str]:
    """What is shown of a place on another page beside a link to it, by "page#anchor", for all such links.

    Of a row of the ledger its outcome and text, of a source its entry, of a term its line, or an equation.
    """
    wanted = set()
    for name, text in pages.items():
        article = text.partition("<article")[2].partition("</article>")[0]
        for link in re.findall(r'href="([^":]+\.html#[^"]+)"', article):
            wanted.add(posixpath.normpath(posixpath.join(posixpath.dirname(name), link)))
    found = {}
    for name, text in pages.items():
        for match in (match for place in _PLACES for match in place.finditer(text)):
            if (key := f"{name}#{match['id']}") in wanted:
                # A card stands on any page: addresses and anchors of its own page would be wrong there.
                card = re.sub(r' (?:href|id)="[^"]*"', "", match["card"])
                found[key] = " ".join(re.sub(r"</?td[^>]*>|<span></span>", "", card).split())
    return found


def _only_used_icons(folder: Path, out: Path) -> None:
    """Leave in the fonts the icons that a page or a style names, and load no other format."""
    from fontTools import subset

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    style = folder / "css" / "all.min.css"
    code = style.read_text("utf-8")
    pages = "".join(path.read_text("utf-8") for path in out.rglob("*.html") if "_static" not in path.parts)
    names = {name for value in re.findall(r'class="([^"]*\bfa-[^"]*)"', pages) for name in value.split()}
    styles = "".join(path.read_text("utf-8") for path in out.glob("_static/**/*.css") if path != style)
    used = {int(hexadecimal, 16) for hexadecimal in re.findall(r"\\([ef][0-9a-f]{3})\b", styles)}
    used |= {ord(letter) for letter in styles if 0xE000 <= ord(letter) < 0xF900}

    def rule(found: re.Match[str]) -> str:
        if not names & set(re.findall(r"\.(fa-[\w-]+):before", found[1])):
            return ""
        used.add(int(found[2], 16) if len(found[2]) > 1 else ord(found[2]))
        return found[0]

    code = re.sub(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\?([^"]+)"\}', rule, code)
    code = re.sub(r"@font-face\{[^}]*(?:Awesome\\ 5|family:FontAwesome)[^}]*\}", "", code)
    code = re.sub(
        r'url\([^)]*woff2\) format\("woff2"\),(url\([^)]*)ttf\) format\("truetype"\)',
        r'\1woff) format("woff")',
        code,
    )
    style.write_text(code, "utf-8")
    for font in (folder / "webfonts").glob("*.ttf"):
        options = subset.Options(flavor="woff", notdef_outline=True)
        loaded = subset.load_font(str(font), options)
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=used)
        subsetter.subset(loaded)
        subset.save_font(loaded, str(font.with_suffix(".woff")), options)
        font.unlink()
        font.with_suffix(".woff2").unlink(missing_ok=True)
