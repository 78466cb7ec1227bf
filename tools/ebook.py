"""The book as an e-book: `python tools/ebook.py HTML EPUB`, which is `make epub`.

HTML is the folder of the built book. Chromium hands the pages of the one document (tools/printed_book.py)
back as XHTML, with MathML, and with pictures in place of interactive figures; this packs them as EPUB 3.
"""

import base64
import html
import os
import posixpath
import re
import sys
import time
import uuid
import zipfile
from pathlib import Path

from printed_book import STYLE, Book, main, opened

CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""

PACKAGE = """<?xml version="1.0" encoding="UTF-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{uuid}</dc:identifier>
<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator><dc:language>en</dc:language>
<dc:source>{address}</dc:source><dc:rights>{rights}</dc:rights>
<meta property="dcterms:modified">{modified}</meta>
<meta property="schema:accessMode">textual</meta><meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">MathML</meta>
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
        page.evaluate("stills", "png")
        sections: list[tuple[str, str, str]] = page.evaluate("pages")
    files: dict[str, bytes] = {"style.css": STYLE.encode()}
    for name, title, body in sections:
        body = re.sub(r'href="#(\w+)', lambda found: f'href="{found[1]}.xhtml#{found[1]}', body)
        for picture in re.findall(r'src="(_images/[^"]+)"', body):
            files[picture] = (book.html / picture).read_bytes()
        body = re.sub(r'src="data:image/png;base64,([^"]+)"', lambda found: still(found[1], files), body)
        if name == "contents":
            body = body.replace(
                "<section", '<nav xmlns:epub="http://www.idpf.org/2007/ops" epub:type="toc"', 1
            )
            body = f"{body.removesuffix('</section>')}</nav>"
        files[f"{name}.xhtml"] = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n'
            '<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">'
            f'<head><title>{html.escape(title)}</title><link rel="stylesheet" href="style.css"/></head>'
            f"<body>{body}</body></html>"
        ).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("EPUB/package.opf", package(book, files, [name for name, *_ in sections]))
        for name, content in files.items():
            archive.writestr(f"EPUB/{name}", content)


def package(book: Book, files: dict[str, bytes], order: list[str]) -> str:
    """What the e-book says of itself, its files, and the order of its pages."""
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return PACKAGE.format(
        uuid=uuid.uuid5(uuid.NAMESPACE_URL, book.address),
        title=html.escape(book.config["title"]),
        author=html.escape(book.config["author"]),
        address=book.address,
        rights=html.escape(book.licence),
        modified=time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
        manifest="\n".join(item(name, content) for name, content in files.items()),
        spine="\n".join(f'<itemref idref="{name}"/>' for name in order),
    )


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
        word
        for word, there in (
            ("nav", stem == "contents"),
            ("mathml", b"<math" in content),
            ("svg", b"<svg" in content),
        )
        if there
    )
    # An id may not begin with a digit, as the names of pictures may.
    name_of = stem if ending == "xhtml" else f"{ending}-{stem}"
    extra = f' properties="{properties}"' if properties else ""
    return f'<item id="{name_of}" href="{name}" media-type="{kind}"{extra}/>'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], write_epub))
