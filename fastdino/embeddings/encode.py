"""Vectors of a collection: one Parquet file for each shard and model.

Belongs here: finding tracks that have no vectors yet, and computing them. Does not: the model, or
what the vectors are published as.
"""

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.core import cluster
from fastdino.core.cluster import Work
from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import exclusive_lock, fetched, still_locked
from fastdino.core.summary import Scalar, Summary
from fastdino.core.text import counted
from fastdino.embeddings.vectors import read_vectors, schema, write_vectors
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.training import registry

if TYPE_CHECKING:
    import torch

    from fastdino.training.model import SongModel

# Written vectors survive a kill; this much work may be lost.
FLUSH_EVERY_S = 60.0
# Of a computer of a cluster, for one shard at a time.
CORES = 4


@dataclass(frozen=True)
class Embedded:
    """What one model was given to do: tracks that had no vectors, their length, and the time."""

    tracks: int
    hours: float
    took_s: float


def run(home: Home, *, embedder: "type[Embedder] | None" = None) -> Summary:
    """Compute song and segment vectors for tracks that have none of the current model.

    The same for the candidate. What is wrong with the candidate is a warning, as nothing that is
    published depends on it. The ``embedder`` is what computes, ``Embedder`` if it is None.

    Raises:
        UserError: there is no model, it cannot be read, or it is of other spectrograms and there is
            no candidate that would not be.
    """
    embedder = embedder or Embedder
    about, candidate = registry.current(home), registry.candidate(home)
    model_id, spec_id = about["model_id"], SpectrogramSettings().spec_id
    if candidate and candidate["spec_id"] != spec_id:
        candidate = None
    warnings = []
    if about["spec_id"] == spec_id:
        done = _embed_missing(home, model_id, spec_id, embedder)
    else:
        other = (
            f"model {model_id} was trained on spectrograms of other settings ({about['spec_id']}, "
            f"now {spec_id})"
        )
        if candidate is None:
            raise UserError(f"{other}: run 'fastdino train' for one that fits")
        warnings.append(f"{other} and gives no vectors of new songs: run 'fastdino promote'")
        done = Embedded(0, 0.0, 0.0)
    counts: dict[str, Scalar] = {"new_tracks": done.tracks, "hours": round(done.hours, 3)}
    headline = f"every track has its vectors of model {model_id}"
    if done.tracks:
        speed = done.tracks / done.took_s
        counts |= {"songs_per_s": round(speed, 2), "dim": about["dim"]}
        headline = (
            f"{counted(done.tracks, 'track')} ({done.hours:.1f} h) embedded at {speed:.0f} songs/s"
        )
    if candidate:
        beside = 0
        try:
            beside = _embed_missing(home, candidate["model_id"], spec_id, embedder).tracks
        except UserError as error:
            warnings.append(f"candidate {candidate['model_id']}: {error}")
        headline += f"; {beside} embedded with the candidate" * bool(beside)
        counts["candidate_tracks"] = beside
    return Summary(
        "embed",
        headline,
        did_work=bool(done.tracks or counts.get("candidate_tracks")),
        counts=counts,
        paths={"vectors": home.vectors(model_id)},
        warnings=warnings,
    )


def _embed_missing(home: Home, model_id: str, spec_id: str, embedder: "type[Embedder]") -> Embedded:
    # Locked before looking: what another run is about to write is not missing.
    with exclusive_lock(home.vectors(model_id)):
        folder = home.vectors(model_id)
        todo = _todo(home.shards(spec_id), folder)
        n_tracks = sum(len(parcel.tracks) for parcel in todo)
        if not n_tracks:
            return Embedded(0, 0.0, 0.0)
        start = time.monotonic()
        lasting: dict[str, float] = {}
        with progress("Embedding", n_tracks, "songs") as shown:
            make = functools.partial(embedder, home, model_id)
            sees = (home.shards(spec_id), home.model(model_id), folder)
            for track_id, seconds in cluster.everywhere(make, todo, cores=CORES, gpus=1, sees=sees):
                still_locked(folder)
                if track_id not in lasting:  # otherwise a computer that was lost had done it, too
                    lasting[track_id] = seconds
                    shown.advance()
        took_s = time.monotonic() - start
        return Embedded(n_tracks, sum(lasting.values()) / 3600, took_s)


@dataclass(frozen=True)
class Parcel:
    """A shard, and those of its tracks that have no vectors yet: the unit of work."""

    shard: Path
    tracks: frozenset[str]


def _todo(shards: Path, vectors: Path) -> list[Parcel]:
    """What is to be done, a shard at a time, the oldest first."""
    index = shard_files.read_index(shards)
    first = index.filter(pc.equal(index["piece"], 0))
    there: dict[str, set[str]] = {}
    columns = (first[name].to_pylist() for name in ("shard", "track_id"))
    for name, track_id in zip(*columns, strict=True):
        there.setdefault(name, set()).add(track_id)
    missing = {name: _missing(tracks, vectors / name) for name, tracks in there.items()}
    return [Parcel(shards / name, frozenset(each)) for name, each in missing.items() if each]


def _missing(there: set[str], vectors: Path) -> set[str]:
    """Tracks of a shard that its vector file lacks."""
    try:
        with pq.ParquetFile(fetched(vectors)) as file:
            done = file.read(["track_id"], use_threads=False)
        missing = there - set(pc.unique(done.column(0)).to_pylist())
        if missing:
            read_vectors(vectors)  # it is going to be added to
    except (*shard_files.UNREADABLE, UserError) as error:
        if trouble := disk_trouble(error, vectors):
            raise trouble from error
        # None yet, or spoilt: then all of it is computed again.
        return there
    return missing


class Embedder(Work[Parcel, tuple[str, float]]):
    """Makes the vector files of shards; holds the model from one to the next."""

    def __init__(self, home: Home, model_id: str, cores: int | None) -> None:
        """Load the model.

        Raises:
            UserError: it cannot be read.
        """
        # Only here: most nights there is nothing to do, and loading torch takes longest of all.
        from fastdino.training import model as models
        from fastdino.training.device import best_device, use_cores

        self.folder = home.vectors(model_id)
        self.device = best_device()
        use_cores(cores)
        self.model, _ = models.load(home.model(model_id), self.device)

    def __call__(self, pieces: Iterable[Parcel]) -> Iterator[tuple[str, float]]:
        """Compute the vectors of each parcel's tracks, in the shard's order.

        Yields:
            Each track, and how many seconds of it there are.
        """
        for parcel in pieces:
            target = self.folder / parcel.shard.name
            # Of a piece that is done once more, something may be there by now.
            tracks = _missing(set(parcel.tracks), target)
            rows: list[pa.Table] = []
            flushed = time.monotonic()
            for track_id, frames in _tracks(parcel.shard, tracks):
                table = _embed(self.model, track_id, frames, self.device)
                rows.append(table)
                yield track_id, max(e for e in table["end_s"].to_pylist() if e is not None)
                if time.monotonic() - flushed > FLUSH_EVERY_S:
                    _append(target, rows)
                    rows, flushed = [], time.monotonic()
            if rows:
                _append(target, rows)


def _tracks(shard: Path, track_ids: set[str]) -> Iterator[tuple[str, Iterator[shard_files.Piece]]]:
    if track_ids:
        yield from groupby(shard_files.iter_pieces(shard, track_ids), lambda p: p.track_id)


def _embed(
    model: "SongModel",
    track_id: str,
    pieces: Iterator[shard_files.Piece],
    device: "torch.device",
) -> pa.Table:
    import torch

    # Copied because torch warns of memory, as that of a Parquet buffer, which it may not write to.
    frames = (torch.from_numpy(piece.frames.copy()).to(device) for piece in pieces)
    pooled, spans = model.pool(frames, SpectrogramSettings().frames_per_s)
    vectors = model.vectors(pooled).cpu().numpy()
    return pa.table(
        [
            pa.array([track_id] * len(vectors), pa.string()),
            pa.array([None, *(start for start, _ in spans)], pa.float32()),
            pa.array([None, *(end for _, end in spans)], pa.float32()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), model.dim),
        ],
        schema=schema(model.dim),
    )


def _append(target: Path, tables: list[pa.Table]) -> None:
    with contextlib.suppress(UserError):
        tables = [read_vectors(target), *tables]
    # In one piece: how it came about would show in the file.
    write_vectors(target, pa.concat_tables(tables).combine_chunks())
