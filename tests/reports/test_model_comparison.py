import numpy as np
import polars as pl
import pytest
import synthetic

from fastdino import reports
from fastdino.core import tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import write_json
from fastdino.database import publish
from fastdino.reports import map_files
from fastdino.reports.model_comparison import (
    cluster_agreement,
    compare,
    compare_candidate,
    list_models,
    overlap,
)
from fastdino.training import registry

NEWER = "2026-01-01T00:00:00+00:00"


def test_overlap_does_not_care_for_the_order() -> None:
    ours = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert overlap(ours, ours[:, ::-1]) == 1
    assert overlap(ours, np.array([[4, 3, 9, 10], [11, 12, 13, 14]])) == pytest.approx(2 / 8)


def test_a_song_is_amid_its_cluster_if_most_of_its_neighbours_are_in_it() -> None:
    clusters = np.array([0, 0, 0, 1, 1, -1, 2])
    near = np.array([[1, 2, 3], [0, 3, 4], [5, 3, 6], [4, 0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    # 0: two of two others. 1: one of two. 2: none. 3: its only other. 4: not. 5: in no cluster.
    # 6: alone in its cluster.
    assert cluster_agreement(near, np.arange(7), clusters) == pytest.approx(2 / 5)
    assert cluster_agreement(near[5:6], np.array([5]), clusters) is None


def write_map(home: Home) -> None:
    """A map without places, of six clusters."""
    folder = home.maps(synthetic.MODEL_ID) / "map"
    ids = [synthetic.track_id(i) for i in range(60)]
    songs = pl.DataFrame({"track_id": ids, "cluster_id": [i % 6 for i in range(60)]})
    for name, schema in map_files.SCHEMAS.items():
        blank = [pl.lit(None, kind).alias(column) for column, kind in schema.items()]
        frame = songs.with_columns(each for each in blank if each.meta.output_name() not in songs)
        tables.write(folder / f"{name}.parquet", frame.select(schema.names()).cast(schema))
    write_json(folder / "map.json", {"map_id": "map"})
    write_json(folder.parent / "current.json", {"map_id": "map"})


def test_two_models_are_compared_on_the_songs_that_both_have(home: Home) -> None:
    synthetic.write_home(home, 60)
    write_map(home)
    synthetic.write_model(home, "model-b", current=False, created_at=NEWER)
    synthetic.write_vectors(home, range(50), "model-b")
    current, candidate = registry.current(home), registry.candidate(home)
    assert candidate
    compared = compare(home, current, candidate)
    assert compared
    assert compared.shared == 1  # made-up vectors are the same of every model
    rows = {row["measure"]: row for row in compared.rows}
    assert rows["songs with vectors"] == {
        "measure": "songs with vectors", "current": 60, "candidate": 50,
    }  # fmt: skip
    assert isinstance(rows["songs amid their cluster"]["current"], float)
    for measure in ("artist 1-NN", "artist mAP", "effective rank", "songs amid their cluster"):
        assert rows[measure]["current"] == rows[measure]["candidate"] is not None


def test_a_candidate_of_other_vectors_shares_fewer_neighbours(home: Home) -> None:
    synthetic.write_home(home, 60)
    synthetic.write_model(home, "model-b", 8, current=False, created_at=NEWER)
    synthetic.write_vectors(home, range(60), "model-b", dim=8)
    summary = list_models(home)
    assert [row["is"] for row in summary.tables["models"]] == ["candidate", "current"]
    (shared,) = [
        row["candidate"]
        for row in summary.tables["candidate beside current"]
        if row["measure"] == "nearest songs shared"
    ]
    assert isinstance(shared, float)
    assert 0.1 < shared < 0.9
    assert f"{shared:.0%} of the same nearest songs" in summary.headline
    assert "'fastdino promote'" in summary.headline


def test_a_candidate_whose_vectors_are_not_numbers_stops_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.write_home(home, 20)
    synthetic.write_model(home, "model-b", current=False, created_at=NEWER)
    monkeypatch.setattr(synthetic, "vector", lambda i, *_: np.full(32, np.nan, np.float32))
    synthetic.write_vectors(home, range(20), "model-b")
    for summary in (compare_candidate(home), list_models(home)):
        assert summary
        assert "candidate model-b: vectors of model model-b are not finite" in summary.warnings[0]
        assert not summary.tables.get("candidate beside current")
    reports.draw_map(home)
    publish(home)


def test_models_are_listed_without_a_candidate_and_without_vectors(home: Home) -> None:
    with pytest.raises(UserError, match="fastdino train"):
        list_models(home)
    synthetic.write_model(home, "model-b")
    synthetic.write_model(home, "model-a", current=False, created_at=NEWER)
    assert "candidate model-a is waiting" in list_models(home).headline
    registry.make_current(home, "model-a")
    summary = list_models(home)
    assert "no candidate" in summary.headline
    assert [row["is"] for row in summary.tables["models"]] == ["current", "kept"]
