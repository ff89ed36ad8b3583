"""A small server on this computer alone: the page, the sound of its songs, moments like a moment.

Belongs here: what may be asked of it, by whom, and the answers. Does not: the page; the search
itself, which is the macro ``similar_segments``.

It only reads. Songs are asked for by ``track_id`` and looked up in the published database: no path
ever comes from the outside. The database is opened for each question, so that a new one is seen at
once and nothing keeps the next publishing waiting.
"""

import contextlib
import mimetypes
import socket
import webbrowser
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.text import one_line
from fastdino.database import playlists
from fastdino.database.connection import connect, rows
from fastdino.page import sound

ADDRESS = "127.0.0.1"
MOMENTS = 20
# By what they are called: how many songs are given, at least and at most, and the query.
JOURNEYS = {
    "way": (2, 2, "SELECT track_id FROM playlist_between($given[1], $given[2]) ORDER BY place"),
    "blend": (2, 50, "SELECT track_id FROM similar_to_all($given, 20) ORDER BY similarity DESC"),
    "surprise": (0, 0, "SELECT track_id FROM playlist_surprise() ORDER BY place"),
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def main(home: Home, *, port: int, open_browser: bool = False) -> int:
    """Serve until interrupted; returns the exit code.

    Args:
        home: where results lie.
        port: where to listen; 0 for any that is free.
        open_browser: whether to open the page.

    Raises:
        UserError: there is no page yet, or the port is taken.
    """
    if not home.page.exists():
        raise UserError(f"there is no {home.page} yet: run `fastdino report` first")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on port {port} ({error}): give another, --port 0"
        ) from error
    listening.listen()
    port = listening.getsockname()[1]
    url = f"http://{ADDRESS}:{port}/"
    print(f"The map, with sound: {url}   (Ctrl-C ends)", flush=True)
    if open_browser:
        webbrowser.open(url)
    with contextlib.suppress(KeyboardInterrupt):
        serving(home, port).run(sockets=[listening])
    return 0


def serving(home: Home, port: int) -> uvicorn.Server:
    """The server of ``home`` for whoever comes to ``port``."""
    config = uvicorn.Config(
        application(home, port),
        log_level="warning",
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def application(home: Home, port: int) -> Starlette:
    """What is served; ``port`` is the one that browsers know it by."""

    def page(request: Request) -> Response:
        if not home.page.exists():
            raise HTTPException(404, "There is no page yet: run `fastdino report`.")
        return FileResponse(home.page)

    def audio(request: Request) -> Response:
        song = song_file(home.database, request.path_params["track_id"])
        if song.start_s is not None:
            # No browser finds a place in a long file to the sample, and none stops at one.
            return decoded(song, request)
        kind = mimetypes.guess_type(song.path.name)[0] or ""
        return FileResponse(
            song.path, media_type=kind if kind.startswith("audio/") else "application/octet-stream"
        )

    def decoded_audio(request: Request) -> Response:
        return decoded(song_file(home.database, request.path_params["track_id"]), request)

    def decoded(song: SongFile, request: Request) -> Response:
        wanted = request.headers.get("range")
        try:
            return sound.response(song.path, wanted, song.start_s or 0.0, song.duration_s)
        except sound.SoundError as error:
            raise HTTPException(
                415, f"{one_line(str(song.path))} cannot be played: {error}."
            ) from error

    def similar_moments(request: Request) -> Response:
        try:
            at_s = float(request.query_params["at"])
            song = request.query_params["song"]
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
        ],
        middleware=[Middleware(_OwnPageOnly, port=port)],
        exception_handlers={
            HTTPException: _say,  # type: ignore[dict-item]
            UserError: _say_what_to_do,  # type: ignore[dict-item]
        },
    )


class SongFile(NamedTuple):
    """Where a song lies: a file, its place in it if there are several in there, and its length."""

    path: Path
    start_s: float | None
    duration_s: float | None


def song_file(database: Path, track_id: str) -> SongFile:
    """The file to play for a song: of all that hold it, the first one that is there.

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
        raise HTTPException(404, f"{one_line(stated)} is not there. Is its disk mounted?")
    return SongFile(path, start_s, duration_s)


def moments_like(database: Path, track_id: str, at_s: float) -> dict[str, Any]:
    """The stretch of a song around ``at_s`` seconds, and those of other songs most like it.

    Raises:
        HTTPException: nothing is known of the song's moments.
    """
    nearest = """
        SELECT start_s, end_s FROM current_segments WHERE track_id = $track_id
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
        found = rows(db, similar, {**values, "k": MOMENTS})
    names = ("song", "from_s", "to_s", "similarity")
    return {
        "from_s": around[0][0],
        "to_s": around[0][1],
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


def refusal(headers: Headers, port: int) -> str | None:
    """Why a request is not answered, if it is not.

    Any page in the browser can send requests to this computer. One that has had its own name
    pointed here ("DNS rebinding") gives itself away by ``Host``, others by ``Origin`` or
    ``Sec-Fetch-Site``; following a link to the page is fine.
    """
    hosts = [f"{name}:{port}" for name in (ADDRESS, "localhost")]
    if headers.get("host") not in hosts:
        return f"This is http://{ADDRESS}:{port}/ and goes by no other name."
    if headers.get("origin", f"http://{hosts[0]}") not in [f"http://{host}" for host in hosts]:
        return "Other pages may not ask here."
    is_link = headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link:
        return "Other pages may not ask here."
    return None


class _OwnPageOnly:
    """Answers no one but the page itself, and adds ``HEADERS``."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app, self.port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        reason = refusal(Headers(scope=scope), self.port)
        app = PlainTextResponse(reason, 403) if reason else self.app
        await app(scope, receive, send_with_headers)


def _say(request: Request, error: HTTPException) -> Response:
    return PlainTextResponse(error.detail, error.status_code)


def _say_what_to_do(request: Request, error: UserError) -> Response:
    return PlainTextResponse(str(error), 503)
