"""The page's server: the page, the sound of its songs, moments like a moment, songs to go on with.

Belongs here: what may be asked, the answers, and starting it. Does not: who may ask (``access``);
what music servers ask (``for_servers``); the page; the search itself, which is the macro
``similar_segments``.

It only reads. Songs are asked for by ``track_id`` and looked up in the published database: no path
ever comes from the outside, and to other devices none is told. The database is opened for each
question, so that a new one is seen at once and nothing keeps the next publishing waiting.
"""

import contextlib
import errno
import functools
import ipaddress
import logging
import math
import mimetypes
import socket
import webbrowser
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.text import one_line, runnable
from fastdino.database import playlists
from fastdino.database.connection import connect, rows
from fastdino.page import connections, for_servers, invitation, sound
from fastdino.page.access import ADDRESS, LARGEST_HEAD, Gate, Sharing, in_url
from fastdino.page.page import without_paths

log = logging.getLogger(__name__)

MOMENTS = 20
# By what they are called: how many songs are given, at least and at most, and the query.
JOURNEYS = {
    "way": (2, 2, "SELECT track_id FROM playlist_between($given[1], $given[2]) ORDER BY place"),
    "blend": (2, 50, "SELECT track_id FROM similar_to_all($given, 20) ORDER BY similarity DESC"),
    "surprise": (0, 0, "SELECT track_id FROM playlist_surprise() ORDER BY place"),
}
UNPLAYABLE = "The file of this song cannot be played."


def main(
    home: Home,
    *,
    port: int,
    open_browser: bool = False,
    host: str | None = None,
    public_url: str | None = None,
) -> int:
    """Serve until interrupted; returns the exit code.

    Args:
        home: where results lie.
        port: where to listen; 0 for any that is free.
        open_browser: whether to open the page.
        host: where to listen for other devices, by address or name; for this computer alone if
            neither this nor ``public_url`` is given.
        public_url: by what a server in front of this one is known.

    Raises:
        UserError: there is no page yet, or the port is taken, or there is no such address.
    """
    public = invitation.public_url(public_url) if public_url else None
    _must_have_page(home)
    with _listening(host or ADDRESS, port) as listening:
        address, port = listening.getsockname()[:2]
        if host is None and public is None:
            sharing, url = None, f"http://{ADDRESS}:{port}/"
            print(f"The map, with sound: {url}   (Ctrl-C ends)", flush=True)
            if open_browser:
                webbrowser.open(url)
        else:
            if public is None and ipaddress.ip_address(address.partition("%")[0]).is_loopback:
                log.warning(
                    "only this computer can reach %s: give another address, or 0.0.0.0 for all "
                    "that it has",
                    address,
                )
            token = invitation.token(home)
            sharing = Sharing(home.token, invitation.own_names(host or ADDRESS), public)
            invitation.announce(public or _base(host or ADDRESS, port), token)
        with contextlib.suppress(KeyboardInterrupt):
            serving(home, port, sharing).run(sockets=[listening])
    return 0


def show_link(
    home: Home, *, port: int, host: str | None, public_url: str | None, new_token: bool
) -> int:
    """Print the link for other devices, as it is where the same options are served.

    Args:
        home: where the token is kept.
        port: see ``main``.
        host: see ``main``; if neither it nor ``public_url`` is given, this computer's address.
        public_url: see ``main``.
        new_token: whether to make another token first, which shuts out all who had the old one.
    """
    _must_have_page(home)
    if public_url is None and not port:
        raise UserError("the link has a port in it: give the one that is served, as --port 8321")
    if host:
        _address(host)
    base = invitation.public_url(public_url) if public_url else _base(host, port)
    invitation.show(base, invitation.token(home, new=new_token))
    return 0


def _must_have_page(home: Home) -> None:
    if not home.page.exists():
        raise UserError(f"there is no {home.page} yet: run `make report`, or `fastdino report`")


def _base(host: str | None, port: int) -> str:
    """The URL by which other devices reach what listens at ``host``."""
    address = invitation.reachable(host)
    if address is None:
        log.warning("this computer is in no network: no other device can reach it for now")
    return f"http://{in_url(address or ADDRESS)}:{port}"


def _address(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UserError(
            f"--host is {one_line(host)!r}: give an address of this computer, or 0.0.0.0 for all "
            "that it has"
        ) from None
    family, *_, (address, *_) = found[0]
    return family, str(address)


def _listening(host: str, port: int) -> socket.socket:
    family, address = _address(host)
    listening = socket.socket(family)
    both = invitation.is_everywhere(host)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        listening.bind((address, port))
    except (OSError, OverflowError) as error:
        listening.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"{one_line(host)} is no address of this computer: give one that it has, or "
                "0.0.0.0 for all of them"
            ) from None
        raise UserError(
            f"cannot listen on port {port} ({error}): give another, --port 0"
        ) from error
    listening.listen()
    return listening


def serving(home: Home, port: int, sharing: Sharing | None = None) -> uvicorn.Server:
    """The server of ``home`` for whoever comes to ``port``."""
    config = uvicorn.Config(
        application(home, port, sharing),
        http=connections.Connection,
        ws="none",
        lifespan="off",
        # No log has what was asked, by whom, or that it was no HTTP.
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=connections.IN_ALL,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        # Who asks is told by a server in front of this one alone, which is on this computer.
        proxy_headers=bool(sharing and sharing.public_url),
        forwarded_allow_ips=["127.0.0.1", "::1"],
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def application(home: Home, port: int, sharing: Sharing | None = None) -> Starlette:
    """What is served.

    Args:
        home: where results lie.
        port: the one that browsers know it by.
        sharing: how other devices get in; None for this computer alone, which is told paths.
    """

    def page(request: Request) -> Response:
        if not home.page.exists():
            raise HTTPException(404, runnable("There is no page yet: run `fastdino report`."))
        if sharing:
            return HTMLResponse(_page_for_others(home.page, home.page.stat().st_mtime_ns))
        return FileResponse(home.page)

    def audio(request: Request) -> Response:
        song = asked_for(request)
        if song.start_s is not None:
            # No browser finds a place in a long file to the sample, and none stops at one.
            return decoded(song, request)
        kind = mimetypes.guess_type(song.path.name)[0] or ""
        return FileResponse(
            song.path, media_type=kind if kind.startswith("audio/") else "application/octet-stream"
        )

    def decoded_audio(request: Request) -> Response:
        return decoded(asked_for(request), request)

    def asked_for(request: Request) -> SongFile:
        return song_file(
            home.database, request.path_params["track_id"], tells_paths=sharing is None
        )

    def decoded(song: SongFile, request: Request) -> Response:
        wanted = request.headers.get("range")
        try:
            answer = sound.response(song.path, wanted, song.start_s or 0.0, song.duration_s)
        except sound.SoundError as error:
            said = f"{one_line(str(song.path))} cannot be played: {error}."
            raise HTTPException(415, UNPLAYABLE if sharing else said) from error
        # Nothing is decoded for who only wants to know how long it is.
        head = request.method == "HEAD"
        return Response(status_code=answer.status_code, headers=answer.headers) if head else answer

    def similar_moments(request: Request) -> Response:
        try:
            at_s = float(request.query_params["at"])
            song = request.query_params["song"]
            if not 0 <= at_s < math.inf:
                raise ValueError
        except (KeyError, ValueError):
            raise HTTPException(400, "Ask for ?song=TRACK_ID&at=SECONDS.") from None
        return JSONResponse(moments_like(home.database, song, at_s))

    def journey(request: Request) -> Response:
        given = request.query_params.getlist("song")
        return JSONResponse(
            {"songs": journey_of(home.database, request.path_params["kind"], given)}
        )

    return Starlette(
        routes=[
            Route("/", page),
            Route("/audio/{track_id}.wav", decoded_audio),
            Route("/audio/{track_id}", audio),
            Route("/similar-moments", similar_moments),
            Route("/journey/{kind}", journey),
            *for_servers.routes(home),
        ],
        middleware=[Middleware(Gate, port=port, sharing=sharing)],
        exception_handlers={
            HTTPException: _say,  # type: ignore[dict-item]
            UserError: _say_less if sharing else _say_what_to_do,  # type: ignore[dict-item]
        },
    )


class SongFile(NamedTuple):
    """Where a song lies: a file, its place in it if there are several in there, and its length."""

    path: Path
    start_s: float | None
    duration_s: float | None


@functools.lru_cache(maxsize=1)
def _page_for_others(page: Path, written_at: int) -> bytes:
    return without_paths(page.read_bytes())


def song_file(database: Path, track_id: str, *, tells_paths: bool = True) -> SongFile:
    """The file to play for a song: of all that hold it, the first one that is there.

    Args:
        database: the published one.
        track_id: of the song.
        tells_paths: whether an error may name the file.

    Raises:
        HTTPException: no such song, or none of its files is there.
    """
    with connect(database) as db:
        query = "SELECT path, start_s, duration_s FROM tracks WHERE track_id = $track_id"
        known = rows(db, query, {"track_id": track_id})
        path = playlists.file_of(db, track_id)
    if not known:
        raise HTTPException(404, "This song is not in the collection any more: reload the page.")
    stated, start_s, duration_s = known[0]
    if path is None:
        what = one_line(stated) if tells_paths else "The file of this song"
        raise HTTPException(404, f"{what} is not there. Is its disk mounted?")
    return SongFile(path, start_s, duration_s)


def moments_like(database: Path, track_id: str, at_s: float) -> dict[str, Any]:
    """The stretch of a song around ``at_s`` seconds, and those of other songs most like it.

    Beyond its end it is the last one: a player's clock tells tenths, and of more than was decoded.

    Raises:
        HTTPException: nothing is known of the song's moments.
    """
    nearest = """
        SELECT start_s, end_s, max(end_s) OVER () FROM current_segments WHERE track_id = $track_id
        ORDER BY abs((start_s + end_s) / 2 - $at_s) LIMIT 1
    """
    similar = """
        SELECT track_id, from_s, to_s, similarity
        FROM similar_segments($track_id, $at_s, $k) ORDER BY similarity DESC, track_id
    """
    values = {"track_id": track_id, "at_s": at_s}
    with connect(database) as db:
        around = rows(db, nearest, values)
        if not around:
            raise HTTPException(404, "Nothing is known of the moments of this song yet.")
        from_s, to_s, end_s = around[0]
        found = rows(db, similar, {**values, "at_s": min(at_s, end_s), "k": MOMENTS})
    names = ("song", "from_s", "to_s", "similarity")
    return {
        "from_s": from_s,
        "to_s": to_s,
        "moments": [dict(zip(names, moment, strict=True)) for moment in found],
    }


def journey_of(database: Path, kind: str, given: list[str]) -> list[str]:
    """The ``track_id`` of songs to hear one after the other.

    Args:
        database: the published one.
        kind: ``way`` from one of two songs to the other, ``blend`` of what is like all of several,
            ``surprise`` for a way from somewhere to somewhere else.
        given: their ``track_id``.

    Raises:
        HTTPException: no such kind, another number of songs than it takes, or a song is not known.
    """
    if kind not in JOURNEYS:
        raise HTTPException(404, f"Ask for one of {', '.join(JOURNEYS)}.")
    least, most, query = JOURNEYS[kind]
    if not least <= len(given) <= most:
        raise HTTPException(400, f"A {kind} takes {least} to {most} songs: ?song=TRACK_ID&song=...")
    with connect(database) as db:
        known = "SELECT count(*) FROM tracks WHERE list_contains($given, track_id)"
        if rows(db, known, {"given": given})[0][0] < len(set(given)):
            raise HTTPException(
                404, "This song is not in the collection any more: reload the page."
            )
        found = [track_id for (track_id,) in rows(db, query, {"given": given} if given else {})]
    return [*given, *found] if kind == "blend" else found


def _say(request: Request, error: HTTPException) -> Response:
    return PlainTextResponse(error.detail, error.status_code)


def _say_what_to_do(request: Request, error: UserError) -> Response:
    return PlainTextResponse(str(error), 503)


def _say_less(request: Request, error: UserError) -> Response:
    """What is wrong has paths in it: it is told where the server runs."""
    log.warning("%s", one_line(runnable(str(error))))
    return PlainTextResponse("Something is missing: look where this is served from.", 503)
