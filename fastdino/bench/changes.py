"""What a change of the collection costs, beside the run that started it.

Belongs here: libraries of real little files, changing them, running the stages as ``fastdino run``
does and measuring each. Does not: the stages, or how fast one of them is, which this room's other
modules measure.

Nothing is extrapolated: every song is a file that is opened, decoded and embedded. They last half a
minute each, so that the full run is a sixth of what it would be with whole songs, and the share
that a refresh takes of it is more than it would be.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdino.bench import measuring
from fastdino.bench.table import core_seconds, in_a_process, peak_memory_mb
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.terminal import print_table
from fastdino.steps import DrawMap, Embed, Ingest, Publish, Spectrograms, Step, Train, WritePage

SIZES = (1_000, 5_000, 15_000)
CHANGED = 10
SONG_S = 30
# MP3 at these settings has frames of one size, 24 ms each, that stand on their own: whatever is
# put together from them is an MP3 with packets of its own, without encoding it.
RATE, BIT_RATE, FRAME_BYTES, FRAME_SAMPLES = 48_000, 48_000, 144, 1_152
ARTISTS, CLIPS, CLIP_S = 40, 4, 3.0
FILES_A_FOLDER = 100
# A song's file, its spectrogram and its vectors, twice those while they are written anew.
DISK_BYTES_A_SONG, DISK_BYTES = 600_000, 1_500_000_000
# How long the encoder is trained, which is not measured; how good it is does not matter here.
TRAINING_MINUTES = 0.2
AFTER = (Embed(), DrawMap(), Publish(), WritePage())


@dataclass(frozen=True)
class Took:
    """What one stage took.

    Attributes:
        seconds: of wall time.
        megabytes: size of the files under the home that it made or replaced.
        new_tracks: songs that were new to it, where it counts them.
    """

    name: str
    seconds: float
    megabytes: float
    new_tracks: int


@dataclass(frozen=True)
class Measured:
    """What one run took.

    Attributes:
        steps: its stages.
        seconds: of wall time with the start of its processes, without training.
        core_seconds: that its processes computed, which other work on the machine does not change.
        peak_mb: memory that the process of the stages after training took at most.
    """

    steps: list[Took]
    seconds: float
    core_seconds: float
    peak_mb: float


class Library:
    """A folder of made-up songs, ``number 0 .. n``, each a file with sound of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clips: dict[int, list[bytes]] = {}

    def path(self, number: int) -> Path:
        """Where a song lies."""
        return self.folder / f"{number // FILES_A_FOLDER:04d}" / f"{number:06d}.mp3"

    def write(self, number: int) -> None:
        """Write a song: clips of one artist in an order of its own, and tags."""
        artist = number % ARTISTS
        rng = np.random.default_rng([1, number])
        if artist not in self._clips:
            self._clips[artist] = _clips(artist)
        clips = self._clips[artist]
        wanted = SONG_S * RATE // FRAME_SAMPLES
        sound = b""
        while len(sound) < wanted * FRAME_BYTES:
            sound += clips[rng.integers(len(clips))][rng.integers(40) * FRAME_BYTES :]
        tags = (f"Song {number}", f"Artist {artist}", f"Album {number // 12}", "2020", "")
        widths = (30, 30, 30, 4, 30)
        fields = (tag.encode().ljust(width, b"\0") for tag, width in zip(tags, widths, strict=True))
        path = self.path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            sound[: wanted * FRAME_BYTES] + b"TAG" + b"".join(fields) + bytes([artist % 80])
        )


def _clips(artist: int) -> list[bytes]:
    """A few seconds of encoded chords over a beat, ``CLIPS`` times."""
    import av

    found = []
    t = np.arange(int(CLIP_S * RATE)) / RATE
    rng = np.random.default_rng([0, artist])
    bright, pulse, noise = rng.uniform(0.5, 2), rng.uniform(1, 5), rng.uniform(0, 0.1)
    for _ in range(CLIPS):
        notes = 110 * 2 ** (rng.integers(0, 36, (4, 1)) / 12)
        partials = [np.sin(2 * np.pi * notes * k * t) / k**bright for k in range(1, 5)]
        beat = noise * rng.standard_normal(len(t)) * np.exp(-8 * (pulse * t % 1))
        sound = (0.03 * np.sum(partials, axis=(0, 1)) + beat).astype(np.float32)
        encoder = av.AudioCodecContext.create("libmp3lame", "w")
        encoder.rate, encoder.layout, encoder.format = RATE, "mono", "fltp"
        encoder.bit_rate, encoder.options = BIT_RATE, {"reservoir": "0"}
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        packets = [*encoder.encode(frame), *encoder.encode(None)]
        found.append(b"".join(bytes(packet) for packet in packets))
    return found


def main(sizes: Sequence[int]) -> int:
    """Measure libraries of so many songs each, print a table of each; returns the exit code.

    Raises:
        UserError: the disk of the temporary folder is too small.
    """
    for n_songs in sizes or SIZES:
        with tempfile.TemporaryDirectory(prefix="fastdino-bench-") as name:
            folder = Path(name)
            needed = DISK_BYTES + n_songs * DISK_BYTES_A_SONG
            measuring.expect_disk(folder, needed, n_songs, "--incremental 1000")
            _show(n_songs, *measure(folder, n_songs))
    return 0


def measure(folder: Path, n_songs: int) -> tuple[dict[str, Measured], dict[str, int]]:
    """Run all stages on ``n_songs`` songs, then after one change after another.

    Args:
        folder: an empty one to work in.
        n_songs: songs to begin with, more than ``CHANGED``.

    Returns:
        What each run took, by what had changed, the full run first; and how many of the old songs
        were decoded again, embedded again, moved on the map.
    """
    home, library = Home(folder / "home"), Library(folder / "music")
    with progress("Making songs", n_songs, "songs") as shown:
        for number in range(n_songs):
            library.write(number)
            shown.advance()
    music = library.folder
    runs: dict[str, Measured] = {}
    again = {"decoded": 0, "embedded": 0, "moved on the map": 0}
    with progress("Running the stages", 5, "runs") as shown:
        runs["full run"] = _started(home, music)
        places = _places(home)
        shown.advance()

        def refresh(changed: str, new_songs: int) -> None:
            run = runs[changed] = _refreshed(home, music)
            new = {step.name: step.new_tracks for step in run.steps}
            here = _places(home)
            again["decoded"] += new["spectrograms"] - new_songs
            again["embedded"] += new["embed"] - new_songs
            again["moved on the map"] += sum(
                places[track] != here[track] for track in places.keys() & here
            )
            shown.advance()

        refresh("nothing", 0)
        for number in range(n_songs, n_songs + CHANGED):
            library.write(number)
        refresh(f"{CHANGED} songs more", CHANGED)
        for number in range(0, n_songs, n_songs // CHANGED)[:CHANGED]:
            library.path(number).unlink()
        refresh(f"{CHANGED} songs fewer", 0)
        music = music.rename(folder / "renamed")
        refresh("every file moved", 0)
    return runs, again


def _started(home: Home, music: Path) -> Measured:
    """The first run of all; training is between and not counted."""
    before = _in_a_process(home, _before(music))
    _in_a_process(home, [_training()])
    after = _in_a_process(home, AFTER)
    return Measured(
        before.steps + after.steps,
        before.seconds + after.seconds,
        before.core_seconds + after.core_seconds,
        after.peak_mb,
    )


def _refreshed(home: Home, music: Path) -> Measured:
    """A later run of all; training only finds that the model still fits."""
    return _in_a_process(home, [*_before(music), _training(), *AFTER])


def _before(music: Path) -> tuple[Step, ...]:
    return Ingest(music=(str(music),)), Spectrograms()


def _training() -> Step:
    return Train(minutes=TRAINING_MINUTES)


def _in_a_process(home: Home, steps: Sequence[Step]) -> Measured:
    """Run stages as ``fastdino run`` does, in a process of their own."""
    start = time.perf_counter()
    took, computed_s, peak_mb = in_a_process(_run, home, steps)
    return Measured(took, time.perf_counter() - start, computed_s, peak_mb)


def _run(home: Home, steps: Sequence[Step]) -> tuple[list[Took], float, float]:
    took = []
    before = _files(home)
    for step in steps:
        start = time.perf_counter()
        summary = step.run(home)
        seconds = time.perf_counter() - start
        after = _files(home)
        written = sum(file[0] for path, file in after.items() if before.get(path) != file)
        new_tracks = (summary.counts.get("new_tracks") if summary else 0) or 0
        took.append(Took(step.name, seconds, written / 1e6, int(new_tracks)))
        before = after
    return took, core_seconds(), peak_memory_mb()


def _files(home: Home) -> dict[Path, tuple[int, int, int]]:
    """Size, time and inode of every file under the home."""
    found = {}
    for path in home.root.rglob("*"):
        if path.is_file():
            status = path.stat()
            found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def _places(home: Home) -> dict[str, tuple[float, float]]:
    """Where every song lies on the standing map."""
    from fastdino.reports.map_files import read_standing
    from fastdino.training import registry

    standing = read_standing(home, registry.current(home)["model_id"])
    assert standing is not None
    rows = standing.songs.select("track_id", "x", "y").rows()
    return {track: (x, y) for track, x, y in rows}


def _show(n_songs: int, runs: dict[str, Measured], again: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", title=f"fastdino bench --incremental, {n_songs:,} songs")
    table.title_justify = "left"
    for changed in runs:
        table.add_column(changed, justify="right")
    full = runs["full run"]
    for step in full.steps:
        table.add_row(step.name, *(_cell(run, step.name) for run in runs.values()))
    table.add_section()
    table.add_row("all", *(_all(run) for run in runs.values()))
    table.add_row(
        "share of the full run", *(f"{run.seconds / full.seconds:.1%}" for run in runs.values())
    )
    table.add_row("core seconds", *(f"{run.core_seconds:,.1f}" for run in runs.values()))
    table.add_row(
        "share of the full run",
        *(f"{run.core_seconds / full.core_seconds:.1%}" for run in runs.values()),
    )
    table.add_row("peak memory, MB", *(f"{run.peak_mb:,.0f}" for run in runs.values()))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    print_table(console, table)
    console.print(
        f"Seconds and MB written. {TRAINING_MINUTES:g} minutes of training are left out of the "
        "full run. Old songs "
        + ", ".join(f"{what}: {count}" for what, count in again.items())
        + "."
    )


def _cell(run: Measured, name: str) -> str:
    step = next(step for step in run.steps if step.name == name)
    return f"{step.seconds:,.1f} s {step.megabytes:7,.1f}"


def _all(run: Measured) -> str:
    return f"{run.seconds:,.1f} s {sum(step.megabytes for step in run.steps):7,.1f}"
