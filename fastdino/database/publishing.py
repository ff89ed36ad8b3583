"""Publish everything known of the collection as one DuckDB file.

Belongs here: whether the standing file is up to date, and which one is filled. Does not: what is in
the tables (``filling``), or the file of before and what takes whose place (``standby``).

DuckDB locks a file across processes: a writer and a reader keep each other out. So another file is
filled beside the standing one and renamed over it. Readers that hold the old one keep all of it.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from fastdino import __version__
from fastdino.core.errors import UserError
from fastdino.core.files import Stamp, part_of
from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock, lists_again, stamps
from fastdino.core.summary import Summary
from fastdino.database import described, standby
from fastdino.database.connection import connect, count_rows
from fastdino.database.filling import Contents, VectorFiles, fill, map_folder, template
from fastdino.embeddings.vectors import FILES
from fastdino.ingestion import catalog
from fastdino.spectrograms.shards import SHARDS
from fastdino.spectrograms.stage import FAILED
from fastdino.training import registry

log = logging.getLogger(__name__)

# For what DuckDB keeps in memory; beyond it, it writes to a temporary file.
MEMORY = "750MB"
# People have their own DuckDB shells and libraries; what is newer than those they could not open.
READABLE_FROM = "v1.4.0"
# Not the past of the maps (map_history, cluster_changes): the same songs may have another one.
COUNTED = (
    "tracks", "files", "failures", "skipped", "models", "embeddings", "segments", "neighbors",
    "maps", "map_points", "clusters", "cluster_members",
)  # fmt: skip
# A file of before that is worn more than this is made anew: the share of its rows that are deleted,
# of its blocks that are free, or of the vectors, by bytes, that came or went.
WORN = 0.3


@lists_again
def publish(home: Home) -> Summary:
    """Bring ``music.duckdb`` up to date, unless the standing one is.

    Raises:
        UserError: there is no catalogue or no model yet, or a file of vectors, or of what was left
            out, is damaged.
    """
    files = catalog.read(home)
    model = registry.current(home)
    fingerprint = fingerprint_of(home)
    with exclusive_lock(home.standby.parent):
        if published_fingerprint(home.database) == fingerprint and _can_be_read(home):
            with connect(home.database) as db:
                there = described.relations(db, home.database.stem)
            return Summary(
                "publish",
                f"{home.database.name} is up to date",
                False,
                paths={"duckdb": home.database},
                relations=there,
            )
        with part_of(home.database) as part:
            contents = Contents(home, files, model, fingerprint)
            made = _brought_up_to_date(contents, part)
            summary = made or _written(contents, part, is_new=True)
            standby.put_in_place(home, part, with_copy=not made)
        # One left by a killed program that had opened the old file to write in it: DuckDB would
        # try to replay it into the new one.
        _log_of(home.database).unlink(missing_ok=True)
    return summary


def _can_be_read(home: Home) -> bool:
    """Whether all of the standing file can; what has been read whole before is not read again."""
    if standby.is_sound(home, home.database):
        return True
    if unreadable(home.database):
        return False
    standby.found_sound(home, home.database)
    return True


def _brought_up_to_date(contents: Contents, part: Path) -> Summary | None:
    """Make ``part`` of a file of before by changing what changed in it; None if it must be new."""
    home = contents.home
    if not _is_worth_it(contents, home.database) or not standby.take(home, part):
        standby.drop(home)
        return None
    try:
        if _is_worth_it(contents, part):
            return _written(contents, part, is_new=False)
        log.info("so much has changed that the database is made anew")
    except duckdb.Error as error:
        log.warning("the database of before cannot be written in and is made anew: %s", error)
    part.unlink()
    return None


def _written(contents: Contents, part: Path, *, is_new: bool) -> Summary:
    """Fill a new file, or change what is not so any more in one of before, in one transaction."""
    try:
        with _building(contents.home, str(part)) as db:
            # A hundred small ones would each wait for the disk.
            db.begin()
            if is_new:
                db.execute(contents.schema)
            warnings = fill(db, contents)
            db.execute("DELETE FROM published")
            db.execute(
                "INSERT INTO published VALUES (?, now(), ?, ?, ?, ?::JSON)",
                [
                    contents.fingerprint, contents.model["model_id"], __version__, contents.form,
                    json.dumps(contents.vector_files),
                ],
            )  # fmt: skip
            db.commit()
            db.execute("CHECKPOINT")
            rows = {name: count_rows(db, name) for name in COUNTED}
            songs = count_rows(db, "current_embeddings")
            there = described.relations(db, contents.home.database.stem)
        if _log_of(part).exists():
            raise duckdb.IOException(f"{part} has not taken in all of its log")
    finally:
        _log_of(part).unlink(missing_ok=True)
    size_mb = part.stat().st_size / 1e6
    return Summary(
        "publish",
        f"{songs} of {rows['tracks']} songs with vectors, {rows['segments']} segments, "
        f"{size_mb:.1f} MB",
        True,
        counts={"songs_with_vectors": songs, "size_mb": round(size_mb, 1), **rows},
        paths={"duckdb": contents.home.database},
        warnings=warnings,
        relations=there,
    )


def _log_of(database: Path) -> Path:
    """Where DuckDB writes first what it will write to a file."""
    return database.with_name(database.name + ".wal")


def _building(home: Home, database: str) -> duckdb.DuckDBPyConnection:
    """A database to fill."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(home.scratch / "duckdb"),
        "storage_compatibility_version": READABLE_FROM,
        "memory_limit": MEMORY,
        # Rows that are deleted would else be swept out in the end by writing all of a table anew.
        "max_vacuum_tasks": 0,
    }
    return duckdb.connect(database, config=config)


def _is_worth_it(contents: Contents, database: Path) -> bool:
    """Whether a file of before need but be changed, and not that much."""
    if not database.is_file():
        return False
    try:
        with duckdb.connect(str(database), read_only=True) as db:
            query = "SELECT form, vector_files FROM published"
            ((form, vector_files),) = db.execute(query).fetchall()
            if form != contents.form:
                return False
            live = dead = 0
            for name in COUNTED:
                query = f"SELECT count(*), coalesce(max(rowid) + 1, 0) FROM {name}"
                ((count, end),) = db.execute(query).fetchall()
                live, dead = live + count, dead + end - count
            query = "SELECT total_blocks, free_blocks FROM pragma_database_size()"
            ((blocks, free),) = db.execute(query).fetchall()
    except (duckdb.Error, ValueError):
        return False
    changed = _bytes_changed(json.loads(vector_files), contents.vector_files)
    return max(dead / max(1, live), free / max(1, blocks), changed) <= WORN


def _bytes_changed(before: VectorFiles, now: VectorFiles) -> float:
    """Share of vectors that come or go, by the bytes of their files."""
    old, new = (
        {(model, name, *stamp) for model, files in of.items() for name, stamp in files.items()}
        for of in (before, now)
    )
    return sum(file[2] for file in old ^ new) / max(1, sum(file[2] for file in new))


def published_fingerprint(database: Path) -> str | None:
    """What a published file was made from; None if there is none or it cannot be read."""
    if not database.is_file():
        return None
    try:
        with duckdb.connect(str(database), read_only=True) as db:
            row = db.execute("SELECT fingerprint FROM published").fetchone()
    except duckdb.Error as error:
        log.warning("%s cannot be read and will be made anew: %s", database, error)
        return None
    return row[0] if row else None


def is_what_would_be_published(home: Home) -> bool:
    """Whether the standing file holds what publishing would put in it now, row for row.

    The fingerprint goes by times, of which a copied home has others. This fills the tables once
    more, in memory, and takes as long as publishing.

    Raises:
        UserError: as ``publish``.
    """
    model = registry.current(home)
    with _building(home, ":memory:") as db:
        contents = Contents(home, catalog.read(home), model, fingerprint="")
        db.execute(contents.schema)
        fill(db, contents)
        would_be = _contents(db)
    with duckdb.connect(str(home.database), read_only=True) as db:
        return _contents(db) == would_be


def _contents(db: duckdb.DuckDBPyConnection) -> dict[str, tuple[Any, ...]]:
    """Columns, number and sum of hashes of every table's rows, in whatever order they lie."""
    found = {}
    for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        if name != "published":
            columns = [column[:2] for column in db.execute(f"DESCRIBE {name}").fetchall()]
            rows = db.execute(f"SELECT count(*), sum(hash(t)) FROM {name} AS t").fetchone()
            found[name] = (columns, rows)
    return found


def unreadable(database: Path) -> str | None:
    """Why not all of a published file can be read; None if it can.

    Every block has a checksum that reading compares: a second for 15,000 songs.

    Raises:
        UserError: another program has it open to write.
    """
    try:
        with duckdb.connect(str(database), read_only=True) as db:
            there = {
                row[0] for row in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            }
            # One that an older version has published lacks some.
            for name in sorted(there.intersection(("published", *COUNTED))):
                # All of a vector is read for a part of it, and to hash it takes twice as long.
                what = "bit_xor(hash(t))"
                if name in ("embeddings", "segments"):
                    what = "bit_xor(hash(COLUMNS(* EXCLUDE vec))), sum(vec[1])"
                db.execute(f"SELECT {what} FROM {name} AS t").fetchall()
    except duckdb.Error as error:
        if "could not set lock" in str(error).lower():
            raise UserError(
                f"{database} is open elsewhere for writing: close that program first ({error})"
            ) from error
        log.warning("%s is damaged: %s", database, error)
        return f"it cannot be read ({str(error).splitlines()[0][:160]})"
    return None


def fingerprint_of(home: Home) -> str:
    """Hash over all inputs by name, size and time; equal inputs give an equal file.

    Raises:
        UserError: the current model's description, or what says which map stands, is damaged.
    """
    digest = hashlib.blake2b(f"{__version__}\n{template()}".encode(), digest_size=16)
    found: dict[Path, Stamp] = {}
    for folder, pattern in _inputs(home):
        found |= stamps(folder, pattern)
    for path, (size, version) in sorted(found.items()):
        line = f"\n{path.relative_to(home.root)}\0{size}\0{version}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _inputs(home: Home) -> Iterator[tuple[Path, str]]:
    """Folders, and which files of each."""
    for file in (home.catalog, home.skipped, home.models / "current.json"):
        yield file.parent, file.name
    for model in registry.models(home)[0]:
        yield home.model(model["model_id"]), "model.json"
        yield home.vectors(model["model_id"]), FILES
        if folder := map_folder(home, model["model_id"]):
            yield folder, "*"
    shards = home.shards(registry.current(home)["spec_id"])
    yield shards, SHARDS
    yield shards, FAILED
