"""Opening the page: the server as a process of its own, and a tab whose complaints are noted.

Belongs here as well: gestures that several tests make.
"""

import subprocess
import sys

from playwright.sync_api import BrowserContext, Page, expect

from fastdino.core.home import Home

READY = "html[data-ready]"
# On a busy machine no more is wrong than that it takes long.
LIMIT_MS = 120_000
expect.set_options(timeout=LIMIT_MS)
# What the page's modules export, by its name: tests look at the page from within, too.
EXPOSE = (
    """() => { for (const exported of Object.values(modules)) Object.assign(window, exported); }"""
)


class serve:
    """``fastdino serve`` as a process of its own, on a free port."""

    def __init__(self, home: Home) -> None:
        command = [sys.executable, "-m", "fastdino", "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--home", str(home.root)], stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return next(word for word in line.split() if word.startswith("http://"))

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)


def watched(context: BrowserContext) -> tuple[Page, list[str]]:
    """A new tab, and what goes wrong in it from now on."""
    page, complaints = context.new_page(), []
    page.set_default_timeout(LIMIT_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    return page, complaints


def opened(page: Page, url: str | None = None) -> Page:
    """The page at ``url``, or again where it is, once it is ready to be used."""
    if url is None:
        page.reload()
    else:
        page.goto(url)
    page.wait_for_selector(READY)
    page.evaluate(EXPOSE)
    return page


def draw_loop(page: Page) -> None:
    """Draw a loop around all of the map."""
    left, top, right, bottom = page.evaluate(
        """() => { const {l, r, t, b} = margin();
           return [l - 20, t - 8, innerWidth - r + 10, innerHeight - b + 8]; }"""
    )
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
        page.mouse.move(x, y, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
