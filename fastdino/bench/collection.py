"""A made-up collection of any size whose vectors have the structure of music.

Belongs here: its catalogue, model and vectors, as the stages before publishing would leave them,
and songs that come to it later. Does not: measuring anything (``afterwards``, ``embeddings``), or
audio.

Songs of an album, an artist and a genre are alike, in that order. Which vector a song has follows
from its number alone: a larger collection begins with the songs of a smaller one.
"""

import math

import numpy as np
import polars as pl
import pyarrow as pa

from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.embeddings.vectors import write_vectors
from fastdino.ingestion import catalog
from fastdino.training import registry

DIM = 256
# Those of a song of four minutes; and songs of so long in a shard.
SEGMENTS = 24
SEGMENT_S = 10.0
SONGS_A_SHARD = 133
SONGS_AN_ALBUM, ALBUMS_AN_ARTIST, GENRES = 12, 5, 60
MODEL = "bench"
# Of a song's vector: how much its genre, artist and album say of it, and its own; and how far its
# moments are from it.
PARTS = (0.45, 0.35, 0.25, 0.8)
MOMENT = 0.6


def make_up(home: Home, n_songs: int, first: int = 0) -> None:
    """Write a collection of ``n_songs``, or of ``first`` as it is and more that come to it.

    Args:
        home: an empty one, or one with ``first`` songs.
        n_songs: how many there are afterwards.
        first: how many there are already; shards of those stay as they are.
    """
    catalog.write(home, catalogue(n_songs))
    if not first:
        name_model(home, DIM, "bench")
    number = math.ceil(first / SONGS_A_SHARD)
    with progress("Making songs up", n_songs - first, "songs") as shown:
        while first < n_songs:
            last = min(n_songs, first + SONGS_A_SHARD)
            number += 1
            _write_shard(home, number, first, last)
            shown.advance(last - first)
            first = last


def name_model(home: Home, dim: int, spec_id: str) -> None:
    """Write a model in name, ``MODEL``: of vectors of ``dim`` numbers, of these spectrograms."""
    about = {
        "model_id": MODEL, "created_at": "2000-01-01T00:00:00+00:00", "dim": dim,
        "spec_id": spec_id, "trained_tracks": 0, "settings": {}, "metrics": {},
    }  # fmt: skip
    registry.write_metadata(home.model(MODEL), about)
    registry.make_current(home, MODEL)


def catalogue(n_songs: int, **other: pl.Expr) -> pl.DataFrame:
    """The catalogue of a collection.

    Args:
        n_songs: how many there are.
        other: columns that are to be another than usual.
    """
    number = pl.int_range(n_songs)
    album = number // SONGS_AN_ALBUM
    artist = album // ALBUMS_AN_ARTIST
    n_artists = math.ceil(n_songs / SONGS_AN_ALBUM / ALBUMS_AN_ARTIST)
    genres = pl.lit(pl.Series([f"Genre {_genre(each)}" for each in range(n_artists)]))
    ids = pl.lit(pl.Series([track_id(each) for each in range(n_songs)], dtype=pl.String))
    given: dict[str, pl.Expr] = {
        "path": pl.format(
            "/music/Artist {}/Album {}/{} The Usual Song.flac", artist, album, number
        ),
        "folder": pl.lit("/music"),
        "size": 30_000_000 + number,
        "mtime_ns": 1_700_000_000_000_000_000 + number,
        "ctime_ns": 1_700_000_000_000_000_000 + number,
        "track_id": ids,
        "audio_id": ids,
        "title": pl.format("The Usual Song, No. {}", number),
        "artist": pl.format("Artist {}", artist),
        "artists": pl.concat_list(pl.format("Artist {}", artist)),
        "album": pl.format("Album {}", album),
        "genre": genres.gather(artist),
        "genres": pl.concat_list(genres.gather(artist)),
        "year": 1960 + album % 60,
        "track_number": number % SONGS_AN_ALBUM + 1,
        "duration_s": pl.lit(SEGMENTS * SEGMENT_S),
        "codec": pl.lit("flac"),
        "sample_rate": pl.lit(44_100),
        "channels": pl.lit(2),
        "added_at": 1_700_000_000_000_000_000 + number,
        "identified_by": pl.lit(1),
    }
    given |= other
    columns = [
        given.get(name, pl.lit(None)).cast(kind).alias(name)
        for name, kind in catalog.SCHEMA.items()
    ]
    return pl.select(*columns).sort("path")


def track_id(number: int) -> str:
    """Name of a song, 32 hex characters."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:016x}"


def song_vectors(first: int, last: int) -> np.ndarray:
    """Unit vectors of songs ``first`` up to before ``last``, float32 [n, dim]."""
    return _unit(np.stack([_song(number) for number in range(first, last)]))


def _song(number: int) -> np.ndarray:
    album = number // SONGS_AN_ALBUM
    artist = album // ALBUMS_AN_ARTIST
    parts = zip(PARTS, ((0, _genre(artist)), (1, artist), (2, album), (3, number)), strict=True)
    return np.asarray(sum(much * _direction(*what) for much, what in parts))


def _genre(artist: int) -> int:
    """Some have many artists, most have few."""
    return int(GENRES * np.random.default_rng((9, artist)).random() ** 2)


def _direction(*what: int) -> np.ndarray:
    """A vector of about unit length that belongs to something, float64 [dim]."""
    # As in music, some directions say more than others.
    spread = np.arange(1, DIM + 1) ** -0.35
    drawn = np.random.default_rng(what).standard_normal(DIM) * spread
    return drawn / np.linalg.norm(spread)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def _write_shard(home: Home, number: int, first: int, last: int) -> None:
    songs = song_vectors(first, last)
    rng = np.random.default_rng((5, first))
    moments = rng.standard_normal((len(songs), SEGMENTS, DIM), np.float32) / math.sqrt(DIM)
    rows = np.concatenate([songs[:, None], songs[:, None] + MOMENT * moments], axis=1)
    starts = [None, *(SEGMENT_S * i for i in range(SEGMENTS))]
    ends = [None, *(SEGMENT_S * (i + 1) for i in range(SEGMENTS))]
    table = pa.table(
        {
            "track_id": np.repeat([track_id(i) for i in range(first, last)], 1 + SEGMENTS),
            "start_s": pa.array(starts * len(songs), pa.float32()),
            "end_s": pa.array(ends * len(songs), pa.float32()),
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(_unit(rows).ravel()), DIM),
        }
    )
    write_vectors(home.vectors(MODEL) / f"spectrograms-{number:06d}.parquet", table)
