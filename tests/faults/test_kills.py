"""Killed at any moment, the pipeline ends up with what an undisturbed one has.

An episode is the life of a small library: a first run, a few changes, and many that put the model
and the map out of date. Each is killed at moments drawn from the episode's seed and run again until
it ends. ``pytest -m thorough tests/faults -k "episode and 7"`` repeats the one of seed 7.
"""

import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import soundfile

from fastdino.core.home import Home
from fastdino.embeddings.vectors import read_vectors
from fastdino.page.page import gather, script_safe
from fastdino.spectrograms import shards
from fastdino.upkeep import verify
from tests.editing import retag
from tests.faults.child import Moment, Touched, run
from tests.stages import contents

EPISODES = 12
KILLS = 4  # at most, of each change in an episode
# Names of models and maps are made of the time and of chance; here they are numbered by age.
NAMES = {"model": r"\d{8}T\d{6}-tiny-[0-9a-f]{4}", "map": r"\d{8}T\d{6}-[0-9a-f]{6}"}
# What else no two runs have in common.
DIFFERENT_BY_NATURE = {
    "added_at": "when a file was first seen",
    "failed_at": "when decoding it failed",
    "created_at": "when a model or a map was made",
    "published_at": "when the database was made",
    "fingerprint": "made of the times at which everything published was written",
    "vector_files": "has such times",
    "form": "made of the model's name, among others",
    "training_s": "how long the training took",
    "elapsed_s": "how long it had taken up to a step",
    "songs_per_s": "how fast a step was",
}
PLACES = [
    *["catalog", "scratch", "shards", "models", "vectors", "maps", "music.duckdb", "reports"],
    "outcomes",
]


def nothing(music: Path, stock: Path) -> None:
    """The library as it is."""


def a_few(music: Path, stock: Path) -> None:
    """One song comes, one is moved, one retagged: the model and the map stand."""
    shutil.copy2(stock / "new 0.wav", music)
    sorted(music.rglob("*.flac"))[0].rename(music / "moved ♫.flac")
    shutil.copy2(stock / "retagged.flac", sorted(music.rglob("*/*.flac"))[0])


def many(music: Path, stock: Path) -> None:
    """More songs come than the model and the map put up with; one is replaced, one is gone."""
    for number in (1, 2, 3):
        shutil.copy2(stock / f"new {number}.wav", music)
    shutil.copy2(stock / "new 4.wav", sorted(music.rglob("*/*.wav"))[0])
    sorted(music.rglob("*/*.opus"))[0].unlink()


CHANGES = (nothing, a_few, many)


@pytest.fixture(scope="module")
def stock(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files for the changes, made once so that they are the same in every episode."""
    folder = tmp_path_factory.mktemp("stock")
    t = np.arange(4 * 16_000) / 16_000
    for number in range(5):
        sweep = np.sin(2 * np.pi * (150 + 60 * number + 40 * t * number) * t)
        noise = np.random.default_rng(number).normal(0, 0.05, len(t))
        soundfile.write(folder / f"new {number}.wav", 0.3 * sweep + noise, 16_000)
    retag(sorted(library.rglob("*.flac"))[1], folder / "retagged.flac", {"title": "Another"})
    return folder


class Life:
    """A library of its own, and what is made of it."""

    def __init__(self, library: Path, folder: Path, *, workers: bool = True) -> None:
        self.workers = workers
        self.music = Path(shutil.copytree(library, folder / "music"))
        self.home, self.log = Home(folder / "home"), folder / "log"

    def run(self, moment: Moment | None = None) -> Touched | None:
        command = ["run", str(self.music), "--preset", "tiny"]
        return run(self.home, command, self.log, moment, workers=self.workers)

    def repair(self, moment: Moment | None = None) -> Touched | None:
        return run(self.home, ["verify", "--repair"], self.log, moment)

    def everything(self) -> dict[str, list[str]]:
        """All that must be the same, by what it is: what is published, and what that is made of."""
        home = self.home
        found: dict[str, list[str]] = {}
        with duckdb.connect(home.database, read_only=True) as db:
            for (table,) in db.execute("SHOW TABLES").fetchall():
                rows = db.sql(f"FROM {table}").pl().rows(named=True)
                found[table] = [repr(_without_differences(row)) for row in rows]
            # The page says when and by which model, and is otherwise made of the database alone.
            page = home.page.read_bytes()
            assert all(script_safe(part) in page for part in gather(db).values())
        for path in home.root.glob("shards/*/*-*.parquet"):
            found[f"shard {path.name}"] = [
                f"{number}: {piece.track_id} {hashlib.blake2b(piece.frames).hexdigest()}"
                for number, piece in enumerate(shards.iter_pieces(path))
            ]
        for path in home.root.glob("vectors/*/*.parquet"):
            rows = read_vectors(path).to_pylist()
            found[str(path.relative_to(home.root))] = list(map(repr, rows))
        for folder in home.models.glob("[!.]*/"):
            steps = (folder / "metrics.jsonl").read_text().splitlines()
            found[f"steps of {folder.name}"] = [repr(_without_differences(step)) for step in steps]
            weights = (folder / "model.safetensors").read_bytes()
            found[f"weights of {folder.name}"] = [hashlib.blake2b(weights).hexdigest()]
        found["files"] = [
            str(path.relative_to(home.root))
            for path in home.root.rglob("*")
            if path.is_file() and path.name != ".lock"
        ]
        stands_for = {str(self.music): "MUSIC"}
        for kind, pattern in NAMES.items():
            names = sorted(set(re.findall(pattern, json.dumps(found))))
            stands_for |= {name: f"{kind} {number}" for number, name in enumerate(names)}

        def same(text: str) -> str:
            for name, number in stands_for.items():
                text = text.replace(name, number)
            return text

        return {same(name): sorted(map(same, rows)) for name, rows in found.items()}


def _without_differences(value: Any) -> Any:
    """``value`` without what differs by nature, within JSON too."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if isinstance(value, dict):
        return {
            k: _without_differences(v) for k, v in value.items() if k not in DIFFERENT_BY_NATURE
        }
    return value


def assert_same(
    found: dict[str, list[str]], expected: dict[str, list[str]], told: list[object]
) -> None:
    for name in found.keys() | expected.keys():
        mine, theirs = found.get(name, []), expected.get(name, [])
        if mine != theirs:
            more = [f"+ {row[:500]}" for row in mine if row not in theirs]
            less = [f"- {row[:500]}" for row in theirs if row not in mine]
            raise AssertionError("\n".join([f"{name} after {told}:", *more[:5], *less[:5]]))


def killed_and_run_again(life: Life, moments: list[Moment]) -> list[Moment]:
    """Run until the end, killed at the moments on the way; returns those that came."""
    killed = [moment for moment in moments if life.run(moment) is None]
    assert life.run() is not None
    return killed


@pytest.fixture(scope="module")
def undisturbed(
    library: Path, stock: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Touched, dict[str, list[str]]]]:
    """What each change touches and leaves behind if nothing is killed."""
    life = Life(library, tmp_path_factory.mktemp("undisturbed"))
    found = []
    for change in CHANGES:
        change(life.music, stock)
        touched = life.run()
        assert touched
        found.append((touched, life.everything()))
    return found


@pytest.mark.parametrize(
    "places",
    [
        pytest.param(["shards", "models", "music.duckdb"], id="three"),
        pytest.param(PLACES, id="all", marks=pytest.mark.thorough),
    ],
)
def test_killed_in_several_stages_a_run_ends_with_what_an_undisturbed_one_has(
    places: list[str], library: Path, tmp_path: Path
) -> None:
    undisturbed = Life(library, tmp_path / "undisturbed", workers=False)
    touched = undisturbed.run()
    assert touched
    assert set(touched) == set(PLACES)
    rng = random.Random(4)
    moments = [Moment(place, rng.randint(1, touched[place])) for place in places]
    life = Life(library, tmp_path / "killed", workers=False)
    killed = killed_and_run_again(life, moments)
    assert len(killed) >= len(moments) - len(moments) // 4
    assert_same(life.everything(), undisturbed.everything(), killed)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(EPISODES))
def test_an_episode_of_kills_and_changes_ends_like_an_undisturbed_one(
    seed: int,
    library: Path,
    stock: Path,
    undisturbed: list[tuple[Touched, dict[str, list[str]]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(seed)
    life = Life(library, tmp_path)
    told: list[object] = [f"seed {seed}"]
    for change, (touched, expected) in zip(CHANGES, undisturbed, strict=True):
        change(life.music, stock)
        moments = [Moment.drawn(rng, touched) for _ in range(KILLS)]
        moments.sort(key=lambda moment: PLACES.index(moment.place))
        told += [change.__name__, *killed_and_run_again(life, moments)]
        assert_same(life.everything(), expected, told)
        assert not [found for found in verify.check(life.home) if found.is_wrong], told
        before = contents(life.home.root)
        life.run()
        assert contents(life.home.root) == before, told
    kills = sum(isinstance(each, Moment) for each in told)
    with capsys.disabled():
        print(f"\nepisode {seed}: killed {kills} times")
    assert kills >= 3


@pytest.mark.thorough
@pytest.mark.parametrize("place", ["models", "maps", "music.duckdb", "reports"])
def test_no_moment_at_which_results_are_put_in_place_matters(
    place: str, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life(library, tmp_path, workers=False)
    assert life.run(Moment("models", 80)) is None  # training is nearly over
    shutil.copytree(life.home.root, tmp_path / "before")
    touched = life.run()
    assert touched
    expected = life.everything()
    for nth in range(1, touched[place] + 1):
        shutil.rmtree(life.home.root)
        shutil.copytree(tmp_path / "before", life.home.root)
        moment = Moment(place, nth)
        assert life.run(moment) is None
        life.run()
        assert_same(life.everything(), expected, [moment])
    with capsys.disabled():
        print(f"\n{place}: killed at each of {touched[place]} moments")


def damage(home: Home) -> None:
    """Something of every kind that a repair mends."""
    for path in (*home.root.glob("shards/*/*-*.parquet"), *home.root.glob("vectors/*/*.parquet")):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)
    for path in (home.catalog, *home.root.glob("maps/*/*/points.parquet")):
        path.write_bytes(path.read_bytes()[:100])
    (home.models / "current.json").unlink()


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(8))
def test_a_repair_killed_half_way_is_finished_by_the_next(
    seed: int, library: Path, tmp_path: Path
) -> None:
    life = Life(library, tmp_path, workers=False)
    life.run()
    damage(life.home)
    shutil.copytree(life.home.root, tmp_path / "damaged")
    touched = life.repair()
    assert touched
    life.run()
    expected = life.everything()
    shutil.rmtree(life.home.root)
    shutil.copytree(tmp_path / "damaged", life.home.root)
    moment = Moment.drawn(random.Random(seed), touched)
    life.repair(moment)
    life.repair()
    life.run()
    assert_same(life.everything(), expected, [moment])
