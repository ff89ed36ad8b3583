"""The link that lets another device in: its token, its address, and both as a QR code.

Belongs here: making and keeping the token, how others reach this computer, showing that. Does not:
looking at the tokens of requests (``access``).
"""

import contextlib
import fcntl
import ipaddress
import os
import re
import secrets
import shutil
import socket
import struct
import sys

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock
from fastdino.core.text import one_line, runnable
from fastdino.page.access import ENTER

TOKEN_BYTES = 16
TOKEN = re.compile(rb"[\w-]{22,}", re.ASCII)
URL = re.compile(r"(https?)://((?:[a-z0-9][a-z0-9._-]*|\[[0-9a-f:.]+\])(?::\d{1,5})?)/?", re.ASCII)
USUAL_PORT = {"http": ":80", "https": ":443"}
QUIET_ZONE = 4
# Black on white, whatever the terminal's own colours are.
INK, PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
# By whether the upper and the lower of two modules are dark.
HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
# Addresses that stand for examples: nothing is sent to them.
FAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
SIOCGIFADDR = 0x8915


def token(home: Home, *, new: bool = False) -> str:
    """The token of a home, made if there is none; no one but its owner can read the file.

    Args:
        home: where it is kept.
        new: whether another one takes its place, so that whoever had the old one is shut out.

    Raises:
        UserError: what is kept is no token.
    """
    file = home.token
    with exclusive_lock(file.parent):
        if new or not file.exists():
            with atomic_replace(file) as part, open(part, "w", opener=_secret) as out:
                out.write(f"{secrets.token_urlsafe(TOKEN_BYTES)}\n")
        if file.stat().st_mode & 0o077:  # as after a copy
            file.chmod(0o600)
        kept = file.read_bytes().strip()
    if not TOKEN.fullmatch(kept):
        raise UserError(f"{file} holds no token: run `fastdino serve --new-token`")
    return kept.decode()


def _secret(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)


def link(base: str, token: str) -> str:
    """What lets a device in: a URL whose token browsers send to no one by themselves."""
    return f"{base}{ENTER}#{token}"


def public_url(text: str) -> str:
    """A URL by which others know the server, as browsers write it.

    Raises:
        UserError: it is none, or has more than a host and a port.
    """
    found = URL.fullmatch(text.strip().lower())
    if not found:
        raise UserError(
            f"--public-url is {one_line(text)!r}: give http:// or https://, a name, and no path "
            "after it, as https://music.example.org"
        )
    return f"{found[1]}://{found[2].removesuffix(USUAL_PORT[found[1]])}"


def own_names(host: str) -> tuple[str, ...]:
    """Names of this computer by which browsers may ask, beside its addresses."""
    name = socket.gethostname().lower()
    return (host, name, name if "." in name else f"{name}.local")


def is_everywhere(host: str) -> bool:
    """Whether this stands for all addresses of the computer."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def reachable(host: str | None) -> str | None:
    """The address or name by which others reach this computer; None if it is in no network.

    Args:
        host: what it listens on; None for all its addresses.
    """
    if host is not None and not is_everywhere(host):
        return host
    both = host is not None and ":" in host
    families = (socket.AF_INET, socket.AF_INET6) if both else (socket.AF_INET,)
    return next(filter(None, map(_own_address, families)), None)


def _own_address(family: socket.AddressFamily) -> str | None:
    """This computer's address on the way out, or else of the first network that it is in."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as way_out:
        way_out.connect((FAR[family], 9))
        return str(way_out.getsockname()[0])
    if family == socket.AF_INET:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):
                    wanted = struct.pack("256s", name.encode()[:15])
                    answer = fcntl.ioctl(asking, SIOCGIFADDR, wanted)
                    if not (found := socket.inet_ntoa(answer[20:24])).startswith("127."):
                        return found
    return None


def announce(base: str, token: str) -> None:
    """Say where it is served: to a terminal with the token, which no log is to keep."""
    if sys.stdout.isatty():
        print("The map, with sound, for every device that has this link:   (Ctrl-C ends)")
        show(base, token)
        if base.startswith("http:"):
            print("It is not encrypted: for a network that you trust.")
        sys.stdout.flush()
    else:
        print(f"The map, with sound: {base}/   (Ctrl-C ends)")
        again = runnable("`fastdino serve --show-link`")
        print(
            f"The link that lets a device in is shown by {again} with the same options", flush=True
        )


def show(base: str, token: str) -> None:
    """Print the link, and its QR code where a terminal has room for it."""
    url = link(base, token)
    print(f"  {url}")
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        rows = qr_code(url)
        if len(rows[0]) <= shutil.get_terminal_size().columns and _can_show("".join(rows)):
            print("\n".join(f"{INK}{row}{PLAIN}" for row in rows))


def qr_code(text: str) -> list[str]:
    """A QR code, two rows of it to a line of characters, for dark on light."""
    import segno

    code = [list(row) for row in segno.make_qr(text, error="l").matrix_iter(border=QUIET_ZONE)]
    code += [[0] * len(code[0])] * (len(code) % 2)
    return [
        "".join(HALVES[upper > 0, lower > 0] for upper, lower in zip(*pair, strict=True))
        for pair in zip(code[::2], code[1::2], strict=True)
    ]


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
