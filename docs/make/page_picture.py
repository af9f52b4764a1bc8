"""Takes the picture of the page of ``serve``, from a service that runs: ``python docs/make/page_picture.py ADDRESS``.

Writes ``docs/images/page.png``. Needs chromium and ``pip install playwright``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

TARGET = Path(__file__).parent.parent / "images" / "page.png"
SIZE = {"width": 1040, "height": 800}
CLICKS = ("Toy Story", "Lion King", "Aladdin", "Beauty and the Beast")


def main() -> None:
    """Click some films, ask why one is recommended, and take the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, device_scale_factor=1)
        page.goto(sys.argv[1])
        for title in CLICKS:
            page.locator("#query").fill(title)
            page.locator("#found [role=option]", has_text=title).first.click()
            page.locator("#history li", has_text=title).wait_for()
        page.locator(".why").first.click()
        page.locator(".parts td").first.wait_for()
        page.mouse.move(0, 0)
        page.screenshot(path=TARGET)
        browser.close()
    print(TARGET)


if __name__ == "__main__":
    main()
