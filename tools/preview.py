"""Take the pictures of the book: `python tools/preview.py HTML FOLDER` writes two into FOLDER.

preview.png is what the README shows, social.png what other sites show beside a link. HTML is the folder of
the built book. Needs Chromium (or its path in CHROMIUM) and Playwright.
"""

import functools
import http.server
import io
import os
import shutil
import sys
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PAGE = "chapters/smoothing.html"
SOCIAL = """<body style="margin: 0; background: #fff; font: 34px sans-serif; color: #1b1f24">
<div style="padding: 70px">{logo}
<p style="font-size: 68px; font-weight: bold; margin: 40px 0 24px">Executable Scientific Spaces</p>
<p style="line-height: 1.5">Eight articles of kexue.fm, re-derived and re-run in PyTorch:<br>
a test checks every equation, an experiment every claim.</p></div></body>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def save(taken: bytes, target: Path) -> None:
    picture = Image.open(io.BytesIO(taken)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size // 1000} kB")


def main(html: str, folder: str) -> int:
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("No Chromium found: install one, or name it in CHROMIUM.", file=sys.stderr)
        return 1
    handler = functools.partial(_Quiet, directory=html)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 860})
        page.goto(f"http://127.0.0.1:{server.server_port}/{PAGE}", wait_until="load")
        page.evaluate("() => window.MathJax && MathJax.startup.promise.then(() => null)")
        save(page.screenshot(), Path(folder) / "preview.png")
        logo = (Path(folder) / "logo.svg").read_text("utf-8").replace("<svg ", '<svg width="200" ')
        page.set_viewport_size({"width": 1200, "height": 630})
        page.set_content(SOCIAL.format(logo=logo))
        save(page.screenshot(), Path(folder) / "social.png")
        chromium.close()
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
