"""The songs that a music server and this collection share, with their vectors, in memory.

Belongs here: what sounds like a song, a way from one to another, artists alike, as the macros
``similar_to``, ``songs_between`` and ``artists_like`` of the database tell it, but of these songs
alone, and in a fraction of the time. Does not: HTTP, or how a server asks.

A server asks while someone waits for the next song. For 15,000 songs the macros take what a product
of a matrix and a vector takes many times over, as each question reads all vectors again.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from fastdino.core.home import Home
from fastdino.database.connection import connect
from fastdino.servers import matching

# Of one artist, where the same over and over is not wanted.
OF_ONE_ARTIST = 3


@dataclass(frozen=True)
class Collection:
    """Songs by row, in the order of their ``track_id``.

    Attributes:
        songs: ``track_id``, ``item_id``, ``title``, ``artist``, ``artist_id``, ``album`` and
            ``duration_s`` as the server tells them; ``genre``, ``year`` and ``track_number`` as
            tags do.
        vectors: float32 [songs, dimensions], of unit length.
        rows: where the song of each of the server's ids is; a song may have several.
        by_track: where each song of ours is.
    """

    songs: Sequence[dict[str, Any]]
    vectors: np.ndarray
    rows: dict[str, int]
    by_track: dict[str, int] = field(repr=False)

    def similarities(self, row: int) -> np.ndarray:
        """How alike each song is to one; float32 [songs], 1 for the song itself."""
        return self.vectors @ self.vectors[row]

    def nearest(self, row: int, n: int, *, mixed: bool = False) -> list[tuple[int, float]]:
        """Rows of the ``n`` songs most like one, and how alike they are, the nearest first.

        Args:
            row: of the song; it is not among them.
            n: how many, at most.
            mixed: whether no song comes in two editions, and no artist more often than
                ``OF_ONE_ARTIST`` times.
        """
        similarity = self.similarities(row)
        found: list[tuple[int, float]] = []
        called = {self._called(row)}
        times: Counter[str] = Counter()
        for other in np.argsort(-similarity, kind="stable").tolist():
            if len(found) == n:
                break
            if other == row:
                continue
            if mixed:
                artist, name = self._called(other)[0], self._called(other)
                if name in called or (artist and times[artist] == OF_ONE_ARTIST):
                    continue
                called.add(name)
                times[artist] += 1
            found.append((other, float(similarity[other])))
        return found

    def farthest(self, row: int) -> tuple[int, float]:
        """Row of the song least like one, and how alike it is."""
        similarity = self.similarities(row)
        other = int(np.argmin(similarity))
        return other, float(similarity[other])

    def way(self, first: int, last: int, n: int) -> list[int]:
        """Rows of at most ``n`` songs that lead from one to another, both among them.

        At evenly spaced stops, the most similar song not yet taken, in no second edition.
        """
        to_first, to_last = self.similarities(first), self.similarities(last)
        called = {self._called(first), self._called(last)}
        way = [first]
        for stop in range(1, n - 1):
            nearness = to_first + (to_last - to_first) * (stop / (n - 1))
            for other in np.argsort(-nearness, kind="stable").tolist():
                if other not in (first, last) and self._called(other) not in called:
                    called.add(self._called(other))
                    way.append(other)
                    break
        return [*way, last]

    def artists_like(self, artist: str, n: int) -> list[tuple[str, str | None, float]] | None:
        """Names and ids of the artists most like one, and how alike, as songs are on average.

        Args:
            artist: the server's id of one, or a name.
            n: how many, at most.

        Returns:
            None if there is no such artist.
        """
        names = [_plain(song["artist"]) for song in self.songs]
        wanted = {_plain(s["artist"]) for s in self.songs if s["artist_id"] == artist}
        wanted = wanted or {_plain(artist)}
        mine = np.array([name in wanted and name != "" for name in names], bool)
        if not mine.any():
            return None
        similarity = self.vectors @ self.vectors[mine].mean(axis=0)
        # By name, which songs have the artist; the first of them tells how it is written.
        by: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name and name not in wanted:
                by.setdefault(name, []).append(row)
        means = ((float(similarity[rows].mean()), rows[0]) for rows in by.values())
        best = sorted(means, key=lambda each: (-each[0], each[1]))[:n]
        return [
            (self.songs[row]["artist"], self.songs[row]["artist_id"], mean) for mean, row in best
        ]

    def _called(self, row: int) -> tuple[str, str]:
        song = self.songs[row]
        return _plain(song["artist"]), _plain(song["title"]) or song["track_id"]


class Latest:
    """The collection of a home as it was published and matched last."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._lock = threading.Lock()
        self._stamp: tuple[Any, ...] | None = None
        self._collection: Collection | None = None

    def get(self) -> Collection:
        """It, read anew if either has changed.

        Raises:
            UserError: nothing is published, or no server's songs are known.
        """
        with self._lock:
            stamp = tuple(_stamp(path) for path in (self.home.database, self.home.server_ids))
            if self._collection is None or stamp != self._stamp:
                self._collection = load(self.home)
                self._stamp = stamp
            return self._collection


def load(home: Home) -> Collection:
    """Read the songs that are both matched and have a vector of the model in use.

    Raises:
        UserError: nothing is published, or no server's songs are known.
    """
    ids = matching.read(home).filter(pl.col("track_id").is_not_null()).sort("item_id")
    with connect(home.database) as db:
        ours = db.sql("SELECT track_id, genre, year, track_number FROM tracks").pl()
        vectors = db.sql("SELECT track_id, vec FROM current_embeddings").pl()
    with_vector = ids.join(vectors.select("track_id"), on="track_id", how="semi")
    songs = (
        with_vector.unique("track_id", keep="first")
        .join(ours, on="track_id", how="inner")
        .join(vectors, on="track_id", how="inner")
        .sort("track_id")
    )
    by_track = {track_id: row for row, track_id in enumerate(songs["track_id"])}
    pairs = zip(with_vector["item_id"], with_vector["track_id"], strict=True)
    matrix = songs["vec"].to_numpy() if len(songs) else np.zeros((0, 1))
    return Collection(
        songs.drop("vec", "path", "matched_by", "reason").to_dicts(),
        np.ascontiguousarray(matrix, np.float32),
        {item_id: by_track[track_id] for item_id, track_id in pairs if track_id in by_track},
        by_track,
    )


def _stamp(path: Any) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _plain(text: str | None) -> str:
    return (text or "").casefold()
