"""LinkChecker, as `python -m linkcheck`, except that it reads each page once.

For each anchor that is linked to it asks for the page anew, parses it, makes the text of each of its
elements, looks for all of its anchors, and once more for all of its links, which it has in its queue:
minutes for this book, and with each chapter more for all the others.
"""

import functools
import runpy
import threading
from typing import Any

from linkcheck import parser
from linkcheck.htmlutil import htmlsoup, linkparse
from linkcheck.plugins import anchorcheck

lock = threading.RLock()  # its threads would do the same at the same time

make_soup = functools.cache(htmlsoup.make_soup)
anchors: dict[int, list[tuple[Any, ...]]] = {}
"""Of each page that was parsed (they stay in the cache of `make_soup`), what `add_anchor` is given."""
followed: set[str] = set()
"""Files whose links are in the queue."""


def parse_once(markup: bytes, from_encoding: str | None = None) -> Any:
    with lock:
        return make_soup(markup, from_encoding)


def check_anchor(self: anchorcheck.AnchorCheck, url_data: Any) -> None:
    """AnchorCheck.check with a page's anchors from the first time."""
    soup, check = url_data.get_soup(), anchorcheck.UrlAnchorCheck()
    with lock:
        if id(soup) not in anchors:
            linkparse.find_links(soup, check.add_anchor, linkparse.AnchorTags)
            anchors[id(soup)] = check.anchors
    check.anchors = anchors[id(soup)]
    check.check_anchor(url_data)


def follow_once(url_data: Any) -> None:
    with lock:
        if url_data.is_file():
            if (path := url_data.get_os_filename()) in followed:
                return
            followed.add(path)
    follow(url_data)


follow = parser.parse_html
htmlsoup.make_soup = parse_once
anchorcheck.AnchorCheck.check = check_anchor
parser.parse_html = follow_once

if __name__ == "__main__":
    runpy.run_module("linkcheck", run_name="__main__", alter_sys=True)
