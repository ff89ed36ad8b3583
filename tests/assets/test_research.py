"""The asset ``comparison``: what is trained for it, what is only drawn, nothing stood in for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic

from assets.pipes import pipes_client
from assets.research import comparison
from assets.stage import HomeFolder
from fastdino.core.home import Home
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import ShardWriter, TrackInfo, name_of

SONGS = 12
SECOND = 1 / 60


@dataclass(frozen=True)
class Compared:
    """A home, and what Dagster shows of the comparison made in it."""

    home: Home
    shown: Mapping[str, object]


def write_shards(home: Home, songs: range) -> None:
    """Spectrograms of 6 s of noise."""
    folder = home.shards(SpectrogramSettings().spec_id)
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder / name_of(1)) as writer:
        for i in songs:
            info = TrackInfo(synthetic.track_id(i), -90.0, 0.375, 6.0, 6.0, False)
            writer.append(info, np.random.default_rng(i).integers(0, 255, (600, 80), np.uint8))


def materialize(home: Home, **options: object) -> tuple[Mapping[str, object], list[str]]:
    """Make the asset with these options; returns its metadata and the run's log."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [comparison],
            instance=instance,
            resources={
                "home": HomeFolder(path=str(home.root)),
                "pipes": pipes_client(),
            },
            run_config={"ops": {"comparison": {"config": options}}},
        )
        log = [entry.user_message for entry in instance.all_logs(result.run_id)]
    (event,) = result.asset_materializations_for_node("comparison")
    return {name: value.value for name, value in event.metadata.items()}, log


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """One arm trained for a moment on songs whose labels only a CSV file knows."""
    folder = tmp_path_factory.mktemp("research")
    home = Home(folder / "home")
    songs = [synthetic.song(i, groups=2) for i in range(SONGS)]
    synthetic.write_catalog(home, [{**song, "genre": None} for song in songs])
    write_shards(home, range(SONGS))
    rows = [f"{song['path']},noise,artist {i % 4}\n" for i, song in enumerate(songs)]
    labels = folder / "labels.csv"
    labels.write_text("path,label,artist\n" + "".join(rows))
    shown, _ = materialize(
        home,
        arms=["fastdino"],
        minutes=[SECOND / 4],
        seeds=1,
        labels=[str(labels)],
        preset="tiny",
    )
    return Compared(home, shown)


def test_a_budget_is_trained_for_and_what_came_out_is_shown(compared: Compared) -> None:
    assert compared.shown["trained"] == 1
    assert str(compared.shown["quality (plot)"]).startswith("![quality](data:image/png;base64,")
    assert Path(str(compared.shown["page (path)"])).stat().st_size > 0
    table = compared.shown["All songs (table)"]
    arms = [record.data["arm"] for record in table.records]  # type: ignore[attr-defined]
    assert arms == [
        "FastDINO",
        "Mel mean + std",
        "Mel mean",
        "Nothing learned",
        "Untrained encoder",
    ]


def test_labels_come_from_the_files_given(compared: Compared) -> None:
    table = pq.read_table(compared.home.comparison / "results.parquet")
    assert table["label_knn"].null_count < table.num_rows


@pytest.mark.thorough
def test_without_a_budget_what_there_is_is_drawn_again_whatever_songs_are_new(
    compared: Compared,
) -> None:
    results, page = compared.home.comparison / "results.parquet", compared.shown["page (path)"]
    before = results.read_bytes()
    Path(str(page)).unlink()
    write_shards(compared.home, range(SONGS, SONGS + 1))
    shown, _ = materialize(compared.home)
    assert "trained" not in shown
    assert results.read_bytes() == before
    assert Path(str(page)).exists()


def test_before_there_are_spectrograms_it_ends_well_and_says_what_to_do(home: Home) -> None:
    shown, log = materialize(home)
    assert "materialise spectrogram_shards" in str(shown["summary"])
    assert shown["summary"] in log
    assert not home.root.exists()
