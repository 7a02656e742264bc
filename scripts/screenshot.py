"""Take a picture of an HTML page in a headless Chromium.

    python scripts/screenshot.py report.html report.png --width 1280
    python scripts/screenshot.py report.html phone.png --width 390 --dark
    python scripts/screenshot.py report.html heatmap.png --element '#heatmap'

Needs selenium, chromium and its driver (Debian: chromium, chromium-driver).
"""

import argparse
import base64
import shutil
import sys
import tempfile
from collections.abc import Sequence
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


def take(options: argparse.Namespace) -> bytes:
    """Return the picture, taken when the page says that it is ready (or has no such mark)."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise SystemExit("chromium and chromedriver are needed, but are not on the PATH.")
    settings = webdriver.ChromeOptions()
    settings.binary_location = browser
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            settings.add_argument(flag)
        chrome = webdriver.Chrome(options=settings, service=webdriver.ChromeService(driver))
        try:
            return _picture(chrome, options)
        finally:
            chrome.quit()


def _picture(chrome: webdriver.Chrome, options: argparse.Namespace) -> bytes:
    scheme = "dark" if options.dark else "light"
    chrome.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    _resize(chrome, options, options.height or 900)
    chrome.get(options.page.resolve().as_uri())
    WebDriverWait(chrome, 60).until(
        lambda page: page.execute_script(
            "return !document.getElementById('report-data')"
            " || document.documentElement.dataset.ready === 'true'"
        )
    )
    if options.height is None:
        whole = chrome.execute_script("return document.documentElement.scrollHeight")
        _resize(chrome, options, whole)
    request: dict[str, object] = {"captureBeyondViewport": True}
    if options.element:
        box = chrome.execute_script(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height,"
            " scale: 1}",
            options.element,
        )
        request["clip"] = box
    return base64.b64decode(chrome.execute_cdp_cmd("Page.captureScreenshot", request)["data"])


def _resize(chrome: webdriver.Chrome, options: argparse.Namespace, height: int) -> None:
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": options.width,
            "height": height,
            "deviceScaleFactor": options.scale,
            "mobile": options.width < 600,
        },
    )


if __name__ == "__main__":
    chosen = parse(sys.argv[1:])
    chosen.picture.write_bytes(take(chosen))
