"""Parcels: which songs are decoded into which shard, known before any of them is.

Belongs here: dividing the songs to decode among shards, and keeping that plan until all is done.
Does not: decoding them (``filling``), the shard files themselves (``shards``).

A parcel is one shard's worth of songs: the unit of work, one writer to one file. Where one ends
follows from the lengths that the catalogue tells, and a run that goes on from an interrupted one
keeps to that one's plan. So the shards hold the same bytes whoever fills them: however many
workers and machines there are, in whatever order they finish, and whichever of them dies.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fastdino.core import tables
from fastdino.core.storage import unlink
from fastdino.spectrograms import shards
from fastdino.spectrograms.candidates import Candidate
from fastdino.spectrograms.settings import SpectrogramSettings

log = logging.getLogger(__name__)

PLAN = pl.Schema({"shard": pl.String(), "track_id": pl.String()})


@dataclass(frozen=True)
class Parcel:
    """Songs to decode, in order, and the name of the shard that they are appended to."""

    shard: str
    candidates: tuple[Candidate, ...]


def parcels(
    candidates: Sequence[Candidate],
    sizes: Mapping[str, int],
    settings: SpectrogramSettings,
    planned: Mapping[str, str] | None = None,
) -> list[Parcel]:
    """Divide the songs to decode among shards.

    Each shard takes songs until it is full, by what the catalogue says of their lengths. The first
    songs go into the last shard if it has room.

    Args:
        candidates: the songs, in order.
        sizes: bytes of the shards that are there, by name.
        settings: of the frames.
        planned: the shard that each track was to go to when a run was interrupted; those go there
            still.
    """
    planned = planned or {}
    divided: dict[str, list[Candidate]] = {}
    room: dict[str, float] = {name: shards.SHARD_BYTES - size for name, size in sizes.items()}

    def put(candidate: Candidate, shard: str) -> None:
        divided.setdefault(shard, []).append(candidate)
        size = candidate.expected_s * settings.frames_per_s * settings.n_mels
        room[shard] = room.get(shard, shards.SHARD_BYTES) - size

    by_track = {candidate.track_id: candidate for candidate in candidates}
    for track_id, shard in planned.items():
        if candidate := by_track.pop(track_id, None):
            put(candidate, shard)
    last = max([*room, *planned.values()], default=shards.name_of(1))
    for candidate in by_track.values():
        if room.get(last, 1) <= 0:
            last = shards.name_of(shards.number_of(last) + 1)
        put(candidate, last)
    return [Parcel(shard, tuple(divided[shard])) for shard in sorted(divided)]


def read_plan(folder: Path) -> dict[str, str]:
    """The shard that each track of an interrupted run was to go to, in order; empty without one."""
    try:
        plan = tables.read(_path(folder), PLAN, missing_ok=True)
    except ValueError as error:
        log.warning("%s; its songs are divided among shards anew", error)
        return {}
    return dict(plan.select("track_id", "shard").iter_rows())


def write_plan(folder: Path, plan: Sequence[Parcel]) -> None:
    """Keep what is going to be done, for a run that goes on from an interrupted one."""
    rows = [(parcel.shard, each.track_id) for parcel in plan for each in parcel.candidates]
    tables.write(_path(folder), pl.DataFrame(rows, PLAN, orient="row"))


def drop_plan(folder: Path) -> None:
    """All of it is done."""
    unlink(_path(folder), missing_ok=True)


def _path(folder: Path) -> Path:
    return folder / "plan.parquet"
