"""The songs that a music server and this collection share, with their vectors, in memory.

Belongs here: what sounds like a song, a way from one to another, artists alike. Does not: HTTP, or
how a server asks.

It is what ``similar_to``, ``songs_between`` and ``artists_like`` of the database tell, of these
songs alone, but for two things: a way takes no song in a second edition, and a song is by the one
artist whom the server shows for it, where the macro counts guests too.

A server asks while someone waits for the next song. For 15,000 songs the macros take what a product
of a matrix and a vector takes many times over, as each question reads all vectors again.
"""

import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fastdino.core.home import Home
from fastdino.database.connection import connect, frame
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
        called: artist and title of each song, plain, to compare with and to search in.
        artist: int [songs], the row of the first song whose artist is the same.
    """

    songs: Sequence[dict[str, Any]]
    vectors: np.ndarray
    rows: dict[str, int]
    called: Sequence[tuple[str, str]]
    artist: np.ndarray

    def similarities(self, row: int) -> np.ndarray:
        """How alike each song is to one; float32 [songs], 1 for the song itself."""
        return _products(self.vectors, self.vectors[row])

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
        called = {self.called[row]}
        times: Counter[str] = Counter()
        for other in np.argsort(-similarity, kind="stable").tolist():
            if len(found) == n:
                break
            if other == row:
                continue
            if mixed:
                artist, _ = self.called[other]
                if self.called[other] in called or times[artist] == OF_ONE_ARTIST:
                    continue
                called.add(self.called[other])
                times[artist] += artist != ""
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
        called = {self.called[first], self.called[last]}
        is_left = np.ones(len(self.songs), bool)
        is_left[[first, last]] = False
        way = [first]
        for stop in range(1, n - 1):
            nearness = to_first + (to_last - to_first) * (stop / (n - 1))
            while is_left.any():
                other = int(np.argmax(np.where(is_left, nearness, -np.inf)))
                is_left[other] = False
                if self.called[other] not in called:
                    called.add(self.called[other])
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
        wanted = {song["artist"] for song in self.songs if song["artist_id"] == artist} or {artist}
        plain = {_plain(name) for name in wanted} - {""}
        mine = np.array([name in plain for name, _ in self.called], bool)
        if not mine.any():
            return None
        similarity = _products(self.vectors, self.vectors[mine].mean(axis=0))
        times = np.maximum(np.bincount(self.artist), 1)
        mean = np.bincount(self.artist, similarity) / times
        first = np.unique(self.artist)
        found = [row for row in first.tolist() if not mine[row] and self.called[row][0]]
        found.sort(key=lambda row: (-mean[row], row))
        return [
            (self.songs[row]["artist"], self.songs[row]["artist_id"], float(mean[row]))
            for row in found[:n]
        ]

    def named(self, title: str, artist: str) -> int | None:
        """Row of the first song of that title and artist; None if there is none."""
        wanted = (_plain(artist), _plain(title))
        return next((row for row, called in enumerate(self.called) if called == wanted), None)

    def search(self, words: str, title: str, artist: str) -> list[int]:
        """Rows of the songs that have all of some words in artist and title, or in one of them.

        Those whose title it is come first.
        """
        whole = _plain(title or words)
        # Each once, however often it is asked for.
        anywhere, in_title, in_artist = (set(_plain(t).split()) for t in (words, title, artist))
        found = [
            row
            for row, (by, name) in enumerate(self.called)
            if all(word in name for word in in_title)
            and all(word in by for word in in_artist)
            and all(word in name or word in by for word in anywhere)
        ]
        return sorted(found, key=lambda row: (self.called[row][1] != whole, self.called[row], row))


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
        UserError: nothing is published, or it is damaged, or no server's songs are known.
    """
    ids = matching.read(home).filter(pl.col("track_id").is_not_null()).sort("item_id")
    with connect(home.database) as db:
        ours = frame(db, "SELECT track_id, genre, year, track_number FROM tracks")
        vectors = frame(db, "SELECT track_id, vec FROM current_embeddings")
    with_vector = ids.join(vectors.select("track_id"), on="track_id", how="semi")
    songs = (
        with_vector.unique("track_id", keep="first")
        .join(ours, on="track_id", how="inner")
        .join(vectors, on="track_id", how="inner")
        .sort("track_id")
    )
    row_of = {track_id: row for row, track_id in enumerate(songs["track_id"])}
    pairs = zip(with_vector["item_id"], with_vector["track_id"], strict=True)
    matrix = songs["vec"].to_numpy() if len(songs) else np.zeros((0, 1))
    told = songs.drop("vec", "path", "matched_by", "reason").to_dicts()
    called = [
        # Songs without a title are not of one title.
        (_plain(song["artist"]), _plain(song["title"]) or song["track_id"])
        for song in told
    ]
    first: dict[str, int] = {}
    return Collection(
        told,
        np.ascontiguousarray(matrix, np.float32),
        {item_id: row_of[track_id] for item_id, track_id in pairs if track_id in row_of},
        called,
        np.array([first.setdefault(name, row) for row, (name, _) in enumerate(called)], int),
    )


def _stamp(path: Any) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _products(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    # Not @, whose threads wait for one another by spinning: on a busy computer five times as long.
    return np.einsum("ij,j->i", vectors, vector)


def _plain(text: str | None) -> str:
    """Without capitals, accents and odd spaces."""
    apart = unicodedata.normalize("NFKD", (text or "").casefold())
    return " ".join("".join(c for c in apart if not unicodedata.combining(c)).split())
