"""Publish everything known of the collection as one DuckDB file.

Belongs here: filling the schema (``schema.sql``) from the catalogue, the models, vectors and maps,
and putting the file in place. Does not: computing anything a stage before this one can.

DuckDB locks a file across processes: a writer and a reader keep each other out. So the file is
built beside the standing one and renamed over it. Readers that hold the old one keep all of it.
"""

import datetime
import hashlib
import json
import logging
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fastdino import __version__
from fastdino.core.errors import UserError
from fastdino.core.failures import FILE
from fastdino.core.home import Home
from fastdino.core.storage import Stamp, atomic_replace, read_json, stamps
from fastdino.core.summary import Summary
from fastdino.database import described
from fastdino.database.connection import connect
from fastdino.embeddings.vectors import FILES, read_vectors, schema, vector_files
from fastdino.ingestion import catalog, skipped
from fastdino.reports import map_files
from fastdino.spectrograms.shards import SHARDS, empty_index, is_short, read_index
from fastdino.spectrograms.stage import FAILED, read_failures
from fastdino.training import registry

log = logging.getLogger(__name__)

# For what DuckDB keeps in memory; beyond it, it writes to a temporary file.
MEMORY = "1GB"
# People have their own DuckDB shells and libraries; what is newer than those they could not open.
READABLE_FROM = "v1.4.0"
# Not the past of the maps (map_history, cluster_changes): the same songs may have another one.
COUNTED = (
    "tracks", "files", "failures", "skipped", "models", "embeddings", "segments", "neighbors",
    "maps", "map_points", "clusters", "cluster_members",
)  # fmt: skip


def publish(home: Home) -> Summary:
    """Build ``music.duckdb`` and put it in place, unless the standing one is already this.

    Raises:
        UserError: there is no catalogue or no model yet, or a file of vectors, or of what was left
            out, is damaged.
    """
    files = catalog.read(home)
    model = registry.current(home)
    fingerprint = fingerprint_of(home)
    if published_fingerprint(home.database) == fingerprint and not unreadable(home.database):
        with connect(home.database) as db:
            there = described.relations(db, home.database.stem)
        return Summary(
            "publish",
            f"{home.database.name} is up to date",
            False,
            paths={"duckdb": home.database},
            relations=there,
        )
    with atomic_replace(home.database) as part:
        write_ahead_log = part.with_name(part.name + ".wal")
        try:
            with _building(home, str(part)) as db:
                # In one transaction: a hundred small ones would each wait for the disk.
                db.begin()
                db.execute(_for_model(_schema(), model))
                warnings = _fill(db, home, files, model)
                db.execute(
                    "INSERT INTO published VALUES (?, now(), ?, ?)",
                    [fingerprint, model["model_id"], __version__],
                )
                db.commit()
                db.execute("CHECKPOINT")
                rows = {name: _count(db, name) for name in COUNTED}
                songs = _count(db, "current_embeddings")
                there = described.relations(db, home.database.stem)
        finally:
            write_ahead_log.unlink(missing_ok=True)
        # One left by a killed program that had opened the old file to write in it: DuckDB would
        # try to replay it into the new one.
        home.database.with_name(home.database.name + ".wal").unlink(missing_ok=True)
    size_mb = home.database.stat().st_size / 1e6
    return Summary(
        "publish",
        f"{songs} of {rows['tracks']} songs with vectors, {rows['segments']} segments, "
        f"{size_mb:.1f} MB",
        True,
        counts={"songs_with_vectors": songs, "size_mb": round(size_mb, 1), **rows},
        paths={"duckdb": home.database},
        warnings=warnings,
        relations=there,
    )


def _building(home: Home, database: str) -> duckdb.DuckDBPyConnection:
    """A new database to fill."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(home.scratch / "duckdb"),
        "storage_compatibility_version": READABLE_FROM,
        "memory_limit": MEMORY,
    }
    return duckdb.connect(database, config=config)


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
        db.execute(_for_model(_schema(), model))
        _fill(db, home, catalog.read(home), model)
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


def _for_model(schema: str, model: dict[str, Any]) -> str:
    quoted = "'" + model["model_id"].replace("'", "''") + "'"
    dimension = f"FLOAT[{int(model['dim'])}]"
    return schema.replace("FLOAT[D]", dimension).replace("'CURRENT_MODEL'", quoted)


def _schema() -> str:
    return resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")


def fingerprint_of(home: Home) -> str:
    """Hash over all inputs by name, size and time; equal inputs give an equal file.

    Raises:
        UserError: the current model's description, or what says which map stands, is damaged.
    """
    digest = hashlib.blake2b(f"{__version__}\n{_schema()}".encode(), digest_size=16)
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
        if folder := _map_folder(home, model["model_id"]):
            yield folder, "*"
    shards = home.shards(registry.current(home)["spec_id"])
    yield shards, SHARDS
    yield shards, FAILED


def _map_folder(home: Home, model_id: str) -> Path | None:
    """Folder of the newest map of a model, if it has one."""
    try:
        current = read_json(home.maps(model_id) / "current.json")
        return home.maps(model_id) / str(current["map_id"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{home.maps(model_id) / 'current.json'} is damaged ({error}): run `fastdino verify "
            "--repair`, then `fastdino run`"
        ) from error


def _fill(
    db: duckdb.DuckDBPyConnection, home: Home, files: pl.DataFrame, model: dict[str, Any]
) -> list[str]:
    """Fill all tables but ``published``; returns warnings."""
    _fill_catalog(db, home, files, model["spec_id"])
    models, damaged = registry.models(home)
    warnings = [f"a model is left out: {why}" for why in damaged]
    for other in models:
        model_id, has_vectors = other["model_id"], other["dim"] == model["dim"]
        db.execute(
            "INSERT INTO models VALUES (?, ?::TIMESTAMPTZ, ?, ?, ?, ?, ?, ?, ?::JSON, ?::JSON)",
            [
                model_id, other.get("created_at"), model_id == model["model_id"], has_vectors,
                other["dim"], other["spec_id"], other.get("trained_tracks"),
                other.get("code_version"), json.dumps(other.get("settings")),
                json.dumps(other.get("metrics")),
            ],
        )  # fmt: skip
        if has_vectors:
            _fill_vectors(db, home, other)
        else:
            warnings.append(
                f"the vectors of model {model_id} are left out: they have {other['dim']} "
                f"dimensions, those of the current model {model['dim']}"
            )
        if folder := _map_folder(home, model_id):
            _fill_map(db, folder, is_current=model_id == model["model_id"])
    if not _count(db, "current_embeddings"):
        warnings.append("no song has a vector of the current model yet: run `fastdino embed`")
    return warnings


def _fill_catalog(
    db: duckdb.DuckDBPyConnection, home: Home, files: pl.DataFrame, spec_id: str
) -> None:
    modified_at = pl.from_epoch(pl.col("mtime_ns"), "ns").dt.replace_time_zone("UTC")
    files = files.with_columns(modified_at=modified_at)
    _insert(db, "tracks", _with_lengths(catalog.tracks(files), home.shards(spec_id)))
    _insert(db, "files", catalog.songs(files))
    is_bad = pl.col("track_id").is_null() | pl.col("sheet_error").is_not_null()
    bad = files.filter(is_bad).with_columns(
        stage=pl.lit("ingestion"),
        reason=pl.coalesce("error", "sheet_error", pl.lit("unknown")),
        failed_at=pl.lit(None, pl.Datetime("us", "UTC")),
        kind=pl.col("error_kind").fill_null(FILE),
        attempts=pl.col("attempts").fill_null(1),
    )
    _insert(db, "failures", bad)
    failures = read_failures(home.shards(spec_id))
    if len(failures):
        wanted = catalog.songs(files).select("track_id").unique()
        undecoded = failures.join(wanted, on="track_id", how="semi")
        undecoded = undecoded.with_columns(stage=pl.lit("spectrograms"), modified_at=modified_at)
        _insert(db, "failures", undecoded)
    _insert(db, "skipped", skipped.read(home))


def _with_lengths(tracks: pl.DataFrame, shards: Path) -> pl.DataFrame:
    """``tracks`` with the length of the sound where it has been decoded, and what is claimed."""
    try:
        index = pl.from_arrow(read_index(shards))
    except UserError as error:
        # Worth a night's lengths, not a night without a database.
        log.warning("lengths are told as the files' packets tell them: %s", error)
        index = pl.from_arrow(empty_index())
    assert isinstance(index, pl.DataFrame)
    decoded = index.filter(pl.col("piece") == 0).unique("track_id", keep="last")
    short = pl.struct("decoded_s", "header_s").map_elements(
        lambda each: is_short(each["decoded_s"], each["header_s"]), pl.Boolean
    )
    decoded = decoded.with_columns(is_incomplete=short)
    return tracks.join(decoded, on="track_id", how="left", maintain_order="left").with_columns(
        duration_s=pl.coalesce("decoded_s", "duration_s"),
        stated_s="header_s",
        is_incomplete=pl.col("is_incomplete").fill_null(False),
    )


def _insert(db: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """Append the columns of ``frame`` that ``table`` has, by name."""
    columns = [row[0] for row in db.execute(f"DESCRIBE {table}").fetchall()]
    db.register("frame", frame.select([name for name in columns if name in frame.columns]))
    db.execute(f"INSERT INTO {table} BY NAME FROM frame")
    db.unregister("frame")


def _fill_vectors(db: duckdb.DuckDBPyConnection, home: Home, model: dict[str, Any]) -> None:
    """Append one model's vectors, each table's as one stream that holds a file at a time.

    Many small additions would all wait in memory for the end of the transaction.

    Raises:
        UserError: a file of vectors is damaged.
    """
    tracks = {row[0] for row in db.execute("SELECT track_id FROM tracks").fetchall()}
    columns = schema(int(model["dim"]))
    for table, left_out, of_songs in (
        ("embeddings", "EXCLUDE (start_s, end_s)", True),
        ("segments", "", False),
    ):
        damaged: list[UserError] = []
        batches = _batches(home, model["model_id"], columns, tracks, of_songs, damaged)
        db.register("vectors", pa.RecordBatchReader.from_batches(columns, batches))
        db.execute(
            f"INSERT INTO {table} BY NAME SELECT ? AS model_id, * {left_out} FROM vectors",
            [model["model_id"]],
        )
        db.unregister("vectors")
        if damaged:
            raise damaged[0]


def _batches(
    home: Home,
    model_id: str,
    columns: pa.Schema,
    wanted: set[str],
    of_songs: bool,
    damaged: list[UserError],
) -> Iterator[pa.RecordBatch]:
    """Vectors of whole songs, or of segments; a song in two files is taken from the newer.

    A damaged file ends it and is told in ``damaged``: DuckDB would make another error of it.
    """
    seen: set[str] = set()
    for path in vector_files(home, model_id):
        try:
            table = read_vectors(path, only_songs=of_songs)
        except UserError as error:
            damaged.append(error)
            return
        fresh = wanted.intersection(table["track_id"].to_pylist()) - seen
        seen |= fresh
        keep = pc.is_in(table["track_id"], pa.array(list(fresh), pa.string()))
        if not of_songs:
            keep = pc.and_(keep, pc.is_valid(table["start_s"]))
        yield from table.filter(keep).cast(columns).to_batches()


def _fill_map(db: duckdb.DuckDBPyConnection, folder: Path, *, is_current: bool) -> None:
    try:
        described = read_json(folder / "map.json")
        drawn = {name: map_files.read_table(folder, name) for name in map_files.SCHEMAS}
        past = {name: map_files.read_table(folder, name) for name in ("history", "changes")}
    except (OSError, ValueError) as error:
        raise UserError(
            f"the map in {folder} is damaged ({error}): run `fastdino verify --repair`, then "
            "`fastdino run`"
        ) from error
    map_id, model_id = described["map_id"], described["model_id"]
    created_at = datetime.datetime.fromisoformat(described["created_at"])
    db.execute(
        "INSERT INTO maps VALUES (?, ?, ?, ?, ?, ?::JSON)",
        [
            map_id, model_id, created_at, is_current, described["n_tracks"],
            json.dumps(described.get("quality")),
        ],
    )  # fmt: skip
    of_model = pl.lit(model_id).alias("model_id")
    _insert(db, "map_history", past["history"].with_columns(of_model))
    _insert(db, "cluster_changes", past["changes"].with_columns(of_model))
    tracks = db.sql("SELECT track_id FROM tracks").pl()
    known = {
        name: table.join(tracks, on="track_id", how="semi")
        for name, table in drawn.items()
        if name != "clusters"
    }
    near = known["neighbors"].join(tracks.rename({"track_id": "neighbor_id"}), on="neighbor_id")
    _insert(db, "neighbors", near.with_columns(of_model))
    map_column = pl.lit(map_id).alias("map_id")
    _insert(db, "map_points", known["points"].with_columns(map_column))
    _insert(db, "cluster_members", known["members"].with_columns(map_column))
    # Songs may have left the collection since the map was drawn.
    sizes = known["members"].group_by("cluster_id").agg(pl.len().alias("size"))
    clusters = drawn["clusters"].drop("size")
    is_known = pl.col("medoid_id").is_in(tracks["track_id"].implode())
    clusters = clusters.join(sizes, on="cluster_id").with_columns(
        map_column, medoid_id=pl.when(is_known).then("medoid_id")
    )
    _insert(db, "clusters", clusters.sort("cluster_id"))


def _count(db: duckdb.DuckDBPyConnection, table: str) -> int:
    row = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row
    return int(row[0])
