"""Checking the maps.

Belongs here: whether the standing map of each model can be read and is of the songs that have
vectors. Does not: whether it is a good map.

A map that was drawn again from nothing would have songs elsewhere and clusters of other names. So
a damaged one is given back from what was published, or else the map before it stands again.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import read_json, write_json
from fastdino.core.text import counted
from fastdino.reports import map_files
from fastdino.training import registry
from fastdino.upkeep.verify import recovery
from fastdino.upkeep.verify.finding import Finding, Findings, Mender, noting, reason


def check(home: Home, expected: set[str] | None, *, repair: bool) -> Findings:
    """Check the map of every model.

    Args:
        home: where they are.
        expected: the songs that should be on the current model's map, if they can be told.
        repair: give back what is damaged.
    """
    try:
        current = registry.current_id(home)
    except UserError:
        current = None
    told: list[Finding] = []
    for folder in sorted(path for path in home.root.glob("maps/*") if path.is_dir()):
        findings = _check_model(home, folder, is_current=folder.name == current, repair=repair)
        yield from noting(told, findings)
    if current is None or not expected or told:
        return
    standing = map_files.read_standing(home, current)
    shown = set(standing.songs["track_id"]) if standing else set()
    new, gone = len(expected - shown), len(shown - expected)
    if new or gone:
        yield Finding(
            home.maps(current),
            f"the map lacks {counted(new, 'song')} and shows {gone:,} that it should not",
            "brings it up to date",
            Mender.RUN,
        )


def _check_model(home: Home, folder: Path, *, is_current: bool, repair: bool) -> Findings:
    pointer = folder / "current.json"
    newest_first = sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)
    damage = {each: _damage(each) for each in newest_first}
    sound = [each for each in newest_first if not damage[each]]
    try:
        standing = folder / str(read_json(pointer)["map_id"])
        wrong = None if standing in damage else f"it names {standing.name}, which is not there"
    except (OSError, ValueError, LookupError, TypeError) as error:
        wrong = reason(pointer, error)
    if wrong is not None:
        if damage or pointer.exists():
            yield _stands_again(pointer, pointer, wrong, sound, repair=repair)
        return
    if not damage[standing]:
        return
    path, wrong = next(iter(damage[standing].items()))
    published = recovery.drawn(home, standing)
    if published is not None:
        found = Finding(path, wrong, "the map is written again as it was published")
        yield found.settled(lambda: recovery.write_map(standing, published), repair=repair)
    elif set(damage[standing]) <= {standing / f"{name}.parquet" for name in map_files.RECORDS}:
        found = Finding(path, wrong, "deleted; the map stands, what it said of the past is lost")
        yield found.settled(lambda: _delete(damage[standing]), repair=repair)
    elif is_current and set(damage[standing]) == {standing / "neighbors.parquet"}:
        found = Finding(
            path, wrong, "deleted; the next run finds the neighbours again and moves no song"
        )
        yield found.settled(lambda: path.unlink(missing_ok=True), repair=repair)
    else:
        yield _stands_again(path, pointer, wrong, sound, repair=repair)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _stands_again(
    path: Path, pointer: Path, wrong: str, sound: list[Path], *, repair: bool
) -> Finding:
    """Let the newest map that is sound stand, or none."""
    if sound:
        found = Finding(
            path, wrong, f"map {sound[0].name} stands again; the next run goes on from it"
        )
        return found.settled(lambda: write_json(pointer, {"map_id": sound[0].name}), repair=repair)
    found = Finding(
        path,
        wrong,
        f"{pointer.name} is deleted and the next run draws another map, on which songs lie "
        "elsewhere and clusters have other numbers; there is no copy of this one",
    )
    return found.settled(lambda: pointer.unlink(missing_ok=True), repair=repair)


def _damage(folder: Path) -> dict[Path, str]:
    """What is wrong with a map, by file."""
    found: dict[Path, str] = {}
    tables: dict[str, pl.DataFrame] = {}
    if not recovery.is_described(folder):
        found[folder / "map.json"] = "it is missing, cannot be read or says too little"
    for name in (*map_files.SCHEMAS, *map_files.RECORDS):
        path = folder / f"{name}.parquet"
        try:
            tables[name] = map_files.read_table(folder, name)
        except (FileNotFoundError, ValueError) as error:
            found[path] = reason(path, error)
    if set(map_files.SCHEMAS) <= set(tables):
        found |= {folder / f"{name}.parquet": why for name, why in _contradictions(tables)}
    return found


def _contradictions(tables: dict[str, pl.DataFrame]) -> list[tuple[str, str]]:
    points, members, clusters = (tables[name] for name in ("points", "members", "clusters"))
    found = []
    if not points.select(pl.all_horizontal(pl.col("x", "y").is_finite().all())).item():
        found.append(("points", "some songs lie nowhere"))
    if points["track_id"].is_duplicated().any():
        found.append(("points", "a song is on it twice"))
    if set(members["track_id"]) != set(points["track_id"]):
        found.append(("members", "it is of other songs than the map"))
    if set(members["cluster_id"]) - set(clusters["cluster_id"]) - {-1}:
        found.append(("clusters", "a cluster that songs are in is missing"))
    if set(tables["neighbors"]["track_id"]) - set(points["track_id"]):
        found.append(("neighbors", "it is of other songs than the map"))
    return found
