"""The link: its token on the disk, its address, and how it looks in a terminal."""

import os
import pty
import re
import select
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastdino.__main__ import main
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.page import invitation, server

LINK = re.compile(r"http://[\w.:]+/enter#([\w-]{22})")
MODULES = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


def test_the_token_is_made_once_and_read_by_its_owner_alone(home: Home) -> None:
    token = invitation.token(home)
    assert re.fullmatch(r"[\w-]{22}", token)
    assert stat.S_IMODE(home.token.stat().st_mode) == 0o600
    assert invitation.token(home) == token
    assert {path.name for path in home.token.parent.iterdir()} == {"token", ".lock"}


def test_another_token_takes_its_place(home: Home) -> None:
    before = invitation.token(home)
    now = invitation.token(home, new=True)
    assert now != before
    assert invitation.token(home) == now
    assert stat.S_IMODE(home.token.stat().st_mode) == 0o600


def test_two_that_start_at_once_have_one_token(home: Home) -> None:
    found: set[str] = set()
    threads = [threading.Thread(target=lambda: found.add(invitation.token(home))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


def test_a_token_that_others_can_read_after_a_copy_is_closed_again(home: Home) -> None:
    token = invitation.token(home)
    home.token.chmod(0o644)
    assert invitation.token(home) == token
    assert stat.S_IMODE(home.token.stat().st_mode) == 0o600


@pytest.mark.parametrize("kept", [b"", b"short", b"\xff" * 30, b"a b" * 10, b"x" * 22 + b"\n# y"])
def test_what_is_no_token_lets_no_one_in_and_is_told(home: Home, kept: bytes) -> None:
    invitation.token(home)
    home.token.write_bytes(kept)
    with pytest.raises(UserError, match=r"serve --new-token"):
        invitation.token(home)
    assert len(invitation.token(home, new=True)) == 22


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://music.example.org", "https://music.example.org"),
        (" HTTPS://Music.example.org:443/", "https://music.example.org"),
        ("http://my_nas.lan:8080", "http://my_nas.lan:8080"),
        ("http://[fd00::5]:8321/", "http://[fd00::5]:8321"),
    ],
)
def test_a_public_url_is_written_as_browsers_do(given: str, url: str) -> None:
    assert invitation.public_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "music.example.org", "ftp://a", "https://", "https://a/b", "https://a?b", "https://a#b",
        "https://me@a", "https://a b", "https://a:port", "https://ä.example", "javascript:alert(1)",
        "https://a\x1b[2J", "https://a\nb", "https://\u202ea",
    ],
)  # fmt: skip
def test_what_is_no_public_url_is_refused_and_steers_nothing(given: str) -> None:
    with pytest.raises(UserError, match="--public-url") as refused:
        invitation.public_url(given)
    assert not {"\x1b", "\n", "\u202e"} & set(str(refused.value))


def test_the_address_of_the_link_is_one_that_others_reach() -> None:
    assert invitation.reachable("192.168.1.5") == "192.168.1.5"
    assert invitation.reachable("kitchen.local") == "kitchen.local"
    for host in (None, "0.0.0.0", "::"):
        found = invitation.reachable(host)
        assert found is None or not found.startswith(("127.", "0.", "::"))


@pytest.mark.parametrize("host", ["no such host", "999.1.1.1", "a\x1b[2J", "ä" * 80, "192.0.2.77"])
def test_an_address_that_this_computer_has_not_is_told(published: Home, host: str) -> None:
    with pytest.raises(UserError, match=r"0\.0\.0\.0") as refused:
        server.main(published, port=0, host=host)
    assert "\x1b" not in str(refused.value)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_all_addresses_are_those_of_ipv4_too() -> None:
    with server._listening("::", 0) as listening:
        socket.create_connection(("127.0.0.1", listening.getsockname()[1])).close()
    with server._listening("::1", 0) as listening, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listening.getsockname()[1]))


def in_terminal(columns: int, *command: str, **environment: str) -> str:
    """What a command says in a terminal of so many columns."""
    own, its = pty.openpty()
    os.environ.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "fastdino", *command],
        stdin=its, stdout=its, stderr=its, close_fds=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": str(columns)} | environment,
    )  # fmt: skip
    os.close(its)
    said = b""
    while select.select([own], [], [], 60)[0]:
        try:
            said += os.read(own, 65_536)
        except OSError:  # it has ended
            break
    os.close(own)
    assert process.wait(60) == 0
    return said.decode()


def modules(said: str) -> list[list[int]]:
    """The code that is shown, as a scanner sees it: 1 for dark."""
    shown = re.findall(r"\x1b\[38;5;16;48;5;231m(.*?)\x1b\[0m", said)
    return [[MODULES[cell][half] for cell in row] for row in shown for half in (0, 1)]


def test_the_code_in_a_terminal_is_that_of_the_link(published: Home) -> None:
    import segno

    said = in_terminal(80, "serve", "--show-link", "--home", str(published.root))
    link = LINK.search(said)
    assert link
    assert link[1] == invitation.token(published)
    expected = [list(row) for row in segno.make_qr(link[0], error="l").matrix_iter(border=4)]
    code = modules(said)
    assert code[: len(expected)] == expected
    assert not any(map(any, code[len(expected) :]))
    assert max(map(len, code)) < 60
    # Nothing else steers the terminal.
    assert "\x1b" not in re.sub(r"\x1b\[(38;5;16;48;5;231|0)m", "", said)


@pytest.mark.parametrize(
    ("columns", "environment"),
    [(30, {}), (80, {"TERM": "dumb"}), (80, {"PYTHONIOENCODING": "ascii"})],
)
def test_where_the_code_cannot_be_read_there_is_none(
    published: Home, columns: int, environment: dict[str, str]
) -> None:
    home = ("--home", str(published.root))
    said = in_terminal(columns, "serve", "--show-link", *home, **environment)
    assert LINK.search(said)
    assert not modules(said)


def test_what_is_no_terminal_is_told_the_link_on_request_and_no_code(
    published: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--show-link", "--host", "127.0.0.1", "--home", str(published.root)]) == 0
    shown = capsys.readouterr().out
    token = invitation.token(published)
    assert shown == f"  http://127.0.0.1:8321/enter#{token}\n"
    public = ("--public-url", "https://music.example.org/")
    assert main(["serve", "--new-token", *public, "--home", str(published.root)]) == 0
    shown = capsys.readouterr().out
    assert shown == f"  https://music.example.org/enter#{invitation.token(published)}\n"
    assert token not in shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--show-link", "--port", "0"), "--port 8321"),
        (("--host", "127.0.0.1", "--open"), "--open"),
        (("--public-url", "no url"), "--public-url"),
        (("--show-link", "--host", "no such\x1b[2J host"), "--host is 'no such [2J host'"),
    ],
)
def test_options_that_make_no_sense_are_told(
    published: Home, given: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *given, "--home", str(published.root)]) == 2
    assert said in capsys.readouterr().err


def test_there_is_no_link_to_a_page_that_is_not_there(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(UserError, match="fastdino report"):
        server.show_link(home, port=1, host=None, public_url=None, new_token=False)
    assert not home.root.exists()
