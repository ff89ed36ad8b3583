"""The page on a phone in another network: by its link it opens and plays, without it nothing."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from opening import READY, opened, watched
from playwright.sync_api import Browser, BrowserContext, expect

from fastdino.core.home import Home
from fastdino.page import invitation
from fastdino.page.access import TOO_OFTEN, WITHOUT_TOKEN

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("house"),  # in their order: the last ends the phone's being heard
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))),
        reason="needs root, unshare, nsenter and ip: the phone is in a network of its own",
    ),
]

ADDRESSES = {"10.77.0.1": "10.77.0.2", "fd77::1": "fd77::2"}
PLAYS = "() => !audio.paused && audio.currentTime > 0.3"
PHONE = {"width": 390, "height": 844}


def within(network: subprocess.Popen[bytes], *command: str) -> list[str]:
    return ["nsenter", "--net", f"--target={network.pid}", "--", *command]


def do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """Two networks with a cable between them, and no way to anywhere else."""
    with contextlib.ExitStack() as stack:
        both = []
        for _ in range(2):
            # It says something once it is in its network.
            command = ["unshare", "--net", "sh", "-c", "echo && exec sleep infinity"]
            network = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(network.kill)
            both.append(network)
            if not network.stdout or not network.stdout.readline():
                pytest.skip("no network of its own can be made here")
        house, phone = both
        try:
            pids = [str(network.pid) for network in both]
            do("ip", "link", "add", "house", "netns", pids[0], "type", "veth",
               "peer", "name", "phone", "netns", pids[1])  # fmt: skip
            for network, name, number in ((house, "house", "1"), (phone, "phone", "2")):
                do(*within(network, "ip", "addr", "add", f"10.77.0.{number}/24", "dev", name))
                with contextlib.suppress(subprocess.CalledProcessError):  # without IPv6
                    v6 = f"fd77::{number}/64"
                    do(*within(network, "ip", "addr", "add", v6, "dev", name, "nodad"))
                for each in ("lo", name):
                    do(*within(network, "ip", "link", "set", each, "up"))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no cable can be laid here: {error.stderr.decode().strip()}")
        yield house, phone


class Served(NamedTuple):
    """What is served to the house: its home, the link that is shown for it, what it says itself."""

    home: Home
    link: str
    log: Path


@pytest.fixture(scope="module")
def served(
    networks: tuple[subprocess.Popen[bytes], ...],
    collection: Home,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """``fastdino serve --host ::``, which is for all addresses of both kinds."""
    fastdino = [sys.executable, "-m", "fastdino", "--home", str(collection.root), "serve"]
    command = within(networks[0], *fastdino, "--host", "::")
    log = tmp_path_factory.mktemp("served") / "log"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            shown = subprocess.run(
                [*command, "--show-link"], check=True, capture_output=True, text=True, timeout=60
            ).stdout.strip()
            deadline = time.monotonic() + 60
            while "The map, with sound" not in log.read_text():  # It listens once it says so.
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield Served(collection, shown, log)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def phone(
    networks: tuple[subprocess.Popen[bytes], ...],
    launch: Callable[[str], Browser],
    chromium_path: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """A browser that has no other network than the phone's."""
    starter = tmp_path_factory.mktemp("phone") / "chromium"
    starter.write_text(f'#!/bin/sh\nexec {shlex.join(within(networks[1], chromium_path))} "$@"\n')
    starter.chmod(0o755)
    browser = launch(str(starter))
    yield browser
    browser.close()


@pytest.fixture
def context(phone) -> Iterator[BrowserContext]:
    """A fresh profile on the phone."""
    context = phone.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    yield context
    context.close()


@pytest.fixture(params=ADDRESSES)
def link(served: Served, request: pytest.FixtureRequest) -> str:
    """The link that is shown, and the same by the other kind of address."""
    assert served.link.startswith("http://10.77.0.1:8321/enter#")
    host = f"[{request.param}]" if ":" in request.param else request.param
    return served.link.replace("10.77.0.1", host)


def test_by_its_link_the_page_opens_on_a_phone_and_plays(
    context: BrowserContext, served: Served, link: str
) -> None:
    base, _, token = link.partition("/enter#")
    page, complaints = watched(context)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.url} {request.all_headers()}"))
    opened(page, link)
    # The token is in a cookie that scripts do not see, and nowhere else.
    assert page.url.removesuffix("#") == f"{base}/"
    assert token not in page.content()
    assert page.evaluate("document.cookie") == ""
    (cookie,) = context.cookies()
    assert (cookie["value"], cookie["httpOnly"], cookie["sameSite"]) == (token, True, "Strict")
    page.evaluate("likeSong(3)")
    page.wait_for_function(PLAYS)
    expect(page.locator("#now b")).to_have_text(page.evaluate("songs.title[3]"))
    page.evaluate("askMoments()")
    expect(page.locator(".songs li").first).to_be_visible()
    # Where files lie is not told, so there is no playlist to take along.
    content = page.content()
    assert str(served.home.root.parent) not in content
    assert not page.evaluate("files().folders.length + files().failures.length")
    expect(page.get_by_text("Download playlist")).to_have_count(0)
    opened(page)  # once more, without the link
    assert not [url for url in asked if token in url.split()[0]]
    assert not [each for each in asked if "referer" in each and token in each.split("referer")[1]]
    # Only that the link was opened without a cookie.
    (complaint,) = complaints
    assert "401" in complaint


@pytest.mark.parametrize("token", ["", "#", "#" + "A" * 22, "#%3Cb%3E", "#'\"><script>"])
def test_without_the_token_nothing_is_seen(
    context: BrowserContext, served: Served, token: str
) -> None:
    page = context.new_page()
    for path in ("/", "/enter"):
        page.goto(served.link.partition("/enter")[0] + path + token)
        page.wait_for_load_state("networkidle")
        expect(page.locator("body")).to_have_text(WITHOUT_TOKEN)
        assert page.locator(READY).count() == 0
        assert page.evaluate("document.scripts.length") == 1
    statuses = page.evaluate(
        "paths => Promise.all(paths.map(path => fetch(path).then(({status}) => status)))",
        ["/", "/enter", "/audio/x", "/similar-moments", "/journey/surprise", "/nothing"],
    )
    assert set(statuses) == {401}
    assert not context.cookies()


def test_the_page_says_so_once_the_token_has_changed_and_opens_by_the_new_link(
    context: BrowserContext, served: Served
) -> None:
    base, _, before = served.link.partition("/enter#")
    page, _ = watched(context)  # The browser itself complains of a song it cannot load.
    opened(page, served.link)
    try:
        now = invitation.token(served.home, new=True)
        page.evaluate("likeSong(2)")
        expect(page.locator("#note")).to_have_text(WITHOUT_TOKEN)
        page.reload()
        expect(page.locator("body")).to_have_text(WITHOUT_TOKEN)
        opened(page, f"{base}/enter#{now}")
        page.evaluate("likeSong(2)")
        page.wait_for_function(PLAYS)
    finally:
        served.home.token.write_text(f"{before}\n")


def test_who_is_in_comes_back_by_a_link_of_another_site(
    context: BrowserContext, served: Served
) -> None:
    page, _ = watched(context)
    opened(page, served.link)
    title = page.evaluate("songs.title[4]")
    target = f"{served.link.partition('/enter')[0]}/#tab=Song&song={page.evaluate('songs.id[4]')}"
    page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(content_type="text/html", body=f'<a href="{target}">go</a>'),
    )
    page.goto("http://elsewhere.example/")
    page.click("a")
    page.wait_for_selector(READY)
    expect(page.locator("#view h2").first).to_have_text(title)


def test_what_the_server_says_has_no_token_in_it(served: Served) -> None:
    said = served.log.read_text()
    assert re.search(r"The map, with sound: http://10\.77\.0\.1:8321/ ", said)
    assert served.link.partition("#")[2] not in said
    assert invitation.token(served.home) not in said


def test_who_guesses_is_not_listened_to(context: BrowserContext, served: Served) -> None:
    # The last of these tests: the phone is not heard for a minute.
    page = context.new_page()
    page.goto(served.link.partition("#")[0])
    for number in range(12):
        page.goto("about:blank")
        page.goto(f"{served.link.partition('#')[0]}#{number:022}")
        page.wait_for_load_state("networkidle")
    expect(page.locator("body")).to_have_text(TOO_OFTEN)
