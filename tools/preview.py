"""Take the picture of the book that the README shows: `python tools/preview.py HTML PNG`.

HTML is the folder of the built book. Needs Chromium (or its path in CHROMIUM) and Playwright.
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


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def main(html: str, target: str) -> int:
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
        taken = page.screenshot()
        chromium.close()
    server.shutdown()
    picture = Image.open(io.BytesIO(taken)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(Path(target), optimize=True)
    print(f"{target}: {Path(target).stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
