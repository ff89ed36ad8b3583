"""What the published database still knows of files that are lost.

Belongs here: writing files anew from ``music.duckdb`` that nothing can compute again: when songs
were first seen, what a model is, where songs lie on the map. Does not: deciding that they are lost.

Whatever cannot be read from it is taken as not being there.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from fastdino.core import tables
from fastdino.core.home import Home
from fastdino.core.storage import read_json, write_json
from fastdino.ingestion import catalog
from fastdino.reports import map_files

# No file has this time, so ingestion looks into each again.
LONG_AGO = 0
MAP_SQL = {
    "points": "SELECT track_id, x, y, placed_by FROM map_points WHERE map_id = ?",
    "members": "SELECT track_id, cluster_id, probability FROM cluster_members WHERE map_id = ?",
    "neighbors": """
        SELECT track_id, rank, neighbor_id, similarity
        FROM neighbors SEMI JOIN (FROM maps WHERE map_id = ?) USING (model_id)
        ORDER BY track_id, rank
    """,
    # The tags that made up a name are those of its tags that are in it.
    "clusters": """
        SELECT
            cluster_id, name,
            list_filter(list_concat(top_genres, top_artists), lambda tag: contains(name, tag))
                AS terms,
            size, medoid_id, top_genres, top_artists
        FROM clusters WHERE map_id = ?
    """,
    "history": """
        SELECT map_history.* EXCLUDE (model_id)
        FROM map_history SEMI JOIN (FROM maps WHERE map_id = ?) USING (model_id)
        ORDER BY created_at
    """,
    "changes": """
        SELECT cluster_changes.* EXCLUDE (model_id)
        FROM cluster_changes SEMI JOIN (FROM maps WHERE map_id = ?) USING (model_id)
    """,
    # Songs that left are not published.
    "gone": """
        SELECT track_id, x, y, placed_by, cluster_id, probability
        FROM map_points JOIN cluster_members USING (map_id, track_id) WHERE map_id = ? AND false
    """,
}


@contextlib.contextmanager
def _published(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    # Opening a file that is not there would make it.
    if not home.database.is_file():
        raise duckdb.IOException("there is no database")
    with duckdb.connect(str(home.database), read_only=True) as db:
        yield db


def files(home: Home) -> pl.DataFrame | None:
    """The catalogue as it was published; every file in it counts as changed since.

    Of a file with several songs it is known that it was there, and since when.
    """
    query = """
        WITH known AS (
            SELECT DISTINCT * EXCLUDE (track_id, start_s, end_s),
                CASE WHEN start_s IS NULL THEN track_id END AS track_id FROM files
        )
        SELECT
            path, folder, size, ? AS mtime_ns, track_id,
            CASE WHEN track_id IS NULL THEN 'not looked into again yet' END AS error,
            title, artist, album, album_artist, genre, year, track_number, duration_s,
            codec, sample_rate, channels, known.added_at
        FROM known LEFT JOIN (SELECT * EXCLUDE (path, added_at) FROM tracks) USING (track_id)
        ORDER BY path
    """
    try:
        with _published(home) as db:
            found = db.sql(query, params=[LONG_AGO]).pl()
            added_at = pl.col("added_at").dt.convert_time_zone("UTC")
            # What is not published is read of the files again.
            lacking = [pl.lit(None).alias(n) for n in catalog.ADDED if n not in found.columns]
            found = found.with_columns(added_at, *lacking)
            return found.select(catalog.SCHEMA.names()).cast(catalog.SCHEMA)
    except (duckdb.Error, pl.exceptions.PolarsError):
        return None


def current_model(home: Home) -> str | None:
    """The model that was published as the current one."""
    try:
        with _published(home) as db:
            row = db.execute("SELECT model_id FROM published").fetchone()
    except duckdb.Error:
        return None
    return row[0] if row else None


def model(home: Home, model_id: str) -> dict[str, Any] | None:
    """What ``model.json`` said; None if that was not published.

    Versions of before published no more of it than columns of their own: its ``method``, which
    model it ``started_from``, its ``quality`` and ``weights_digest`` are missing then.
    """
    query = "SELECT * REPLACE (epoch_us(created_at) AS created_at) FROM models WHERE model_id = ?"
    try:
        with _published(home) as db:
            found = db.execute(query, [model_id])
            names = [column[0] for column in found.description or ()]
            row = found.fetchone()
    except duckdb.Error:
        return None
    if row is None:
        return None
    about = dict(zip(names, row, strict=True))
    if "described" in about:
        return dict(json.loads(about["described"]))
    about["created_at"] = _time(about["created_at"])
    about |= {name: json.loads(about[name]) for name in ("settings", "metrics")}
    settings = about["settings"]
    # That vectors are of some of its stages only is said of models of one method alone.
    about |= {"encoder": settings["encoder"], "stages": settings.get("stages")}
    return {name: said for name, said in about.items() if name not in ("is_current", "has_vectors")}


def _time(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


def drawn(home: Home, folder: Path) -> dict[str, Any] | None:
    """A map as it was published: its tables by name, and "map" for what ``map.json`` said.

    Songs that have left the collection since it was drawn are not in it.
    """
    try:
        with _published(home) as db:
            found = {name: db.sql(sql, params=[folder.name]).pl() for name, sql in MAP_SQL.items()}
            row = db.execute(
                "SELECT model_id, epoch_us(created_at), n_tracks, quality FROM maps "
                "WHERE map_id = ?",
                [folder.name],
            ).fetchone()
        if row is None:
            return None
        schemas = {**map_files.SCHEMAS, **map_files.RECORDS}
        found["history"] = found["history"].with_columns(
            pl.col("created_at").dt.convert_time_zone("UTC")
        )
        frames = {name: found[name].cast(schemas[name]) for name in found}
    except (duckdb.Error, pl.exceptions.PolarsError):
        return None
    return {**frames, "map": _described(folder.name, row, frames)}


def write_map(folder: Path, files: dict[str, Any]) -> None:
    """Write what ``drawn`` gave; ``map.json`` stays if it can be read, as it knows more."""
    for name in MAP_SQL:
        tables.write(folder / f"{name}.parquet", files[name])
    if not is_described(folder):
        write_json(folder / "map.json", files["map"])


def is_described(folder: Path) -> bool:
    """Whether ``map.json`` can be read."""
    try:
        described = read_json(folder / "map.json")
        return {"map_id", "model_id", "created_at", "fingerprint"} <= set(described)
    except (OSError, ValueError, TypeError):
        return False


def _described(
    map_id: str, row: tuple[Any, ...], frames: dict[str, pl.DataFrame]
) -> dict[str, Any]:
    model_id, created_at, n_tracks, quality = row
    last = frames["members"]["cluster_id"].max()
    return {
        "map_id": map_id,
        "model_id": model_id,
        "created_at": _time(created_at),
        "n_tracks": n_tracks,
        "n_fit": int((frames["points"]["placed_by"] == "fit").sum()),
        "next_cluster_id": max(int(last) if isinstance(last, int) else -1, -1) + 1,
        "version": map_files.VERSION,
        # That of no songs: the next map is drawn from this one, each song in its place.
        "fingerprint": "",
        "quality": json.loads(quality),
    }
