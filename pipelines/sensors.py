"""When jobs run because something happened.

Belongs here: sensors, and what they keep in mind from tick to tick. Does not: how music folders
are listed (``fastdino.ingestion.scan``) or what the jobs make. All are off until someone switches
them on in the UI, under Automation.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
import polars as pl

from assets.stage import HomeFolder
from fastdino.core import environment
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.text import one_line, runnable
from fastdino.ingestion import catalog as files_catalog
from fastdino.ingestion import scan
from fastdino.steps import music_folders
from pipelines.jobs import refresh

# After this long a refresh that failed is tried again: disks are mounted and space is freed.
AGAIN_AFTER_S = 3600.0
# Listing 15,000 files takes a few tenths of a second, but may keep a disk from going to sleep.
LOOK_EVERY_S = 60
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Watch:
    """What is kept from tick to tick: a few bytes, however large the collection.

    Attributes:
        fingerprint: of what lies in the music folders.
        since_s: when they were first seen like that, Unix time.
        requested: whether a run has been requested for it.
    """

    fingerprint: str
    since_s: float
    requested: bool = False

    @classmethod
    def parse(cls, cursor: str | None) -> "Watch | None":
        """What ``cursor`` holds; None if nothing, or what another version or a person wrote."""
        try:
            return cls(**json.loads(cursor or ""))
        except (ValueError, TypeError):
            return None

    @property
    def cursor(self) -> str:
        """The same as text."""
        return json.dumps(dataclasses.asdict(self))

    @property
    def run_key(self) -> str:
        """What Dagster starts only one run for.

        With the time, for a song may come and go and come again: the folders are then as they were
        before, and yet there is something to do.
        """
        return f"{self.fingerprint}-{self.since_s:.0f}"


@dataclass(frozen=True)
class Failed:
    """The last refresh, where it failed: what it had to do, or some of it, is still to be done.

    Attributes:
        run_id: Dagster's name of it.
        ended_s: when it ended, Unix time.
    """

    run_id: str
    ended_s: float

    @property
    def run_key(self) -> str:
        """What Dagster starts only one run for: each failure is followed by one."""
        return f"after-{self.run_id}"


def look(before: Watch | None, fingerprint: str, now_s: float) -> Watch:
    """What is known after the folders were found with ``fingerprint``."""
    if before is None or before.fingerprint != fingerprint:
        return Watch(fingerprint, now_s)
    # A clock set back must not make the quiet time last until the old hour is reached again.
    return dataclasses.replace(before, since_s=min(before.since_s, now_s))


def due(
    watch: Watch, known: str, failed: Failed | None, now_s: float, quiet_s: float
) -> tuple[str | None, str]:
    """The key of the run that is due if one is, and why there is one or none.

    Args:
        watch: the folders as they were found just now.
        known: fingerprint of what the catalogue knows.
        failed: the last refresh, if it failed.
        now_s: Unix time.
        quiet_s: how long the folders must have stayed as they are.
    """
    changed = watch.fingerprint != known
    if changed and not watch.requested:
        left_s = watch.since_s + quiet_s - now_s
        if left_s > 0:
            return None, f"something has changed; waiting {left_s:.0f} s more for copying to end"
        return watch.run_key, "something has changed"
    # Also where the catalogue knows all by now: what comes after it is then still to be done.
    if failed:
        # After a clock was set back there is no telling how long ago it was.
        left_s = failed.ended_s + AGAIN_AFTER_S - now_s if now_s >= failed.ended_s else 0.0
        why = f"the last refresh failed, see run {failed.run_id[:8]}"
        if left_s > 0:
            return None, f"{why}; it is tried again in {left_s / 60:.0f} minutes"
        return failed.run_key, why
    if changed:
        return None, "a refresh was requested for the music folders as they are"
    return None, "the music folders are as the catalogue knows them"


def fingerprint(files: pl.DataFrame, unlisted: Sequence[str] = ()) -> str:
    """32 hex characters that stand for the paths, sizes and times of files and CUE sheets.

    Args:
        files: sorted by path; a catalogue or what ``scan`` lists.
        unlisted: folders that cannot be read: what the catalogue knows of them is no news.
    """
    inside = [
        (pl.col("path") == folder) | pl.col("path").str.starts_with(os.path.join(folder, ""))
        for folder in unlisted
    ]
    seen = files.filter(~pl.any_horizontal(pl.lit(False), *inside))
    rows = json.dumps(seen.select("path", "size", "mtime_ns", "ctime_ns", "sheets").rows())
    return hashlib.blake2b(rows.encode(), digest_size=16).hexdigest()


@dg.sensor(
    name="refresh_when_music_changes",
    job=refresh,
    minimum_interval_seconds=LOOK_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Looks at the music folders every minute, without opening a file. Takes "
        "in what changed once nothing has changed any more for $FASTDINO_QUIET_MINUTES "
        f"({environment.QUIET_MINUTES.default} if not set), so that copying is over. A refresh "
        "that failed is tried again after an hour."
    ),
)
def refresh_when_music_changes(
    context: dg.SensorEvaluationContext, home: HomeFolder
) -> dg.SensorResult | dg.SkipReason:
    """Request one refresh for each change of the music folders, when it is complete."""
    try:
        with readable_errors(home.open().root):
            quiet_s = 60 * environment.QUIET_MINUTES.value()
            known = files_catalog.read(home.open())
            folders = music_folders(home.open(), environment.MUSIC.value())
            exclude = environment.EXCLUDE.value()
            listing = scan.scan(folders, frozenset(known["path"]), exclude)
    except UserError as error:
        return dg.SkipReason(one_line(runnable(str(error))))
    now_s = time.time()
    found = fingerprint(listing.files, listing.unlisted)
    watch = look(Watch.parse(context.cursor), found, now_s)
    known_as = fingerprint(known, listing.unlisted)
    run_key, reason = due(watch, known_as, _last_failed(context.instance), now_s, quiet_s)
    if run_key and (run_id := _run_in_progress(context.instance)):
        run_key, reason = None, f"{reason}; waiting for run {run_id[:8]} to end"
    if run_key is None:
        blind = "".join(f"; cannot read {folder}" for folder in listing.unlisted)
        return dg.SensorResult(skip_reason=reason + blind, cursor=watch.cursor)
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=run_key)],
        cursor=dataclasses.replace(watch, requested=True).cursor,
    )


def _run_in_progress(instance: dg.DagsterInstance) -> str | None:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED), limit=1)
    return runs[0].run_id if runs else None


def _last_failed(instance: dg.DagsterInstance) -> Failed | None:
    """The last refresh if it failed, whoever started it; one that was cancelled was not wanted."""
    records = instance.get_run_records(dg.RunsFilter(job_name=refresh.name), limit=1)
    if not records or records[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    ended_s = records[0].end_time or records[0].update_timestamp.timestamp()
    return Failed(records[0].dagster_run.run_id, ended_s)


SENSORS = [refresh_when_music_changes]
