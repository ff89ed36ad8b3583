"""What a collection of any size costs the computer that drives it, songs and all that is made of
them made up.

Belongs here: catalogues, shards and vector files with as many rows as real ones and next to nothing
in them, what stands in for decoding and embedding, and measuring each step. Does not: the steps
themselves, or what decoding and embedding cost, which this room's other modules measure.

Made up is what the computers of a cluster do: they sleep for a ten-thousandth of the time that it
takes, and write files of the right number of rows and row groups without frames. What the driver
does is done by the pipeline itself, over Ray if ``RAY_ADDRESS`` is set.
"""

import functools
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.bench import collection, measuring
from fastdino.bench.collection import ALBUMS_AN_ARTIST, SONGS_AN_ALBUM
from fastdino.bench.measuring import Step, Took
from fastdino.core import cluster, environment
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace
from fastdino.embeddings import encode
from fastdino.embeddings.encode import Embedder
from fastdino.embeddings.vectors import read_vectors, schema, write_vectors
from fastdino.ingestion import catalog
from fastdino.spectrograms import candidates, parcels, shards, stage
from fastdino.spectrograms.candidates import Candidate
from fastdino.spectrograms.extract import Extracted
from fastdino.spectrograms.filling import Filler, Outcome
from fastdino.spectrograms.parcels import Parcel
from fastdino.spectrograms.settings import SpectrogramSettings

SIZES = (10_000, 100_000)
ADDED = 10
SETTINGS = SpectrogramSettings()
SHORTEST_S, LONGEST_S = 120, 360
# Seconds of sound in a second on a core, as measured, and how much of that is slept.
DECODED_S, EMBEDDED_S, SLEPT = 778, 2300, 1 / 10_000
SEGMENT_S = 10
# A row group of a real shard has as many pieces, as so many fill it.
PIECES = 1 + shards.ROW_GROUP_BYTES // (shards.PIECE_FRAMES * SETTINGS.n_mels)
DIM = 1
DISK_BYTES_A_SONG, DISK_BYTES = 4_000, 100_000_000


class NoFrames(Filler):
    """Takes and writes as ``Filler`` does, but sleeps instead of decoding and has no frames."""

    def __call__(self, pieces: Iterable[Parcel]) -> Iterator[Outcome]:
        """Write each parcel's shard; yields that all was well with every song."""
        for parcel in pieces:
            rows: list[tuple[object, ...]] = []
            for each in parcel.candidates:
                time.sleep(each.expected_s / DECODED_S * SLEPT)
                rows += self._pieces(each)
                n_frames = round(each.expected_s * self.settings.frames_per_s)
                yield Outcome(each, Extracted(n_frames, each.duration_s, each.expected_s, False, 1))
            self._write(self.folder / parcel.shard, rows)

    def _pieces(self, song: Candidate) -> Iterator[tuple[object, ...]]:
        n_frames = round(song.expected_s * self.settings.frames_per_s)
        for piece, start in enumerate(range(0, n_frames, shards.PIECE_FRAMES)):
            length = min(shards.PIECE_FRAMES, n_frames - start)
            yield (
                song.track_id, piece, start, length, self.settings.n_mels, self.settings.min_db,
                self.settings.step_db, song.duration_s, song.expected_s, False, b"",
            )  # fmt: skip

    def _write(self, shard: Path, rows: Sequence[tuple[object, ...]]) -> None:
        columns = zip(zip(*rows, strict=True), shards.SCHEMA, strict=True)
        table = pa.table([pa.array(values, f.type) for values, f in columns], shards.SCHEMA)
        if shard.exists():
            table = pa.concat_tables([pq.read_table(shard, partitioning=None), table])
        with atomic_replace(shard) as part:
            pq.write_table(
                table,
                part,
                row_group_size=PIECES,
                use_dictionary=["track_id"],
                write_statistics=["track_id"],
                write_page_checksum=True,
            )


class NothingWritten(NoFrames):
    """The same, and keeps no file."""

    def _write(self, shard: Path, rows: Sequence[tuple[object, ...]]) -> None:
        """Leave it at that."""


class NoModel(Embedder):
    """Takes and writes as ``Embedder`` does, but sleeps instead of computing vectors."""

    def __init__(self, home: Home, model_id: str, cores: int | None) -> None:
        self.folder = home.vectors(model_id)

    def __call__(self, pieces: Iterable[encode.Parcel]) -> Iterator[tuple[str, float]]:
        """Write each parcel's vector file; yields each track and its seconds."""
        for parcel in pieces:
            shard = pq.read_table(parcel.shard, columns=["track_id", "piece", "decoded_s"])
            songs = shard.filter(pc.equal(shard["piece"], 0)).to_pylist()
            ids: list[str] = []
            starts: list[int | None] = []
            for track_id, seconds in ((row["track_id"], row["decoded_s"]) for row in songs):
                if track_id in parcel.tracks:
                    time.sleep(seconds / EMBEDDED_S * SLEPT)
                    segments = range(0, round(seconds), SEGMENT_S)
                    ids += [track_id] * (1 + len(segments))
                    starts += [None, *segments]
                    yield track_id, seconds
            self._write(self.folder / parcel.shard.name, ids, starts)

    def _write(self, target: Path, ids: list[str], starts: list[int | None]) -> None:
        start_s = pa.array(starts, pa.float32())
        end_s = pc.add(start_s, pa.scalar(SEGMENT_S, pa.float32()))
        vec = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(len(ids) * DIM, np.float32)), DIM)
        table = pa.table([pa.array(ids), start_s, end_s, vec], schema(DIM))
        if target.exists():
            table = pa.concat_tables([read_vectors(target), table])
        write_vectors(target, table)


def _write_catalogue(home: Home, n_songs: int) -> Iterator[None]:
    files = _catalogue(home, n_songs)
    yield
    catalog.write(home, files)


def _read_catalogue(home: Home, n_songs: int) -> Iterator[None]:
    yield
    catalog.songs(catalog.read(home))


def _find(home: Home, n_songs: int) -> Iterator[None]:
    files = catalog.songs(catalog.read(home))
    yield
    candidates.find(files, set(), stage.FAILURES.to_frame())


def _plan(home: Home, n_songs: int) -> Iterator[None]:
    songs = _candidates(home)
    yield
    parcels.write_plan(_shards(home), parcels.parcels(songs, {}, SETTINGS))


def _plan_again(home: Home, n_songs: int) -> Iterator[None]:
    songs = _candidates(home)
    yield
    parcels.parcels(songs, {}, SETTINGS, parcels.read_plan(_shards(home)))
    parcels.drop_plan(_shards(home))


def _hand_out(home: Home, n_songs: int) -> Iterator[None]:
    plan = parcels.parcels(_candidates(home), {}, SETTINGS)
    yield
    filler = functools.partial(NothingWritten, _shards(home), home.scratch, SETTINGS)
    for _ in cluster.everywhere(filler, plan, cores=stage.CORES):
        pass


def _spectrograms(home: Home, n_songs: int) -> Iterator[None]:
    yield
    stage.run(home, SETTINGS, filler=NoFrames)


def _list(home: Home, n_songs: int) -> Iterator[None]:
    yield
    shards.list_shards(_shards(home))


def _read_shards(home: Home, n_songs: int) -> Iterator[None]:
    (_shards(home) / shards.INDEX).unlink(missing_ok=True)
    yield
    shards.read_index(_shards(home))


def _keep_index(home: Home, n_songs: int) -> Iterator[None]:
    index = shards.read_index(_shards(home))
    yield
    shards.keep_index(_shards(home), index)


def _read_index(home: Home, n_songs: int) -> Iterator[None]:
    yield
    shards.read_index(_shards(home))


def _embed(home: Home, n_songs: int) -> Iterator[None]:
    yield
    encode.run(home, embedder=NoModel)


def _add_songs(home: Home, n_songs: int) -> Iterator[None]:
    files = _catalogue(home, n_songs + ADDED)
    yield
    catalog.write(home, files)


STEPS: dict[str, Step] = {
    "catalogue written": _write_catalogue,
    "catalogue read": _read_catalogue,
    "candidates found": _find,
    "divided into parcels, plan kept": _plan,
    "the same from a plan kept": _plan_again,
    "parcels handed out": _hand_out,
    "spectrograms: all songs": _spectrograms,
    "shards listed": _list,
    "index read, none kept": _read_shards,
    "index kept": _keep_index,
    "index read": _read_index,
    "spectrograms: nothing to do": _spectrograms,
    "embed: all songs": _embed,
    "embed: nothing to do": _embed,
    f"catalogue of {ADDED} songs more": _add_songs,
    f"spectrograms: {ADDED} songs more": _spectrograms,
    f"embed: {ADDED} songs more": _embed,
}


def main(sizes: Sequence[int]) -> int:
    """Measure collections of so many songs each, print a table; returns the exit code.

    Raises:
        UserError: the disk of the temporary folder is too small, or a cluster cannot be used.
    """
    found: dict[int, dict[str, Took | None]] = {}
    for n_songs in sizes or SIZES:
        with tempfile.TemporaryDirectory(prefix="fastdino-bench-") as name:
            needed = DISK_BYTES + n_songs * DISK_BYTES_A_SONG
            measuring.expect_disk(Path(name), needed, n_songs, "--cluster 10000")
            home = Home(Path(name) / "home")
            make_up(home)
            found[n_songs] = dict(measuring.measure(home, n_songs, STEPS))
    address = environment.CLUSTER.value()
    where = f"the Ray cluster at {address}" if address else "this computer alone"
    measuring.show(f"fastdino bench --cluster, on {where}", found, list(STEPS))
    print(f"The computers of the cluster slept for {SLEPT:g} of what decoding and embedding take.")
    return 0


def make_up(home: Home) -> None:
    """An album that is there, for all that are not, and a model in name."""
    album = _music(home) / "album"
    album.mkdir(parents=True)
    for number in range(SONGS_AN_ALBUM):
        (album / f"{number + 1:02d} The Usual Song.flac").touch()
    collection.name_model(home, DIM, SETTINGS.spec_id)


def _catalogue(home: Home, n_songs: int) -> pl.DataFrame:
    """A catalogue of made-up songs, whose files are all there: every album is a link to the one."""
    music = _music(home)
    albums = [_album(music, each) for each in range(math.ceil(n_songs / SONGS_AN_ALBUM))]
    for link in albums:
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(music / "album")
    number = pl.int_range(n_songs)
    return collection.catalogue(
        n_songs,
        path=pl.format(
            "{}/{} The Usual Song.flac",
            pl.lit(pl.Series(map(str, albums))).gather(number // SONGS_AN_ALBUM),
            (number % SONGS_AN_ALBUM + 1).cast(pl.String).str.zfill(2),
        ),
        folder=pl.lit(str(music)),
        # Of all lengths in between, in no order.
        duration_s=SHORTEST_S + number * 7919 % (LONGEST_S - SHORTEST_S + 1),
    )


def _music(home: Home) -> Path:
    return home.root.parent / "music"


def _album(music: Path, number: int) -> Path:
    return music / f"Artist {number // ALBUMS_AN_ARTIST}" / f"Album {number}"


def _candidates(home: Home) -> list[Candidate]:
    songs = catalog.songs(catalog.read(home))
    found, _ = candidates.find(songs, set(), stage.FAILURES.to_frame())
    return found


def _shards(home: Home) -> Path:
    return home.shards(SETTINGS.spec_id)
