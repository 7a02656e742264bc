"""Take a picture of an HTML page in a headless Chromium.

    python -m scripts.screenshot report.html report.png --width 1280
    python -m scripts.screenshot report.html phone.png --width 390 --dark
    python -m scripts.screenshot report.html heatmap.png --element '#heatmap'

Needs selenium, chromium and its driver (Debian: chromium, chromium-driver).
"""

import argparse
import base64
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

READY = (
    "return document.readyState === 'complete' && (!document.getElementById('report-data')"
    " || document.documentElement.dataset.ready === 'true')"
)
"""True when a page is there with all its figures."""


def missing() -> str:
    """Return what is missing to open a page, empty when nothing is."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium with a new profile, and end it afterwards."""
    settings = webdriver.ChromeOptions()
    settings.binary_location = shutil.which("chromium") or ""
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            settings.add_argument(flag)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        chrome = webdriver.Chrome(options=settings, service=service)
        try:
            yield chrome
        finally:
            chrome.quit()


def open_page(
    chrome: webdriver.Chrome,
    page: Path,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    scale: float = 1.0,
) -> None:
    """Open a page on a screen of a size and wait until its figures are drawn."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    resize(chrome, width, height, scale)
    chrome.get(page.resolve().as_uri())
    WebDriverWait(chrome, 60, poll_frequency=0.05).until(lambda it: it.execute_script(READY))


def resize(chrome: webdriver.Chrome, width: int, height: int, scale: float = 1.0) -> None:
    """Give the screen a size; below 600 pixels it is a phone's."""
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600},
    )


def picture(chrome: webdriver.Chrome, element: str | None = None) -> bytes:
    """Return the screen, or the part of the page with a CSS selector, as PNG."""
    request: dict[str, object] = {"captureBeyondViewport": True}
    if element is not None:
        request["clip"] = chrome.execute_script(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height,"
            " scale: 1}",
            element,
        )
    return base64.b64decode(chrome.execute_cdp_cmd("Page.captureScreenshot", request)["data"])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="the HTML file")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--width", type=int, default=1280, help="width of the screen in pixels")
    parser.add_argument("--height", type=int, help="height; by default the whole page")
    parser.add_argument("--element", help="CSS selector of the part to take")
    parser.add_argument("--dark", action="store_true", help="with the dark colours")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels a pixel")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Take the picture that the command line asks for."""
    options = parse(arguments)
    if missing():
        raise SystemExit(f"Not on the PATH: {missing()}.")
    with browser() as chrome:
        sizes = {"width": options.width, "scale": options.scale}
        open_page(chrome, options.page, height=options.height or 900, dark=options.dark, **sizes)
        if options.height is None:
            whole = chrome.execute_script("return document.documentElement.scrollHeight")
            resize(chrome, options.width, whole, options.scale)
        options.picture.write_bytes(picture(chrome, options.element))


if __name__ == "__main__":
    main(sys.argv[1:])
