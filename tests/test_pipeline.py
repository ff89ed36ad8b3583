"""All stages, one after the other, on real files."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from published import rows

from fastdino.__main__ import main
from fastdino.core.home import Home
from fastdino.training import registry
from tests.stages import contents, run


@pytest.fixture(scope="module")
def finished(library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A finished run on the small library, and a copy of that library. Only read them."""
    folder = tmp_path_factory.mktemp("pipeline")
    music = Path(shutil.copytree(library, folder / "music"))
    home = Home(folder / "home")
    assert all(summary.did_work for summary in run(home, music).values())
    return home, music


def test_every_sound_song_is_embedded_and_the_damaged_file_is_in_failures(
    finished: tuple[Home, Path],
) -> None:
    home, _ = finished
    assert rows(home, "SELECT count(*) FROM songs") == [(12,)]
    assert rows(home, "SELECT count(*) FROM current_embeddings") == [(12,)]
    assert rows(home, "SELECT count(*), count(DISTINCT track_id) FROM files") == [(14, 12)]
    [(path, reason)] = rows(home, "SELECT path, reason FROM failures")
    assert "broken" in path
    assert reason
    assert home.page.read_text(encoding="utf-8").startswith("<!")


def readme_queries() -> list[str]:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```sql\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("number", range(5))
def test_the_queries_of_the_readme_work_as_printed(
    finished: tuple[Home, Path], number: int
) -> None:
    assert rows(finished[0], readme_queries()[number])


def test_the_duckdb_shell_that_is_installed_reads_what_is_published(
    finished: tuple[Home, Path],
) -> None:
    home, _ = finished
    shell = Path(sys.executable).with_name("duckdb")
    command = [shell, "-readonly", "-csv", "-bail", home.database]
    queries = "\n".join(readme_queries())
    answer = subprocess.run(command, input=queries, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "similarity" in answer.stdout


def test_a_second_run_does_no_work_and_writes_nothing(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before = contents(home.root)
    summaries = run(home, music)
    assert not any(summary.did_work for summary in summaries.values())
    assert contents(home.root) == before


def test_one_song_more_costs_only_its_own_work(collection: tuple[Home, Path]) -> None:
    home, music = collection
    old = dict(rows(home, "SELECT track_id, vec FROM current_embeddings"))
    places = dict(rows(home, "SELECT track_id, (x, y) FROM songs"))
    t = np.arange(5 * 22_050) / 22_050
    soundfile.write(music / "new song.wav", 0.3 * np.sin(2 * np.pi * (200 + 90 * t) * t), 22_050)

    summaries = run(home, music)

    assert summaries["ingest"].counts["new"] == 1
    assert summaries["spectrograms"].counts["new_tracks"] == 1
    assert not summaries["train"].did_work
    assert summaries["embed"].counts["new_tracks"] == 1
    new = dict(rows(home, "SELECT track_id, vec FROM current_embeddings"))
    assert len(new) == 13
    assert {track: new[track] for track in old} == old
    moved = dict(rows(home, "SELECT track_id, (x, y) FROM songs"))
    assert {track: moved[track] for track in places} == places


def test_moving_and_removing_files_recomputes_nothing(collection: tuple[Home, Path]) -> None:
    home, music = collection
    songs = sorted(p for p in music.rglob("*.flac") if p.is_file())
    songs[0].rename(music / "moved, and renamed ♫.flac")
    songs[1].unlink()
    summaries = run(home, music)
    assert summaries["ingest"].counts["moved"] == 1
    assert summaries["ingest"].counts["removed"] == 1
    assert not any(summaries[step].did_work for step in ("spectrograms", "train", "embed"))
    assert rows(home, "SELECT count(*) FROM songs") == [(11,)]
    assert rows(home, "SELECT count(*) FROM songs WHERE path LIKE '%♫.flac'") == [(1,)]


def test_two_nights_leave_the_playlists_that_should_be_there_and_a_player_opens_every_entry(
    collection: tuple[Home, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, music = collection
    lists = [tmp_path / "lists", tmp_path / "fresh"]
    for folder in lists:
        folder.mkdir()
    monkeypatch.setenv("FASTDINO_PLAYLISTS", str(lists[0]))
    monkeypatch.setenv("FASTDINO_PLAYLISTS_PATHS", "relative")
    assert run(home, music)["playlists"].counts["new"] >= 2
    before = contents(lists[0])
    assert not run(home, music)["playlists"].did_work
    assert contents(lists[0]) == before
    songs = sorted(p for p in music.rglob("*.flac") if p.is_file())
    songs[0].rename(music / "moved ♫.flac")
    songs[1].unlink()
    t = np.arange(5 * 22_050) / 22_050
    soundfile.write(music / "new song.wav", 0.3 * np.sin(2 * np.pi * (200 + 90 * t) * t), 22_050)
    assert run(home, music)["playlists"].did_work
    monkeypatch.setenv("FASTDINO_PLAYLISTS", str(lists[1]))
    run(home, music)
    assert {name: made[1] for name, made in contents(lists[0]).items()} == {
        name: made[1] for name, made in contents(lists[1]).items()
    }
    heard = set()
    for playlist in lists[0].iterdir():
        for line in playlist.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                with av.open(str(lists[0] / line)) as container:
                    assert next(container.decode(audio=0)).samples
                heard.add(Path(line).name)
    assert {"moved ♫.flac", "new song.wav"} <= heard
    assert len(heard) == 12


def test_models_are_tried_beside_each_other_and_everything_follows_the_one_that_is_promoted(
    collection: tuple[Home, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home, music = collection
    first = registry.current(home)
    second = {**first, "model_id": "second", "created_at": "2099-01-01T00:00:00+00:00"}
    shutil.copytree(home.model(first["model_id"]), home.model("second"))
    registry.write_metadata(home.model("second"), second)

    run(home, music)
    assert rows(home, "SELECT model_id FROM published") == [(first["model_id"],)]
    assert rows(home, "SELECT model_id, count(*) FROM embeddings GROUP BY ALL ORDER BY ALL") == [
        (first["model_id"], 12), ("second", 12),
    ]  # fmt: skip

    at_home = ["--home", str(home.root)]
    assert main(["models", *at_home]) == 0
    told = capsys.readouterr().out
    assert "second" in told
    assert "songs amid their cluster" in told
    assert "finds 100% of the same nearest songs" in " ".join(told.split())

    assert main(["promote", *at_home]) == 0
    assert rows(home, "SELECT model_id FROM published") == [("second",)]
    assert rows(home, "SELECT count(x) FROM songs") == [(12,)]
    assert main(["promote", "previous", *at_home]) == 0
    assert rows(home, "SELECT model_id FROM published") == [(first["model_id"],)]

    assert main(["forget", first["model_id"], *at_home]) == 2
    assert "in use" in capsys.readouterr().err
    assert main(["forget", "second", *at_home]) == 0
    assert rows(home, "SELECT model_id FROM models") == [(first["model_id"],)]
    assert not any(summary.did_work for summary in run(home, music).values())


def test_the_command_line_says_what_is_wrong_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "no such folder")
    assert main(["run", missing, "--home", str(tmp_path / "home")]) == 2
    assert missing in capsys.readouterr().err
    assert main(["embed", "--home", str(tmp_path / "home")]) == 2
    assert "run" in capsys.readouterr().err


@pytest.mark.thorough
def test_on_the_demo_what_is_learned_does_better_than_averages(tmp_path: Path) -> None:
    music, home = tmp_path / "music", Home(tmp_path / "home")
    assert main(["demo", str(music)]) == 0
    assert main(["run", str(music), "--home", str(home.root), "--preset", "cpu"]) == 0

    # Or the page's tab Collection would tell a newcomer that averages do as well.
    metrics = registry.current(home)["metrics"]
    assert metrics["artist_1nn"] > metrics["artist_1nn_mel"]
    purity = """
        SELECT sum(most) / sum(songs) FROM (
            SELECT max(n) AS most, sum(n) AS songs
            FROM (SELECT cluster, {tag}, count(*) AS n FROM songs
                  WHERE cluster IS NOT NULL GROUP BY ALL)
            GROUP BY cluster)"""
    for tag in ("genre", "artist"):
        assert rows(home, purity.format(tag=tag)) >= [(0.9,)]
