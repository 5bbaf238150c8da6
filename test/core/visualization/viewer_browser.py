"""A real headless Chromium on the viewer's page.

Also takes the picture of the docs:
    python test/core/visualization/viewer_browser.py room.m3dmap docs/images/viewer.png "something to sit on"
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# WebGL without a GPU; root needs --no-sandbox; the rest keeps the browser from talking to its maker.
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def browser_context(width=1280, height=800):
    """A browser with an empty profile. All requests to anything but this machine are refused and noted in ``.foreign``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=BROWSER,
            headless=True,
            args=FLAGS,
            viewport={"width": width, "height": height},
        )
        context.foreign = []

        def only_here(route):
            url = route.request.url
            if re.match(r"(http|ws)://(127\.0\.0\.1|localhost)[:/]|(blob|data):", url):
                route.continue_()
            else:
                context.foreign.append(url)
                route.abort()

        context.route("**/*", only_here)
        try:
            yield context
        finally:
            context.close()


def open_page(context, url):
    """Load the viewer and wait for its panel."""
    page = context.new_page()
    page.set_default_timeout(90_000)  # drawing in software, on a machine with other work
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".mosaic3d-status")
    warning = page.get_by_text("Software WebGL rendering detected")  # true here, and in the way of the picture
    warning.wait_for(timeout=30_000)
    page.locator(".mantine-Notification-closeButton").first.click()
    return page


def find(page, text):
    """Type words and press Enter."""
    field = page.locator("form input").first
    field.fill(text)
    field.press("Enter")


def choose(page, label, option):
    """Choose in a drop-down list of the panel."""
    page.locator(f"xpath=//*[text()='{label}']/following::input[1]").click()
    page.get_by_role("option", name=option, exact=True).click()


def picture(page):
    """The page as an RGB array (H, W, 3), uint8."""
    import io

    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def main():
    """Take the picture of the docs."""
    map_file, target, text = sys.argv[1:4]
    command = [sys.executable, "-m", "mosaic3d_core.cli", "view", map_file, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = re.search(r"http://\S+", process.stdout.readline()).group()
        try:
            with browser_context() as context:
                page = open_page(context, url)
                page.wait_for_function("document.body.innerText.includes('objects')", timeout=120_000)
                page.wait_for_function("!document.body.innerText.includes('finding')", timeout=240_000)
                find(page, text)
                page.get_by_text("Best objects").wait_for()
                page.wait_for_timeout(5000)
                page.screenshot(path=target)
                choose(page, "Show", "Labels")
                page.wait_for_timeout(5000)
                page.screenshot(path=target.replace(".png", "_labels.png"))
        finally:
            process.terminate()
            print("exit code", process.wait())


if __name__ == "__main__":
    main()
