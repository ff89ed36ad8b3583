"""Checking the vectors.

Belongs here: every vector file of every model, beside the shard it was computed from. Does not:
whether the vectors are good.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.progress import Progress
from fastdino.core.storage import fetched, folders, rename, unlink
from fastdino.core.text import counted
from fastdino.embeddings.vectors import COLUMNS, read_vectors, vector_files, write_vectors
from fastdino.spectrograms.shards import of_tracks
from fastdino.training import registry
from fastdino.upkeep.verify.finding import DAMAGE, Finding, Findings, Mender, reason
from fastdino.upkeep.verify.models import describe
from fastdino.upkeep.verify.spectrograms import Held

UNIT_LENGTH_TOLERANCE = 1e-3


@dataclass
class Vectors:
    """What a vector file holds.

    Attributes:
        tracks: all songs in it.
        damaged: those whose vectors cannot be used.
        reasons: what is wrong, the first thing first.
        unreadable: whether nothing of it can be used.
    """

    tracks: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    unreadable: bool = False


def check(
    home: Home,
    known: set[str] | None,
    held: Held,
    working: set[str],
    shown: Progress,
    *,
    repair: bool,
) -> Generator[Finding, None, set[str]]:
    """Check the vectors of all models.

    Those of the current model and the candidate are to be there for all tracks of each shard. A
    song whose spectrogram is lost keeps its vectors. Those of other models are kept but for what is
    damaged.

    Args:
        home: where they are.
        known: the tracks of the collection, if they can be told.
        held: the tracks of each shard.
        working: models that can compute vectors again.
        shown: advanced by the megabytes read.
        repair: write files anew without what is damaged or left over.

    Returns:
        The songs with a vector of the current model.
    """
    try:
        current, candidate = registry.current_id(home), registry.candidate(home)
    except UserError:
        current = candidate = None
    kept_up = {current, candidate["model_id"] if candidate else None}
    have: set[str] = set()
    for folder in folders(home.root / "vectors"):
        about = describe(home, folder.name)
        if isinstance(about, str):
            if home.model(folder.name) not in folders(home.models):
                yield Finding(
                    folder,
                    "the model that these vectors are of is not there",
                    "delete the folder if you do not want that model back",
                    Mender.PERSON,
                )
            continue
        again = folder.name in kept_up and folder.name in working
        shards = home.shards(about["spec_id"])
        of_model = {shard.name: tracks for shard, tracks in held.items() if shard.parent == shards}
        anywhere = set().union(*(tracks for tracks in of_model.values() if tracks))
        missing = 0
        for path in reversed(vector_files(home, folder.name)):
            megabytes = fetched(path).stat().st_size / 1e6
            vectors = inspect(path, about["dim"])
            wanted = of_model.pop(path.name, None) or set()
            spare: set[str] = set()
            if again:
                gone = vectors.tracks - known if known is not None else set()
                spare = (vectors.tracks & anywhere | gone) - wanted - vectors.damaged
            yield from _check_file(path, vectors, spare, again=again, repair=repair)
            if folder.name == current:
                have |= vectors.tracks
            if not vectors.unreadable:
                missing += len(wanted - vectors.tracks)
            shown.advance(megabytes)
        missing += sum(len(tracks or ()) for tracks in of_model.values())
        if again and missing:
            yield Finding(
                folder,
                f"no vectors of {counted(missing, 'song')} are there",
                "computes them",
                Mender.RUN,
            )
    return have


def _check_file(
    path: Path, vectors: Vectors, spare: set[str], *, again: bool, repair: bool
) -> Findings:
    found = []
    afterwards = (
        "the next run computes them again"
        if again
        else f"they are computed again only if a sound model {path.parent.name} is promoted"
    )
    if vectors.unreadable:
        how = "deleted" if again else f"set aside as {path.name}.damaged"
        found.append(Finding(path, vectors.reasons[0], f"{how}; {afterwards}"))
    elif vectors.reasons:
        found.append(
            Finding(
                path,
                f"the vectors of {counted(len(vectors.damaged), 'song')} cannot be used: "
                f"{vectors.reasons[0]}",
                f"left out; {afterwards}",
            )
        )
    if spare:
        found.append(
            Finding(
                path,
                f"it holds {counted(len(spare), 'song')} that left the collection or its shard",
                "left out",
                Mender.NOBODY,
            )
        )
    if repair and found:
        _rewrite(path, vectors, vectors.tracks - vectors.damaged - spare, again=again)
        found = [each.now_mended() for each in found]
    yield from found


def _rewrite(path: Path, vectors: Vectors, keep: set[str], *, again: bool) -> None:
    if vectors.unreadable and not again:
        rename(path, path.with_name(path.name + ".damaged"))
    elif vectors.unreadable or not keep:
        unlink(path)
    else:
        write_vectors(path, of_tracks(read_vectors(path), keep))


def inspect(path: Path, dim: int) -> Vectors:
    """Read a vector file to its end.

    Args:
        path: the file.
        dim: length that its vectors should have.

    Raises:
        UserError: the disk cannot read it.
    """
    found = Vectors()
    whole: set[str] = set()
    try:
        with pq.ParquetFile(fetched(path), page_checksum_verification=True) as file:
            if file.schema_arrow.field("vec").type.list_size != dim:
                raise ValueError(f"vectors not of the model's {dim} dimensions")
            for group in range(file.num_row_groups):
                _read_group(file.read_row_group(group, columns=COLUMNS), dim, found, whole)
    except (*DAMAGE, AttributeError) as error:
        return Vectors(reasons=[reason(path, error)], unreadable=True)
    if lost := found.tracks - whole - found.damaged:
        found.damaged |= lost
        found.reasons.append("there is no vector of the whole song")
    return found


def _read_group(table: pa.Table, dim: int, found: Vectors, whole: set[str]) -> None:
    ids = np.array(table["track_id"].to_pylist(), object)
    is_whole = table["start_s"].is_null().to_numpy()
    vectors = table["vec"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
    # Neither what is not a number nor infinity is ever within the tolerance.
    near = np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_LENGTH_TOLERANCE
    found.tracks.update(ids)
    if not near.all():
        found.damaged.update(ids[~near])
        found.reasons.append("they are not finite or not of unit length")
    for track in ids[is_whole]:
        if track in whole:
            found.damaged.add(track)
            found.reasons.append("there are two vectors of the whole song")
        whole.add(track)
