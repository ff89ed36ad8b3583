"""Small music servers on loopback: what they have, as Subsonic and as Jellyfin tell it."""

import contextlib
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import synthetic

from fastdino.core import tables
from fastdino.core.home import Home
from fastdino.database.connection import connect
from fastdino.servers import listing, matching

USER, PASSWORD = "ann at home", "correct horse"
Songs = Sequence[dict[str, Any]]


def told(i: int, **other: Any) -> dict[str, Any]:
    """Song ``i`` as a server tells it that has the music under ``/srv``."""
    song = synthetic.song(i)
    return {
        "id": f"nd{i:020d}", "title": song["title"], "artist": song["artist"],
        "artistId": f"ar{synthetic.artist_of(i)}", "album": song["album"],
        "duration": round(float(str(song["duration_s"]))),
        "path": str(song["path"]).replace("/music", "/srv"), **other,
    }  # fmt: skip


def write_ids(home: Home, songs: Songs) -> None:
    """What matching these songs of a Subsonic server would leave."""
    server = listing.Server("http://127.0.0.1:1", USER, PASSWORD)
    named = [listing._subsonic_song(server, song) for song in songs]
    with connect(home.database) as db:
        known = matching.known_songs(db)
    tables.write(home.server_ids, matching.match(named, known))


class Music:
    """A server; its songs and its manners can be changed while it runs.

    Attributes:
        songs: ``id``, ``title``, ``artist``, ``artistId``, ``album``, ``duration`` and ``path``.
        page: how many it tells at most at once.
        instead: what it does instead of answering, if it is not to.
        asked: what it was asked for.
    """

    def __init__(self, songs: Songs) -> None:
        self.songs = songs
        self.page = 3
        self.instead: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None
        self.asked: list[str] = []
        self.url = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.asked.append(handler.path)
        if self.instead:
            return self.instead(handler)
        at = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(at.query).items()}
        if at.path == "/rest/search3.view":
            return send(handler, self._subsonic(query))
        if at.path == "/Items":
            if handler.headers["Authorization"] != f'MediaBrowser Token="{PASSWORD}"':
                return send(handler, {}, 401)
            return send(handler, self._jellyfin(query))
        return send(handler, {}, 404)

    def _subsonic(self, query: dict[str, str]) -> dict[str, Any]:
        token = hashlib.md5((PASSWORD + query["s"]).encode()).hexdigest()
        about = {"status": "ok", "version": "1.16.1", "openSubsonic": True}
        if (query["u"], query["t"], query["f"]) != (USER, token, "json") or len(query["s"]) < 6:
            error = {"code": 40, "message": f"wrong: {query}"}
            return {"subsonic-response": {**about, "status": "failed", "error": error}}
        at = int(query["songOffset"])
        songs = self.songs[at : at + min(self.page, int(query["songCount"]))]
        found = {"song": [{**song, "isDir": False} for song in songs]} if songs else {}
        return {"subsonic-response": {**about, "searchResult3": found}}

    def _jellyfin(self, query: dict[str, str]) -> dict[str, Any]:
        assert (query["IncludeItemTypes"], query["Recursive"]) == ("Audio", "true")
        assert query["Fields"] == "Path"
        at = int(query["StartIndex"])
        songs = self.songs[at : at + min(self.page, int(query["Limit"]))]
        items = [
            {
                "Id": song["id"], "Name": song.get("title"), "Album": song.get("album"),
                "Artists": [song["artist"]] if "artist" in song else [],
                "ArtistItems": [{"Name": song.get("artist"), "Id": song.get("artistId")}],
                "RunTimeTicks": int(song["duration"] * 10_000_000), "Path": song.get("path"),
                "Type": "Audio",
            }
            for song in songs
        ]  # fmt: skip
        return {"Items": items, "TotalRecordCount": len(self.songs), "StartIndex": at}


def send(handler: http.server.BaseHTTPRequestHandler, answer: Any, status: int = 200) -> None:
    """Send JSON, or bytes as they are."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(OSError):  # who asked may have had enough
        handler.wfile.write(body)


def sends(answer: Any, status: int = 200) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """A server that says the same, whatever it is asked."""
    return lambda handler: send(handler, answer, status)


def dawdles(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Send a header now and then, and never an end."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(200):
            handler.wfile.write(b"X: y\r\n")
            time.sleep(0.05)


@contextlib.contextmanager
def serving(songs: Songs) -> Iterator[Music]:
    """A server with these songs, on a free port."""
    music = Music(songs)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            music.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    music.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield music
    finally:
        server.shutdown()
        server.server_close()
