"""Thousands of damaged files: each is a track or a failure, and none stops or slows a run.

File number ``n`` of seed ``s`` is always the same: ``damaged(sources, s, n)`` makes it again.
"""

import multiprocessing
import random
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastdino import demo, ingestion, spectrograms
from fastdino.core.home import Home
from fastdino.ingestion import catalog
from fastdino.spectrograms import SpectrogramSettings, shards, stage

FULL = 2_500
SMALL = 60
SECONDS = 1.5
MOST_MEMORY_MB = 1_200
# Beside the demo library's own.
FORMATS = {
    ".aac": demo.Format("adts", "aac", bit_rate=96_000),
    ".aiff": demo.Format("aiff", "pcm_s16be"),
    ".au": demo.Format("au", "pcm_s16be"),
    ".caf": demo.Format("caf", "pcm_s16le"),
    ".mka": demo.Format("matroska", "libopus", rate=48_000, bit_rate=64_000),
    ".mp2": demo.Format("mp2", "mp2", bit_rate=128_000),
    ".tta": demo.Format("tta", "tta"),
    ".w64": demo.Format("w64", "pcm_s16le"),
    ".wma": demo.Format("asf", "wmav2", bit_rate=128_000),
    ".wv": demo.Format("wv", "wavpack"),
}
TITLE = "A title that is damaged"
ODD = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Damage = Callable[[random.Random, bytes, bytes], bytes]


def _at(rng: random.Random, content: bytes, until: int | None = None) -> int:
    return rng.randrange(min(until or len(content), len(content)) or 1)


def flipped(rng: random.Random, content: bytes, other: bytes, until: int | None = None) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        changed[_at(rng, content, until)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flipped_header(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return flipped(rng, content, other, until=512)


def lying_sizes(rng: random.Random, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        at, width = _at(rng, content, 1024), rng.choice((2, 4, 8))
        number = rng.choice((*ODD, rng.getrandbits(32))) % 256**width
        changed[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
    return bytes(changed)


def damaged_tags(rng: random.Random, content: bytes, other: bytes) -> bytes:
    at = max(0, content.find(TITLE.encode()) - rng.randrange(40))
    damage = rng.choice((flipped_header, lying_sizes, inserted, overwritten))
    return content[:at] + damage(rng, content[at : at + 80], other[:80]) + content[at + 80 :]


def overwritten(rng: random.Random, content: bytes, other: bytes) -> bytes:
    at, length = _at(rng, content), rng.choice((16, 1_000, 30_000))
    length = min(length, len(content) - at)
    noise = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return content[:at] + noise + content[at + length :]


def inserted(rng: random.Random, content: bytes, other: bytes) -> bytes:
    at, length = _at(rng, content), rng.choice((1, 7, 512, 5_000))
    return content[:at] + rng.choice((rng.randbytes(length), other[:length])) + content[at:]


def left_out(rng: random.Random, content: bytes, other: bytes) -> bytes:
    at = _at(rng, content)
    return content[:at] + content[at + rng.choice((1, 7, 512, 5_000)) :]


def repeated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content * rng.randint(2, 5)


def cut(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: _at(rng, content)]


def beheaded(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[_at(rng, content) :]


def header_only(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: rng.choice((0, 1, 4, 12, 44, 100, 512, 2048))]


def spliced(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: _at(rng, content)] + other[_at(rng, other) :]


def other_content(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return other


def twice(rng: random.Random, content: bytes, other: bytes) -> bytes:
    first, second = rng.sample(DAMAGES[:-1], 2)
    return second(rng, first(rng, content, other) or b"x", other)


DAMAGES: list[Damage] = [
    flipped, flipped_header, lying_sizes, damaged_tags, overwritten, inserted, left_out, repeated,
    cut, beheaded, header_only, spliced, other_content, twice,
]  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A short song in every format that can be written here, by suffix."""
    folder = tmp_path_factory.mktemp("sources")
    song = demo.compose(demo.plan(folder, 1, 1, SECONDS)[0])[:, : int(SECONDS * demo.RATE)]
    found = {}
    with pytest.MonkeyPatch.context() as patched:
        for suffix, how in FORMATS.items():
            patched.setitem(demo.FORMATS, suffix, how)
        for number, suffix in enumerate(demo.FORMATS):
            path = folder / f"song{suffix}"
            demo.encode(path, np.roll(song, number, 1), demo.RATE, {"title": TITLE})
            found[suffix] = path.read_bytes()
    return found


def damaged(sources: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Name and content of one damaged file."""
    rng = random.Random(f"{seed} {number}")
    suffix, damage = rng.choice(sorted(sources)), rng.choice(DAMAGES)
    content = damage(rng, sources[suffix], sources[rng.choice(sorted(sources))])
    return f"{number:05} {damage.__name__}{suffix}", content


def run_stages(home: Home, music: Path) -> float:
    """Ingest and decode; returns the most memory that a worker had, in MB.

    To be run in a process of its own: the figure is that of all children it ever had.
    """
    ingestion.run(home, [music])
    spectrograms.run(home)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@pytest.mark.parametrize(
    ("seed", "n"), [(0, SMALL), pytest.param(1, FULL, marks=pytest.mark.thorough)]
)
def test_every_damaged_file_is_a_track_or_a_failure(
    seed: int,
    n: int,
    sources: dict[str, bytes],
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(sources) == len(demo.FORMATS) + len(FORMATS)
    music = tmp_path / "music"
    music.mkdir()
    for number in range(n):
        name, content = damaged(sources, seed, number)
        (music / name).write_bytes(content)
    start = time.monotonic()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        memory_mb = pool.submit(run_stages, home, music).result()
    seconds = time.monotonic() - start

    files = catalog.read(home)
    folder = home.shards(SpectrogramSettings().spec_id)
    failures = stage.read_failures(folder)
    pieces = pl.from_arrow(shards.read_index(folder))
    assert isinstance(pieces, pl.DataFrame)
    decoded = set(pieces["track_id"])
    assert sorted(files["path"]) == sorted(str(path) for path in music.iterdir())
    assert (files["error"].is_null() != files["track_id"].is_null()).all()
    tracks = files.filter(pl.col("error").is_null())
    undecoded = tracks.filter(~pl.col("track_id").is_in(list(decoded)))
    failed = failures.filter(~pl.col("track_id").is_in(list(decoded)))
    assert sorted(undecoded["path"]) == sorted(failed["path"])
    assert not failures["path"].is_duplicated().any()
    assert decoded <= set(tracks["track_id"])
    assert not pieces.select("track_id", "piece").is_duplicated().any()

    reasons = [*files["error"].drop_nulls(), *failures["reason"]]
    lost = [reason for reason in reasons if "crashed" in reason or "stopped after" in reason]
    assert len(lost) <= n / 500, lost
    assert memory_mb < MOST_MEMORY_MB
    assert not ingestion.run(home, [music]).did_work
    assert not spectrograms.run(home).did_work
    with capsys.disabled():
        print(
            f"\n{n} damaged files in {seconds:.0f} s, {memory_mb:.0f} MB a worker at most: "
            f"{len(tracks) - len(undecoded)} with sound, {len(undecoded)} undecoded, "
            f"{n - len(tracks)} unreadable, {len(lost)} workers lost"
        )
