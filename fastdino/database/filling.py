"""Filling the tables of the database: a new one, or one of before with what changed since.

Belongs here: what is in the tables (``schema.sql``), from the catalogue, the models, vectors and
maps. Does not: computing anything a stage before this one can, or which file it is that is filled
(``publishing``).
"""

import contextlib
import datetime
import functools
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fastdino import __version__
from fastdino.core.errors import UserError
from fastdino.core.failures import FILE
from fastdino.core.home import Home
from fastdino.core.storage import read_json, stamps
from fastdino.database import moments
from fastdino.database.connection import count_rows
from fastdino.embeddings.vectors import FILES, read_track_ids, read_vectors, schema
from fastdino.ingestion import catalog, skipped
from fastdino.reports import map_files
from fastdino.spectrograms.shards import empty_index, read_index
from fastdino.spectrograms.stage import FIRST, IS_SHORT, read_failures
from fastdino.training import registry

log = logging.getLogger(__name__)

# Tables of which every row is of one map.
OF_A_MAP = ("map_points", "cluster_members", "clusters")
MAPS = pl.Schema(
    {
        "map_id": pl.String(),
        "model_id": pl.String(),
        "created_at": pl.Datetime("us", "UTC"),
        "is_current": pl.Boolean(),
        "n_tracks": pl.Int32(),
        "quality": pl.String(),
    }
)
SHARD = pa.field("shard", pa.string())
# Size and version of every file of vectors, by model and name.
VectorFiles = dict[str, dict[str, list[Any]]]


@dataclass(frozen=True)
class Contents:
    """What is to be published.

    Attributes:
        home: where it comes from.
        files: the catalogue.
        model: description of the current model.
        fingerprint: see ``fingerprint_of``.
    """

    home: Home
    files: pl.DataFrame
    model: dict[str, Any]
    fingerprint: str

    @functools.cached_property
    def schema(self) -> str:
        """The statements that make the tables, views and macros."""
        return _for_model(template(), self.model)

    @property
    def form(self) -> str:
        """What two files have in common of which one can be made of the other by changing rows."""
        described = f"{__version__}\n{moments.STEPS}\n{self.schema}".encode()
        return hashlib.blake2b(described, digest_size=16).hexdigest()

    @functools.cached_property
    def vector_files(self) -> VectorFiles:
        """Stamps of all files of vectors."""
        return {
            each["model_id"]: {
                path.name: [stamp.size, stamp.version]
                for path, stamp in stamps(self.home.vectors(each["model_id"]), FILES).items()
            }
            for each in registry.models(self.home)[0]
            if each["dim"] == self.model["dim"]
        }


def _for_model(schema: str, model: dict[str, Any]) -> str:
    dimension = f"FLOAT[{int(model['dim'])}]"
    quoted = _quoted(model["model_id"])
    return schema.replace("FLOAT[D]", dimension).replace("'CURRENT_MODEL'", quoted)


def _quoted(text: str) -> str:
    """``text`` as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def template() -> str:
    """``schema.sql`` as it stands, for any model."""
    return resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")


def map_folder(home: Home, model_id: str) -> Path | None:
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


def fill(db: duckdb.DuckDBPyConnection, contents: Contents) -> list[str]:
    """Bring all tables but ``published`` to what they should be; returns warnings."""
    home, model = contents.home, contents.model
    ((said,),) = db.execute("SELECT any_value(vector_files) FROM published").fetchall()
    before, known = json.loads(said or "{}"), _track_ids(db)
    _fill_catalog(db, home, contents.files, model["spec_id"])
    models, damaged = registry.models(home)
    warnings = [f"a model is left out: {why}" for why in damaged]
    _let_be(db, "models", _models(models, model))
    for other in models:
        model_id = other["model_id"]
        if model_id in contents.vector_files:
            now, was = contents.vector_files[model_id], before.get(model_id, {})
            same = {name for name in now if now[name] == was.get(name)}
            _fill_vectors(db, home, other, set(now), same, known)
        else:
            warnings.append(
                f"the vectors of model {model_id} are left out: they have {other['dim']} "
                f"dimensions, those of the current model {model['dim']}"
            )
    _keep(db, ("embeddings", "segments"), "model_id", list(contents.vector_files))
    _fill_maps(db, home, [other["model_id"] for other in models], model["model_id"])
    if not count_rows(db, "current_embeddings"):
        warnings.append("no song has a vector of the current model yet: run `fastdino embed`")
    return warnings


def _models(models: list[dict[str, Any]], current: dict[str, Any]) -> pl.DataFrame:
    """The table of models; their times and what is JSON as text."""
    rows = [
        {
            "model_id": each["model_id"],
            "created_at": each.get("created_at"),
            "is_current": each["model_id"] == current["model_id"],
            "has_vectors": each["dim"] == current["dim"],
            "dim": each["dim"],
            "spec_id": each["spec_id"],
            "trained_tracks": each.get("trained_tracks"),
            "code_version": each.get("code_version"),
            "settings": json.dumps(each.get("settings")),
            "metrics": json.dumps(each.get("metrics")),
            "described": json.dumps(each),
        }
        for each in models
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _fill_catalog(
    db: duckdb.DuckDBPyConnection, home: Home, files: pl.DataFrame, spec_id: str
) -> None:
    modified_at = pl.from_epoch(pl.col("mtime_ns"), "ns").dt.replace_time_zone("UTC")
    files = files.with_columns(modified_at=modified_at)
    _let_be(db, "tracks", _with_lengths(catalog.tracks(files), home.shards(spec_id)))
    songs = catalog.songs(files)
    _let_be(db, "files", songs)
    is_bad = pl.col("track_id").is_null() | pl.col("sheet_error").is_not_null()
    bad = files.filter(is_bad).with_columns(
        stage=pl.lit("ingestion"),
        reason=pl.coalesce("error", "sheet_error", pl.lit("unknown")),
        failed_at=pl.lit(None, pl.Datetime("us", "UTC")),
        kind=pl.col("error_kind").fill_null(FILE),
        attempts=pl.col("attempts").fill_null(1),
    )
    undecoded = read_failures(home.shards(spec_id)).join(songs, on="track_id", how="semi")
    undecoded = undecoded.with_columns(stage=pl.lit("spectrograms"), modified_at=modified_at)
    columns = _columns(db, "failures")
    each = [frame.select(n for n in columns if n in frame.columns) for frame in (bad, undecoded)]
    _let_be(db, "failures", pl.concat(each, how="diagonal_relaxed"))
    _let_be(db, "skipped", skipped.read(home))


def _with_lengths(tracks: pl.DataFrame, shards: Path) -> pl.DataFrame:
    """``tracks`` with the length of the sound where it has been decoded, and what is claimed."""
    try:
        index = pl.from_arrow(read_index(shards))
    except UserError as error:
        # Worth a night's lengths, not a night without a database.
        log.warning("lengths are told as the files' packets tell them: %s", error)
        index = pl.from_arrow(empty_index())
    assert isinstance(index, pl.DataFrame)
    decoded = index.filter(FIRST).unique("track_id", keep="last")
    decoded = decoded.with_columns(is_incomplete=IS_SHORT)
    return tracks.join(decoded, on="track_id", how="left", maintain_order="left").with_columns(
        duration_s=pl.coalesce("decoded_s", "duration_s"),
        stated_s="header_s",
        is_incomplete=pl.col("is_incomplete").fill_null(False),
    )


def _fill_vectors(
    db: duckdb.DuckDBPyConnection,
    home: Home,
    model: dict[str, Any],
    files: set[str],
    same: set[str],
    known: set[str],
) -> None:
    """Let one model's vectors be those of the songs there are.

    Args:
        db: the database.
        home: where the files of vectors are.
        model: description of the model.
        files: their names.
        same: those of them that are as they were when ``db`` was made from them.
        known: the songs that were there then.

    Raises:
        UserError: a file of vectors is damaged.
    """
    model_id, wanted = model["model_id"], _track_ids(db)
    found = db.execute("SELECT track_id, shard FROM embeddings WHERE model_id = ?", [model_id])
    standing = dict(found.fetchall())
    folder = home.vectors(model_id)
    taken = _to_take(folder, standing, wanted, wanted - known, files, same)
    here = set().union(*taken.values())
    # Those that are elsewhere now, or nowhere.
    others = {i for i, shard in standing.items() if i not in wanted or shard not in same}
    db.register("given", pa.table({"track_id": pa.array([*(here | others)], pa.string())}))
    db.execute("CREATE OR REPLACE TEMP TABLE touched AS FROM given")
    db.unregister("given")
    among = f"model_id = {_quoted(model_id)} AND track_id IN (SELECT track_id FROM touched)"
    dim = int(model["dim"])
    for table, of_songs, columns in (
        ("embeddings", True, schema(dim)),
        ("segments", False, moments.schema(dim)),
    ):
        damaged: list[UserError] = []
        batches = _batches(taken, columns, of_songs, damaged)
        reader = pa.RecordBatchReader.from_batches(columns.append(SHARD), batches)
        _let_be(db, table, reader, among, {"model_id": model_id})
        if damaged:
            raise damaged[0]
    db.execute("DROP TABLE touched")


def _to_take(
    folder: Path,
    standing: dict[str, str],
    wanted: set[str],
    new: set[str],
    files: set[str],
    same: set[str],
) -> dict[Path, set[str]]:
    """The songs whose vectors are to be read, by the file to read them from.

    A song in two files is taken from the newer, whose name sorts behind. Of files that are as they
    were, no more than the songs are read, and that only if some are sought that could be there.

    Args:
        folder: of the files of vectors.
        standing: name of the file that songs' vectors come from which stand already.
        wanted: the songs that there are.
        new: those of them that there were not.
        files: names of the files.
        same: those of them that are as they were when what stands was made from them.
    """
    sought = new | {i for i, name in standing.items() if i in wanted and name not in same}
    taken: dict[Path, set[str]] = {}
    found: set[str] = set()
    for name in sorted(files, reverse=True):
        if name in same and sought <= found:
            continue
        here = wanted.intersection(read_track_ids(folder / name)) - found
        is_newer = {i for i in here if name not in same and standing.get(i, "") < name}
        here = here & sought | is_newer
        if here:
            taken[folder / name] = here
            found |= here
    return taken


def _batches(
    taken: dict[Path, set[str]], columns: pa.Schema, of_songs: bool, damaged: list[UserError]
) -> Iterator[pa.RecordBatch]:
    """Vectors of whole songs, or of segments, a file at a time.

    Many small additions would all wait in memory for the end of the transaction. A damaged file
    ends it and is told in ``damaged``: DuckDB would make another error of it.
    """

    def of_file(path: Path, songs: set[str]) -> list[pa.RecordBatch]:
        table = read_vectors(path, only_songs=of_songs)
        keep = pc.is_in(table["track_id"], pa.array(list(songs), pa.string()))
        if not of_songs:
            keep = pc.and_(keep, pc.is_valid(table["start_s"]))
        table = table.filter(keep)
        table = table.cast(columns) if of_songs else moments.kept(table)
        return table.append_column(SHARD, pa.repeat(path.name, len(table))).to_batches()

    # While DuckDB takes in one file, the next is read.
    with ThreadPoolExecutor(1) as reader:
        ahead = deque[Future[list[pa.RecordBatch]]]()
        try:
            for path, songs in taken.items():
                ahead.append(reader.submit(of_file, path, songs))
                if len(ahead) > 1:
                    yield from ahead.popleft().result()
            for last in ahead:
                yield from last.result()
        except UserError as error:
            damaged.append(error)


def _fill_maps(
    db: duckdb.DuckDBPyConnection, home: Home, model_ids: list[str], current: str
) -> None:
    """Let the maps be the newest ones of these models."""
    before = dict(db.execute("SELECT model_id, map_id FROM maps").fetchall())
    folders = {each: folder for each in model_ids if (folder := map_folder(home, each))}
    maps = [_describe_map(folder, model_id, current) for model_id, folder in folders.items()]
    _let_be(db, "maps", pl.DataFrame(maps, MAPS))
    map_ids = {each["model_id"]: each["map_id"] for each in maps}
    _keep(db, ("map_history", "cluster_changes", "neighbors"), "model_id", list(map_ids))
    for model_id, folder in folders.items():
        if before.get(model_id) not in (None, map_ids[model_id]):
            # Most songs lie where they lay: only that column is written then.
            for table in OF_A_MAP:
                db.execute(
                    f"UPDATE {table} SET map_id = ? WHERE map_id = ?",
                    [map_ids[model_id], before[model_id]],
                )
        _fill_map(db, folder, map_ids[model_id], model_id)
    _keep(db, OF_A_MAP, "map_id", list(map_ids.values()))


def _describe_map(folder: Path, model_id: str, current: str) -> dict[str, Any]:
    """A row of ``maps``."""
    with _readable_map(folder):
        described = read_json(folder / "map.json")
        return {
            "map_id": described["map_id"],
            "model_id": model_id,
            "created_at": datetime.datetime.fromisoformat(described["created_at"]),
            "is_current": model_id == current,
            "n_tracks": described["n_tracks"],
            "quality": json.dumps(described.get("quality")),
        }


@contextlib.contextmanager
def _readable_map(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"the map in {folder} is damaged ({error}): run `fastdino verify --repair`, then "
            "`fastdino run`"
        ) from error


def _fill_map(db: duckdb.DuckDBPyConnection, folder: Path, map_id: str, model_id: str) -> None:
    """Let all but ``maps`` be what one map has, of the songs that are still there."""
    tracks = db.sql("SELECT track_id FROM tracks").pl()["track_id"]

    def let_be(table: str, wanted: pl.DataFrame, column: str, value: str) -> None:
        _let_be(db, table, wanted, f"{column} = {_quoted(value)}", {column: value})

    with _readable_map(folder):
        let_be("map_history", map_files.read_table(folder, "history"), "model_id", model_id)
        let_be("cluster_changes", map_files.read_table(folder, "changes"), "model_id", model_id)
        near = _of_songs(map_files.read_table(folder, "neighbors"), tracks)
        let_be("neighbors", _of_songs(near, tracks, "neighbor_id"), "model_id", model_id)
        let_be(
            "map_points",
            _of_songs(map_files.read_table(folder, "points"), tracks),
            "map_id",
            map_id,
        )
        members = _of_songs(map_files.read_table(folder, "members"), tracks)
        let_be("cluster_members", members, "map_id", map_id)
        clusters = map_files.read_table(folder, "clusters").drop("size")
    sizes = members.group_by("cluster_id").agg(pl.len().alias("size"))
    is_known = pl.col("medoid_id").is_in(tracks.implode())
    clusters = clusters.join(sizes, on="cluster_id").with_columns(
        medoid_id=pl.when(is_known).then("medoid_id")
    )
    let_be("clusters", clusters.sort("cluster_id"), "map_id", map_id)


def _of_songs(rows: pl.DataFrame, tracks: pl.Series, column: str = "track_id") -> pl.DataFrame:
    """The rows of songs that have not left the collection since."""
    is_here = rows[column].is_in(tracks.implode())
    return rows if is_here.all() else rows.filter(is_here)


def _let_be(
    db: duckdb.DuckDBPyConnection,
    table: str,
    wanted: pl.DataFrame | pa.RecordBatchReader,
    among: str = "true",
    constants: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Let the rows of ``table`` be those of ``wanted``; equal ones, by a hash, stay where they are.

    Args:
        db: the database.
        table: one of its tables.
        wanted: has its columns by name, or some of them, and maybe others.
        among: a condition; rows that it is not true of stay too.
        constants: columns that are the same in all rows, and not in ``wanted``.
    """
    types = _columns(db, table)
    given = wanted.columns if isinstance(wanted, pl.DataFrame) else wanted.schema.names
    values = {name: name for name in types if name in given} | {
        name: _quoted(value) for name, value in constants.items()
    }
    is_empty = not count_rows(db, f"(SELECT 1 FROM {table} WHERE {among} LIMIT 1)")
    if not is_empty and isinstance(wanted, pa.RecordBatchReader):
        wanted = wanted.read_all()  # to be looked at more than once
    db.register("given", wanted)
    rows = ", ".join(
        f"CAST({values.get(name, 'NULL')} AS {kind}) AS {name}" for name, kind in types.items()
    )
    rows = f"(SELECT {rows} FROM given)"
    if is_empty:
        db.execute(f"INSERT INTO {table} FROM {rows}")
    else:
        # Two million rows of neighbours are compared in little memory so.
        of_row = f"hash({', '.join(types)})"
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE standing AS
            SELECT rowid AS place, {of_row} AS hash FROM {table} WHERE {among};
            CREATE OR REPLACE TEMP TABLE changed AS
            SELECT hash FROM (
                SELECT hash, 1 AS more FROM standing UNION ALL SELECT {of_row}, -1 FROM {rows}
            ) GROUP BY hash HAVING sum(more) <> 0;
            DELETE FROM {table} WHERE rowid IN (
                SELECT place FROM standing SEMI JOIN changed USING (hash)
            );
            INSERT INTO {table} FROM {rows} WHERE {of_row} IN (FROM changed);
            DROP TABLE standing; DROP TABLE changed
        """)
        if count_rows(db, f"(SELECT 1 FROM {table} WHERE {among})") != count_rows(db, "given"):
            raise duckdb.InternalException(f"table {table} has not become what it should be")
    db.unregister("given")


def _keep(
    db: duckdb.DuckDBPyConnection, tables: Iterable[str], column: str, values: list[str]
) -> None:
    """Delete rows that have something else in a column."""
    for table in tables:
        db.execute(f"DELETE FROM {table} WHERE NOT list_contains(?::VARCHAR[], {column})", [values])


def _columns(db: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Types of a table's columns, by their names."""
    return dict(row[:2] for row in db.execute(f"DESCRIBE {table}").fetchall())


def _track_ids(db: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in db.execute("SELECT track_id FROM tracks").fetchall()}
