"""Asking a music server for all of its songs.

Belongs here: HTTP, and the two interfaces, Subsonic's and Jellyfin's. Does not: what the songs are
here (``matching``).

A server may be away, slow, or something else than it is taken for. An answer has a largest size and
a longest time, and whatever is wrong with one is a line of error; no password, and nothing that was
made of it, is in that line.
"""

import contextlib
import hashlib
import http.client
import json
import math
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from fastdino.core import environment
from fastdino.core.errors import UserError
from fastdino.core.home import expanded

# Without a word of it, and from the first to the last, in seconds.
SILENCE_S, ANSWER_S = 30.0, 120.0
LARGEST_ANSWER = 32_000_000
LARGEST_SECRET = 4_096
PAGE = 500
MOST_SONGS = 2_000_000
LONGEST_TEXT = 4_096
TICKS_A_SECOND = 10_000_000
WRONG_PASSWORD = (40, 41, 42, 43, 44, 50)


class Song(NamedTuple):
    """A song as the server tells it.

    Attributes:
        item_id: by which the server knows it.
        artists: all its names of artists, first the one that it shows.
        artist_id: of the first artist.
        duration_s: length in seconds.
        path: of its file, as the server knows it; it may be made up, or below no folder.
    """

    item_id: str
    title: str | None
    artists: tuple[str, ...]
    artist_id: str | None
    album: str | None
    duration_s: float | None
    path: str | None


@dataclass(frozen=True)
class Server:
    """A server and how it lets us in.

    Attributes:
        url: its address.
        user: of Subsonic's interface; None for Jellyfin's.
        password: the user's, or Jellyfin's API key.
    """

    url: str
    user: str | None
    password: str = field(repr=False)


def configured() -> Server | None:
    """The server that the settings name; None if they name none.

    Raises:
        UserError: the password is missing, or its file cannot be read.
    """
    url = environment.SERVER.value()
    if url is None:
        return None
    password = environment.SERVER_PASSWORD.value() or _from_file()
    if not password:
        raise UserError(
            f"{environment.SERVER.name} is set, but no password: set "
            f"{environment.SERVER_PASSWORD.name} or {environment.SERVER_PASSWORD_FILE.name}"
        )
    return Server(url, environment.SERVER_USER.value(), password)


def _from_file() -> str | None:
    name = environment.SERVER_PASSWORD_FILE.value()
    if name is None:
        return None
    try:
        with open(expanded(name), encoding="utf-8") as file:
            return file.read(LARGEST_SECRET).strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(
            f"{environment.SERVER_PASSWORD_FILE.name} names {name}, which cannot be read: {why}"
        ) from None


def songs(server: Server) -> Iterator[Song]:
    """All songs of a server, each once, asked for in pages.

    Raises:
        UserError: it does not answer, or not as such a server does.
    """
    ask = _subsonic_page if server.user is not None else _jellyfin_page
    seen: set[str] = set()
    at = 0
    while page := ask(server, at):
        fresh = {song.item_id: song for song in page if song.item_id not in seen}
        if not fresh:
            raise _nonsense(server, "the same songs over and over")
        yield from fresh.values()
        seen |= fresh.keys()
        at += len(page)
        if at > MOST_SONGS:
            raise _nonsense(server, f"more than {MOST_SONGS:,} songs")


def _subsonic_page(server: Server, at: int) -> list[Song]:
    salt = secrets.token_hex(8)
    token = hashlib.md5((server.password + salt).encode(), usedforsecurity=False).hexdigest()
    query = {
        "u": server.user, "t": token, "s": salt, "v": "1.16.1", "c": "fastdino", "f": "json",
        "query": "", "artistCount": 0, "albumCount": 0, "songCount": PAGE, "songOffset": at,
    }  # fmt: skip
    answer = _part(server, _get(server, "/rest/search3.view", query), "subsonic-response", dict)
    if answer.get("status") != "ok":
        code = _part(server, answer, "error", dict).get("code")
        if code in WRONG_PASSWORD:
            raise _refused(server)
        raise _nonsense(server, f"error {code}" if isinstance(code, int) else "an error")
    found = answer.get("searchResult3") or {}
    listed = _part(server, found, "song", list) if isinstance(found, dict) and found else []
    return [_subsonic_song(server, each) for each in listed]


def _subsonic_song(server: Server, told: Any) -> Song:
    artists = [each.get("name") for each in _dicts(told, "artists")]
    return Song(
        _id(server, told, "id"),
        _text(told.get("title")),
        _names(told.get("artist"), *artists),
        _text(told.get("artistId")),
        _text(told.get("album")),
        _seconds(told.get("duration")),
        _text(told.get("path")),
    )


def _jellyfin_page(server: Server, at: int) -> list[Song]:
    if not server.password.isascii() or not server.password.isprintable() or '"' in server.password:
        raise UserError(
            f"what {environment.SERVER_PASSWORD.name} has is no API key of Jellyfin's: make one in "
            f"its dashboard, or set {environment.SERVER_USER.name} for a Subsonic server"
        )
    query = {
        "IncludeItemTypes": "Audio", "Recursive": "true", "Fields": "Path", "SortBy": "SortName",
        "EnableImages": "false", "EnableUserData": "false", "StartIndex": at, "Limit": PAGE,
    }  # fmt: skip
    key = {"Authorization": f'MediaBrowser Token="{server.password}"'}
    answer = _get(server, "/Items", query, key)
    return [_jellyfin_song(server, each) for each in _part(server, answer, "Items", list)]


def _jellyfin_song(server: Server, told: Any) -> Song:
    artists = _dicts(told, "ArtistItems")
    ticks = _seconds(told.get("RunTimeTicks")) if isinstance(told, dict) else None
    names = told.get("Artists") if isinstance(told, dict) else None
    return Song(
        _id(server, told, "Id"),
        _text(told.get("Name")),
        _names(*(names if isinstance(names, list) else [told.get("AlbumArtist")])),
        _text(artists[0].get("Id")) if artists else None,
        _text(told.get("Album")),
        ticks / TICKS_A_SECOND if ticks else None,
        _text(told.get("Path")),
    )


def _get(
    server: Server, path: str, query: dict[str, Any], headers: dict[str, str] | None = None
) -> Any:
    """What a server answers to one question, out of JSON."""
    at = urlsplit(server.url)
    kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    # Redirects are not followed and no proxy is asked: what lets us in is for this server alone.
    connection = kind(at.hostname or "", at.port, timeout=SILENCE_S)
    begin = time.monotonic()
    try:
        connection.connect()
        assert connection.sock
        # Who sends a byte now and then is never silent.
        end = threading.Timer(ANSWER_S, _hang_up, [connection.sock])
        end.daemon = True
        end.start()
        try:
            wanted = f"{at.path.rstrip('/')}{path}?{urlencode(query)}"
            own = {"Accept": "application/json", "User-Agent": "fastdino", **(headers or {})}
            connection.request("GET", wanted, headers=own)
            answer = connection.getresponse()
            body = answer.read(LARGEST_ANSWER + 1)
        finally:
            end.cancel()
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() - begin >= ANSWER_S or isinstance(error, TimeoutError):
            why = "it takes too long"
        else:
            why = (error.strerror or "") if isinstance(error, OSError) else ""
        raise UserError(
            f"the music server {server.url} does not answer ({why or type(error).__name__}): is "
            f"it running, and is {environment.SERVER.name} its address?"
        ) from None
    finally:
        connection.close()
    if answer.status in (401, 403):
        raise _refused(server)
    if answer.status != 200:
        raise _nonsense(server, f"status {answer.status}")
    if len(body) > LARGEST_ANSWER:
        raise _nonsense(server, f"more than {LARGEST_ANSWER / 1e6:.0f} MB at once")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _nonsense(server, "what is no JSON") from None


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended
        connection.shutdown(socket.SHUT_RDWR)


def _refused(server: Server) -> UserError:
    what = "API key" if server.user is None else "user and password"
    return UserError(
        f"the music server {server.url} does not let us in: look at the {what} in "
        f"{environment.SERVER_PASSWORD.name} or its file"
        + (f" and {environment.SERVER_USER.name}" if server.user else "")
    )


def _nonsense(server: Server, what: str) -> UserError:
    kind = "Jellyfin" if server.user is None else "a Subsonic server"
    return UserError(
        f"the music server {server.url} answers {what}, not as {kind} does: look at "
        f"{environment.SERVER.name}; {environment.SERVER_USER.name} is for Subsonic's interface "
        "alone"
    )


def _part(server: Server, told: Any, name: str, kind: Callable[..., Any]) -> Any:
    found = told.get(name) if isinstance(told, dict) else None
    if not isinstance(found, kind):  # type: ignore[arg-type]
        raise _nonsense(server, f"JSON without {name}")
    return found


def _dicts(told: Any, name: str) -> list[dict[str, Any]]:
    found = told.get(name) if isinstance(told, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _id(server: Server, told: Any, name: str) -> str:
    found = told.get(name) if isinstance(told, dict) else None
    found = str(found) if type(found) is int else _text(found)
    if not found:
        raise _nonsense(server, "a song without an id")
    return found


def _names(*told: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(_text, told))))


def _text(told: Any) -> str | None:
    """Text fit to be stored: no half characters, and no more of it than anyone means."""
    if not isinstance(told, str):
        return None
    return told[:LONGEST_TEXT].encode("utf-8", "replace").decode() or None


def _seconds(told: Any) -> float | None:
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    try:
        number = float(told)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > 0 else None
