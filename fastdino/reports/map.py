"""The map of the collection: where songs lie, which groups they form, what is similar to what.

Belongs here: deciding whether songs are placed on the standing map or all laid out anew, and the
map's files. Does not: the mathematics (``layout``, ``clusters``, ``neighbors``) or the page.

A map is never changed after it was written; ``current.json`` says which one stands.
"""

import dataclasses
import datetime
import hashlib
import io
import json
import logging
import shutil
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastdino import tables
from fastdino.embeddings.vectors import read_songs
from fastdino.errors import UserError
from fastdino.home import Home
from fastdino.ingestion import catalog
from fastdino.reports import clusters as grouping
from fastdino.reports import layout
from fastdino.reports.neighbors import nearest
from fastdino.reports.palette import color
from fastdino.storage import read_json, replacing, write_json
from fastdino.summary import Scalar, Summary
from fastdino.training import registry

log = logging.getLogger(__name__)

# Raised when code changes make other maps from the same vectors.
VERSION = 1
NEIGHBORS = 20
PICTURE = "map.png"
# Past this share of songs added or gone since all were laid out, all are laid out anew.
REFIT_SHARE = 0.10
# Group of a song that the map before did not have.
UNKNOWN = -2
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


@dataclass(frozen=True)
class Songs:
    """The songs to draw, in order of their ids: vectors float32 [n, dim] and tags, one row each."""

    vectors: np.ndarray
    tags: pl.DataFrame

    @property
    def ids(self) -> list[str]:
        """Track ids."""
        return self.tags["track_id"].to_list()


@dataclass(frozen=True)
class Standing:
    """The map before: what map.json says, its songs by id, its clusters, and whether its table of
    neighbours can be read: without that it is drawn again, each song in its place.
    """

    described: dict[str, Any]
    songs: pl.DataFrame
    clusters: pl.DataFrame
    has_neighbors: bool


@dataclass(frozen=True)
class Drawn:
    """A new map: positions [n, 2], how each song was placed, and its group."""

    positions: np.ndarray
    placed_by: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    movement: dict[str, float]
    next_cluster_id: int


def run_map(home: Home) -> Summary:
    """Draw the map of the current model's songs, unless the standing one shows just these.

    Raises:
        UserError: there is no catalogue, no model or no vector yet, or vectors are not numbers.
    """
    model_id = registry.current(home)["model_id"]
    songs = _read_songs(home, model_id)
    standing = read_standing(home, model_id)
    fingerprint = _fingerprint(model_id, songs)
    if standing and standing.described["fingerprint"] == fingerprint and standing.has_neighbors:
        shown = f"the map of {len(songs.ids)} songs is up to date"
        folder = home.maps(model_id) / standing.described["map_id"]
        picture = folder / PICTURE
        plots = {"map": picture.read_bytes()} if picture.exists() else {}
        return Summary("map", shown, False, plots=plots, paths={"map": folder})

    neighbors, similarities = nearest(songs.vectors, NEIGHBORS)
    drawn = _draw(songs, standing, neighbors)
    clusters = grouping.describe(
        drawn.labels,
        songs.vectors,
        songs.tags["title"].to_list(),
        {field: songs.tags[field].to_list() for field in ("genre", "artist")},
        _names(standing),
    )
    now = datetime.datetime.now(datetime.UTC)
    map_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    fitted = drawn.placed_by.count("fit")
    quality = {
        **layout.quality(songs.vectors, drawn.positions),
        "noise_share": round(float((drawn.labels == grouping.NONE).mean()), 4),
        "clusters": len(clusters),
        **drawn.movement,
    }
    described = {
        "map_id": map_id,
        "model_id": model_id,
        "created_at": now.isoformat(),
        "n_tracks": len(songs.ids),
        "n_fit": fitted
        if fitted == len(songs.ids) or not standing
        else standing.described["n_fit"],
        "next_cluster_id": drawn.next_cluster_id,
        "version": VERSION,
        "fingerprint": fingerprint,
        "quality": quality,
    }
    folder = home.maps(model_id) / map_id
    _write(folder, described, songs, drawn, clusters, neighbors, similarities)
    _switch(home, model_id, map_id)
    return _summary(folder, songs, drawn, clusters, quality, standing)


def _read_songs(home: Home, model_id: str) -> Songs:
    tracks = catalog.tracks(catalog.read(home))
    ids, vectors = read_songs(home, model_id, set(tracks["track_id"]))
    if not ids:
        raise UserError(f"no song has a vector of model {model_id} yet: run `fastdino embed` first")
    if not np.isfinite(vectors).all():
        raise UserError(
            f"vectors of model {model_id} are not finite: train another with "
            "`fastdino train --afresh`"
        )
    order = pl.DataFrame({"track_id": ids})
    columns = ["track_id", "title", "artist", "genre"]
    tags = order.join(tracks.select(columns), on="track_id", how="left", maintain_order="left")
    return Songs(vectors, tags)


def _fingerprint(model_id: str, songs: Songs) -> str:
    """Hash over all that a map depends on; a model's vector of a track never changes."""
    text = json.dumps([VERSION, model_id, songs.tags.rows()])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def read_standing(home: Home, model_id: str) -> Standing | None:
    """The map that stands for a model; None if there is none or it cannot be read."""
    try:
        folder = home.maps(model_id) / read_json(home.maps(model_id) / "current.json")["map_id"]
        points = read_table(folder, "points")
        return Standing(
            read_json(folder / "map.json"),
            points.join(read_table(folder, "members"), on="track_id", how="left"),
            read_table(folder, "clusters"),
            _has_neighbors(folder),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the map under %s is damaged and is made anew: %s", home.maps(model_id), error)
        return None


def _has_neighbors(folder: Path) -> bool:
    try:
        read_table(folder, "neighbors")
    except (ValueError, OSError) as error:
        log.warning("the neighbours are found anew: %s", error)
        return False
    return True


def read_table(folder: Path, name: str) -> pl.DataFrame:
    """One of the tables of a map, by its name in ``SCHEMAS``.

    Raises:
        FileNotFoundError: the map has no such file.
        ValueError: it is damaged.
    """
    return tables.read(folder / f"{name}.parquet", SCHEMAS[name])


def _draw(songs: Songs, standing: Standing | None, neighbors: np.ndarray) -> Drawn:
    order = pl.DataFrame({"track_id": songs.ids})
    if standing is None or standing.described["version"] != VERSION:
        positions = layout.lay_out(songs.vectors)
        labels, probabilities = grouping.find(positions, neighbors)
        labels = grouping.matched(labels, np.full(len(labels), UNKNOWN), 0)
        return Drawn(
            positions, ["fit"] * len(labels), labels, probabilities, {}, int(labels.max()) + 1
        )
    old = order.join(standing.songs, on="track_id", how="left", maintain_order="left")
    known = old["x"].is_not_null().to_numpy()
    there = np.flatnonzero(known)
    before = old["cluster_id"].fill_null(UNKNOWN).to_numpy()
    positions = old.select("x", "y").to_numpy().astype(np.float64)
    if len(there) and not known.all():
        positions[~known] = layout.place(
            songs.vectors[known], positions[known], songs.vectors[~known]
        )
    next_id = int(standing.described["next_cluster_id"])
    n_fit = standing.described["n_fit"]
    still_fit = (old["placed_by"] == "fit").sum()
    changed = (len(known) - still_fit) + (n_fit - still_fit)
    if len(there) and changed <= REFIT_SHARE * n_fit:
        labels, probabilities = grouping.joined(
            np.where(known, before, grouping.NONE),
            old["probability"].fill_null(0).to_numpy(),
            neighbors,
        )
        # A song that was in no group stays there; only new ones are looked at.
        labels[known] = before[known]
        placed_by = old["placed_by"].fill_null("transform").to_list()
        return Drawn(positions, placed_by, labels, probabilities, {}, next_id)
    log.info("%d of %d songs are new or gone: the map is laid out anew", changed, n_fit)
    fresh = layout.lay_out(songs.vectors, positions if len(there) else None)
    fresh = layout.aligned(fresh, there, positions[known])
    labels, probabilities = grouping.find(fresh, neighbors)
    labels = grouping.matched(labels, before, next_id)
    movement = _movement(positions[known], fresh[known], before[known], labels[known])
    next_id = max(next_id, int(labels.max()) + 1)
    return Drawn(fresh, ["fit"] * len(known), labels, probabilities, movement, next_id)


def _movement(
    before: np.ndarray, after: np.ndarray, labels_before: np.ndarray, labels_after: np.ndarray
) -> dict[str, float]:
    """How much a refit changed what people knew, for songs that both maps have."""
    if not len(before):
        return {}
    extent = np.sqrt((after - after.mean(axis=0)).var(axis=0).sum()) or 1.0
    return {
        "median_movement": round(
            float(np.median(np.linalg.norm(after - before, axis=1)) / extent), 4
        ),
        "same_cluster_share": round(float((labels_before == labels_after).mean()), 4),
    }


def _names(standing: Standing | None) -> dict[int, tuple[str, list[str]]]:
    if standing is None:
        return {}
    columns = standing.clusters.select("cluster_id", "name", "terms").rows()
    return {cluster_id: (name, terms) for cluster_id, name, terms in columns}


def _write(
    folder: Path,
    described: dict[str, Any],
    songs: Songs,
    drawn: Drawn,
    clusters: list[grouping.Cluster],
    neighbors: np.ndarray,
    similarities: np.ndarray,
) -> None:
    """Write a map's files; nobody looks at them before ``current.json`` names the map."""
    ids = np.array(songs.ids)
    n, k = neighbors.shape
    rows = [dataclasses.asdict(c) for c in clusters]
    frames = {
        "points": pl.DataFrame(
            {
                "track_id": songs.ids,
                "x": drawn.positions[:, 0],
                "y": drawn.positions[:, 1],
                "placed_by": drawn.placed_by,
            },
            SCHEMAS["points"],
        ),
        "members": pl.DataFrame(
            {
                "track_id": songs.ids,
                "cluster_id": drawn.labels.astype(np.int32),
                "probability": drawn.probabilities.astype(np.float32),
            },
            SCHEMAS["members"],
        ),
        "neighbors": pl.DataFrame(
            {
                "track_id": np.repeat(ids, k).tolist(),
                "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n),
                "neighbor_id": ids[neighbors.ravel()].tolist(),
                "similarity": similarities.ravel(),
            },
            SCHEMAS["neighbors"],
        ),
        "clusters": pl.DataFrame(
            [{**row, "medoid_id": songs.ids[row.pop("medoid")]} for row in rows],
            SCHEMAS["clusters"],
        ),
    }
    for name, frame in frames.items():
        tables.write(folder / f"{name}.parquet", frame)
    with replacing(folder / PICTURE) as part:
        part.write_bytes(
            draw(drawn.positions, drawn.labels, {c.cluster_id: c.name for c in clusters})
        )
    write_json(folder / "map.json", described)


def _switch(home: Home, model_id: str, map_id: str) -> None:
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


def _summary(
    folder: Path,
    songs: Songs,
    drawn: Drawn,
    clusters: list[grouping.Cluster],
    quality: dict[str, Any],
    standing: Standing | None,
) -> Summary:
    n = len(songs.ids)
    had = set(standing.songs["track_id"]) if standing else set()
    new = len(set(songs.ids) - had)
    gone = len(had - set(songs.ids))
    how = "laid out" if set(drawn.placed_by) == {"fit"} else "placed on the standing map"
    titles, artists = songs.tags["title"], songs.tags["artist"]
    table: list[dict[str, Scalar]] = [
        {
            "cluster": c.name,
            "songs": c.size,
            "typical song": " · ".join(filter(None, (titles[c.medoid], artists[c.medoid]))),
            "genres": ", ".join(c.top_genres[:3]),
            "artists": ", ".join(c.top_artists[:3]),
        }
        for c in sorted(clusters, key=lambda c: -c.size)
    ]
    counts: dict[str, Scalar] = {"songs": n, "new": new, "gone": gone, **quality}
    return Summary(
        "map",
        f"{n} songs, {new} new {how}, {len(clusters)} clusters",
        True,
        counts=counts,
        tables={"clusters": table},
        plots={"map": (folder / PICTURE).read_bytes()},
        paths={"map": folder},
    )


def draw(positions: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> bytes:
    """A small picture of a map, coloured by group; PNG.

    Args:
        positions: [n, 2].
        labels: group of each song, -1 for none, [n].
        names: what to write on the largest groups.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    figure = Figure(figsize=(8, 5.6), dpi=110, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.margins(0.06)
    size = float(np.clip(6_000 / max(len(positions), 1), 3, 60))
    order = np.argsort(labels, kind="stable")
    colors = [color(int(label)) for label in labels[order]]
    across, up = positions[order].T
    axes.scatter(across, up, s=size, c=colors, alpha=0.85, linewidths=0)
    extent = np.ptp(positions, axis=0).max() or 1.0
    named: list[tuple[float, float]] = []
    for group in sorted(names, key=lambda group: -(labels == group).sum()):
        x, y = np.median(positions[labels == group], axis=0)
        if any(abs(x - a) < 0.25 * extent and abs(y - b) < 0.04 * extent for a, b in named):
            continue  # it would cover the name of a larger one
        named.append((x, y))
        text = names[group] if len(names[group]) <= 32 else names[group][:31] + "…"
        axes.text(
            x, y, text, fontsize=8, ha="center", va="center", color="#20242c", parse_math=False,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A title in a script that the font lacks shows as boxes here; the page shows it right.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()
