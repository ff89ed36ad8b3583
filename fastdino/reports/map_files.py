"""A map's files: one folder a map, never changed after it was written.

Belongs here: the tables' columns, reading and writing them, which map stands. Does not: drawing a
map (``map``), or publishing one.

``current.json`` says which map stands. Each carries on what the one before it knew of the past, for
older ones are deleted. Files of the past or of neighbours that are damaged cost only what they say.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fastdino.core import tables
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, read_json, write_json

log = logging.getLogger(__name__)

# Raised when code changes make other maps from the same vectors.
VERSION = 2
PICTURES = ("map", "history")
# A map's tables: columns of the files of these names.
SCHEMAS = {
    "points": pl.Schema(
        {
            "track_id": pl.String(),
            "x": pl.Float64(),
            "y": pl.Float64(),
            "placed_by": pl.String(),
        }
    ),
    "members": pl.Schema(
        {"track_id": pl.String(), "cluster_id": pl.Int32(), "probability": pl.Float32()}
    ),
    "neighbors": pl.Schema(
        {
            "track_id": pl.String(),
            "rank": pl.Int32(),
            "neighbor_id": pl.String(),
            "similarity": pl.Float32(),
        }
    ),
    "clusters": pl.Schema(
        {
            "cluster_id": pl.Int32(),
            "name": pl.String(),
            "terms": pl.List(pl.String),
            "size": pl.Int32(),
            "medoid_id": pl.String(),
            "top_genres": pl.List(pl.String),
            "top_artists": pl.List(pl.String),
        }
    ),
}
# What a map carries on from those before it, and adds to. Maps of old have none of these files.
RECORDS = {
    # One row a map of this model, the newest last.
    "history": pl.Schema(
        {
            "map_id": pl.String(),
            "created_at": pl.Datetime("us", "UTC"),
            "drawn_by": pl.String(),
            "songs": pl.Int32(),
            "new_songs": pl.Int32(),
            "gone_songs": pl.Int32(),
            "clusters": pl.Int32(),
            "noise_share": pl.Float64(),
            "neighbor_recall": pl.Float64(),
            "trustworthiness": pl.Float64(),
            "median_movement": pl.Float64(),
            "procrustes_distance": pl.Float64(),
            "same_cluster_share": pl.Float64(),
        }
    ),
    # What became of clusters, see ``clusters.Change``.
    "changes": pl.Schema(
        {
            "map_id": pl.String(),
            "cluster_id": pl.Int32(),
            "name": pl.String(),
            "kind": pl.String(),
            "other_id": pl.Int32(),
            "songs": pl.Int32(),
        }
    ),
    # Songs that left: should they come back, their places and clusters are theirs.
    "gone": pl.Schema({**SCHEMAS["points"], **SCHEMAS["members"]}),
}


@dataclass(frozen=True)
class Standing:
    """The map before: its folder, what map.json says, its songs by id, its clusters, its records by
    name.
    """

    folder: Path
    described: dict[str, Any]
    songs: pl.DataFrame
    clusters: pl.DataFrame
    records: dict[str, pl.DataFrame]

    def has_neighbors(self) -> bool:
        """Whether its table of neighbours can be read: without it is drawn again, each song in its
        place.
        """
        try:
            tables.check(self.folder / "neighbors.parquet", SCHEMAS["neighbors"])
        except (ValueError, OSError):
            return False
        return True

    def neighbors(self) -> pl.DataFrame | None:
        """Its table of neighbours; None if it cannot be read."""
        try:
            return read_table(self.folder, "neighbors")
        except (ValueError, OSError) as error:
            log.warning("the neighbours are found anew: %s", error)
            return None

    @property
    def names(self) -> dict[int, tuple[str, list[str]]]:
        """Name of each cluster, and the tags it is made of."""
        columns = self.clusters.select("cluster_id", "name", "terms").rows()
        return {cluster_id: (name, terms) for cluster_id, name, terms in columns}

    def of(self, ids: list[str]) -> pl.DataFrame:
        """Place and group of these songs, in this order; nulls for songs it never had."""
        known = pl.concat([self.songs.select(self.records["gone"].columns), self.records["gone"]])
        order = pl.DataFrame({"track_id": ids})
        return order.join(known, on="track_id", how="left", maintain_order="left")


def read_standing(home: Home, model_id: str) -> Standing | None:
    """The map that stands for a model; None if there is none or it cannot be read."""
    try:
        folder = home.maps(model_id) / read_json(home.maps(model_id) / "current.json")["map_id"]
        points = read_table(folder, "points")
        return Standing(
            folder,
            read_json(folder / "map.json"),
            points.join(read_table(folder, "members"), on="track_id", how="left"),
            read_table(folder, "clusters"),
            {name: _record(folder, name) for name in RECORDS},
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the map under %s is damaged and is made anew: %s", home.maps(model_id), error)
        return None


def _record(folder: Path, name: str) -> pl.DataFrame:
    try:
        return read_table(folder, name)
    except (ValueError, OSError) as error:
        log.warning("what it says of the past is lost: %s", error)
        return RECORDS[name].to_frame()


def read_table(folder: Path, name: str) -> pl.DataFrame:
    """One of the tables of a map, by its name in ``SCHEMAS`` or ``RECORDS``.

    Raises:
        FileNotFoundError: the map has no such file; records are then empty.
        ValueError: it is damaged.
    """
    schema = {**SCHEMAS, **RECORDS}[name]
    return tables.read(folder / f"{name}.parquet", schema, missing_ok=name in RECORDS)


def write(
    folder: Path,
    described: dict[str, Any],
    frames: Mapping[str, pl.DataFrame],
    pictures: Mapping[str, bytes],
) -> None:
    """Write a map's files; nobody looks at them before ``switch`` names the map.

    Args:
        folder: the map's own.
        described: what map.json says.
        frames: its tables, by their names in ``SCHEMAS`` and ``RECORDS``.
        pictures: PNG files, by their names in ``PICTURES``.
    """
    for name, frame in frames.items():
        tables.write(folder / f"{name}.parquet", frame)
    for name, picture in pictures.items():
        with atomic_replace(folder / f"{name}.png") as part:
            part.write_bytes(picture)
    write_json(folder / "map.json", described)


def switch(home: Home, model_id: str, map_id: str) -> None:
    """Make a map the standing one; the one before is kept for who is reading it, older ones go."""
    current = home.maps(model_id) / "current.json"
    try:
        before = read_json(current)["map_id"]
    except (FileNotFoundError, ValueError, KeyError):
        before = None
    # First, or what a killed run leaves here would stay until there is another map again.
    for folder in home.maps(model_id).iterdir():
        if folder.is_dir() and folder.name not in (map_id, before):
            shutil.rmtree(folder, ignore_errors=True)
    write_json(current, {"map_id": map_id})


def read_pictures(folder: Path) -> dict[str, bytes]:
    """The pictures that a map has, by their names in ``PICTURES``."""
    paths = {name: folder / f"{name}.png" for name in PICTURES}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}
