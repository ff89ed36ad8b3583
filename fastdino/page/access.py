"""Who may ask the page's server, for what, and how often.

Belongs here: names that it goes by, methods, sizes, the token, and how many wrong ones an address
may try: all that holds whatever is asked for. Any routes can stand behind a ``Gate``. Does not:
answers (``server``); the link with the token (``invitation``); slow clients (``connections``).

By itself it answers this computer alone. Shared with other devices it answers whoever has the
token, and tells no one else even what there is. A browser is given the token by a link, in the part
that is never sent to a server (``#``), so that no log and no ``Referer`` has it; the page at
``ENTER`` gives it back in a header, for a cookie that scripts do not see and that is not sent along
with what other sites ask for.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastdino.core.text import one_line

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
ENTER = "/enter"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
CLOSE = {"Connection": "close"}
METHODS = ("GET", "HEAD")
# Of a request: its path and all its headers. There is no body.
LARGEST_HEAD = 16_384
COOKIE_DAYS = 365
# So many different tokens may be wrong in so many seconds before an address is not listened to. Who
# has the link gives one that is wrong at most: that of before.
WRONG_TOKENS = 10
WRONG_WITHIN_S = 60.0
ADDRESSES_KNOWN = 10_000
WITHOUT_TOKEN = "This device is not let in: open the link, or scan its code, once more."
TOO_OFTEN = "Too many wrong tokens: wait a minute."
OTHER_NAME = (
    "Not by this name: use the link as it was shown. If the name is right, the server has to be "
    "started with it, as --public-url."
)
OTHER_PAGE = "Other pages may not ask here."

# What a browser without a token is shown, whatever it has asked for. Where one has a cookie it lets
# itself in: a link on another site does not send it along.
_SCRIPT = f"""
const said = document.getElementById("said"), token = location.hash.slice(1);
const entering = location.pathname === "{ENTER}", tried = !entering && history.state === "tried";
const headers = entering && token ? {{Authorization: `Bearer ${{token}}`}} : {{}};
const say = text => {{ said.textContent = text; said.hidden = false; }};
said.hidden = !tried;
if (entering) history.replaceState(null, "", "{ENTER}");
if (!tried) fetch("{ENTER}", {{headers}}).then(answer => {{
  if (answer.ok && entering) location.replace("/");
  else if (answer.ok) {{ history.replaceState("tried", ""); location.reload(); }}
  else say(answer.status === 429 ? "{TOO_OFTEN}" : "{WITHOUT_TOKEN}");
}}, () => say("There is no answer: try again."));
"""
_STYLE = (
    "p { font: 1.1rem system-ui, sans-serif; max-width: 22em; margin: 20vh auto; padding: 1em; }"
)
_DOOR = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>By the link</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{_STYLE}</style>
<p id="said">{WITHOUT_TOKEN}</p>
<script>{_SCRIPT}</script>
</html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_DOOR_POLICY = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; connect-src 'self'; "
    f"script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}"
}


@dataclass
class Sharing:
    """How a server is shared with other devices.

    Attributes:
        token_file: holds the token; read for each request, so that a new one counts at once.
        names: of this computer, for browsers, beside the address that they have come to.
        public_url: by what others know it where it stands behind another server, without a path.
        wrong: tokens that were tried.
    """

    token_file: Path
    names: tuple[str, ...] = ()
    public_url: str | None = None
    wrong: "WrongTokens" = field(default_factory=lambda: WrongTokens())

    def is_right(self, token: str) -> bool:
        """Whether this is the token; nothing is where there is none."""
        with contextlib.suppress(OSError):
            known = self.token_file.read_bytes().strip()
            return bool(known) and hmac.compare_digest(token.encode(), known)
        return False


class WrongTokens:
    """Wrong tokens of the last minute, by the address that tried them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tried: OrderedDict[str, dict[int, float]] = OrderedDict()

    def too_many(self, address: str) -> bool:
        """Whether an address is not to be listened to for now."""
        since = self._clock() - WRONG_WITHIN_S
        return sum(at > since for at in self._tried.get(address, {}).values()) >= WRONG_TOKENS

    def note(self, address: str, token: str) -> None:
        """Remember a wrong token. The same once more, as of a page left open, is no other try."""
        tried = self._tried.setdefault(address, {})
        tried[hash(token)] = self._clock()
        self._tried.move_to_end(address)
        since = self._clock() - WRONG_WITHIN_S
        for each in [each for each, at in tried.items() if at <= since]:
            del tried[each]
        if len(self._tried) > ADDRESSES_KNOWN:
            self._tried.popitem(last=False)
        if len(tried) == WRONG_TOKENS:
            log.warning("%s tried %d wrong tokens: not heard for a minute", address, WRONG_TOKENS)


class Gate:
    """Lets a request through to an application, or says why not; adds ``HEADERS`` to any answer."""

    def __init__(self, app: ASGIApp, port: int, sharing: Sharing | None = None) -> None:
        self.app, self.port, self.sharing = app, port, sharing
        names = (ADDRESS, "localhost", *(sharing.names if sharing else ()))
        self.origins = origins(names, port)
        if sharing and sharing.public_url:
            scheme, _, host = sharing.public_url.partition("://")
            self.origins[host] = f"{scheme}://{host}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or (self._entrance(scope) if self.sharing else None)
        await (answer or self.app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        known = self.origins
        if self.sharing and scope.get("server"):
            known = known | origins([scope["server"][0]], self.port)
        size = len(scope["raw_path"]) + len(scope["query_string"])
        if size + sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEAD:
            return PlainTextResponse("This is too long.", 431, CLOSE)
        if reason := refusal(headers, known, OTHER_NAME if self.sharing else self._own_name):
            return PlainTextResponse(reason, 403, CLOSE)
        if scope["method"] not in METHODS:
            only = {"Allow": ", ".join(METHODS)}
            return PlainTextResponse("This can only be read.", 405, CLOSE | only)
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return PlainTextResponse("Nothing can be sent here.", 413, CLOSE)
        return None

    def _entrance(self, scope: Scope) -> Response | None:
        """The answer to who has no token, or comes to be let in; None to who is in."""
        assert self.sharing
        token = self._token(scope)
        address = counted_as((scope.get("client") or (None,))[0])
        is_right = False
        if token is not None:
            if self.sharing.wrong.too_many(address):
                return PlainTextResponse(TOO_OFTEN, 429, {"Retry-After": str(int(WRONG_WITHIN_S))})
            is_right = self.sharing.is_right(token)
            if not is_right:
                self.sharing.wrong.note(address, token)
        if scope["path"] == ENTER and is_right:
            answer = HTMLResponse(_DOOR, headers=_DOOR_POLICY)
            answer.set_cookie(
                self._cookie, token or "", max_age=COOKIE_DAYS * 86_400, httponly=True,
                samesite="strict", secure=self._is_https(scope),
            )  # fmt: skip
            return answer
        if is_right:
            return None
        asks = {"WWW-Authenticate": "Bearer"}
        if scope["path"] in ("/", ENTER):
            return HTMLResponse(_DOOR, 401, asks | _DOOR_POLICY)
        return PlainTextResponse(WITHOUT_TOKEN, 401, asks)

    def _is_https(self, scope: Scope) -> bool:
        return self.origins.get(Headers(scope=scope)["host"].lower(), "").startswith("https:")

    @property
    def _own_name(self) -> str:
        return f"This is http://{ADDRESS}:{self.port}/ and goes by no other name."

    @property
    def _cookie(self) -> str:
        # Cookies of one computer are told apart by their names alone, not by the port.
        return f"fastdino-{self.port}"

    def _token(self, scope: Scope) -> str | None:
        """What a request gives as the token: in its header, or else its cookie."""
        given = Headers(scope=scope).getlist("authorization")
        if given:
            scheme, _, token = given[0].partition(" ")
            return token.strip() if len(given) == 1 and scheme.lower() == "bearer" else None
        return Request(scope).cookies.get(self._cookie)


def origins(names: Iterable[str], port: int) -> dict[str, str]:
    """The ``Host`` by which a browser asks for each of ``names``, and its pages' ``Origin``."""
    hosts = [f"{in_url(name)}:{port}" for name in names]
    if port == 80:
        hosts += [in_url(name) for name in names]
    return {host: f"http://{host}" for host in hosts}


def in_url(name: str) -> str:
    """A name or an address as it stands in a URL."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            return str(address.ipv4_mapped or f"[{address}]")
    return name.lower()


def refusal(headers: Headers, known: dict[str, str], other_name: str) -> str | None:
    """Why a request is not answered, if it is not.

    Any page in the browser can send requests to this computer. One that has had its own name
    pointed here ("DNS rebinding") gives itself away by ``Host``, others by ``Origin`` or
    ``Sec-Fetch-Site``; following a link to the page is fine.

    Args:
        headers: the request's.
        known: the server's own, see ``origins``.
        other_name: what is told to who asks by another.
    """
    if headers.get("host", "").lower() not in known:
        return other_name
    if not set(headers.getlist("origin")) <= set(known.values()):
        return OTHER_PAGE
    is_link = headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link:
        return OTHER_PAGE
    return None


def counted_as(address: str | None) -> str:
    """An address as one person has it: of IPv6 the network, of which anyone has one.

    Args:
        address: as the system or a proxy tells it; None where there is none.
    """
    with contextlib.suppress(ValueError):
        known = ipaddress.ip_address((address or "").partition("%")[0])
        if isinstance(known, ipaddress.IPv6Address) and not known.ipv4_mapped:
            return str(ipaddress.ip_network((known, 64), strict=False))
        return str(getattr(known, "ipv4_mapped", None) or known)
    return one_line(address or "unknown")
