"""Which songs have no spectrogram yet, and which of their files to try.

Belongs here: what the catalogue has and the shards have not, and how long a file may take. Does
not: in which shard a song comes to lie (``parcels``).
"""

import os
from dataclasses import dataclass, replace

import polars as pl

from fastdino.core.paths import to_path
from fastdino.ingestion.cue import FRAMES_PER_S, clock
from fastdino.ingestion.identify import LEAST_BYTES_PER_S
from fastdino.spectrograms import extract

# A file may take this long however short it is (a sleeping disk, a busy machine), and longer in
# proportion to its size and length, both far beyond what a sound file on a slow machine needs.
LEAST_LIMIT_S = 60.0
LIMIT_S_PER_S = 1 / 20
LIMIT_S_PER_BYTE = 1 / 1_000_000
# Of a file that does not say how long it is: as an MP3 of 128 kbit/s.
USUAL_BYTES_PER_S = 16_000

# By these a song in a file is the one that it was.
SAME = ("track_id", "path", "size", "mtime_ns")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file of a track that has no spectrogram yet, and the track's other files to try after.

    Of a file that holds several songs, where this one lies in it.
    """

    track_id: str
    path: str
    size: int
    mtime_ns: int
    duration_s: float | None
    start_s: float | None = None
    end_s: float | None = None
    track_number: int | None = None
    title: str | None = None
    ctime_ns: int | None = None
    codec: str | None = None
    others: tuple["Candidate", ...] = ()

    def reason(self, why: str) -> str:
        """Why it failed; of a song in a file that holds several, which one it is as well."""
        if self.start_s is None:
            return why
        at = clock(round(self.start_s * FRAMES_PER_S))
        return f"song {self.track_number}, “{self.title}”, which begins at {at}: {why}"

    @property
    def known(self) -> extract.Known:
        """What its file was at ingest."""
        return extract.Known(self.size, self.mtime_ns, self.ctime_ns)

    @property
    def instead(self) -> "Candidate | None":
        """The track's next file, to be tried where this one cannot be decoded."""
        if not self.others:
            return None
        first, *rest = self.others
        return replace(first, others=tuple(rest))

    @property
    def expected_s(self) -> float:
        """Seconds of sound that it is likely to have, whatever it claims."""
        if self.duration_s is None:
            return self.size / USUAL_BYTES_PER_S
        return min(self.duration_s, extract.LONGEST_S)


def find(
    files: pl.DataFrame, have: set[str], failures: pl.DataFrame
) -> tuple[list[Candidate], list[str]]:
    """What to try: one candidate a track, in the catalogue's order.

    Args:
        files: the songs of the catalogue.
        have: the tracks that have a spectrogram.
        failures: files that are not tried again while their size and mtime stay the same.

    Returns:
        The candidates, and the paths of files that are in the catalogue but cannot be read now.
    """
    tried = set(failures.select(SAME).iter_rows())
    by_track: dict[str, list[Candidate]] = {}
    missing = []
    wanted = files.filter(pl.col("track_id").is_not_null() & ~pl.col("track_id").is_in(list(have)))
    of_file = ("ctime_ns", "codec", "duration_s")
    columns = (*SAME, *of_file, "start_s", "end_s", "track_number", "title")
    for row in wanted.sort("added_at", "path", "start_s").select(columns).iter_rows(named=True):
        if tuple(row[name] for name in columns[:4]) in tried:
            continue
        # A disk that is not mounted says nothing about the song: this is no failure of it.
        if os.access(to_path(row["path"]), os.R_OK):
            by_track.setdefault(row["track_id"], []).append(Candidate(**row))
        else:
            missing.append(row["path"])
    found = [
        replace(first, others=tuple(rest)) if rest else first for first, *rest in by_track.values()
    ]
    return found, missing


def time_limit_s(candidate: Candidate) -> float:
    """Seconds after which decoding a file is given up; all before a song may have to be decoded."""
    size = candidate.size
    to_its_end_s = (candidate.start_s or 0.0) + (candidate.duration_s or 0.0)
    seconds = min(to_its_end_s, size / LEAST_BYTES_PER_S, extract.LONGEST_S)
    return LEAST_LIMIT_S + seconds * LIMIT_S_PER_S + size * LIMIT_S_PER_BYTE
