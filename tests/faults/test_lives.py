"""Whatever is done to a library, the incremental result is that of starting from scratch.

Files are opened and decoded in this process: workers, which take seconds to start, are another
matter (``tests/test_workers.py``).
"""

import contextlib
import datetime
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import hypothesis
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import strategies as st

from fastdino import demo, embeddings, ingestion, spectrograms
from fastdino.core import tables
from fastdino.core.failures import MACHINE
from fastdino.core.home import Home
from fastdino.core.workers import WorkerFailure
from fastdino.embeddings.vectors import read_vectors, vector_files
from fastdino.ingestion import catalog, identify, skipped
from fastdino.spectrograms import SpectrogramSettings, filling, shards, stage
from tests.editing import retag
from tests.faults.child import InThisProcess
from tests.untrained import MODEL, write_model

SPEC = SpectrogramSettings()
FOLDERS = ("", "a", "b", "b/c")
# What costs no decoding.
FREE = (
    "copy", "copy_folder", "move", "move_folder", "remove", "remove_folder", "retag", "swap",
    "touch",
)  # fmt: skip
OPERATIONS = (
    *FREE, "add", "come_back", "hide", "junk", "no_sheet", "replace", "sheet", "show", "trouble",
)  # fmt: skip

Operation = tuple[str, int, int]
# Each of them on its own, and some on files that cannot be decoded or look as they did before.
EACH: list[list[Operation]] = [
    [(name, 4 * number, 3 * number)] for number, name in enumerate((*OPERATIONS, "move", "replace"))
]


class Library:
    """A folder of songs in which things happen, each given by its name and two choices."""

    def __init__(self, stock: Path, folder: Path) -> None:
        self.stock = sorted(stock.iterdir())
        self.music, self.aside = folder / "music", folder / "aside"
        self.aside.mkdir()
        self.gone: list[tuple[Path, Path]] = []
        self._numbers = itertools.count()
        # Decodings to come that the computer will not manage.
        self.troubles = 0
        for song in self.stock[:-2]:
            self.add(self.stock.index(song), len(song.name))

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self._there if path.suffix != ".cue")

    @property
    def sheets(self) -> list[Path]:
        return sorted(path for path in self._there if path.suffix == ".cue")

    @property
    def _there(self) -> Iterator[Path]:
        return (path for path in self.music.rglob("*") if path.is_file())

    def one(self, which: int) -> Path:
        return self.files[which % len(self.files)]

    def free(self, where: int, suffix: str = "") -> Path:
        """A path at which nothing ever was."""
        folder = self.music / FOLDERS[where % len(FOLDERS)]
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{next(self._numbers)} ♪{suffix}"

    def put(self, content: Path, target: Path) -> None:
        """Write a file at a time of its own: two in the same millisecond are not the point."""
        shutil.copy(content, target)
        os.utime(target, ns=(0, 1_700_000_000_000_000_000 + next(self._numbers)))

    def add(self, which: int, where: int) -> None:
        song = self.stock[which % len(self.stock)]
        self.put(song, self.free(where, song.suffix))

    def copy(self, which: int, where: int) -> None:
        song = self.one(which)
        shutil.copy2(song, self.free(where, song.suffix))

    def move(self, which: int, where: int) -> None:
        song = self.one(which)
        song.rename(self.free(where, song.suffix))

    def swap(self, which: int, other: int) -> None:
        song, another = self.one(which), self.one(other)
        if song.suffix == another.suffix and song != another:
            kept = song.rename(self.aside / "kept")
            another.rename(song)
            kept.rename(another)

    def retag(self, which: int, title: int) -> None:
        song = self.one(which)
        # Not what is in a strange format.
        with contextlib.suppress(av.FFmpegError, KeyError):
            retag(song, self.aside / "retagged", {"title": f"Title {title}"})
            self.put(self.aside / "retagged", song)

    def touch(self, which: int, when: int) -> None:
        os.utime(self.one(which), ns=(0, 1_600_000_000_000_000_000 + when))

    def replace(self, which: int, by: int) -> None:
        song = self.one(which)
        if same_kind := [other for other in self.stock if other.suffix == song.suffix]:
            self.put(same_kind[by % len(same_kind)], song)

    def sheet(self, which: int, how: int) -> None:
        """A sheet that fits a file, or not, for one reason or another."""
        song = self.one(which)
        begin = ("00:00:00", "00:00:05", "00:01:00", "01:00:00")[how % 4]
        lines = (
            f'FILE "{song.name if how % 5 else "another.wav"}" WAVE',
            "TRACK 01 AUDIO", f'TITLE "Title {how}"', "INDEX 01 00:00:00",
            "TRACK 02 AUDIO", f"INDEX 01 {begin}",
        )  # fmt: skip
        (self.aside / "sheet").write_text("\n".join(lines), encoding="utf-8")
        self.put(self.aside / "sheet", song.with_suffix(".cue"))

    def no_sheet(self, which: int, _: int) -> None:
        if self.sheets:
            self.sheets[which % len(self.sheets)].unlink()

    def junk(self, which: int, where: int) -> None:
        """What is not looked at: of a strange format, or a song in the bin of a file server."""
        song = self.stock[which % len(self.stock)]
        if where % 2:
            self.put(song, self.free(where, ".mid"))
        else:
            (self.music / "#recycle").mkdir(exist_ok=True)
            self.put(song, self.music / "#recycle" / song.name)

    def hide(self, which: int, _: int) -> None:
        folder = self.one(which).parent
        if not all(path.is_relative_to(folder) for path in self._listed()):
            self.put(self.stock[0], folder / ".nomedia")
            os.truncate(folder / ".nomedia", 0)

    def show(self, which: int, _: int) -> None:
        if marks := sorted(self.music.rglob(".nomedia")):
            marks[which % len(marks)].unlink()

    def trouble(self, which: int, _: int) -> None:
        self.troubles += 1 + which % 3

    def _listed(self) -> list[Path]:
        hidden = [mark.parent for mark in self.music.rglob(".nomedia")]
        return [
            path
            for path in self.files
            if "#recycle" not in path.parts
            and path.suffix not in (".mid", "")
            and not any(path.is_relative_to(folder) for folder in hidden)
        ]

    def remove(self, which: int, _: int) -> None:
        song = self.one(which)
        if self._listed() != [song]:
            kept = self.aside / str(next(self._numbers))
            self.gone.append((song, song.rename(kept)))

    def come_back(self, which: int, _: int) -> None:
        if self.gone:
            was, kept = self.gone.pop(which % len(self.gone))
            was.parent.mkdir(parents=True, exist_ok=True)
            kept.rename(was)

    def move_folder(self, which: int, _: int) -> None:
        if (folder := self.one(which).parent) != self.music:
            folder.rename(self.free(0))

    def copy_folder(self, which: int, _: int) -> None:
        if (folder := self.one(which).parent) != self.music:
            shutil.copytree(folder, self.free(0))

    def remove_folder(self, which: int, _: int) -> None:
        folder = self.one(which).parent
        if not all(path.is_relative_to(folder) for path in self._listed()):
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of sound in every format, and what cannot be opened or decoded."""
    folder = tmp_path_factory.mktemp("stock")
    rng = np.random.default_rng(0)

    def write(name: str, seconds: float, loudness: float) -> None:
        audio = loudness * rng.standard_normal((2, int(seconds * demo.RATE)))
        demo.encode(folder / name, audio.astype(np.float32), demo.RATE, {"title": name})

    for suffix in demo.FORMATS:
        write(f"sound{suffix}", 1.2, 0.1)
    write("silent.wav", 1.2, 0.0)
    write("short.flac", 0.5, 0.1)
    (folder / "broken.m4a").write_bytes((folder / "sound.m4a").read_bytes()[:9_000])
    write("then.flac", 1.2, 0.1)
    write("then.mp3", 1.2, 0.1)
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one small model, of random weights."""
    home = Home(tmp_path_factory.mktemp("untrained"))
    write_model(home)
    return home.models


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Library]]:
    """Files are opened and decoded in this process, with the troubles of the libraries in here."""
    threads = torch.get_num_threads()
    libraries: list[Library] = []

    class Troubled(InThisProcess[Any, Any]):
        def __init__(self, function: Callable[[Any], Any], **options: Any) -> None:
            def troubled(task: Any) -> Any:
                if libraries and libraries[0].troubles:
                    libraries[0].troubles -= 1
                    return WorkerFailure("crashed its process (SIGKILL)", MACHINE)
                return function(task)

            super().__init__(troubled, **options)

    monkeypatch.setattr(identify, "WorkerPool", InThisProcess)
    monkeypatch.setattr(filling, "WorkerPool", Troubled)
    yield libraries
    torch.set_num_threads(threads)


def refreshed(home: Home, music: Path) -> tuple[int, int]:
    """Run the stages; returns how many songs were decoded and how many embedded."""
    ingestion.run(home, [music])
    decoded = spectrograms.run(home).counts["new_tracks"]
    embedded = embeddings.run(home).counts["new_tracks"]
    assert isinstance(decoded, int)
    assert isinstance(embedded, int)
    return decoded, embedded


def result(home: Home) -> dict[str, Any]:
    """What a reader gets to see of the songs that are there now, apart from times."""
    files = catalog.read(home)
    tracks = catalog.tracks(files)
    now = set(tracks["track_id"])
    folder = home.shards(SPEC.spec_id)
    pieces: dict[str, list[bytes]] = {}
    for shard in shards.list_shards(folder):
        for piece in shards.iter_pieces(shard, now):
            pieces.setdefault(piece.track_id, []).append(piece.frames.tobytes())
    rows = [row for path in vector_files(home, MODEL) for row in read_vectors(path).to_pylist()]
    # When a file was first seen decides which of a song's files gives it its title.
    failures = stage.read_failures(folder).drop("failed_at", "attempts")
    return {
        "catalogue": files.drop("added_at").rows(),
        "tracks": tracks.select("track_id", "n_files").rows(),
        "failures": sorted(failures.rows(), key=repr),
        "skipped": skipped.read(home).rows(),
        "spectrograms": pieces,
        "vectors": sorted(map(repr, (row for row in rows if row["track_id"] in now))),
    }


def all_due(home: Home) -> None:
    """As after a long time: what the computer was to blame for is tried again."""
    folder = home.shards(SPEC.spec_id)
    failures = stage.read_failures(folder)
    long_ago = pl.lit(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    due = pl.when(pl.col("next_try_at").is_not_null()).then(long_ago)
    tables.write(folder / "failures.parquet", failures.with_columns(next_try_at=due))


def live(
    library: Library,
    home: Home,
    scratch: Path,
    models: Path,
    steps: Sequence[Sequence[Operation]],
    troubled: list[Library],
) -> None:
    """Do what the steps say; after each, hold the pipeline's result against one from scratch."""
    shutil.copytree(models, home.models)
    refreshed(home, library.music)
    for step in steps:
        has_sheets, hidden = bool(library.sheets), len(library._listed()) < len(library.files)
        for name, first, second in step:
            getattr(library, name)(first, second)
        troubled[:] = [library]
        decoded, embedded = refreshed(home, library.music)
        assert decoded == embedded
        troubled.clear()
        library.troubles = 0
        all_due(home)
        refreshed(home, library.music)
        # Away from its sheet a file holds other songs.
        if all(name in FREE for name, *_ in step) and not (has_sheets or hidden):
            assert decoded == 0
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(models, scratch / "models")
        refreshed(Home(scratch), library.music)
        expected = result(Home(scratch))
        for name, found in result(home).items():
            assert found == expected[name], name


@pytest.mark.parametrize("examples", [1, pytest.param(200, marks=pytest.mark.thorough)])
def test_after_any_changes_the_result_is_that_of_a_first_run(
    examples: int,
    stock: Path,
    untrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    troubled: list[Library],
) -> None:
    numbers = itertools.count()
    choice = st.integers(0, 99)
    operation = st.tuples(st.sampled_from(OPERATIONS), choice, choice)

    @hypothesis.settings(
        max_examples=examples,
        derandomize=examples < 10,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.lists(st.lists(operation, min_size=1, max_size=3), min_size=1, max_size=6))
    def check(steps: list[list[Operation]]) -> None:
        folder = tmp_path / str(number := next(numbers))
        folder.mkdir()
        library, home = Library(stock, folder), Home(folder / "home")
        live(library, home, folder / "scratch", untrained, steps, troubled)
        shutil.rmtree(folder)
        if number % 25 == 24:
            with capsys.disabled():
                print(f"\n{number + 1} lives of a library, {examples} in all")

    check()


@pytest.mark.thorough
def test_after_each_kind_of_change_the_result_is_that_of_a_first_run(
    stock: Path, untrained: Path, tmp_path: Path, troubled: list[Library]
) -> None:
    home = Home(tmp_path / "home")
    live(Library(stock, tmp_path), home, tmp_path / "scratch", untrained, EACH, troubled)
