"""Takes the picture of a report of ``compare``: ``python docs/make/screen.py compare/ml-100k/report.html``.

Writes ``docs/images/compare.png``. Needs chromium.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "images" / "compare.png"
SIZE = (1080, 1440)


def main() -> None:
    """Take the picture of the report that the command line names."""
    report = Path(sys.argv[1]).resolve(strict=True)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={SIZE[0]},{SIZE[1]}", "--force-device-scale-factor=0.75", f"--screenshot={TARGET}"]
    subprocess.run([*command, report.as_uri()], check=True)
    print(TARGET)


if __name__ == "__main__":
    main()
