"""Give back the room of songs that left the collection, and join the small shards this leaves.

Belongs here: which shards are written anew, and doing so together with their vectors. Does not: the
files themselves (``spectrograms.shards``, ``embeddings.vectors``).

Songs that leave keep their spectrograms and vectors, so that they can come back without any work;
nothing but a person knows that they will not. Whatever this is interrupted by, no song that is in
the collection loses a spectrogram or a vector: files are written anew before others are deleted,
and what is in two files until then is dropped by the next compaction. But for vectors of a shard
whose name another one has got meanwhile: ``verify`` finds those.
"""

import contextlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import exclusive_lock, exists, folders, stamps, unlink
from fastdino.core.summary import Summary
from fastdino.core.text import counted
from fastdino.embeddings.vectors import FILES, read_vectors, vector_files, write_vectors
from fastdino.ingestion import catalog
from fastdino.spectrograms import SpectrogramSettings, shards
from fastdino.training import registry

# The tracks to keep of each shard that becomes a part of a new one, in order of age.
Group = dict[Path, set[str]]


def run(home: Home) -> Summary:
    """Drop the spectrograms and vectors of songs that are not in the catalogue.

    Of the spectrogram settings in use; shards of others are left alone.

    Raises:
        UserError: there is no catalogue, or a shard or a file of vectors is damaged.
    """
    spec_id = SpectrogramSettings().spec_id
    folder = home.shards(spec_id)
    models = _models(home, spec_id)
    with contextlib.ExitStack() as held:
        # A training reads its shards again and again: its end is waited for.
        for each in (home.models, folder, *map(home.vectors, models)):
            held.enter_context(exclusive_lock(each))
        known = catalog.track_ids(catalog.read(home))
        before = _megabytes(home, folder, models)
        index = shards.read_index(folder).select(["track_id", "shard", "n_frames", "n_mels"])
        groups, emptied, gone = plan(folder, index, known)
        with progress("Compacting", len(groups), "shards") as shown:
            for group in groups:
                for model_id in models:
                    _merge_vectors(home.vectors(model_id), group, known)
                shards.merge(group)
                shown.advance()
        for shard in emptied:
            unlink(shard)
        for model_id in models:
            _drop_left_over_vectors(home, model_id, folder, known)
        freed = before - _megabytes(home, folder, models)
    n_shards = len(shards.list_shards(folder))
    # Of one that was killed there may be vectors left and nothing else.
    did_work = bool(groups or emptied or freed)
    headline = "there is nothing to drop or to join"
    if did_work:
        headline = (
            f"{counted(gone, 'song')} dropped that left the collection, "
            f"{freed:,.0f} MB freed, {n_shards:,} shards"
        )
    return Summary(
        "compact",
        headline,
        did_work,
        counts={"dropped": gone, "freed_mb": round(freed, 1), "shards": n_shards},
        paths={"shards": folder},
    )


def plan(folder: Path, index: pa.Table, known: set[str]) -> tuple[list[Group], list[Path], int]:
    """What is to be done so that shards hold ``known`` songs alone, each once, and few are small.

    Args:
        folder: of the shards.
        index: track_id, shard, n_frames and n_mels of every piece, in order of age.
        known: the songs of the collection.

    Returns:
        The shards to join or to write anew, each group as one; the shards of which nothing is
        kept; and the number of songs that are dropped.
    """
    has: Group = {}
    sizes: Counter[Path] = Counter()
    seen: dict[str, Path] = {}
    for row in index.to_pylist():
        shard = folder / row["shard"]
        has.setdefault(shard, set()).add(row["track_id"])
        if row["track_id"] in known and seen.setdefault(row["track_id"], shard) == shard:
            sizes[shard] += row["n_frames"] * row["n_mels"]
    keep = {shard: {t for t in tracks if seen.get(t) == shard} for shard, tracks in has.items()}
    groups: list[Group] = []
    room = 0
    for shard, tracks in keep.items():
        if not tracks:
            continue
        if sizes[shard] > room:
            groups.append({})
            room = shards.SHARD_BYTES
        groups[-1][shard] = tracks
        room -= sizes[shard]
    changed = [
        group for group in groups if len(group) > 1 or any(group[s] != has[s] for s in group)
    ]
    emptied = [shard for shard, tracks in keep.items() if not tracks]
    return changed, emptied, len(set().union(*has.values()) - known)


def _models(home: Home, spec_id: str) -> list[str]:
    """Models with vectors of these spectrograms. Of one that cannot be read they are left alone."""
    found = []
    for folder in folders(home.vectors("any").parent):
        with contextlib.suppress(UserError):
            if registry.metadata(home, folder.name)["spec_id"] == spec_id:
                found.append(folder.name)
    return found


def _merge_vectors(folder: Path, group: Group, known: set[str]) -> None:
    """Write the vectors of a group under the name of its first shard; the others stay for now."""
    # As everywhere, the newer file is right about a song that two of them hold.
    paths = [path for shard in reversed(group) if exists(path := folder / shard.name)]
    seen: set[str] = set()
    tables = []
    for path in paths:
        table = read_vectors(path)
        fresh = known.intersection(table["track_id"].to_pylist()) - seen
        tables.append(shards.of_tracks(table, fresh))
        seen |= fresh
    target = folder / next(iter(group)).name
    if seen:
        write_vectors(target, pa.concat_tables(reversed(tables)))  # in order of age again
    else:
        unlink(target, missing_ok=True)


def _drop_left_over_vectors(home: Home, model_id: str, folder: Path, known: set[str]) -> None:
    """Drop vectors of shards that are no more, but for those that no other file holds."""
    files = vector_files(home, model_id)
    there = {shard.name for shard in shards.list_shards(folder)}
    left_over = [path for path in files if path.name not in there]
    held: set[str] = set()
    for path in files:
        if path not in left_over:
            held.update(read_vectors(path, only_songs=True)["track_id"].to_pylist())
    for path in left_over:
        table = read_vectors(path)
        keep = known.intersection(table["track_id"].to_pylist()) - held
        if not keep:
            unlink(path)
        elif len(keep) < pc.count_distinct(table["track_id"]).as_py():
            write_vectors(path, shards.of_tracks(table, keep))
        held |= keep


def _megabytes(home: Home, folder: Path, models: list[str]) -> float:
    files = [*stamps(folder, shards.SHARDS).values()]
    for model_id in models:
        files += stamps(home.vectors(model_id), FILES).values()
    return sum(stamp.size for stamp in files) / 1e6
