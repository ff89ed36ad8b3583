"""The stage: what the catalogue has and the shards have not.

Belongs here: the steps in order: which songs (``candidates``), into which shards (``parcels``),
decoding them there (``filling``), on this computer or on many; recording what failed. Does not: any
of these.
"""

import contextlib
import functools
import logging
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from fastdino.core import cluster, environment, tables
from fastdino.core.failures import CHANGED, FILE, MACHINE, MISSING, PASSING, next_try
from fastdino.core.home import Home
from fastdino.core.paths import to_path
from fastdino.core.progress import progress
from fastdino.core.storage import exclusive_lock, exists, stamps, still_locked, write_json
from fastdino.core.summary import Summary
from fastdino.core.text import counted
from fastdino.core.workers import WorkerFailure
from fastdino.ingestion import catalog
from fastdino.spectrograms import parcels, shards
from fastdino.spectrograms.candidates import SAME, Candidate, find
from fastdino.spectrograms.decode import VERSION
from fastdino.spectrograms.filling import Filler
from fastdino.spectrograms.settings import SpectrogramSettings

log = logging.getLogger(__name__)

TABLE_ROWS = 100
# Files that are named as they fail: of a folder of short sounds there may be thousands.
NAMED = 20
# From this share of their room on that is taken by songs no longer there, shards are worth
# writing anew.
SPARE_SHARE = 0.2
# Of a computer of a cluster, for one shard at a time: more would wait at the end of each.
CORES = 4

FAILED = "failures.parquet"
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
# A row of the index for each track.
FIRST = pl.col("piece") == 0
# Of a row of the index: whether less was decoded than the header says.
IS_SHORT = pl.struct("decoded_s", "header_s").map_elements(
    lambda row: shards.is_short(row["decoded_s"], row["header_s"]), pl.Boolean
)
# Columns that files of older versions lack.
ADDED = ("kind", "attempts", "next_try_at", "tried_by")


def run(
    home: Home,
    settings: SpectrogramSettings,
    *,
    retry: bool = False,
    filler: type[Filler] = Filler,
) -> Summary:
    """Give every track of the catalogue a spectrogram, if one of its files can be decoded.

    What failed is tried again when the file changes; what the computer was to blame for, also when
    its time has come; all of it, if a ``retry`` is asked for.

    A track whose files are gone keeps its spectrogram: they may come back. The ``filler`` is what
    decodes.

    Raises:
        UserError: there is no catalogue, or the disk is full.
    """
    folder = home.shards(settings.spec_id)
    with exclusive_lock(folder):
        files = catalog.songs(catalog.read(home))
        if environment.CLUSTER.value() is not None:
            # Each computer has a mount of its own, which may tell other times than this one's.
            files = files.with_columns(ctime_ns=pl.lit(None, pl.Int64))
        if not exists(folder / "spec.json"):
            write_json(folder / "spec.json", asdict(settings))
        failures, are_sound = _failures_and_whether_sound(folder)
        index = _index(folder)
        given_up = failures.clear() if retry else not_yet_due(failures, datetime.now(UTC))
        had = set(index.filter(FIRST)["track_id"].to_list())
        candidates, missing = find(files, had, given_up)
        done = _Done()
        start = time.monotonic()
        if candidates:
            sees = [folder, *(Path(to_path(each)) for each in files["folder"].unique())]
            done = _work(home, folder, settings, candidates, _sizes(folder), sees, filler)
            index = _index(folder)
        else:
            # Of a run that was killed when all was decoded.
            parcels.drop_plan(folder)
        done.missing, done.seconds = missing, time.monotonic() - start
        tried = {tuple(row[:-1]): row[-1] for row in failures.select(*SAME, "attempts").rows()}
        failed = [_failure(*each, tried) for each in done.failed]
        known = _still_true(failures, files, done.files)
        known = pl.concat([known, pl.DataFrame(failed, FAILURES, orient="row")])
        # A damaged list would be told of each night until a file fails.
        if is_news := not (are_sound and known.equals(failures)):
            tables.write(folder / FAILED, known)
    new = index.filter(FIRST).filter(~pl.col("track_id").is_in(list(had)))
    did_work = len(new) > 0 or is_news
    return _summary(folder, files, index, new, known, done, did_work=did_work)


def read_failures(folder: Path) -> pl.DataFrame:
    """The files of a shard folder's ``failures.parquet``, see ``FAILURES``.

    No rows if there is no such file, or it is damaged: then all of them are tried again.
    """
    return _failures_and_whether_sound(folder)[0]


def _failures_and_whether_sound(folder: Path) -> tuple[pl.DataFrame, bool]:
    try:
        return sound_failures(folder), True
    except ValueError as error:
        log.warning("%s; what failed is tried again", error)
        return FAILURES.to_frame(), False


def sound_failures(folder: Path) -> pl.DataFrame:
    """The same, where damage is to be told of.

    Raises:
        ValueError: the file is damaged.
    """
    failures = tables.read(folder / FAILED, FAILURES, ADDED, missing_ok=True)
    return failures.with_columns(pl.col("kind").fill_null(FILE), pl.col("attempts").fill_null(1))


def not_yet_due(failures: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Failures that are not to be tried again by ``now`` unless the file changes.

    Those of another version of the decoders are: this one may know better.
    """
    waits = pl.col("next_try_at").is_null() | (pl.col("next_try_at") > now)
    return failures.filter(waits, pl.col("tried_by").eq_missing(VERSION))


@dataclass
class _Done:
    """What became of the files that were tried; of those that went well no more than is told.

    Attributes:
        files: their tracks and paths.
        failed: those that could not be decoded, and why.
        missing: paths that could not even be tried.
        by_second: how many the second decoder could decode.
        seconds: that it took.
    """

    files: set[tuple[str, str]] = field(default_factory=set)
    failed: list[tuple[Candidate, WorkerFailure]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    by_second: int = 0
    seconds: float = 0.0

    def failed_by(self, *kinds: str) -> list[tuple[Candidate, WorkerFailure]]:
        """Those of ``failed`` that these kinds of things are to blame for."""
        return [each for each in self.failed if each[1].kind in kinds]


def _work(
    home: Home,
    folder: Path,
    settings: SpectrogramSettings,
    candidates: list[Candidate],
    sizes: Mapping[str, int],
    sees: Collection[Path],
    filler: type[Filler],
) -> _Done:
    """Decode the candidates."""
    done = _Done()
    plan = parcels.parcels(candidates, sizes, settings, parcels.read_plan(folder))
    parcels.write_plan(folder, plan)
    start, decoded_s = time.monotonic(), 0.0
    with (
        _scratch(home.scratch / f"spectrograms-{settings.spec_id}") as scratch,
        progress("Decoding", len(candidates), "songs") as shown,
        # Closed at once where this is interrupted: what is done is written then.
        contextlib.closing(
            cluster.everywhere(
                functools.partial(filler, folder, scratch, settings), plan, cores=CORES, sees=sees
            )
        ) as outcomes,
    ):
        for outcome in outcomes:
            still_locked(folder)
            candidate, result = outcome.candidate, outcome.result
            if (candidate.track_id, candidate.path) in done.files:
                continue  # a computer that was lost had done it, too
            done.files.add((candidate.track_id, candidate.path))
            if isinstance(result, WorkerFailure):
                done.failed.append((candidate, result))
                if len(done.failed) <= NAMED:
                    log.warning("%s: %s", candidate.path, candidate.reason(result.reason))
                elif len(done.failed) == NAMED + 1:
                    log.warning("More files fail; the table failures of the database names all")
            else:
                decoded_s += result.decoded_s
                done.by_second += result.attempts > 1
            if outcome.settled:
                speed = decoded_s / (time.monotonic() - start)
                shown.advance(note=f"{speed:.0f}x real time")
    parcels.drop_plan(folder)
    return done


def _index(folder: Path) -> pl.DataFrame:
    """What is in the shards; kept, so that it need not be read from each of them again."""
    table = shards.read_index(folder)
    shards.keep_index(folder, table)
    index = pl.from_arrow(table)
    assert isinstance(index, pl.DataFrame)
    return index


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each shard, by name."""
    return {path.name: stamp.size for path, stamp in stamps(folder, shards.SHARDS).items()}


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for what workers write, whatever a killed run has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _failure(
    candidate: Candidate, failure: WorkerFailure, tried: Mapping[tuple[object, ...], int]
) -> tuple[object, ...]:
    c, now = candidate, datetime.now(UTC)
    attempts = tried.get((c.track_id, c.path, c.size, c.mtime_ns), 0)
    attempts += failure.kind not in PASSING
    again = next_try(failure.kind, attempts, now)
    file = (c.track_id, c.path, c.size, c.mtime_ns)
    return (*file, c.reason(failure.reason), now, failure.kind, attempts, again, VERSION)


def _still_true(
    failures: pl.DataFrame, files: pl.DataFrame, tried: Collection[tuple[object, ...]]
) -> pl.DataFrame:
    """Failures of files that are still there, as they were when they failed; not of those tried."""
    same = failures.join(files, on=SAME, how="semi", maintain_order="left")
    others = [key not in tried for key in same.select("track_id", "path").iter_rows()]
    return same.filter(pl.Series(others, dtype=pl.Boolean))


def _next_try(failures: pl.DataFrame) -> str:
    """When the first of these is tried again, in words."""
    at = failures["next_try_at"].min()
    if not isinstance(at, datetime):
        return "when they change"
    return f"after {at.astimezone():%Y-%m-%d %H:%M}"


def _summary(
    folder: Path,
    files: pl.DataFrame,
    index: pl.DataFrame,
    new: pl.DataFrame,
    failures: pl.DataFrame,
    done: _Done,
    *,
    did_work: bool,
) -> Summary:
    tracks = index.filter(FIRST)
    # Of those that may be, as each is looked at by itself.
    short = tracks.filter(pl.col("decoded_s") < pl.col("header_s")).filter(IS_SHORT)
    paths = (
        files.join(short, on="track_id", how="semi")
        .group_by("track_id")
        .agg(pl.col("path").sort_by("added_at").first())
    )
    truncated = (
        short.join(paths, on="track_id").select("path", "header_s", "decoded_s").sort("path")
    )
    table = (
        tracks.group_by("shard")
        .agg(
            tracks=pl.len(),
            hours=(pl.col("decoded_s").sum() / 3600).round(2),
        )
        .sort("shard")
        .tail(TABLE_ROWS)
        .to_dicts()
    )
    sizes = _sizes(folder)
    for row in table:
        row["MB"] = round(sizes[row["shard"]] / 1e6, 1)
    new_s = float(new["decoded_s"].sum())
    speed = new_s / done.seconds if len(new) else 0.0
    changed = sorted({candidate.path for candidate, _ in done.failed_by(CHANGED)})
    missing = sorted({*done.missing, *(candidate.path for candidate, _ in done.failed_by(MISSING))})
    undecoded = done.failed_by(FILE, MACHINE)
    parts = []
    if len(new):
        hours = f"{new_s / 3600:.1f} h at {speed:.0f}x real time"
        parts.append(f"{counted(len(new), 'new song')} ({hours})")
    parts += [f"{len(undecoded):,} could not be decoded"] * bool(undecoded)
    parts += [f"{counted(len(changed), 'file')} changed since ingest"] * bool(changed)
    parts += [f"{counted(len(missing), 'file')} cannot be read now"] * bool(missing)
    left = index.join(files, on="track_id", how="anti")
    n_left = left["track_id"].n_unique()
    n_there = tracks["track_id"].n_unique() - n_left
    headline = ", ".join([*parts, f"{n_there:,} in all"]) if parts else counted(n_there, "song")
    headline += f" and {n_left:,} that left the collection" * bool(n_left)
    # Those of before; of the others was told.
    waiting = failures.filter(
        ~pl.col("kind").is_in(PASSING),
        ~pl.col("track_id").is_in([candidate.track_id for candidate, _ in done.failed]),
    ).join(tracks, on="track_id", how="anti")
    if n_waiting := waiting["track_id"].n_unique():
        then = f"(tried again {_next_try(waiting)})"
        headline += f"; {n_waiting:,} could not be decoded before {then}"
    elif not parts:
        headline += ", all up to date"
    warnings = []
    if missing:
        warnings.append(
            f"{counted(len(missing), 'file')} of the catalogue cannot be read now, such as "
            f"{missing[0]}: is a disk not mounted? Otherwise run ingest to bring the catalogue up "
            "to date"
        )
    if changed:
        warnings.append(
            f"{counted(len(changed), 'file')} changed since ingest, such as {changed[0]}: the next "
            "run takes them in"
        )
    for kind, told in (
        (FILE, "they are tried again"),
        (MACHINE, "that is the computer's doing: they are tried again by themselves"),
    ):
        if failed := done.failed_by(kind):
            first, failure = failed[0]
            then = _next_try(failures.filter(kind=kind))
            is_cut = any(candidate.start_s is not None for candidate, _ in failed)
            lost = counted(len(failed), "song" if is_cut else "file")
            warnings.append(
                f"{lost} could not be decoded, such as {first.path} "
                f"({first.reason(failure.reason)}); {told} {then}, or all at once "
                "by `fastdino spectrograms --retry`"
            )
    mb = (pl.col("n_frames").cast(pl.Int64) * pl.col("n_mels")).sum() / 1e6
    left_mb, all_mb = left.select(mb).item(), index.select(mb).item()
    if left_mb > SPARE_SHARE * all_mb:
        warnings.append(
            f"{n_left:,} songs that left the collection take {left_mb:,.0f} of {all_mb:,.0f} MB "
            "of the shards: they are kept in case they come back; if they will not, "
            "`fastdino compact` drops them"
        )
    return Summary(
        stage="spectrograms",
        headline=headline,
        did_work=did_work,
        counts={
            "new_tracks": len(new),
            "new_hours": round(new_s / 3600, 3),
            "x_real_time": round(speed, 1),
            "by_second_decoder": done.by_second,
            "salvaged": int(tracks["salvaged"].sum()),
            "truncated": len(truncated),
            "failures": len(failures),
            "unreadable_now": len(missing),
            "tracks": len(tracks),
            "left_the_collection": n_left,
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
