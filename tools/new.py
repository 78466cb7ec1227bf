"""Begin a chapter: `python tools/new.py SLUG TITLE ARTICLE [DATE] [TITLE_ZH]`, which is `make new`.

Writes the chapter on the anatomy of the others, with its rows, module and tests (tools/chapter), enters it
wherever chapters are listed, and executes it. What comes out passes `make check`. Its example, the mean, is
to be replaced: what waits for you says TODO. ARTICLE is the article's address or number, DATE its day.
"""

import datetime
import json
import keyword
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

BIB = """@misc{KEY,
  author = {Su, Jianlin},
  title = {ZH},
  year = {YEAR},
  howpublished = {Scientific Spaces},
  url = {URL},
}
"""

INTRO = """
:::{grid-item-card} TITLE
:link: ../chapters/SLUG
:link-type: doc
*ZH*

TODO: two sentences that make one want to read it.

{{ SLUG_counts }}
:::
"""

API = """## kexue.SLUG

```{eval-rst}
.. automodule:: kexue.SLUG
   :members:
   :no-undoc-members:
```

"""

CHANGE = "- The chapter {doc}`../chapters/SLUG` and the module `kexue.SLUG`.\n"

FUZZ = '    "SLUG.squared_distance": lambda: (x(3, 4), 0.5),\n'

# Where chapters are listed: the file, a pattern whose last match the text follows, or precedes, and the text.
LISTS = [
    ("_toc.yml", r"^ *- file: chapters/\w+\n", "after", "      - file: chapters/SLUG\n"),
    ("pages/references.bib", r"\Z", "after", BIB),
    ("pages/intro.md", r"^:::\n(?=::::$)", "after", INTRO),
    ("pages/api.md", r"^## kexue\.nn\.autograd$", "before", API),
    ("pages/changelog.md", r"^## .*not yet released\n\n(?=(?s:.)*^## )", "after", CHANGE),
    ("pyproject.toml", r'(?<=^  "vqvae \| )', "after", "SLUG | "),
    ("pyproject.toml", r'^modules = \["kexue.vqvae"', "after", ', "kexue.SLUG"'),
    ("tests/test_fuzz.py", r"^\}  # fmt: skip\nTARGETS \|=", "before", FUZZ),
]  # fmt: skip


def values(slug: str, title: str, article: str, date: str, zh: str, root: Path) -> dict[str, str]:
    """What stands for the words in capitals. Raises ValueError, which names what is wrong."""
    if not re.fullmatch(r"[a-z]{3,12}", slug) or keyword.iskeyword(slug):
        raise ValueError(f"SLUG must be one word of 3 to 12 small letters, got {slug!r}")
    if (root / "src/kexue" / slug).exists() or (root / f"src/kexue/{slug}.py").exists():
        raise ValueError(f"SLUG must be new, but there is a kexue.{slug}")
    if not title.strip() or re.search(r"[\n`{}$]", title):
        raise ValueError(f"TITLE must be one line of plain text, got {title!r}")
    if not (number := re.fullmatch(r"(?:https://(?:www\.)?kexue\.fm/archives/)?(\d+)", article)):
        raise ValueError(
            f"ARTICLE must be an address https://kexue.fm/archives/… or its number, got {article!r}"
        )
    try:
        datetime.date.fromisoformat(date)
    except ValueError:
        raise ValueError(f"DATE must be a day like 2019-05-20, got {date!r}") from None
    address = re.search(r'^Repository = "(.*)"', (root / "pyproject.toml").read_text("utf-8"), re.M)
    assert address is not None  # a test asks for it
    url = f"https://kexue.fm/archives/{number[1]}"
    found = {"SLUG": slug, "TITLE": title, "ZH": zh, "DATE": date, "YEAR": date[:4], "URL": url}
    return {**found, "KEY": f"su{date[:4]}{slug}", "ADDRESS": address[1]}


def filled(text: str, given: dict[str, str]) -> str:
    return re.sub(rf"(?:{'|'.join(given)})(?![a-z])", lambda word: given[word[0]], text)


def entered(text: str, pattern: str, where: str, addition: str) -> str:
    """A list with an addition at the last match of the pattern."""
    *_, match = re.finditer(pattern, text, re.M)
    place = match.end() if where == "after" else match.start()
    return text[:place] + addition + text[place:]


def files(given: dict[str, str], root: Path) -> dict[str, str]:
    """All that is written, by path: new files, and lists with their new entry."""
    slug = given["SLUG"]
    quoted = {**given, "TITLE": json.dumps(given["TITLE"], ensure_ascii=False), "ZH": json.dumps(given["ZH"])}
    kinds = {
        "ledger": f"{slug}.toml",
        "src/kexue": f"{slug}.py",
        "tests": f"test_{slug}.py",
        "chapters": f"{slug}.py",
    }
    found = {}
    for (folder, name), template in zip(kinds.items(), ("ledger", "module", "tests", "chapter"), strict=True):
        text = (root / "tools" / "chapter" / f"{template}.txt").read_text("utf-8")
        found[f"{folder}/{name}"] = filled(text, quoted if template == "ledger" else given)
    for path, pattern, where, addition in LISTS:
        before = found.get(path) or (root / path).read_text("utf-8")
        found[path] = entered(before, pattern, where, filled(addition, given))
    return found


def main(slug: str = "", title: str = "", article: str = "", date: str = "", zh: str = "") -> int:
    day = date or datetime.date.today().isoformat()
    try:
        given = values(slug, title, article, day, zh or "TODO: 题目", ROOT)
    except ValueError as error:
        print(
            f"{error}; for example:\nmake new SLUG=entropy TITLE='Entropy, by counting' ARTICLE=5448",
            file=sys.stderr,
        )
        return 2
    written = files(given, ROOT)
    for path, text in written.items():
        (ROOT / path).write_text(text, "utf-8")
    for tool, *arguments in (["execute.py", "run", slug], ["ledger_page.py", "write"]):
        if code := subprocess.call([sys.executable, str(ROOT / "tools" / tool), *arguments], cwd=ROOT):
            return code
    print(f"Begun. What waits for you:\ngrep -n TODO {' '.join(written)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
