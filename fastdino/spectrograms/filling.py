"""Filling shards: from parcels of songs to shard files.

Belongs here: handing songs to workers and their frames to the shard they are for, in order. Does
not: which songs those are (``parcels``), decoding one (``extract``), what becomes of failures
(``stage``).
"""

import os
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdino.core.cluster import Work
from fastdino.core.paths import to_path
from fastdino.core.storage import exists
from fastdino.core.workers import WorkerFailure, WorkerPool
from fastdino.spectrograms import extract, shards
from fastdino.spectrograms.candidates import Candidate, time_limit_s
from fastdino.spectrograms.parcels import Parcel
from fastdino.spectrograms.settings import SpectrogramSettings

# A kill loses so much work at most, beside the songs that workers are at.
FLUSH_EVERY_S = 60.0
# Shards that are filled at once: while one waits for a song that takes long, others are begun.
# What waits, lies on disk meanwhile: as much as so many shards at most.
OPEN_PARCELS = 8


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    candidate: Candidate
    result: extract.Extracted | WorkerFailure

    @property
    def settled(self) -> bool:
        """Whether no other file of that track is tried."""
        return not (isinstance(self.result, WorkerFailure) and self.candidate.others)


class Filler(Work[Parcel, Outcome]):
    """Fills shards with the songs of parcels; holds its worker processes from one to the next."""

    def __init__(
        self, folder: Path, scratch: Path, settings: SpectrogramSettings, cores: int | None
    ) -> None:
        """Set up; nothing is started or written before there is a parcel.

        Args:
            folder: the shards'.
            scratch: where to keep frames that wait to be written, in a folder of its own.
            settings: of the frames.
            cores: processes at most; None: as many as there are cores.
        """
        self.folder, self.settings = folder, settings
        self.scratch = scratch / f"{socket.gethostname()}-{os.getpid()}"
        self._open: list[_Open] = []
        self._at: dict[Path, tuple[Candidate, _Open]] = {}
        self._pool: WorkerPool[extract.Task, extract.Extracted | WorkerFailure] = WorkerPool(
            extract.in_worker,
            timeout_s=lambda task: time_limit_s(self._at[task.spool][0]),
            workers=cores,
        )

    def __call__(self, pieces: Iterable[Parcel]) -> Iterator[Outcome]:
        """Append the songs of each parcel to its shard, in its order.

        A song that its shard has is left out. Interrupted, it keeps what is done, of each shard as
        far as there is no gap.

        Yields:
            What became of each file, as it is known; of a track whose first file fails that of
            its next one as well.

        Raises:
            UserError: a disk is full, or a shard to append to is damaged.
        """
        try:
            for task, result in self._pool.map(self._tasks(pieces), self._instead):
                candidate, shard = self._at.pop(task.spool)
                outcome = Outcome(candidate, result)
                if outcome.settled:
                    shard.take(candidate.track_id, task.spool, result)
                for left_over in self.scratch.glob(f"{task.spool.name}*"):
                    if isinstance(result, WorkerFailure) or left_over != task.spool:
                        left_over.unlink()
                yield outcome
        finally:
            for shard in self._open:
                shard.close()
            self._open, self._at = [], {}

    def _tasks(self, parcels: Iterable[Parcel]) -> Iterator[extract.Task | None]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        for parcel in parcels:
            while len(self._open) >= OPEN_PARCELS:
                self._open = [shard for shard in self._open if shard.turns]
                if len(self._open) >= OPEN_PARCELS:
                    yield None
            path = self.folder / parcel.shard
            have = shards.track_ids(path) if exists(path) else set()
            todo = [each for each in parcel.candidates if each.track_id not in have]
            shard = _Open(path, self.settings, [each.track_id for each in todo])
            self._open.append(shard)
            for candidate in todo:
                yield self._task(candidate, shard)

    def _instead(self, task: extract.Task, failure: object) -> extract.Task | None:
        candidate, shard = self._at[task.spool]
        return self._task(candidate.instead, shard) if candidate.instead else None

    def _task(self, candidate: Candidate, shard: "_Open") -> extract.Task:
        spool = self.scratch / f"{candidate.track_id}-{len(candidate.others)}"
        self._at[spool] = candidate, shard
        path, start_s = Path(to_path(candidate.path)), candidate.start_s or 0.0
        part = (start_s, candidate.end_s, candidate.duration_s)
        return extract.Task(path, spool, self.settings, *part, candidate.known, candidate.codec)

    def __exit__(self, *error: object) -> None:
        """End the workers, and delete what waited."""
        self._pool.__exit__(*error)
        shutil.rmtree(self.scratch, ignore_errors=True)


class _Open:
    """A shard that is being filled, and the songs that wait for their turn in it.

    Attributes:
        turns: the tracks that are not in it yet, in order.
    """

    def __init__(self, shard: Path, settings: SpectrogramSettings, tracks: Iterable[str]) -> None:
        self.turns = deque(tracks)
        self._settings = settings
        self._waiting: dict[str, tuple[Path, extract.Extracted | WorkerFailure]] = {}
        self._writer = shards.ShardWriter(shard)
        self._flushed = time.monotonic()

    def take(self, track_id: str, spool: Path, result: extract.Extracted | WorkerFailure) -> None:
        """Take in a song's frames, or that there are none; write what has its turn by now."""
        self._waiting[track_id] = spool, result
        while self.turns and self.turns[0] in self._waiting:
            self._write(self.turns[0], *self._waiting.pop(self.turns[0]))
            self.turns.popleft()
        if not self.turns or time.monotonic() - self._flushed > FLUSH_EVERY_S:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Keep what was written, also where an error is on its way."""
        self._writer.__exit__(*sys.exc_info())

    def _write(self, track_id: str, spool: Path, result: extract.Extracted | WorkerFailure) -> None:
        if isinstance(result, WorkerFailure):
            return
        info = shards.TrackInfo(
            track_id=track_id,
            min_db=self._settings.min_db,
            step_db=self._settings.step_db,
            header_s=result.header_s,
            decoded_s=result.decoded_s,
            salvaged=result.salvaged,
        )
        shape = (result.n_frames, self._settings.n_mels)
        self._writer.append(info, np.memmap(spool, np.uint8, "r", shape=shape))
        spool.unlink()
