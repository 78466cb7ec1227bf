"""The built book in a real browser: `make browser`. Needs `make html` and Chromium."""

import functools
import http.server
import os
import shutil
import threading

import pytest

# Playwright drives the system's browser; it downloads none of its own.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

# A user may lack a browser. CI may not: .ci/run sets CI and installs Chromium, and these tests then run or fail.
pytestmark = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("CI"),
    reason="no Chromium found: install one, or name it in CHROMIUM",
)

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


def pytest_generate_tests(metafunc):
    html = metafunc.config.getoption("--html-dir")
    assert (html / "index.html").is_file(), f"no book in {html}: make html"
    if "path" in metafunc.fixturenames:
        pages = sorted(
            p.relative_to(html).as_posix() for p in html.rglob("*.html") if "_static" not in p.parts
        )
        metafunc.parametrize("path", pages)


@pytest.fixture(scope="module")
def base_url(request):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(request.config.getoption("--html-dir")))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    assert BROWSER is not None, "CI must have a Chromium: .ci/run installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS, timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, base_url):
    """Opens a page, and fails at the end if anything went wrong on it."""
    problems, pages = [], []

    def only_local(route):
        if route.request.url.startswith((base_url, "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"request to another host: {route.request.url}")
            route.abort()

    def go(path, viewport=DESKTOP, theme="light"):
        page = chromium.new_page(viewport=viewport, color_scheme=theme)
        pages.append(page)
        page.set_default_timeout(60_000)
        page.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda e: problems.append(f"script error: {e}"))
        page.on("response", lambda r: problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.route("**/*", only_local)
        page.goto(f"{base_url}/{path}", wait_until="load")
        if path == "index.html":  # sends the reader on
            page.wait_for_url("**/intro.html", wait_until="load")
        if page.locator(".math").count():
            page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
            page.evaluate("() => MathJax.startup.promise.then(() => null)")
        # Not "networkidle", which now and then never comes.
        page.evaluate("() => document.fonts.ready.then(() => null)")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.plotly-graph-div')].every(e => e.querySelector('svg'))"
        )
        return page

    yield go
    for page in pages:
        page.close()
    assert problems == []


def test_page_loads_with_mathematics_figures_and_descriptions(open_page, path):
    page = open_page(path)
    formulas = page.locator(".math").count()
    assert page.locator("mjx-container").count() >= formulas
    assert page.locator("mjx-merror, .MathJax_Error").count() == 0
    for box in page.locator(".kexue-verdict").all():  # statements of verdicts are typeset as well
        assert "\\(" not in box.inner_text()
    images = page.evaluate(
        "() => [...document.images].map(i => [i.src, i.complete && i.naturalWidth, i.alt])"
    )
    for src, width, alt in images:
        if page.locator(f"article img[src='{src}']").count() or "_images" in src:
            assert width, f"{src} did not load"
        assert alt is not None
    for src, alt in page.evaluate(
        "() => [...document.querySelectorAll('article img')].map(i => [i.src, i.alt])"
    ):
        assert len(alt) > 20, f"{src} has no description"
    for plot in page.locator(".plotly-graph-div").all():
        assert plot.locator("svg.main-svg").count() > 0
    assert page.locator("a[href*='/issues/new']").count() > 0 or path in ("search.html", "genindex.html")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_does_not_scroll_sideways_on_a_phone(open_page, path, theme):
    page = open_page(path, PHONE, theme)
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    wide = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(e => {
             if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
             for (let p = e; p && p !== document.body; p = p.parentElement)
               if (getComputedStyle(p).overflowX !== 'visible' || getComputedStyle(p).position === 'fixed') return false;
             return true;
           }).slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert wide == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(open_page, path, theme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(path, theme=theme)
    found = Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        f"{v['id']}: {v['help']}: {[n['html'][:120] for n in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


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


def test_the_ledger_filters_by_verdict_and_is_linked(open_page):
    page = open_page("ledger.html")
    rows = page.locator(".ledger-table tbody tr")
    total = rows.count()
    assert total >= 22
    button = page.locator(".ledger-filter button", has_text="refuted")
    button.click()
    visible = [row for row in rows.all() if row.is_visible()]
    assert 0 < len(visible) < total
    assert all("refuted" in row.inner_text() for row in visible)
    assert button.get_attribute("aria-pressed") == "true"
    page.locator(".ledger-filter button", has_text="all").click()
    assert all(row.is_visible() for row in rows.all())
    page.goto(page.url.replace("ledger.html", "chapters/smoothing.html"))
    link = page.locator(".kexue-verdict[data-row='smoothing.eq2'] a")
    assert link.get_attribute("href").endswith("ledger.html#smoothing-eq2")
    link.click()
    page.wait_for_url("**/ledger.html#smoothing-eq2")
    assert page.locator("#smoothing-eq2").count() == 1


def test_search_finds_a_word_of_the_chapter(open_page):
    page = open_page("search.html?q=mellowmax")
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
