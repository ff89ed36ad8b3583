"""What music servers ask: songs like a song, a way between two, artists alike.

Belongs here: two interfaces over HTTP, that by which plugins for Navidrome and Jellyfin ask
AudioMuse-AI (``/api/``), and OpenSubsonic's extension ``sonicSimilarity`` (``/rest/``), both
written from what is documented of them. Does not: who may ask (``access``); the answers themselves
(``fastdino.servers.collection``).

Songs go by the ids of the server, as ``fastdino match`` has learned them. It only reads.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastdino import __version__
from fastdino.core.home import Home
from fastdino.servers.collection import Collection, Latest

# How many songs, artists or steps are told, where more are asked for.
MOST = 500
LONGEST_WAY = 200
SIMILAR, STEPS, FOUND, SONIC = 50, 25, 20, 10
UNKNOWN = "There is no such song here, or nothing is known of its sound yet."
NO_ARTIST = "There is no such artist here."
# Of Subsonic's errors: what is needed is not given, and what is asked for is not there.
MISSING, NOT_FOUND = 10, 70


class Refusal(Exception):
    """A question that cannot be answered, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def routes(home: Home) -> list[Route]:
    """Where servers ask what of a home."""
    latest = Latest(home)

    def asked(path: str, answer: Callable[[Collection, Request], Any]) -> Route:
        @functools.wraps(answer)
        def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(answer(latest.get(), request))
            except Refusal as error:
                return JSONResponse({"error": str(error)}, error.status)

        return Route(path, endpoint)

    def sonic(request: Request) -> Response:
        method = request.path_params["method"].removesuffix(".view")
        if method not in SONIC_METHODS:
            return _subsonic({"error": {"code": 0, "message": "There is no such method."}}, 404)
        try:
            return _subsonic(SONIC_METHODS[method](latest.get(), request))
        except Refusal as error:
            code = MISSING if error.status == 400 else NOT_FOUND
            return _subsonic({"error": {"code": code, "message": str(error)}}, error.status)

    return [
        asked("/api/similar_tracks", similar_tracks),
        asked("/api/find_path", find_path),
        asked("/api/similar_artists", similar_artists),
        asked("/api/max_distance", max_distance),
        asked("/api/search_tracks", search_tracks),
        Route("/rest/{method}", sonic),
    ]


def similar_tracks(collection: Collection, request: Request) -> list[dict[str, Any]]:
    """Songs most like one, the nearest first."""
    row = _named(collection, request)
    row = _song(collection, request, "item_id") if row is None else row
    n = _number(request, ("n",), SIMILAR, most=MOST)
    mixed = request.query_params.get("eliminate_duplicates", "").lower() == "true"
    return [
        {**_track(collection, other), "distance": _distance(similarity)}
        for other, similarity in collection.nearest(row, n, mixed=mixed)
    ]


def find_path(collection: Collection, request: Request) -> dict[str, Any]:
    """Songs that lead from one to another, and the sum of the distances from each to the next."""
    first = _song(collection, request, "start_song_id")
    last = _song(collection, request, "end_song_id")
    if first == last:
        raise Refusal(400, "A path leads from one song to another.")
    n = _number(request, ("max_steps", "count"), STEPS, least=2, most=LONGEST_WAY)
    way = collection.way(first, last, n)
    steps, vectors = itertools.pairwise(way), collection.vectors
    return {
        "path": [_track(collection, row) for row in way],
        "total_distance": sum(_distance(vectors[a] @ vectors[b]) for a, b in steps),
    }


def similar_artists(collection: Collection, request: Request) -> list[dict[str, Any]]:
    """Artists whose songs are most like one's, who is given by name or the server's id."""
    artist = request.query_params.get("artist") or request.query_params.get("artist_id")
    if not artist:
        raise Refusal(400, "Ask for ?artist=NAME_OR_ID.")
    found = collection.artists_like(artist, _number(request, ("n",), SONIC, most=MOST))
    if found is None:
        raise Refusal(404, NO_ARTIST)
    return [
        {"artist": name, "artist_id": artist_id, "divergence": _distance(similarity)}
        for name, artist_id, similarity in found
    ]


def max_distance(collection: Collection, request: Request) -> dict[str, Any]:
    """How far from a song the one is that is least like it."""
    other, similarity = collection.farthest(_song(collection, request, "item_id"))
    farthest = collection.songs[other]["item_id"]
    return {"max_distance": _distance(similarity), "farthest_item_id": farthest}


def search_tracks(collection: Collection, request: Request) -> list[dict[str, Any]]:
    """Songs that have all of some words in title and artist; as many as there is room for."""
    names = ("search_query", "title", "artist")
    words, title, artist = (request.query_params.get(name, "") for name in names)
    if not (words + title + artist).strip():
        raise Refusal(400, "Ask for ?search_query=WORDS, or ?title= and ?artist=.")
    start = _number(request, ("start",), 0, least=0)
    end = _number(request, ("end",), start + FOUND, least=0, most=start + MOST)
    found = collection.search(words, title, artist)[start:end]
    return [_track(collection, row) for row in found]


def sonic_similar_tracks(collection: Collection, request: Request) -> dict[str, Any]:
    """OpenSubsonic's ``getSonicSimilarTracks``."""
    row = _song(collection, request, "id")
    n = _number(request, ("count",), SONIC, most=MOST)
    return {"sonicMatch": [_match(collection, *found) for found in collection.nearest(row, n)]}


def sonic_path(collection: Collection, request: Request) -> dict[str, Any]:
    """OpenSubsonic's ``findSonicPath``; how alike songs are is told of each and the first."""
    first = _song(collection, request, "startSongId")
    last = _song(collection, request, "endSongId")
    n = _number(request, ("count",), STEPS, least=2, most=LONGEST_WAY)
    way = [first] if first == last else collection.way(first, last, n)
    similarity = collection.similarities(first)
    return {"sonicMatch": [_match(collection, row, similarity[row]) for row in way]}


def extensions(collection: Collection, request: Request) -> dict[str, Any]:
    """OpenSubsonic's ``getOpenSubsonicExtensions``."""
    return {"openSubsonicExtensions": [{"name": "sonicSimilarity", "versions": [1]}]}


SONIC_METHODS: dict[str, Callable[[Collection, Request], dict[str, Any]]] = {
    "getSonicSimilarTracks": sonic_similar_tracks,
    "findSonicPath": sonic_path,
    "getOpenSubsonicExtensions": extensions,
}


def _named(collection: Collection, request: Request) -> int | None:
    """The song that is asked for by title and artist, where it is by these; None if it is by id."""
    title, artist = (request.query_params.get(name) for name in ("title", "artist"))
    if request.query_params.get("item_id") or not (title and artist):
        return None
    row = collection.named(title, artist)
    if row is None:
        raise Refusal(404, UNKNOWN)
    return row


def _song(collection: Collection, request: Request, name: str) -> int:
    given = request.query_params.get(name)
    if not given:
        raise Refusal(400, f"Ask for ?{name}=ID.")
    # Jellyfin's ids are told with dashes and without.
    for item_id in (given, given.replace("-", "").lower()):
        if (row := collection.rows.get(item_id)) is not None:
            return row
    raise Refusal(404, UNKNOWN)


def _number(
    request: Request, names: tuple[str, ...], usual: int, *, least: int = 1, most: int = 10**6
) -> int:
    """A whole number that was asked for, or the nearest there is."""
    given = next(filter(None, map(request.query_params.get, names)), str(usual))
    try:
        return max(least, min(int(given), most))
    except ValueError:
        raise Refusal(400, f"{names[0]} is a whole number.") from None


def _distance(similarity: float) -> float:
    return max(0.0, 1.0 - float(similarity))


def _track(collection: Collection, row: int) -> dict[str, Any]:
    song = collection.songs[row]
    return {
        "item_id": song["item_id"],
        "title": song["title"] or "",
        "author": song["artist"] or "",
        "album": song["album"] or "",
    }


def _match(collection: Collection, row: int, similarity: float) -> dict[str, Any]:
    song = collection.songs[row]
    known = {
        "album": song["album"], "artist": song["artist"], "artistId": song["artist_id"],
        "track": song["track_number"], "year": song["year"], "genre": song["genre"],
        "duration": round(song["duration_s"]) if song["duration_s"] else None,
    }  # fmt: skip
    entry = {
        "id": song["item_id"], "title": song["title"] or "", "isDir": False, "isVideo": False,
        "type": "music", **{name: value for name, value in known.items() if value is not None},
    }  # fmt: skip
    return {"entry": entry, "similarity": max(0.0, min(1.0, float(similarity)))}


def _subsonic(answer: dict[str, Any], status: int = 200) -> Response:
    about = {
        "status": "failed" if "error" in answer else "ok", "version": "1.16.1", "type": "fastdino",
        "serverVersion": __version__, "openSubsonic": True,
    }  # fmt: skip
    return JSONResponse({"subsonic-response": {**about, **answer}}, status)
