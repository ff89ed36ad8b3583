"""Checking the shards.

Belongs here: reading every row group of every shard, what makes a track sound, shards without their
damaged tracks. Does not: what the vectors of a track are like.
"""

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.core.home import Home
from fastdino.core.progress import Progress
from fastdino.core.storage import fetched, folders, read_json, write_json
from fastdino.core.text import counted
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.spectrograms.stage import FAILED, read_failures, sound_failures
from fastdino.upkeep.verify.finding import DAMAGE, Finding, Findings, Mender, noting, reason

# The tracks of each shard, as it is after the check; None where they cannot be told.
Held = dict[Path, set[str] | None]


@dataclass
class Shard:
    """What a shard holds.

    Attributes:
        tracks: all, as far as their ids can be read.
        damaged: those of them that cannot be used.
        reasons: what is wrong, the first thing first.
    """

    tracks: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    @property
    def sound(self) -> set[str]:
        """Tracks that can be used."""
        return self.tracks - self.damaged


def check(
    home: Home, known: set[str] | None, shown: Progress, *, repair: bool
) -> Generator[Finding, None, Held]:
    """Check all shards, of the settings in use and of others.

    Args:
        home: where they are.
        known: the tracks of the collection, if they can be told.
        shown: advanced by the megabytes read.
        repair: write those in use anew without what is damaged or there twice.

    Returns:
        The tracks of each shard.
    """
    spec = SpectrogramSettings()
    current = home.shards(spec.spec_id)
    held: Held = {}
    told: list[Finding] = []
    for folder in folders(current.parent):
        if folder == current:
            yield from noting(told, _check_folder(folder, spec, repair=repair))
            findings = _check_current(folder, spec, known, held, shown, repair=repair)
            yield from noting(told, findings)
        else:
            yield from _check_other(folder, held, shown)
    if known is not None and (repair or not told):
        have = [tracks for shard, tracks in held.items() if shard.parent == current and tracks]
        lost = known.difference(read_failures(current)["track_id"], *have)
        if lost:
            yield Finding(
                current,
                f"no spectrogram of {counted(len(lost), 'song')} is there",
                "decodes them",
                Mender.RUN,
            )
    return held


def _check_folder(folder: Path, spec: SpectrogramSettings, *, repair: bool) -> Findings:
    described = folder / "spec.json"
    try:
        matches = read_json(described) == dataclasses.asdict(spec)
    except (FileNotFoundError, ValueError):
        matches = False
    if not matches:
        found = Finding(described, "it does not say what the shards are made with", "written anew")
        yield found.settled(lambda: write_json(described, dataclasses.asdict(spec)), repair=repair)
    failures = folder / FAILED
    try:
        sound_failures(folder)
    except ValueError as error:
        found = Finding(
            failures, reason(failures, error), "deleted; the next run tries those files again"
        )
        yield found.settled(failures.unlink, repair=repair)


def _check_current(
    folder: Path,
    spec: SpectrogramSettings,
    known: set[str] | None,
    held: Held,
    shown: Progress,
    *,
    repair: bool,
) -> Findings:
    seen: set[str] = set()
    left: set[str] = set()
    for path in shard_files.list_shards(folder):
        megabytes = fetched(path).stat().st_size / 1e6
        shard = inspect(path, spec)
        twice = shard.sound & seen
        found = []
        if shard.reasons:
            damaged = (
                f"{len(shard.damaged)} of its {counted(len(shard.tracks), 'song')} cannot be used: "
            )
            found.append(
                Finding(
                    path,
                    damaged * bool(shard.damaged) + shard.reasons[0],
                    "what cannot be used is left out, and decoded again by the next run",
                )
            )
        if twice:
            found.append(
                Finding(
                    path,
                    f"it holds {counted(len(twice), 'song')} that an older shard holds as well",
                    "left out here",
                )
            )
        keep = shard.sound - twice
        if found and repair:
            shard_files.rewrite(path, keep)
            found = [each.now_mended() for each in found]
        yield from found
        seen.update(keep)
        left.update(keep - known if known is not None else ())
        held[path] = keep if repair else None if shard.reasons else shard.tracks
        shown.advance(megabytes)
    if left:
        yield Finding(
            folder,
            f"it holds {counted(len(left), 'song')} that left the collection",
            "kept in case they come back; `fastdino compact` drops them",
            Mender.COMPACTION,
        )


def _check_other(folder: Path, held: Held, shown: Progress) -> Findings:
    """Shards of settings that are not in use: nothing here could make them again."""
    described = folder / "spec.json"
    advice = f"delete the folder {folder.name} if none of your models needs it any more"
    try:
        spec = SpectrogramSettings(**read_json(described))
    except DAMAGE as error:
        yield Finding(described, reason(described, error), advice, Mender.PERSON)
        return
    for path in shard_files.list_shards(folder):
        shard = inspect(path, spec)
        if shard.reasons:
            yield Finding(path, shard.reasons[0], advice, Mender.PERSON)
        held[path] = shard.tracks
        shown.advance(fetched(path).stat().st_size / 1e6)


def inspect(path: Path, spec: SpectrogramSettings) -> Shard:
    """Read a shard to its end, a row group at a time.

    A track is sound if all of its pieces can be read, follow one another, and are of the shape and
    scale that the settings ask for.

    Raises:
        UserError: the disk cannot read it.
    """
    walk = _Walk(spec)
    try:
        with pq.ParquetFile(fetched(path), page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(shard_files.SCHEMA):
                raise ValueError("other columns")
            for group in range(file.num_row_groups):
                _read_group(path, file, group, walk)
    except DAMAGE as error:
        walk.unreadable(reason(path, error))
    return walk.shard


def _read_group(path: Path, file: pq.ParquetFile, group: int, walk: "_Walk") -> None:
    where = f"row group {group + 1} of {file.num_row_groups}"
    try:
        index = file.read_row_group(group, columns=shard_files.INDEX_COLUMNS).to_pylist()
    except DAMAGE as error:
        walk.unreadable(f"{where}: {reason(path, error)}")
        return
    try:
        column = file.read_row_group(group, columns=["spectrogram"]).column(0)
        sizes = pc.binary_length(column).to_pylist()
    except DAMAGE as error:
        walk.spoilt({row["track_id"] for row in index}, f"{where}: {reason(path, error)}")
        sizes = [row["n_frames"] * row["n_mels"] for row in index]
    for row, size in zip(index, sizes, strict=True):
        walk.piece(row, size)


class _Walk:
    """Goes through a shard's pieces in order and tells sound tracks from others."""

    def __init__(self, spec: SpectrogramSettings) -> None:
        self.shard = Shard()
        self._n_mels = spec.n_mels
        self._scale = (np.float32(spec.min_db), np.float32(spec.step_db))
        # Of the track that the walk has come to: its next piece, and whether there may be one.
        self._track: str | None = None
        self._next, self._full = 0, True

    def piece(self, row: dict[str, Any], size: int) -> None:
        """One row: its columns but the spectrogram, and that one's bytes."""
        track, frames = row["track_id"], row["n_frames"]
        if track != self._track:
            if track in self.shard.tracks:
                self.spoilt({track}, "the pieces of a track do not follow one another")
            self.shard.tracks.add(track)
            self._track, self._next, self._full = track, 0, True
        start = row["piece"] * shard_files.PIECE_FRAMES
        if (row["piece"], row["start_frame"]) != (self._next, start) or not self._full:
            self.spoilt({track}, "a piece of a track is missing or in the wrong place")
        within = 0 < frames <= shard_files.PIECE_FRAMES
        if row["n_mels"] != self._n_mels or size != frames * self._n_mels or not within:
            self.spoilt({track}, "a piece of a track has the wrong shape")
        if (np.float32(row["min_db"]), np.float32(row["step_db"])) != self._scale:
            self.spoilt({track}, "a track was made with other settings")
        self._next, self._full = row["piece"] + 1, frames == shard_files.PIECE_FRAMES

    def spoilt(self, tracks: set[str], why: str) -> None:
        """These tracks cannot be used."""
        self.shard.damaged |= tracks
        self.shard.reasons.append(why)

    def unreadable(self, why: str) -> None:
        """Rows whose tracks cannot be told; the track before may go on among them."""
        before = {self._track} if self._track is not None and self._full else set()
        self.spoilt(before, why)
        self._track = None
