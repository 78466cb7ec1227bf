"""The same book by today's Sphinx, without Jupyter Book: `python tools/next_book.py HTML NEXT`.

This is `make html-next`. Sphinx, MyST-NB and the theme in their newest versions go into NEXT/venv, which
takes what the chapters need (PyTorch and so on) from the environment that runs this. They build NEXT/html
from _config.yml and _toc.yml as these stand, strictly. Then both books are compared page by page, HTML being
that of `make html`: what differs is listed, and is an error.
"""

import difflib
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *(
        "sphinx",
        "myst-nb",
        "sphinx-book-theme",
        "sphinx-external-toc",
        "sphinxcontrib-bibtex",
        "sphinx-design",
    ),
    *("sphinx-copybutton", "sphinx-togglebutton", "sphinx-mathjax-offline", "linkify-it-py", "plotly"),
)
EXTENSIONS = [
    *("sphinx_togglebutton", "sphinx_copybutton", "myst_nb", "sphinx_external_toc", "sphinx_design"),
    *("sphinx_book_theme", "sphinxcontrib.bibtex"),
]


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Sphinx's configuration from Jupyter Book's; raises ValueError for a key that is not translated."""
    known = {
        "title": "html_title",
        "author": "author",
        "copyright": "copyright",
        "logo": "html_logo",
        "only_build_toc_files": "external_toc_exclude_missing",
        "exclude_patterns": "exclude_patterns",
        "bibtex_bibfiles": "bibtex_bibfiles",
        "execute.execute_notebooks": "nb_execution_mode",
        "execute.stderr_output": "nb_output_stderr",
        "parse.myst_enable_extensions": "myst_enable_extensions",
        "sphinx.extra_extensions": "extensions",
        "sphinx.config": "",
    }
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= (
            {f"{name}.{key}": each for key, each in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    if unknown := sorted(set(flat) - set(known)):
        raise ValueError(f"_config.yml has keys that are not translated: {unknown}")
    found = {known[name]: value for name, value in flat.items()}
    return {
        "project": found["html_title"],
        "html_theme": "sphinx_book_theme",
        "html_static_path": ["_static"],
        "html_css_files": ["kexue.css"],
        "html_js_files": ["kexue.js"],
        "html_sourcelink_suffix": "",
        "external_toc_path": "_toc.yml",
        **{name: value for name, value in found.items() if name},
        "extensions": [*EXTENSIONS, *found["extensions"]],
        **found[""],
    }


def environment(folder: Path) -> str:
    """The Python of the environment in `folder`, which is made where there is none."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "packages.txt"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip", *PACKAGES], check=True)
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.check_output([python, "-c", ask], text=True).strip()
        shared = [str(ROOT / "src"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        (Path(own) / "shared.pth").write_text("\n".join(dict.fromkeys(shared)) + "\n", "utf-8")
        done.write_text("\n".join(PACKAGES), "utf-8")
    return str(python)


def build(target: str) -> int:
    """Build the book, with the Sphinx of the environment that runs this; every warning is an error."""
    from sphinx.application import Sphinx

    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    app = Sphinx(
        str(ROOT), None, target, f"{target}-trees", "html",
        confoverrides={**settings(config), "nitpicky": True}, status=None, warningiserror=True, freshenv=True,
    )  # fmt: skip
    app.build(force_all=True)
    return app.statuscode


# --- Comparison --------------------------------------------------------------------------------------------


def parts(page: Path) -> dict[str, list[str]]:
    """What a reader would miss of a page: each sort of part in its order, as text."""
    import lxml.html

    article = (
        lxml.html.parse(page, parser=lxml.html.HTMLParser(encoding="utf-8")).getroot().find(".//article")
    )

    def texts(path: str) -> list[str]:
        return [" ".join(each.text_content().split()) for each in article.xpath(path)]

    def of_class(name: str) -> str:
        return f".//*[contains(concat(' ', @class, ' '), ' {name} ')]"

    own_links = ".//a[@href][not(contains(@class, 'headerlink'))]"
    return {
        "headings": texts(".//*[self::h1 or self::h2 or self::h3 or self::h4]"),
        "equations": [text.replace(" ", "") for text in texts(of_class("math"))],
        "figures": [each.get("alt") or "" for each in article.iter("img")] + texts(".//figcaption"),
        "interactive figures": [
            each.get("aria-label") for each in article.xpath(of_class("kexue-interactive"))
        ],
        "verdicts": texts(of_class("kexue-verdict")),
        "marks": [each.get("title") for each in article.xpath(of_class("kexue-mark"))],
        "code": texts(".//pre"),
        "tables": texts(".//table"),
        "paragraphs": texts(".//p"),
        "links": [f"{each.text_content()} -> {each.get('href')}" for each in article.xpath(own_links)],
    }


def differences(html: Path, new: Path) -> Iterator[str]:
    """The pages that one book lacks; of the others the parts that differ, as lines of a diff."""
    pages, others = (
        {path.relative_to(root).as_posix() for path in root.rglob("*.html") if "_static" not in path.parts}
        for root in (html, new)
    )
    for page in sorted(pages ^ others):
        yield f"{page}: only in {'the old' if page in pages else 'the new'} book"
    for page in sorted(pages & others - {"index.html", "search.html", "genindex.html"}):
        before, after = parts(html / page), parts(new / page)
        for sort in before:
            lines = difflib.unified_diff(before[sort], after[sort], lineterm="", n=0)
            changed = [line for line in lines if not re.match(r"(---|\+\+\+|@@) ?", line)]
            if changed:
                yield f"{page}: {sort}: {len(changed)} lines"
                yield from (f"    {line[:200]}" for line in changed[:10])


def main(arguments: list[str]) -> int:
    if arguments[0] == "build":
        return build(arguments[1])
    html, folder = map(Path, arguments)
    if not (html / "index.html").is_file():
        print(f"no book in {html}: make html", file=sys.stderr)
        return 2
    python, new = environment(folder / "venv"), folder / "html"
    subprocess.run([python, __file__, "build", str(new)], check=True)
    found = list(differences(html, new))
    print(*found, f"{len(found)} lines of differences", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
