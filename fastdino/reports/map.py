"""The map of the collection: where songs lie, which groups they form, what is similar to what.

Belongs here: deciding whether songs are placed on the standing map or all laid out anew, and what
is told of it. Does not: the mathematics (``layout``, ``clusters``, ``neighbors``), its files
(``map_files``), pictures (``pictures``) or the page.
"""

import dataclasses
import datetime
import hashlib
import json
import logging
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Scalar, Summary
from fastdino.embeddings.vectors import read_songs, song_ids
from fastdino.ingestion import catalog
from fastdino.reports import clusters as grouping
from fastdino.reports import layout, pictures
from fastdino.reports.map_files import (
    RECORDS,
    SCHEMAS,
    VERSION,
    Standing,
    read_pictures,
    read_standing,
    switch,
    write,
)
from fastdino.reports.neighbors import Neighbors, nearest, update
from fastdino.training import registry

log = logging.getLogger(__name__)

NEIGHBORS = 20
# What a map is drawn anew for when it changes, beside its songs.
NAMING = ("title", "artist", "genre")
# Maps shown in the summary's table of the past.
RECENT = 20
# Past this share of songs added or gone since all were laid out, all are laid out anew.
REFIT_SHARE = 0.10
# Where less than this share of the songs were on the map before, it holds the new one back.
HOLD_SHARE = 0.5


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
class Drawn:
    """A new map: positions [n, 2], how each song was placed, its group, its neighbours and its
    similarity to them, and how it was drawn.

    That is ``fit``, laid out from nothing; ``transform``, new songs placed and no other moved; or
    ``refit``, all laid out, those of before near their places.
    """

    drawn_by: str
    positions: np.ndarray
    placed_by: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    neighbors: Neighbors


def draw_map(home: Home) -> Summary:
    """Draw the map of the current model's songs, unless the standing one shows just these.

    Raises:
        UserError: there is no catalogue, no model or no vector yet, or vectors are not numbers.
    """
    model_id = registry.current(home)["model_id"]
    tags = _read_tags(home, model_id)
    standing = read_standing(home, model_id)
    fingerprint = _fingerprint(model_id, tags)
    lists = _fingerprint_of_lists(tags)
    if standing and _is_of(standing, fingerprint, lists) and standing.has_neighbors():
        shown = f"the map of {len(tags)} songs is up to date"
        folder = home.maps(model_id) / standing.described["map_id"]
        return Summary("map", shown, False, plots=read_pictures(folder), paths={"map": folder})

    _, vectors = read_songs(home, model_id, set(tags["track_id"]))
    songs = Songs(vectors, tags)
    drawn = _draw(songs, standing)
    clusters = grouping.describe(
        drawn.labels,
        songs.vectors,
        songs.tags["title"].to_list(),
        {field: songs.tags[f"{field}s"].to_list() for field in ("genre", "artist")},
        standing.names if standing else {},
    )
    now = datetime.datetime.now(datetime.UTC)
    map_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    quality = {
        **layout.quality(songs.vectors, drawn.neighbors[0], drawn.positions),
        "noise_share": round(float((drawn.labels == grouping.NONE).mean()), 4),
        "clusters": len(clusters),
    }
    n_fit = standing.described["n_fit"] if standing else 0
    next_id = standing.described["next_cluster_id"] if standing else 0
    described = {
        "map_id": map_id,
        "model_id": model_id,
        "created_at": now.isoformat(),
        "n_tracks": len(songs.ids),
        "n_fit": n_fit if drawn.drawn_by == "transform" else len(songs.ids),
        "next_cluster_id": max(next_id, int(drawn.labels.max()) + 1),
        "version": VERSION,
        "fingerprint": fingerprint,
        "lists": lists,
        "quality": quality,
    }
    records = _records(described, now, songs, drawn, clusters, standing)
    folder = home.maps(model_id) / map_id
    tables = _tables(songs, drawn, clusters) | records
    write(folder, described, tables, _draw_pictures(drawn, clusters, records["history"]))
    switch(home, model_id, map_id)
    return _summary(folder, songs, clusters, records)


def _read_tags(home: Home, model_id: str) -> pl.DataFrame:
    """What a map says of the songs that have a vector, in order of their ids."""
    tracks = catalog.tracks(catalog.read(home))
    ids = song_ids(home, model_id, set(tracks["track_id"]))
    if not ids:
        raise UserError(f"no song has a vector of model {model_id} yet: run `fastdino embed` first")
    order = pl.DataFrame({"track_id": ids})
    columns = ["track_id", *NAMING, "artists", "genres"]
    return order.join(tracks.select(columns), on="track_id", how="left", maintain_order="left")


def _fingerprint(model_id: str, tags: pl.DataFrame) -> str:
    """Hash over all but lists that a map depends on; a model's vector of a track never changes."""
    return _hash([VERSION, model_id, tags.select("track_id", *NAMING).rows()])


def _fingerprint_of_lists(tags: pl.DataFrame) -> str:
    """Hash over every artist and genre by itself, of which clusters are named; not their order."""
    return _hash(tags.select(pl.col("artists", "genres").list.unique().list.sort()).rows())


def _hash(value: Any) -> str:
    text = json.dumps(value)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _is_of(standing: Standing, fingerprint: str, lists: str) -> bool:
    """Whether a map was drawn of these."""
    # One by itself, for older maps do not say of which lists they are: they stand all the same.
    said = standing.described
    return said["fingerprint"] == fingerprint and said.get("lists", lists) == lists


def _draw(songs: Songs, standing: Standing | None) -> Drawn:
    n = len(songs.ids)
    if standing is None:
        near = _nearest(songs)
        positions = layout.lay_out(songs.vectors, near)
        near = _shown(near)
        labels, probabilities = grouping.find(positions, near[0])
        labels = grouping.matched(labels, np.full(n, grouping.UNKNOWN), 0)
        return Drawn("fit", positions, ["fit"] * n, labels, probabilities, near)
    old = standing.of(songs.ids)
    known = old["x"].is_not_null().to_numpy()
    there = np.flatnonzero(known)
    before = old["cluster_id"].fill_null(grouping.UNKNOWN).to_numpy()
    positions = old.select("x", "y").to_numpy().astype(np.float64)
    if len(there) and not known.all():
        positions[~known] = layout.place(
            songs.vectors[known], positions[known], songs.vectors[~known]
        )
    next_id = int(standing.described["next_cluster_id"])
    n_fit = standing.described["n_fit"]
    still_fit = (old["placed_by"] == "fit").sum()
    changed = (n - still_fit) + (n_fit - still_fit)
    if len(there) and changed <= REFIT_SHARE * n_fit:
        near = _brought_up_to_date(songs, standing.neighbors())
        labels, probabilities = grouping.joined(
            np.where(known, before, grouping.NONE),
            old["probability"].fill_null(0).to_numpy(),
            near[0],
        )
        # A song that was in no group stays there; only new ones are looked at.
        labels[known] = before[known]
        placed_by = old["placed_by"].fill_null("transform").to_list()
        return Drawn("transform", positions, placed_by, labels, probabilities, near)
    log.info("%d of %d songs are new or gone: the map is laid out anew", changed, n_fit)
    near = _nearest(songs)
    # Of too few songs for t-SNE the layout is of another kind, and holds nothing.
    grown_up = len(there) < layout.FEWEST <= n
    if len(there) >= HOLD_SHARE * n and not grown_up:
        drawn_by = "refit"
        positions = layout.lay_out_around(songs.vectors, near, positions, there)
        near = _shown(near)
        labels, probabilities = grouping.update(positions, near[0], before, next_id)
    else:
        drawn_by, start = "fit", positions
        positions = layout.lay_out(songs.vectors, near, start if len(there) else None)
        positions = layout.aligned(positions, there, start[known])
        near = _shown(near)
        labels, probabilities = grouping.find(positions, near[0])
        labels = grouping.matched(labels, before, next_id)
    return Drawn(drawn_by, positions, ["fit"] * n, labels, probabilities, near)


def _nearest(songs: Songs) -> Neighbors:
    """Each song's neighbours, as many as its layout and its table need."""
    return nearest(songs.vectors, max(NEIGHBORS, layout.most_neighbors(len(songs.ids))))


def _shown(near: Neighbors) -> Neighbors:
    """Of neighbours those that are told of."""
    return near[0][:, :NEIGHBORS].copy(), near[1][:, :NEIGHBORS].copy()


def _brought_up_to_date(songs: Songs, neighbors: pl.DataFrame | None) -> Neighbors:
    """Each song's neighbours, from those on the map before where it has them."""
    n = len(songs.ids)
    k = min(NEIGHBORS, n - 1)
    if neighbors is None:
        return nearest(songs.vectors, k)
    rows = pl.DataFrame({"track_id": songs.ids, "row": np.arange(n)})
    near = (
        neighbors.filter(pl.col("rank") <= k)
        .join(rows, on="track_id")
        .join(rows.rename({"track_id": "neighbor_id", "row": "near"}), on="neighbor_id", how="left")
    )
    row, place = near["row"].to_numpy(), near["rank"].to_numpy() - 1
    before, similarities = np.full((n, k), -1), np.zeros((n, k), np.float32)
    before[row, place] = near["near"].fill_null(-1).to_numpy()
    similarities[row, place] = near["similarity"].to_numpy()
    known = np.isin(np.arange(n), row)
    return update(songs.vectors, known, before, similarities)


def _records(
    described: dict[str, Any],
    now: datetime.datetime,
    songs: Songs,
    drawn: Drawn,
    clusters: list[grouping.Cluster],
    standing: Standing | None,
) -> dict[str, pl.DataFrame]:
    """The records of the map before, and what is to be said of this one."""
    past = standing.records if standing else {name: RECORDS[name].to_frame() for name in RECORDS}
    had = standing.songs if standing else past["gone"]
    sizes = dict(standing.clusters.select("cluster_id", "size").rows()) if standing else {}
    names = {number: name for number, (name, _) in (standing.names if standing else {}).items()}
    names |= {c.cluster_id: c.name for c in clusters}
    order = pl.DataFrame({"track_id": songs.ids})
    old = order.join(had, on="track_id", how="left", maintain_order="left")
    before = old["cluster_id"].fill_null(grouping.UNKNOWN).to_numpy()
    is_gone = ~pl.col("track_id").is_in(songs.ids)
    gone = pl.concat([had.select(past["gone"].columns), past["gone"]]).filter(is_gone)
    match drawn.drawn_by:
        case "refit":
            # Their places are near enough to go back to, but not of this layout.
            gone = gone.with_columns(placed_by=pl.lit("transform"))
        case "fit":
            gone = gone.clear()
    row = {
        "map_id": described["map_id"],
        "created_at": now,
        "drawn_by": drawn.drawn_by,
        "songs": len(songs.ids),
        "new_songs": old["x"].null_count(),
        "gone_songs": had.filter(is_gone).height,
        **described["quality"],
        **_movement(old.select("x", "y").to_numpy(), drawn.positions, before, drawn.labels),
    }
    changes = [
        {**vars(change), "map_id": described["map_id"], "name": names[change.cluster_id]}
        for change in grouping.changes(drawn.labels, before, sizes)
    ]
    return {
        "history": pl.concat([past["history"], pl.DataFrame([row], RECORDS["history"])]),
        "changes": pl.concat([past["changes"], pl.DataFrame(changes, RECORDS["changes"])]),
        "gone": gone,
    }


def _movement(
    before: np.ndarray, after: np.ndarray, labels_before: np.ndarray, labels_after: np.ndarray
) -> dict[str, float | None]:
    """How much a map changed what people knew, for songs that both maps have.

    Args:
        before: places on the map before, [n, 2], NaN for songs it did not have.
        after: places now, [n, 2].
        labels_before: groups on the map before.
        labels_after: groups now.
    """
    both = ~np.isnan(before[:, 0])
    if not both.any():
        return {}
    before, after = before[both], after[both]
    had_one = labels_before[both] >= 0
    same = (labels_before[both] == labels_after[both])[had_one]
    distance = layout.distance(before, after)
    extent = np.sqrt((after - after.mean(axis=0)).var(axis=0).sum()) or 1.0
    movement = np.median(np.linalg.norm(after - before, axis=1)) / extent
    return {
        "median_movement": round(float(movement), 4),
        "procrustes_distance": None if distance is None else round(distance, 6),
        "same_cluster_share": round(float(same.mean()), 4) if len(same) else None,
    }


def _tables(
    songs: Songs,
    drawn: Drawn,
    clusters: list[grouping.Cluster],
) -> dict[str, pl.DataFrame]:
    """A map's tables, by their names in ``SCHEMAS``."""
    ids = songs.tags["track_id"]
    neighbors, similarities = drawn.neighbors
    n, k = neighbors.shape
    rows = [dataclasses.asdict(c) for c in clusters]
    return {
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
                "track_id": ids.gather(np.repeat(np.arange(n), k)),
                "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n),
                "neighbor_id": ids.gather(neighbors.ravel()),
                "similarity": similarities.ravel(),
            },
            SCHEMAS["neighbors"],
        ),
        "clusters": pl.DataFrame(
            [{**row, "medoid_id": songs.ids[row.pop("medoid")]} for row in rows],
            SCHEMAS["clusters"],
        ),
    }


def _draw_pictures(
    drawn: Drawn, clusters: list[grouping.Cluster], history: pl.DataFrame
) -> dict[str, bytes]:
    """What there is to see of a map: itself, and once there were several what became of them."""
    named = {c.cluster_id: c.name for c in clusters}
    drawings = {"map": pictures.of_map(drawn.positions, drawn.labels, named)}
    if len(history) > 1:
        drawings["history"] = pictures.of_history(history)
    return drawings


def _summary(
    folder: Path,
    songs: Songs,
    clusters: list[grouping.Cluster],
    records: dict[str, pl.DataFrame],
) -> Summary:
    latest = records["history"].row(-1, named=True)
    how = "placed on the standing map" if latest["drawn_by"] == "transform" else "laid out"
    titles, artists = songs.tags["title"], songs.tags["artist"]
    shown: list[dict[str, Scalar]] = [
        {
            "cluster": c.name,
            "songs": c.size,
            "typical song": " · ".join(filter(None, (titles[c.medoid], artists[c.medoid]))),
            "genres": ", ".join(c.top_genres[:3]),
            "artists": ", ".join(c.top_artists[:3]),
        }
        for c in sorted(clusters, key=lambda c: -c.size)
    ]
    changes = records["changes"]
    names = dict(changes.select("cluster_id", "name").rows())
    changed: list[dict[str, Scalar]] = [
        {
            "cluster": row["name"],
            "change": row["kind"],
            "from or into": None if row["other_id"] is None else names.get(row["other_id"], ""),
            "songs": row["songs"],
        }
        for row in changes.filter(pl.col("map_id") == latest["map_id"]).rows(named=True)
    ]
    past = records["history"].tail(RECENT).reverse().drop("map_id")
    past = past.with_columns(pl.col("created_at").dt.strftime("%Y-%m-%d %H:%M"))
    return Summary(
        "map",
        f"{len(songs.ids)} songs, {latest['new_songs']} new {how}, {len(clusters)} clusters",
        True,
        counts={name: latest[name] for name in latest if name not in ("map_id", "created_at")},
        tables={"clusters": shown, "changed clusters": changed, "maps": past.rows(named=True)},
        plots=read_pictures(folder),
        paths={"map": folder},
    )
