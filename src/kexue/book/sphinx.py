"""The Sphinx extension behind the book, and the renderer for Plotly's outputs.

The extension puts the repository's address (from pyproject.toml) and the ledger's counts into the
configuration, copies plotly.min.js and the chapters' scripts next to the pages, and removes what
would ask another host. What makes the pages quick and helpful is in `kexue.book.site`.
"""

import hashlib
import html
import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kexue.book import pages, site, status
from kexue.book.ledger import OUTCOME_VERBS, OUTCOMES, SORTS, SYMBOLS, counted

__all__ = [
    "PLOTLY_MIME",
    "PlotlyRenderer",
    "marked",
    "repository",
    "setup",
    "substitutions",
]

if TYPE_CHECKING:
    from docutils.nodes import Element, document
    from sphinx.application import Sphinx
    from sphinx.config import Config

PLOTLY_MIME = "application/vnd.plotly.v1+json"


class PlotlyRenderer:
    """Renders committed Plotly outputs; registered as `myst_nb.mime_renderers` in pyproject.toml."""

    mime_priority_overrides: ClassVar = [("*", PLOTLY_MIME, 1)]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> "list[Element] | None":
        """The nodes for an output, or None where it is not Plotly's.

        A place of its height, and a script with the data: kexue.js draws the figure when it comes near.
        """
        if inline or data.mime_type != PLOTLY_MIME:
            return None
        from docutils import nodes

        figure = data.content if isinstance(data.content, dict) else json.loads(data.content)
        name = "plotly-" + hashlib.sha256(json.dumps(figure, sort_keys=True).encode()).hexdigest()[:12]
        parts = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
        parts["config"] = {"responsive": True, "displaylogo": False, **figure.get("config", {})}
        folder = Path(renderer.renderer.sphinx_env.app.outdir) / "_static" / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        script = f'document.getElementById("{name}").figure = {json.dumps(parts, separators=(",", ":"))};\n'
        (folder / f"{name}.js").write_text(script, "utf-8")
        height = figure.get("layout", {}).get("height", 450)
        meta = figure.get("layout", {}).get("meta", {})
        alt = html.escape(meta.get("alt", "Interactive figure"))
        caption = html.escape(meta.get("caption", ""))
        wrapped = (
            f'<figure class="kexue-interactive" role="group" aria-label="{alt}">'
            f'<div class="plotly-graph-div" id="{name}" style="height:{height}px"></div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
        return [nodes.raw(text=wrapped, format="html", classes=["output", "text_html"])]


def repository(root: Path) -> str:
    """The repository's address, from the one place where it stands."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]


def substitutions(ledger: dict[str, Any]) -> dict[str, str]:
    """What pages can write as {{ name }}: the ledger's counts, each sort of row apart.

    `<slug>_counts` are the claims of one article; `ledger_claims`, `ledger_equations` and
    `ledger_additions` say how many there are in all ("7 claims"), `ledger_claims_found` and so on how
    they came out, each edition apart.
    """
    articles = ledger["articles"]
    values = {"ledger_articles": str(len(articles))}
    for slug, article in articles.items():
        claims = article["count"]["claim"]
        values[f"{slug}_counts"] = f"{counted(sum(claims.values()), 'claim')}: {_found(claims)}"
    editions = sorted({article["edition"] for article in articles.values()}, reverse=True)
    for sort in SORTS:
        total: dict[int, Counter[str]] = {edition: Counter() for edition in editions}
        for article in articles.values():
            total[article["edition"]].update(article["count"][sort])
        values[f"ledger_{sort}s"] = counted(sum(count.total() for count in total.values()), sort)
        found = {edition: _found(count) for edition, count in total.items() if count.total()}
        values[f"ledger_{sort}s_found"] = "; ".join(
            text if len(found) == 1 else f"{pages.EDITIONS[edition]}: {text}"
            for edition, text in found.items()
        )
    return values


def _found(count: Mapping[str, int]) -> str:
    found = ((outcome, count.get(outcome, 0)) for outcome in OUTCOMES)
    return ", ".join(f"**{number}** {OUTCOME_VERBS[outcome]}" for outcome, number in found if number)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Entry point for Sphinx."""
    app.connect("config-inited", _configure)
    app.connect("html-page-context", _adjust_page, priority=900)  # after the theme's own handlers
    app.connect("doctree-resolved", site.link_terms)
    app.connect("html-collect-pages", site.lost)
    app.connect("build-finished", _copy_files)
    app.connect("build-finished", site.finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _configure(app: "Sphinx", config: "Config") -> None:
    root = Path(app.confdir)
    config.html_theme_options["repository_url"] = repository(root)
    config.html_baseurl = config.html_baseurl or site.address(repository(root))
    joined = pages.join(pages.evidence_of(root), root)
    config.myst_substitutions = {
        **config.myst_substitutions,
        **substitutions(joined),
        # .github/workflows/publish.yml puts them there.
        "downloads": " or ".join(
            f"[{kind}]({config.html_baseurl}executable-scientific-spaces.{ending})"
            for kind, ending in (("PDF", "pdf"), ("e-book", "epub"))
        ),
    }
    outcomes = {
        row["id"]: row["verdict"] for article in joined["articles"].values() for row in article["rows"]
    }

    def fill(app: "Sphinx", name: str, source: list[str]) -> None:
        source[0] = status.fill(pages.fill(source[0], joined), root)

    def mark(app: "Sphinx", name: str, template: str, context: dict[str, Any], doctree: object) -> None:
        if name.startswith("chapters/") and context.get("body"):
            context["body"] = marked(context["body"], outcomes, context["pathto"]("pages/ledger"))

    app.connect("source-read", fill)
    app.connect("html-page-context", mark)


def marked(body: str, outcomes: Mapping[str, str], ledger: str) -> str:
    """A page's HTML with a mark beside the number of each labelled equation: ✓ ◐ ✗.

    The mark says in words what it means, and leads to the equation's row on the page `ledger`.
    """

    def mark(found: re.Match[str]) -> str:
        row = found["label"].replace("-", ".", 1)
        if row not in outcomes:
            return found[0]
        outcome, anchor = outcomes[row], row.replace(".", "-")
        return (
            f'{found[0]}<a class="kexue-mark kexue-{outcome}" href="{ledger}#{anchor}" '
            f'title="{row} {outcome}" aria-label="{row} {outcome}">{SYMBOLS[outcome]}</a>'  # type: ignore[index]
        )

    return re.sub(
        r'<div class="math[^"]*" id="equation-(?P<label>[\w-]+)">\s*<span class="eqno">', mark, body
    )


def _adjust_page(
    app: "Sphinx", pagename: str, templatename: str, context: dict[str, Any], doctree: "document | None"
) -> None:
    from docutils.nodes import paragraph

    # sphinx-thebe adds its script twice, which is an error in the browser, and it names another host.
    context["script_files"] = [
        file
        for file in context["script_files"]
        if "thebe" not in str(getattr(file, "filename", file))
        and "THEBE_JS_URL" not in (file.attributes.get("body") or "")
    ]
    # Scripts run in order, once the text is there; two named doc… at once, since scripts in pages need them.
    for file in context["script_files"]:
        if (name := str(getattr(file, "filename", None) or "")) and "doc" not in name:
            file.attributes.setdefault("defer", "defer")
    if doctree is not None:
        text = (" ".join(node.astext().split()) for node in doctree.findall(paragraph))
        lead = next((line for line in text if len(line) > 60), "")  # not the Chinese title
        context["metatags"] += site.tags(context["title"], pagename, app.config.html_baseurl, lead)
    # A list whose children are no list items is an accessibility violation, and so is a wide table that
    # scrolls on a phone, but not by the keyboard.
    if body := context.get("body"):
        body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
        if pagename.startswith("chapters/"):
            body = body.replace('<table class="table">', '<table class="table" tabindex="0">')
        context["body"] = body
    # A chapter can be downloaded as a script as well.
    if (Path(app.srcdir) / f"{pagename}.py").is_file():
        for button in context.get("header_buttons", []):
            if button.get("label") == "download-buttons":
                button["buttons"].append(
                    {
                        "type": "link",
                        "url": context["pathto"](f"_sources/{pagename}.py", 1),
                        "text": ".py",
                        "tooltip": "Download script file",
                        "icon": "fas fa-code",
                        "label": "download-script-button",
                    }
                )


def _copy_files(app: "Sphinx", exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    import plotly

    out = Path(app.outdir)
    shutil.copyfile(
        Path(plotly.__file__).parent / "package_data" / "plotly.min.js", out / "_static" / "plotly.min.js"
    )
    for page in app.env.found_docs:
        script = Path(app.srcdir) / f"{page}.py"
        if script.is_file():
            shutil.copyfile(script, out / "_sources" / f"{page}.py")
