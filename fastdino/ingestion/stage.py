"""The ingestion stage: bring the catalogue up to date with the music folders.

Belongs here: the steps in order: list (``scan``), open what is new (``identify``), settle in which
encodings albums are (``tags``), compare (``diff``), write (``catalog``, ``skipped``), what outlives
songs that leave (``aliases``, ``departed``), and what is left of it for the next run where it is
stopped (``so_far``). Does not: any of these.
"""

import datetime
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.failures import MACHINE, WAITS, next_try
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import exclusive_lock
from fastdino.core.summary import Summary
from fastdino.core.text import counted
from fastdino.ingestion import (
    aliases,
    catalog,
    departed,
    diff,
    identify,
    scan,
    sheets,
    skipped,
    tags,
)
from fastdino.ingestion.so_far import KEY, SoFar

log = logging.getLogger(__name__)

SHOWN = 200  # rows of a table in the summary
FOREIGN = r"[^\x00-\x7f]"
# By what files of one folder are of one album; a name in another script may not be settled yet.
ALBUM = pl.col("album").fill_null("").str.replace(rf"(?s)^.*{FOREIGN}.*$", "\ufffd")


def run(
    home: Home, folders: Sequence[Path], exclude: Sequence[str] = (), *, rescan: bool = False
) -> Summary:
    """Bring the catalogue up to date with what ``folders`` hold; they are the whole collection.

    What ``exclude`` names is left out, see ``scan.scan``.

    Files whose size and times have not changed are not opened, unless a ``rescan`` is asked for. If
    nothing changed, nothing is written.

    Raises:
        UserError: a folder is missing, unreadable or empty; the catalogue is left as it was.
    """
    with exclusive_lock(home.catalog.parent):
        before = catalog.read(home) if home.catalog.exists() else catalog.SCHEMA.to_frame()
        listing = scan.scan(folders, frozenset(before["path"]), exclude)
        carried = _known(home, aliases.read, aliases.SCHEMA)
        gone = _known(home, departed.read, departed.SCHEMA)
        so_far = SoFar(home, rescan=rescan)
        after = look(before, listing, carried, so_far, rescan=rescan)
        changed = diff.changes(before, after)
        after = diff.first_seen_kept(before, after, changed)
        after = departed.first_seen_kept(gone, before, after)
        if did_work := not after.equals(before):
            # First: a catalogue without them would not know of them again.
            aliases.keep(home, carried, after)
            departed.keep(home, gone, before, after)
            catalog.write(home, after)
        so_far.forget()
        known = _known_skipped(home)
        left_out = _left_out(known, listing)
        if known is None or not left_out.equals(known):
            skipped.write(home, left_out)
            did_work = True
    return _summary(home, before, after, changed, listing, left_out, did_work)


def look(
    before: pl.DataFrame,
    listing: scan.Listing,
    carried: pl.DataFrame,
    so_far: SoFar,
    *,
    rescan: bool = False,
) -> pl.DataFrame:
    """The catalogue of what is ``listed`` now: known rows where files have not changed, fresh ones
    where they have, and where an album that may be in an old code page has new files; or all if
    ``rescan`` is asked for. Same columns as ``before``, sorted by path. ``carried`` are the ids
    that older versions have given, see ``aliases``. What a run before had ``so_far`` when it was
    stopped is not looked into again.
    """
    now = datetime.datetime.now(datetime.UTC)
    listed = listing.files
    refused = listed.filter(pl.col("error").is_not_null())
    candidates = listed.filter(pl.col("error").is_null())
    kept = diff.unchanged(before.clear() if rescan else before, candidates, now).drop("folder")
    kept = kept.join(listed.select("path", "folder"), on="path")
    to_open = candidates.join(kept, on="path", how="anti")
    found = _opened(to_open, so_far)
    odd = [(row["path"], row["album"]) for row in found if tags.may_be_of_a_page(row)]
    if len(kept) and odd:
        # In which code page an album is, is told from all of it: as if none of it were known.
        albums = pl.DataFrame(odd, {"path": pl.String, "album": pl.String}, orient="row")
        foreign = kept.filter(_holds_foreign_text())
        again = foreign.join(albums, on=(catalog.PARENT, ALBUM), how="semi")
        kept = kept.join(again, on="path", how="anti")
        found += _opened(candidates.join(again, on="path", how="semi"), so_far)
        to_open = candidates.join(kept, on="path", how="anti")
    found = tags.settled(found)
    read = [field.name for field in fields(identify.Identified)]
    results = pl.DataFrame(found, schema={c: catalog.SCHEMA[c] for c in ("path", *read)})
    opened = to_open.drop("error").join(results.rename({"track_id": "audio_id"}), on="path")
    opened = diff.with_known_ids(before, opened, carried)
    fresh = pl.concat([refused, opened], how="diagonal").join(
        before.select("path", "size", "mtime_ns", "added_at", before_attempts="attempts"),
        on="path",
        how="left",
        suffix="_before",
    )
    fresh = fresh.with_columns(
        pl.col("added_at").fill_null(now).cast(catalog.SCHEMA["added_at"]),
        identified_by=diff.IDENTIFIED_BY,
    )
    fresh = _with_next_try(fresh, now)
    unknown = before.filter(_inside(listing.unlisted)).join(listed, on="path", how="anti")
    rows = pl.concat([kept, fresh, unknown], how="diagonal")
    rows = rows.select(catalog.SCHEMA.names()).cast(catalog.SCHEMA)
    return sheets.applied(rows, listed, set(fresh["path"])).sort("path")


def _with_next_try(fresh: pl.DataFrame, now: datetime.datetime) -> pl.DataFrame:
    """Where the computer is to blame, how often it was tried and when it will be again."""
    same = (pl.col("size") == pl.col("size_before")) & (
        pl.col("mtime_ns") == pl.col("mtime_ns_before")
    )
    so_far = pl.when(same).then("before_attempts").fill_null(0)
    # What cannot be read is looked at in every run, which costs nothing.
    unread = pl.col("error").fill_null("").str.starts_with(identify.CANNOT_READ)
    fresh = fresh.with_columns(
        error_kind=pl.when(unread).then(pl.lit(MACHINE)).otherwise("error_kind")
    )
    failed = (pl.col("error_kind") == MACHINE) & ~unread
    waits = pl.Series([next_try(MACHINE, n, now) for n in range(1, len(WAITS) + 1)])
    return fresh.with_columns(attempts=pl.when(failed).then(so_far + 1)).with_columns(
        next_try_at=pl.when(failed).then(
            pl.lit(waits.implode()).list.get(
                (pl.col("attempts").clip(1, len(WAITS)) - 1).fill_null(0)
            )
        )
    )


def _known(home: Home, read: Callable[[Home], pl.DataFrame], schema: pl.Schema) -> pl.DataFrame:
    """What is kept of songs beside the catalogue; nothing if it is damaged, which is told."""
    try:
        return read(home)
    except UserError as error:
        log.warning("%s", error)
        return schema.to_frame()


def _known_skipped(home: Home) -> pl.DataFrame | None:
    """What the last run left out; None if what it wrote is damaged, and must be written anew."""
    try:
        return skipped.read(home)
    except UserError as error:
        log.warning("%s", error)
        return None


def _left_out(known: pl.DataFrame | None, listing: scan.Listing) -> pl.DataFrame:
    """What is left out now, and what was in folders that cannot be read at the moment."""
    if known is None:
        return listing.skipped
    unknown = known.filter(_inside(listing.unlisted))
    rows = pl.concat([listing.skipped, unknown.join(listing.skipped, on="path", how="anti")])
    return rows.sort("path")


def _opened(files: pl.DataFrame, so_far: SoFar) -> list[dict[str, Any]]:
    """What each of ``files`` holds, with its ``path``."""
    known = so_far.known(files)
    found = [{"path": path, **asdict(result)} for path, result in known.items()]
    left = {row[0]: row for row in files.select(KEY).iter_rows() if row[0] not in known}
    if left:
        with progress("Looking into files", len(left), "files") as shown:
            rows, folders = [(path, size) for path, size, *_ in left.values()], files["folder"]
            for path, result in identify.identify_files(rows, folders.unique()):
                found.append({"path": path, **asdict(result)})
                so_far.add(left[path], result)
                shown.advance()
    return found


def _holds_foreign_text() -> pl.Expr:
    return pl.any_horizontal(pl.col(column).str.contains(FOREIGN) for column in tags.TEXTS)


def _inside(folders: Sequence[str]) -> pl.Expr:
    prefixes = [pl.col("path").str.starts_with(os.path.join(folder, "")) for folder in folders]
    return pl.any_horizontal(pl.lit(False), *prefixes)


def _summary(
    home: Home,
    before: pl.DataFrame,
    after: pl.DataFrame,
    changed: pl.DataFrame,
    listing: scan.Listing,
    left_out: pl.DataFrame,
    did_work: bool,
) -> Summary:
    unreadable = after.filter(pl.col("error").is_not_null())
    counts = {kind: int((changed["kind"] == kind).sum()) for kind in diff.KINDS}
    readable_changes = changed.filter(~pl.col("kind").is_in(["removed", "unreadable"]))
    still = after.filter(pl.col("error").is_null()).join(readable_changes, on="path", how="anti")
    # Of what cannot be used people want to know the whole number, not only what is new.
    del counts["unreadable"]
    counts |= {"unchanged": len(still), "unreadable": len(unreadable)}
    songs = len(catalog.track_ids(after))
    told = ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
    found = f"{counted(songs, 'song')} in {counted(len(after), 'file')}: {told}"
    of_others = {"skipped": len(left_out), "companions": listing.companions}
    return Summary(
        stage="ingest",
        headline="; ".join([found, *skipped.told(left_out)]),
        did_work=did_work,
        counts={"songs": songs, "files": len(after), **counts, **of_others},
        tables={
            "changes": changed.cast({"kind": pl.String}).head(SHOWN).to_dicts(),
            "unreadable": unreadable.select("path", "error").head(SHOWN).to_dicts(),
            "skipped": left_out.select("path", "kind", "why").head(SHOWN).to_dicts(),
        },
        paths={"catalogue": home.catalog},
        warnings=_warnings(before, after, changed, listing),
    )


def _warnings(
    before: pl.DataFrame, after: pl.DataFrame, changed: pl.DataFrame, listing: scan.Listing
) -> list[str]:
    told = [
        f"{folder} cannot be read: what the catalogue knows of it was kept"
        for folder in listing.unlisted
    ]
    # Of a folder that was moved, or is given by another name, all that is music is still there.
    lost = changed.filter(pl.col("track_id").is_not_null(), kind="removed")
    left_out = before.join(lost, on="path", how="semi")["folder"].unique()
    for folder in sorted(set(left_out) - set(after["folder"])):
        # One that was given may have had all of its music excluded.
        tops = [(top, os.path.join(top, "")) for top in listing.folders]
        if not any(folder == top or folder.startswith(inside) for top, inside in tops):
            told.append(
                f"{folder} was not given this time, so its files count as removed; "
                "name all folders of the collection together to keep them"
            )
    known = before.filter(_inside(listing.folders))
    gone = changed.filter(_inside(listing.folders), kind="removed")
    if len(gone) > len(known) / 2:
        told.append(
            f"{len(gone):,} of {len(known):,} files are gone, such as {gone['path'][0]}; "
            "if a disk is not mounted, mount it and ingest again: what was computed is kept"
        )
    told_before = before.select("path", "sheet_error")
    misfits = after.filter(pl.col("sheet_error").is_not_null()).join(
        told_before, on=("path", "sheet_error"), how="anti"
    )
    if len(misfits):
        path, why = misfits.select("path", "sheet_error").row(0)
        others = f"; so are {len(misfits) - 1:,} more, see the table failures"
        told.append(f"{path} is {why}{others * (len(misfits) > 1)}")
    if after["track_id"].drop_nulls().is_empty():
        told.append("none of the files can be used: the table of unreadable files says why")
    return told
