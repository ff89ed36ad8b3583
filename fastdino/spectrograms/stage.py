"""The stage: what the catalogue has and the shards have not.

Belongs here: which files to try, handing them to workers, recording what failed. Does not: how a
file is decoded or how a shard is written.
"""

import contextlib
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from fastdino.core import tables
from fastdino.core.failures import FILE, MACHINE, next_try
from fastdino.core.home import Home
from fastdino.core.paths import to_path
from fastdino.core.progress import progress
from fastdino.core.storage import exclusive_lock, write_json
from fastdino.core.summary import Summary
from fastdino.core.workers import WorkerFailure, available_cores, map_in_workers
from fastdino.ingestion import catalog
from fastdino.ingestion.cue import FRAMES_PER_S, clock
from fastdino.ingestion.identify import LEAST_BYTES_PER_S
from fastdino.spectrograms import extract, shards
from fastdino.spectrograms.decode import VERSION
from fastdino.spectrograms.settings import SpectrogramSettings

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# A file may take this long however short it is (a sleeping disk, a busy machine), and longer in
# proportion to its size and length, both far beyond what a sound file on a slow machine needs.
LEAST_LIMIT_S = 60.0
LIMIT_S_PER_S = 1 / 20
LIMIT_S_PER_BYTE = 1 / 1_000_000
FLUSH_EVERY_S = 60.0
# Songs (some 2 MB each, on disk) that may wait for one that takes longer to decode.
MOST_WAITING = 500
TABLE_ROWS = 100
# From this share of their room on that is taken by songs no longer there, shards are worth
# writing anew.
SPARE_SHARE = 0.2

FAILURES = pl.Schema(
    {
        "track_id": pl.String,
        "path": pl.String,
        "size": pl.Int64,
        "mtime_ns": pl.Int64,
        "reason": pl.String,
        "failed_at": pl.Datetime("us", "UTC"),
        "kind": pl.String,  # what is to blame, see ``fastdino.core.failures``
        "attempts": pl.Int16,  # how often it was tried so far
        "next_try_at": pl.Datetime("us", "UTC"),  # null: when the file changes
        "tried_by": pl.Int16,  # version of ``decode`` that failed
    }  # type: ignore[arg-type]
)
# By these a song in a file is the one that it was.
SAME = ("track_id", "path", "size", "mtime_ns")
# Columns that files of older versions lack.
ADDED = ("kind", "attempts", "next_try_at", "tried_by")


@dataclass(frozen=True)
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
    others: tuple["Candidate", ...] = ()

    def reason(self, why: str) -> str:
        """Why it failed; of a song in a file that holds several, which one it is as well."""
        if self.start_s is None:
            return why
        at = clock(round(self.start_s * FRAMES_PER_S))
        return f"song {self.track_number}, “{self.title}”, which begins at {at}: {why}"


@dataclass(frozen=True)
class New:
    """A track that got its spectrogram in this run."""

    track_id: str
    path: str
    result: extract.Extracted


def run(home: Home, settings: SpectrogramSettings, *, retry: bool = False) -> Summary:
    """Give every track of the catalogue a spectrogram, if one of its files can be decoded.

    What failed is tried again when the file changes; what the computer was to blame for, also when
    its time has come; all of it, if a ``retry`` is asked for.

    A track whose files are gone keeps its spectrogram: they may come back.

    Raises:
        UserError: there is no catalogue, or the disk is full.
    """
    folder = home.shards(settings.spec_id)
    with exclusive_lock(folder):
        files = catalog.songs(catalog.read(home))
        if not (folder / "spec.json").exists():
            write_json(folder / "spec.json", asdict(settings))
        failures = read_failures(folder)
        index = pl.from_arrow(shards.read_index(folder))
        assert isinstance(index, pl.DataFrame)
        given_up = failures.clear() if retry else not_yet_due(failures, datetime.now(UTC))
        candidates, missing = find_work(files, set(index["track_id"]), given_up)
        new: list[New] = []
        failed: list[tuple[object, ...]] = []
        start = time.monotonic()
        if candidates:
            tried = {tuple(row[:-1]): row[-1] for row in failures.select(*SAME, "attempts").rows()}
            new, failed = _work(home, folder, settings, candidates, tried)
            index = pl.from_arrow(shards.read_index(folder))
            assert isinstance(index, pl.DataFrame)
        seconds = time.monotonic() - start
        tried_now = {(n.track_id, n.path) for n in new} | {(row[0], row[1]) for row in failed}
        known = _still_true(failures, files, tried_now)
        known = pl.concat([known, pl.DataFrame(failed, FAILURES, orient="row")])
        changed = not known.equals(failures)
        if changed:
            tables.write(_failures_path(folder), known)
    return _summary(folder, files, index, known, new, failed, missing, seconds, changed)


def read_failures(folder: Path) -> pl.DataFrame:
    """The files of a shard folder's ``failures.parquet``, see ``FAILURES``.

    None if there is no such file, or it is damaged: then all of them are tried again.
    """
    path = _failures_path(folder)
    try:
        failures = tables.read(path, FAILURES, ADDED)
    except FileNotFoundError:
        return FAILURES.to_frame()
    except ValueError as error:
        log.warning("%s; what failed is tried again", error)
        return FAILURES.to_frame()
    return failures.with_columns(pl.col("kind").fill_null(FILE), pl.col("attempts").fill_null(1))


def not_yet_due(failures: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Failures that are not to be tried again by ``now`` unless the file changes.

    Those of another version of the decoders are: this one may know better.
    """
    waits = pl.col("next_try_at").is_null() | (pl.col("next_try_at") > now)
    return failures.filter(waits, pl.col("tried_by").eq_missing(VERSION))


def find_work(
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
    columns = (*SAME, "duration_s", "start_s", "end_s", "track_number", "title")
    for row in wanted.sort("added_at", "path", "start_s").select(columns).iter_rows(named=True):
        if tuple(row[name] for name in columns[:4]) in tried:
            continue
        # A disk that is not mounted says nothing about the song: this is no failure of it.
        if os.access(to_path(row["path"]), os.R_OK):
            by_track.setdefault(row["track_id"], []).append(Candidate(**row))
        else:
            missing.append(row["path"])
    return [replace(first, others=tuple(rest)) for first, *rest in by_track.values()], missing


def _work(
    home: Home,
    folder: Path,
    settings: SpectrogramSettings,
    candidates: list[Candidate],
    tried: Mapping[tuple[object, ...], int],
) -> tuple[list[New], list[tuple[object, ...]]]:
    """Decode the candidates; ``tried`` says how often each file was, as it is."""
    new: list[New] = []
    failed: list[tuple[object, ...]] = []
    start = flushed = time.monotonic()
    with (
        _scratch(home.scratch / f"spectrograms-{settings.spec_id}") as scratch,
        shards.ShardWriter(folder) as writer,
        progress("Decoding", len(candidates), "songs") as shown,
    ):
        while candidates:
            by_spool = {scratch / c.track_id: c for c in candidates}
            tasks = (
                extract.Task(
                    Path(to_path(c.path)), spool, settings, c.start_s or 0.0, c.end_s, c.duration_s
                )
                for spool, c in by_spool.items()
            )
            candidates = []
            found = map_in_workers(
                extract.in_worker,
                tasks,
                timeout_s=lambda task: time_limit_s(by_spool[task.spool]),  # noqa: B023
                workers=min(available_cores(), len(by_spool)),
            )
            finished = ((task.spool, result) for task, result in found)
            # In the catalogue's order, however many workers there are: the same music then gives
            # the same shards and so the same model, after a killed run too.
            for spool, result in in_order(finished, by_spool, MOST_WAITING):
                candidate = by_spool[spool]
                if isinstance(result, WorkerFailure):
                    failed.append(_failure(candidate, result, tried))
                    log.warning("%s: %s", candidate.path, candidate.reason(result.reason))
                    if candidate.others:
                        first, *rest = candidate.others
                        candidates.append(replace(first, others=tuple(rest)))
                        continue
                else:
                    info = shards.TrackInfo(
                        track_id=candidate.track_id,
                        min_db=settings.min_db,
                        step_db=settings.step_db,
                        header_s=result.header_s,
                        decoded_s=result.decoded_s,
                        salvaged=result.salvaged,
                    )
                    shape = (result.n_frames, settings.n_mels)
                    writer.append(info, np.memmap(spool, np.uint8, "r", shape=shape))
                    new.append(New(candidate.track_id, candidate.path, result))
                for left_over in scratch.glob(f"{candidate.track_id}*"):
                    left_over.unlink()
                now = time.monotonic()
                speed = sum(n.result.decoded_s for n in new) / (now - start)
                shown.advance(note=f"{speed:.0f}x real time")
                if now - flushed > FLUSH_EVERY_S:
                    writer.flush()
                    flushed = now
    return new, failed


def in_order(
    finished: Iterable[tuple[T, R]], order: Iterable[T], most_waiting: int
) -> Iterator[tuple[T, R]]:
    """What is finished, in the given order as far as that keeps few waiting.

    Args:
        finished: every task with its result, in any order.
        order: the same tasks.
        most_waiting: tasks that wait for one that is not finished. Beyond that it loses its turn
            and comes last.
    """
    turns = deque(order)
    waiting: dict[T, R] = {}
    for task, result in finished:
        waiting[task] = result
        while waiting and (turns[0] in waiting or len(waiting) > most_waiting):
            first = turns.popleft()
            if first in waiting:
                yield first, waiting.pop(first)
            else:
                turns.append(first)


def time_limit_s(candidate: Candidate) -> float:
    """Seconds after which decoding a file is given up; all before a song may have to be decoded."""
    size = candidate.size
    to_its_end_s = (candidate.start_s or 0.0) + (candidate.duration_s or 0.0)
    seconds = min(to_its_end_s, size / LEAST_BYTES_PER_S, extract.LONGEST_S)
    return LEAST_LIMIT_S + seconds * LIMIT_S_PER_S + size * LIMIT_S_PER_BYTE


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for what workers write, whatever a killed run has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _failures_path(folder: Path) -> Path:
    return folder / "failures.parquet"


def _failure(
    candidate: Candidate, failure: WorkerFailure, tried: Mapping[tuple[object, ...], int]
) -> tuple[object, ...]:
    c, now = candidate, datetime.now(UTC)
    attempts = 1 + tried.get((c.track_id, c.path, c.size, c.mtime_ns), 0)
    again = next_try(failure.kind, attempts, now)
    file = (c.track_id, c.path, c.size, c.mtime_ns)
    return (*file, c.reason(failure.reason), now, failure.kind, attempts, again, VERSION)


def _still_true(
    failures: pl.DataFrame, files: pl.DataFrame, tried: set[tuple[object, object]]
) -> pl.DataFrame:
    """Failures of files that are still there, as they were when they failed; not of those tried."""
    same = failures.join(files, on=SAME, how="semi", maintain_order="left")
    key = ["track_id", "path"]
    now = pl.DataFrame(list(tried), {name: pl.String() for name in key}, orient="row")
    return same.join(now, on=key, how="anti", maintain_order="left")


def _summary(
    folder: Path,
    files: pl.DataFrame,
    index: pl.DataFrame,
    failures: pl.DataFrame,
    new: list[New],
    failed: list[tuple[object, ...]],
    missing: list[str],
    seconds: float,
    changed: bool,
) -> Summary:
    tracks = index.filter(pl.col("piece") == 0)
    paths = files.group_by("track_id").agg(pl.col("path").sort_by("added_at").first())
    truncated = (
        tracks.filter(
            pl.struct("decoded_s", "header_s").map_elements(
                lambda t: shards.is_short(t["decoded_s"], t["header_s"]), pl.Boolean
            )
        )
        .join(paths, on="track_id")
        .select("path", "header_s", "decoded_s")
        .sort("path")
    )
    table = (
        tracks.group_by("shard")
        .agg(
            tracks=pl.len(),
            hours=(pl.col("decoded_s").sum() / 3600).round(2),
        )
        .sort("shard")
        .to_dicts()
    )
    for row in table:
        row["MB"] = round((folder / row["shard"]).stat().st_size / 1e6, 1)
    new_s = sum(n.result.decoded_s for n in new)
    speed = new_s / seconds if new else 0.0
    parts = [f"{len(new)} new songs ({new_s / 3600:.1f} h at {speed:.0f}x real time)"] * bool(new)
    parts += [f"{len(failed)} could not be decoded"] * bool(failed)
    parts += [f"{len(missing)} files cannot be read now"] * bool(missing)
    parts += [f"{len(tracks)} songs, all up to date" if not parts else f"{len(tracks)} in all"]
    warnings = []
    if missing:
        warnings.append(
            f"{len(missing)} files of the catalogue cannot be read now, such as {missing[0]}: "
            "is a disk not mounted? Otherwise run ingest to bring the catalogue up to date"
        )
    cut = set(files.filter(pl.col("start_s").is_not_null())["track_id"])
    machine_s = [row for row in failed if row[6] == MACHINE]
    for rows, then in (
        ([row for row in failed if row[6] != MACHINE], "they are tried again when they change"),
        (machine_s, "that is the computer's doing: they are tried again by themselves"),
    ):
        if rows:
            what = "songs" if any(row[0] in cut for row in rows) else "files"
            warnings.append(
                f"{len(rows)} {what} could not be decoded, such as {rows[0][1]} ({rows[0][4]}); "
                f"{then}, or all at once by `fastdino spectrograms --retry`"
            )
    mb = pl.col("n_frames").cast(pl.Int64) * pl.col("n_mels") / 1e6
    room = index.group_by("track_id").agg(mb=mb.sum())
    left = room.join(files, on="track_id", how="anti")
    left_mb, all_mb = float(left["mb"].sum()), float(room["mb"].sum())
    if left_mb > SPARE_SHARE * all_mb:
        warnings.append(
            f"{len(left):,} songs that left the collection take {left_mb:,.0f} of {all_mb:,.0f} MB "
            "of the shards: they are kept in case they come back; if they will not, "
            "`fastdino compact` drops them"
        )
    return Summary(
        stage="spectrograms",
        headline=", ".join(parts),
        did_work=bool(new) or changed,
        counts={
            "new_tracks": len(new),
            "new_hours": round(new_s / 3600, 3),
            "x_real_time": round(speed, 1),
            "by_second_decoder": sum(n.result.attempts > 1 for n in new),
            "salvaged": int(tracks["salvaged"].sum()),
            "truncated": len(truncated),
            "failures": len(failures),
            "unreadable_now": len(missing),
            "tracks": len(tracks),
            "left_the_collection": len(left),
            "hours": round(float(tracks["decoded_s"].sum()) / 3600, 3),
        },
        tables={
            "shards": table,
            "failures": failures.select("path", "reason", "kind", "attempts")
            .head(TABLE_ROWS)
            .to_dicts(),
            "truncated": truncated.head(TABLE_ROWS).to_dicts(),
        },
        paths={"shards": folder},
        warnings=warnings,
    )
