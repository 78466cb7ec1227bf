"""The built book in a real browser: `make browser`. Needs `make html` and Chromium."""

import functools
import http.server
import os
import re
import shutil
import threading
from pathlib import Path

import networkx as nx
import pytest

from kexue.infomap import map_equation, random_walk_flow

ROOT = Path(__file__).parents[2]

# Playwright drives the system's browser; it downloads none of its own.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]

# A user may lack a browser. CI may not: .ci/run sets CI and installs Chromium, and these tests then run or fail.
pytestmark = [
    pytest.mark.skipif(
        BROWSER is None and not os.environ.get("CI"),
        reason="no Chromium found: install one, or name it in CHROMIUM",
    ),
    pytest.mark.timeout(300),  # Playwright itself waits for ever for what a page computes
]

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


def pytest_generate_tests(metafunc):
    html = metafunc.config.getoption("--html-dir")
    assert (html / "index.html").is_file(), f"no book in {html}: make html"
    if "path" in metafunc.fixturenames:
        found = (p.relative_to(html) for p in html.rglob("*.html") if "_static" not in p.parts)
        pages = sorted({p.as_posix() for p in found} - {"index.html"})  # which only sends the reader on
        metafunc.parametrize("path", pages)


@pytest.fixture(scope="module")
def base_url(request):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path == "/favicon.ico":  # browsers ask every host for it
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

    handler = functools.partial(Quiet, directory=str(request.config.getoption("--html-dir")))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def context():
    """One for all pages of a worker, so that it has scripts and fonts of the book in its cache."""
    from playwright.sync_api import sync_playwright

    assert BROWSER is not None, "CI must have a Chromium: .ci/run installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS, timeout=60_000)
        yield browser.new_context()
        browser.close()


@pytest.fixture
def problems():
    """What went wrong on the pages of a test."""
    return []


@pytest.fixture
def open_page(context, base_url, problems):
    """Opens a page, and fails at the end if anything went wrong on it."""
    pages = []

    def told(message):
        if message.type == "error":
            problems.append(f"console: {message.text} ({message.location['url']})")

    # To be told is enough: FLAGS let no request leave this machine, and with a route there is no cache.
    def only_local(request):
        if not request.url.startswith((base_url, "data:", "blob:")):
            problems.append(f"request to another host: {request.url}")

    def go(path, viewport=DESKTOP, theme="light", whole=True):
        page = context.new_page()
        pages.append(page)
        page.set_default_timeout(60_000)
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=theme)
        page.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        page.on("console", told)
        page.on("pageerror", lambda e: problems.append(f"script error: {e}"))
        page.on("response", lambda r: problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.on("request", only_local)
        page.goto(f"{base_url}/{path}", wait_until="load")
        if path == "index.html":  # sends the reader on
            page.wait_for_url("**/intro.html", wait_until="load")
        if page.locator(".math").count():
            page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
            page.evaluate("() => MathJax.startup.promise.then(() => null)")
        if whole:  # formulas, figures and pictures wait until they come near, or the page is printed
            page.evaluate(
                """() => {
                  window.dispatchEvent(new Event('beforeprint'));
                  const images = [...document.images];
                  images.forEach(image => { image.loading = 'eager' });
                  return Promise.all(images.map(image => image.decode().catch(() => null))).then(() => null);
                }"""
            )
            page.wait_for_function("() => !document.querySelector('mjx-lazy')")
        # Not "networkidle", which now and then never comes.
        page.evaluate("() => document.fonts.ready.then(() => null)")
        if whole:
            page.wait_for_function(
                "() => [...document.querySelectorAll('.plotly-graph-div')].every(e => e.querySelector('svg'))"
            )
        assert shown_theme(page) == theme
        return page

    yield go
    for page in pages:
        page.close()
    assert problems == []


def shown_theme(page):
    """The theme that the page says it has. Its colours must be of that theme: text darker than the page, or not."""
    theme, colours = page.evaluate(
        """() => [document.documentElement.dataset.theme,
                  ['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])]"""
    )
    text, ground = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert theme == ("light" if text < ground else "dark"), (theme, colours)
    return theme


def switch_theme(page, theme):
    """By the reader's means: the button that goes through light, dark, and what the system has."""
    button = page.locator(".theme-switch-button:visible").first
    for _ in range(3):
        if shown_theme(page) == theme:
            break
        button.click()
        # Colours change gradually. To wait for the end may take for ever: a page that nobody looks at draws nothing.
        page.evaluate(
            """() => document.getAnimations().filter(a => isFinite(a.effect.getComputedTiming().endTime))
                 .forEach(a => a.finish())"""
        )
    # The button's tooltip goes gradually, too, and would be read half transparent.
    page.mouse.move(0, 0)
    button.blur()
    page.wait_for_function("() => !document.querySelector('.tooltip')")
    assert shown_theme(page) == theme


def faults_of_content(page):
    """Mathematics that is not typeset, pictures that did not load or have no description, empty figures."""
    return page.evaluate(
        """() => {
          const all = s => [...document.querySelectorAll(s)], found = [];
          const formulas = all('.math').length, typeset = all('mjx-container').length;
          if (typeset < formulas) found.push(`${typeset} of ${formulas} formulas are typeset`);
          all('mjx-merror, .MathJax_Error').forEach(e => found.push(`formula: ${e.textContent}`));
          // statements of verdicts are typeset as well
          all('.kexue-verdict').filter(e => e.innerText.includes('\\\\('))
            .forEach(e => found.push(`verdict: ${e.innerText}`));
          for (const i of document.images) {
            const ours = i.closest('article') !== null;
            if ((ours || i.src.includes('_images')) && !(i.complete && i.naturalWidth))
              found.push(`${i.src} did not load`);
            if (i.alt === null || (ours && i.alt.length <= 20)) found.push(`${i.src} has no description`);
          }
          all('.plotly-graph-div').filter(e => !e.querySelector('svg.main-svg'))
            .forEach(e => found.push(`empty figure: ${e.id}`));
          return found;
        }"""
    )


def faults_of_width(page):
    """Elements that stick out to the right of the page and do not scroll by themselves."""
    return page.evaluate(
        """() => {
          const found = [...document.querySelectorAll('body *')].filter(e => {
            if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
            for (let p = e; p && p !== document.body; p = p.parentElement)
              if (getComputedStyle(p).overflowX !== 'visible' || getComputedStyle(p).position === 'fixed') return false;
            return true;
          }).slice(0, 5).map(e => e.outerHTML.slice(0, 120));
          const width = document.documentElement.scrollWidth;
          return width > innerWidth ? [...found, `the page is ${width} px wide`] : found;
        }"""
    )


def one_of_equal_tokens(page):
    """Leave one of all words of code that look the same, and make plain text of the rest.

    Their contrast is most of what axe has to compute. Which look the same is decided by their classes,
    those of everything they are in, and the colours: so they do in the other theme, too.
    """
    page.evaluate(
        """() => {
          const seen = new Set(), equal = [];
          const places = new Map();
          const place = e => {
            if (!e) return '';
            if (!places.has(e)) places.set(e, `${e.tagName}.${e.className}.${e.style.cssText} ${place(e.parentElement)}`);
            return places.get(e);
          };
          for (const token of document.querySelectorAll(':is(.highlight pre, dt.sig) span[class]')) {
            if (token.children.length || token.attributes.length > 1) continue;
            const style = getComputedStyle(token);
            const look = [place(token), style.color, style.backgroundColor, style.opacity].join();
            if (seen.has(look)) equal.push(token);
            seen.add(look);
          }
          for (const token of equal) token.replaceWith(...token.childNodes);
          document.querySelectorAll('.highlight pre, dt.sig').forEach(block => block.normalize());
        }"""
    )


def faults_of_access(page):
    """What axe finds moderate or worse."""
    if not page.evaluate("() => 'axe' in window"):
        from axe_playwright_python.base import AXE_SCRIPT

        page.evaluate(AXE_SCRIPT)
    return page.evaluate(
        """() => axe.run({preload: false, resultTypes: ['violations']}).then(({violations}) => violations
             .filter(v => v.impact !== 'minor')
             .map(v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map(n => n.html.slice(0, 120)).join(' ')}`))"""
    )


def test_page_on_a_desktop_in_both_themes(open_page, path):
    """Mathematics, figures, descriptions, accessibility; opened in the light theme."""
    page = open_page(path)
    assert faults_of_content(page) == []
    assert page.locator("a[href*='/issues/new']").count() > 0 or path in ("search.html", "genindex.html")
    one_of_equal_tokens(page)
    assert faults_of_access(page) == []
    switch_theme(page, "dark")
    assert faults_of_access(page) == []


def test_page_on_a_phone_in_both_themes(open_page, path):
    """It does not scroll sideways; opened in the dark theme."""
    page = open_page(path, PHONE, "dark")
    assert faults_of_content(page) == []
    assert faults_of_width(page) == []
    switch_theme(page, "light")
    assert faults_of_width(page) == []


def test_the_first_address_sends_the_reader_on(open_page):
    assert open_page("index.html").url.endswith("/intro.html")


FAULTS = {  # what is put at the end of an article, where it is seen, and what is found
    "mathematics": ("<span class='math'>\\(x\\)</span>", faults_of_content, "formulas are typeset"),
    "a formula": (
        "<mjx-container><mjx-merror>no</mjx-merror></mjx-container>",
        faults_of_content,
        "formula: no",
    ),
    "a verdict": ("<div class='kexue-verdict'>\\(x\\)</div>", faults_of_content, "verdict:"),
    "a picture": ("<img src='none:' alt='A description, long enough.'>", faults_of_content, "did not load"),
    "a description": (
        "<img src='../_static/preview.png' alt='short'>",
        faults_of_content,
        "has no description",
    ),
    "a figure": ("<div class='plotly-graph-div' id='e'></div>", faults_of_content, "empty figure: e"),
    "a wide word": ("<p>" + 60 * "wide" + "</p>", faults_of_width, "px wide"),
    "a wide element": ("<div style='width: 400px'>wide</div>", faults_of_width, "width: 400px"),
    "a button": ("<button></button>", faults_of_access, "button-name"),
    "contrast": ("<p style='color: #777; background: #888'>pale</p>", faults_of_access, "color-contrast"),
}


def test_faults_are_found(open_page, problems):
    page = open_page("pages/changelog.html", PHONE)
    page.evaluate(
        "() => document.querySelector('article').insertAdjacentHTML('beforeend', '<div id=last></div>')"
    )
    for fault, (element, check, message) in FAULTS.items():
        assert check(page) == [], f"before {fault}"
        page.evaluate("html => { document.getElementById('last').innerHTML = html }", element)
        assert any(message in found for found in check(page)), fault
        page.evaluate("() => { document.getElementById('last').innerHTML = '' }")
    problems.clear()  # of the picture


def test_text_that_is_pale_in_the_dark_theme_alone_is_found(open_page):
    """Also if it is a word of code, of which one of many is looked at."""
    page = open_page("pages/changelog.html")
    page.add_style_tag(content="html[data-theme=dark] .highlight .pale { color: #333; background: #222 }")
    code = (
        "<h1>Code</h1><div class='highlight'><pre>" + 3 * "<span class='pale'>pale</span> " + "</pre></div>"
    )
    page.evaluate("html => document.querySelector('article').innerHTML = html", code)
    one_of_equal_tokens(page)
    assert page.locator(".pale").count() == 1
    assert faults_of_access(page) == []
    switch_theme(page, "dark")
    (found,) = faults_of_access(page)
    assert found.startswith("color-contrast")


def test_what_goes_wrong_on_a_page_is_found(open_page, problems):
    page = open_page("pages/changelog.html")
    page.evaluate("() => { console.error('an error'); setTimeout(() => { throw Error('in a script') }) }")
    page.evaluate("() => Promise.allSettled([fetch('none.js'), fetch('https://kexue.fm/')])")
    for problem in (
        "console: an error",
        "script error: in a script",
        "404: ",
        "another host: https://kexue.fm",
    ):
        assert any(problem in found for found in problems), problem
    problems.clear()


def test_a_theme_in_name_only_is_found(open_page):
    page = open_page("pages/changelog.html")
    page.add_style_tag(content="html body { background: #fff; color: #000 }")
    with pytest.raises(AssertionError, match="dark"):
        switch_theme(page, "dark")


def test_the_interactive_figure_follows_its_slider(open_page):
    page = open_page("chapters/smoothing.html")
    plot = page.locator(".plotly-graph-div").first
    plot.scroll_into_view_if_needed()
    points = "e => [...e.querySelectorAll('.scatterlayer .point')].map(p => p.getAttribute('transform'))"
    before = plot.evaluate(points)
    label = plot.locator(".slider-label, .slider-current-value, text.slider-label").first
    assert len(before) == 150
    first = label.text_content()
    rail = plot.locator(".slider-rail-touch-rect, .slider-rail-rect").first.bounding_box()
    page.mouse.click(rail["x"] + 0.98 * rail["width"], rail["y"] + rail["height"] / 2)
    page.wait_for_function("([e, old]) => e.textContent !== old", arg=[label.element_handle(), first])
    # The points move after the label.
    moved = f"([e, old]) => ({points})(e).filter((place, i) => place !== old[i]).length > 140"
    page.wait_for_function(moved, arg=[plot.element_handle(), before])
    assert len(plot.evaluate(points)) == 150


def test_nodes_are_recoloured_and_the_bits_are_those_of_the_map_equation(open_page):
    page = open_page("chapters/infomap.html")
    figure = page.locator("figure[data-still]")
    figure.scroll_into_view_if_needed()
    club = nx.Graph(nx.karate_club_graph().edges)
    flow = random_walk_flow(club, teleport=0)

    def seen():
        labels = [node.get_attribute("aria-label") for node in figure.locator(".node").all()]
        assert [int(label.split()[1].strip(",")) for label in labels] == list(club)
        return [int(label.split()[-1]) for label in labels]

    def right():
        modules = seen()
        bits = map_equation(flow, dict(zip(club, modules, strict=True)))
        text = figure.locator("output").text_content()
        assert text.startswith(f"{len(set(modules))} module")
        assert text.endswith(f"= {bits:.3f} per step")
        return modules

    best = right()
    assert len(set(best)) == 3
    figure.locator(".node").nth(8).click()
    changed = right()
    assert [i for i, (new, old) in enumerate(zip(changed, best, strict=True)) if new != old] == [8]
    neighbours = {best[list(club).index(v)] for v in club[list(club)[8]]}
    assert changed[8] in neighbours | {4}
    for _ in neighbours:  # once round, by the keyboard: its own module, the neighbours', one of its own
        page.keyboard.press("Enter")
        right()
    assert seen() == best
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert [v for v, (new, old) in enumerate(zip(right(), best, strict=True)) if new != old] == [9]
    figure.locator("input").fill("34")
    assert len(set(right())) == 34


def test_the_ledger_filters_by_verdict_and_is_linked(open_page):
    page = open_page("pages/ledger.html")
    rows = page.locator(".ledger-row")
    texts_seen = "rows => rows.filter(row => row.checkVisibility()).map(row => row.innerText)"
    total = rows.count()
    assert total >= 22
    folded = page.locator(".ledger-equations .ledger-row").count()
    assert len(rows.evaluate_all(texts_seen)) == total - folded > 0
    button = page.locator(".ledger-filter button", has_text="refuted")
    button.click()
    visible = rows.evaluate_all(texts_seen)
    assert 0 < len(visible) < total
    assert all("refuted" in text for text in visible)
    assert button.get_attribute("aria-pressed") == "true"
    page.locator(".ledger-filter button", has_text="all").click()
    assert len(rows.evaluate_all(texts_seen)) == total - folded
    page.goto(page.url.replace("pages/ledger.html", "chapters/smoothing.html"))
    link = page.locator(".kexue-verdict[data-row='smoothing.claim2'] a")
    assert link.get_attribute("href").endswith("ledger.html#smoothing-claim2")
    link.click()
    page.wait_for_url("**/pages/ledger.html#smoothing-claim2")
    page.locator("#smoothing-claim2").wait_for(state="attached")
    assert page.locator(".ledger-row:has(#smoothing-claim2)").is_visible()


def test_an_equation_wears_its_mark_which_leads_to_its_row(open_page):
    page = open_page("chapters/smoothing.html")
    mark = page.locator("#equation-smoothing-eq2 .eqno a.kexue-mark")
    assert mark.get_attribute("aria-label") == "smoothing.eq2 holds"
    assert mark.inner_text() == "✓"
    source = (ROOT / "chapters" / "smoothing.py").read_text("utf-8")
    labelled = source.count("\n# $$ (smoothing-")
    assert page.locator("div.math[id^=equation-smoothing]").count() == labelled
    assert page.locator(".eqno a.kexue-mark").count() == labelled
    mark.click()
    page.wait_for_url("**/pages/ledger.html#smoothing-eq2")
    assert page.locator(".ledger-row:has(#smoothing-eq2)").is_visible()


CARDS = {  # on the chapter on smoothing: a link, and what its card says
    "an equation of this page": ("article p a[href='#equation-smoothing-eq2']", "log"),
    "a row of the ledger": (".eqno a.kexue-mark[href$='#smoothing-eq2']", "smoothing.eq2"),
    "a source": ("article p a[href*='references.html#']", "URL"),
    "a term": ("a.kexue-term[href$='#term-cross-entropy']", "jiāochāshāng"),
}


@pytest.mark.parametrize("what", CARDS)
def test_a_card_shows_what_a_link_leads_to(open_page, what):
    """To the pointer and to the keyboard; it can be pointed at, is named to screen readers, and goes on Escape."""
    page = open_page("chapters/smoothing.html")
    selector, text = CARDS[what]
    link, card = page.locator(selector).first, page.locator("#kexue-card")
    link.hover()
    card.wait_for(state="visible")
    card.hover()
    page.wait_for_timeout(400)
    assert card.is_visible()
    assert link.get_attribute("aria-describedby") == "kexue-card"
    page.wait_for_function("() => !document.querySelector('#kexue-card mjx-lazy')")
    said = card.inner_text() + " ".join(card.locator("mjx-assistive-mml").all_text_contents())
    assert text in said.replace("\u2061", "")
    assert "\\" not in said
    assert faults_of_access(page) == []
    page.keyboard.press("Escape")
    assert card.is_hidden()
    assert link.get_attribute("aria-describedby") is None
    page.mouse.move(0, 0)
    link.evaluate("e => e.parentElement.setAttribute('tabindex', -1)")
    link.evaluate("e => e.parentElement.focus()")
    page.keyboard.press("Tab")
    for _ in range(100):
        if link.evaluate("e => e === document.activeElement"):
            break
        page.keyboard.press("Tab")
    card.wait_for(state="visible")
    box, width = card.bounding_box(), page.viewport_size["width"]
    assert 0 <= box["x"] < box["x"] + box["width"] <= width
    link.evaluate("e => e.blur()")  # the next link may have a card, too
    card.wait_for(state="hidden")


def test_a_chapter_is_light_until_the_reader_scrolls(open_page, base_url):
    """Neither Plotly nor what shows icons twice is loaded with the text, and no formula is set far below it."""
    page = open_page("chapters/smoothing.html", whole=False)
    page.wait_for_timeout(300)
    loaded = page.evaluate("() => performance.getEntriesByType('resource').map(e => e.name)")
    assert not [name for name in loaded if re.search(r"plotly|fontawesome.*js|woff2|cards.js", name)]
    assert page.locator("mjx-lazy").count() > 30
    assert sum("_images" in name for name in loaded) < page.locator("article img").count() / 2
    figure = page.locator(".plotly-graph-div").first
    figure.scroll_into_view_if_needed()
    figure.locator("svg.main-svg").first.wait_for(state="attached")
    bare = open_page("pages/changelog.html")
    assert not bare.evaluate(
        "() => performance.getEntriesByType('resource').some(e => /mathjax|plotly/.test(e.name))"
    )


def test_icons_are_drawn_from_what_is_left_of_their_font(open_page):
    page = open_page("chapters/smoothing.html")
    drawn = page.evaluate(
        """() => document.fonts.ready.then(() => [...document.querySelectorAll("i[class*='fa-'], i.fab")]
             .filter(e => e.checkVisibility()).map(e => getComputedStyle(e, '::before'))
             .map(s => [s.content, s.fontFamily, document.fonts.check(`${s.fontWeight} 16px ${s.fontFamily}`)]))"""
    )
    assert len(drawn) > 5
    assert all(
        content not in ("none", "normal") and "Awesome" in font and ready for content, font, ready in drawn
    )


def test_a_wrong_address_leads_back(open_page, base_url):
    page = open_page("404.html")
    page.locator("article a", has_text="first page").click()
    page.wait_for_url("**/pages/intro.html")


def test_search_finds_a_word_of_the_chapter(open_page):
    page = open_page("search.html?q=staircase")
    page.wait_for_selector("#search-results li a")
    assert "smoothing" in page.locator("#search-results li a").first.get_attribute("href")


def test_buttons_and_downloads(open_page):
    page = open_page("chapters/smoothing.html")
    links = page.eval_on_selector_all("a", "all => all.map(a => a.href)")
    for part in (
        "mybinder.org",
        "colab.research.google.com",
        "/issues/new",
        "_sources/chapters/smoothing.ipynb",
    ):
        assert any(part in link for link in links), part
    assert any(link.endswith("smoothing.py") for link in links)
