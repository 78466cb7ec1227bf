"""LinkChecker, as `python -m linkcheck`, except that it parses each page once.

It asks for the page anew for each anchor that is linked to, and parses that again: minutes for this book.
"""

import functools
import runpy

from linkcheck.htmlutil import htmlsoup

htmlsoup.make_soup = functools.cache(htmlsoup.make_soup)

if __name__ == "__main__":
    runpy.run_module("linkcheck", run_name="__main__", alter_sys=True)
