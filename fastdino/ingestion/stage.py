"""The ingestion stage: bring the catalogue up to date with the music folders.

Belongs here: the steps in order: list (``scan``), open what is new (``identify``), settle in which
encodings albums are (``tags``), compare (``diff``), write (``catalog``). Does not: any of these.
"""

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import exclusive_lock
from fastdino.core.summary import Summary
from fastdino.ingestion import catalog, diff, identify, scan, tags

SHOWN = 200  # rows of a table in the summary


def run(home: Home, folders: Sequence[Path]) -> Summary:
    """Bring the catalogue up to date with what ``folders`` hold; they are the whole collection.

    Files whose size and time have not changed are not opened. If nothing changed, nothing is
    written.

    Raises:
        UserError: a folder is missing, unreadable or empty; the catalogue is left as it was.
    """
    with exclusive_lock(home.catalog.parent):
        before = catalog.read(home) if home.catalog.exists() else catalog.empty()
        listing = scan.scan(folders, populated=frozenset(before["path"]))
        after = look(before, listing)
        changed = diff.changes(before, after)
        after = diff.first_seen_kept(before, after, changed)
        if did_work := not after.equals(before):
            catalog.write(home, after)
    return _summary(home, before, after, changed, listing, did_work)


def look(before: pl.DataFrame, listing: scan.Listing) -> pl.DataFrame:
    """The catalogue of what is ``listed`` now: known rows where files have not changed, fresh ones
    where they have, and where an album that may be in an old code page has new files. Same columns
    as ``before``, sorted by path.
    """
    listed = listing.files
    refused = listed.filter(pl.col("error").is_not_null())
    candidates = listed.filter(pl.col("error").is_null())
    kept = diff.unchanged(before, candidates).drop("folder")
    kept = kept.join(listed.select("path", "folder"), on="path")
    to_open = candidates.join(kept, on="path", how="anti")
    found = _opened(to_open)
    if len(kept) and (albums := {_folder(row) for row in found if tags.may_be_of_a_page(row)}):
        # In which code page an album is, is told from all of it: as if none of it were known.
        again = kept.filter(_folder_of().is_in(albums), _holds_foreign_text())
        kept = kept.join(again, on="path", how="anti")
        found += _opened(candidates.join(again, on="path", how="semi"))
        to_open = candidates.join(kept, on="path", how="anti")
    found = tags.settled(found)
    columns = {c: t for c, t in catalog.SCHEMA.items() if c == "path" or c not in listed.columns}
    results = pl.DataFrame(found, schema={**columns, "error": pl.String()}).drop(
        "added_at", "identified_by"
    )
    opened = to_open.drop("error").join(results, on="path")
    fresh = pl.concat([refused, opened], how="diagonal").join(
        before.select("path", "added_at"), on="path", how="left"
    )
    now = datetime.datetime.now(datetime.UTC)
    fresh = fresh.with_columns(
        pl.col("added_at").fill_null(now).cast(catalog.SCHEMA["added_at"]),
        identified_by=pl.lit(identify.VERSION, pl.Int16),
    )
    unknown = before.filter(_inside(listing.unlisted)).join(listed, on="path", how="anti")
    rows = pl.concat([kept, fresh, unknown], how="diagonal")
    return rows.select(catalog.SCHEMA.names()).cast(catalog.SCHEMA).sort("path")


def _opened(files: pl.DataFrame) -> list[dict[str, Any]]:
    """What each of ``files`` holds, with its ``path``."""
    found: list[dict[str, Any]] = []
    if len(files):
        with progress("Looking into files", len(files), "files") as shown:
            for path, result in identify.identify_files(files.select("path", "size").rows()):
                found.append({"path": path, **asdict(result)})
                shown.advance()
    return found


def _folder(row: Mapping[str, Any]) -> str:
    return os.path.dirname(row["path"])


def _folder_of() -> pl.Expr:
    return pl.col("path").str.replace(r"(?s)/[^/]*$", "")


def _holds_foreign_text() -> pl.Expr:
    return pl.any_horizontal(pl.col(column).str.contains(r"[^\x00-\x7f]") for column in tags.TEXTS)


def _inside(folders: Sequence[str]) -> pl.Expr:
    prefixes = [pl.col("path").str.starts_with(os.path.join(folder, "")) for folder in folders]
    return pl.any_horizontal(pl.lit(False), *prefixes)


def _summary(
    home: Home,
    before: pl.DataFrame,
    after: pl.DataFrame,
    changed: pl.DataFrame,
    listing: scan.Listing,
    did_work: bool,
) -> Summary:
    unreadable = after.filter(pl.col("error").is_not_null())
    counts = {kind: int((changed["kind"] == kind).sum()) for kind in diff.KINDS}
    readable_changes = changed.filter(~pl.col("kind").is_in(["removed", "unreadable"]))
    still = after.filter(pl.col("error").is_null()).join(readable_changes, on="path", how="anti")
    # Of what cannot be used people want to know the whole number, not only what is new.
    del counts["unreadable"]
    counts |= {"unchanged": len(still), "unreadable": len(unreadable)}
    songs = after["track_id"].drop_nulls().n_unique()
    told = ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
    return Summary(
        stage="ingest",
        headline=f"{songs:,} songs in {len(after):,} files: {told}",
        did_work=did_work,
        counts={"songs": songs, "files": len(after), **counts},
        tables={
            "changes": changed.cast({"kind": pl.String}).head(SHOWN).to_dicts(),
            "unreadable": unreadable.select("path", "error").head(SHOWN).to_dicts(),
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
    for folder in sorted(set(before["folder"]) - set(after["folder"])):
        if not any(folder.startswith(os.path.join(top, "")) for top in listing.folders):
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
    if after["track_id"].drop_nulls().is_empty():
        told.append("none of the files can be used: the table of unreadable files says why")
    return told
