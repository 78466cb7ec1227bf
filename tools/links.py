"""Check the links of the built book: `python tools/links.py _build/html`, which is `make links`.

Every address on a page (links, pictures, scripts, styles) and in a stylesheet must name a file of the
book, letter for letter, and the anchor that it names must be on that page. Other hosts are not asked;
their addresses must be well-formed https.
"""

import posixpath
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ATTRIBUTES = {"action", "cite", "data", "formaction", "href", "poster", "src", "xlink:href"}
OF_NO_HOST = {"data", "javascript", "mailto"}  # schemes of addresses that name no file


@dataclass
class Page(HTMLParser):
    """The addresses of a page, and the anchors that a link can name."""

    text: str
    addresses: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=lambda: {"", "top"})

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: (value or "").strip() for name, value in attrs}
        self.anchors.update(
            values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a")
        )
        self.addresses += [value for name, value in values.items() if name in ATTRIBUTES]
        self.addresses += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        if values.get("http-equiv", "").lower() == "refresh":  # sends the reader on
            self.addresses.append(values["content"].partition("=")[2].strip())


def check(root: Path) -> list[str]:
    """What is wrong in the book in `root`, as "page: 'address': fault", in the order of the pages."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    # A theme and MathJax bring pages and demonstrations of their own, which no reader meets.
    pages = {
        name: Page(path.read_text("utf-8"))
        for name, path in files.items()
        if path.suffix == ".html" and not name.startswith("_static/")
    }
    addresses = {name: page.addresses for name, page in pages.items()}
    for name, path in files.items():
        if path.suffix == ".css":
            found = re.findall(r"url\(\s*(\"[^\"]*\"|'[^']*'|[^)\"']*)\s*\)", path.read_text("utf-8"))
            addresses[name] = [address.strip(" \"'") for address in found]

    def fault(name: str, address: str) -> str | None:
        if not address:
            return "empty"
        try:
            parts = urlsplit(address)
        except ValueError as error:
            return str(error)
        if parts.scheme in OF_NO_HOST:
            return None
        if parts.scheme or parts.netloc:
            host = re.fullmatch(r"(?!-)[\w-]+(\.[\w-]+)+", parts.netloc)
            well_formed = parts.scheme == "https" and host and not re.search(r"[\s<>\"]", address)
            return None if well_formed else "not a well-formed https address"
        target = name
        if parts.path:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
        if target.startswith(("..", "/")):
            return "leads out of the book"
        if target not in files:
            return "no such file (capitals count)"
        if target in pages and unquote(parts.fragment) not in pages[target].anchors:
            return f"no such anchor on {target}"
        return None

    return [
        f"{name}: {address!r}: {wrong}"
        for name in sorted(addresses)
        for address in dict.fromkeys(addresses[name])
        if (wrong := fault(name, address))
    ]


def main(folder: str) -> int:
    root = Path(folder)
    if not (root / "index.html").is_file():
        print(f"no book in {root}: make html", file=sys.stderr)
        return 2
    faults = check(root)
    print(*faults, f"{len(faults)} faulty links", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
