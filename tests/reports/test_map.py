"""The map: drawn once, added to without moving anything, laid out anew when much has changed."""

import json

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import synthetic

from fastdino import reports
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.upkeep.verify import maps as verify_maps


def current(home: Home) -> tuple[dict, pl.DataFrame, pl.DataFrame]:
    """The standing map: map.json, its songs with place and group, its clusters."""
    maps = home.maps(synthetic.MODEL_ID)
    folder = maps / json.loads((maps / "current.json").read_text())["map_id"]
    points, members, clusters = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("points", "members", "clusters")
    )
    songs = points.join(members, on="track_id").sort("track_id")
    return json.loads((folder / "map.json").read_text()), songs, clusters


def with_lists(i: int) -> dict[str, object]:
    """Song ``i`` in a catalogue that knows every artist and genre by itself."""
    song = synthetic.song(i)
    return {**song, "artists": [song["artist"]], "genres": [song["genre"]]}


def test_a_map_of_before_stands_when_its_files_are_read_for_more(home):
    synthetic.write_home(home, 72)
    reports.draw_map(home)
    before = current(home)[0]["map_id"]
    synthetic.write_catalog(home, map(with_lists, range(72)))
    assert reports.draw_map(home).headline == "the map of 72 songs is up to date"
    assert current(home)[0]["map_id"] == before


def test_a_map_whose_songs_turn_out_to_have_several_artists_moves_none_of_them(home):
    synthetic.write_home(home, 72)
    reports.draw_map(home)
    _, before, _ = current(home)
    several = {"artist": "A; B", "artists": ["A", "B"]}
    synthetic.write_catalog(home, ({**with_lists(i), **several} for i in range(72)))
    assert reports.draw_map(home).counts["drawn_by"] == "transform"
    _, after, _ = current(home)
    columns = ["track_id", "x", "y", "cluster_id"]
    assert after.select(columns).equals(before.select(columns))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"artist": "A feat. B", "artists": ["A feat. B"]}, ["A", "B"]),
        ({"artist": "A; B", "artists": ["A; B"]}, ["A", "B"]),
    ],
)
def test_clusters_get_new_names_when_only_the_lists_are_retagged(home, before, after):
    def retagged(**tags: object) -> None:
        rows = [{**with_lists(i), "genre": None, "genres": []} for i in range(72)]
        synthetic.write_catalog(home, [*(row | tags for row in rows[::6]), *rows[1::6]])

    synthetic.write_home(home, 72)
    retagged(**before)
    reports.draw_map(home)
    _, old, clusters = current(home)
    assert any(before["artists"] == names.to_list() for names in clusters["top_artists"])
    retagged(**(before | {"artists": after}))
    assert reports.draw_map(home).counts["drawn_by"] == "transform"
    _, songs, clusters = current(home)
    assert songs.equals(old)
    assert any(after == names.to_list() for names in clusters["top_artists"])

    retagged(**(before | {"artists": after[::-1]}))
    assert not reports.draw_map(home).did_work


def test_a_map_that_does_not_say_of_which_lists_it_is_stands(home):
    synthetic.write_home(home, 12)
    reports.draw_map(home)
    described, *_ = current(home)
    # As it was before there was one of the lists.
    assert described["fingerprint"] == "a577abc32a6cdf90b1c6a99b6514159e"
    path = home.maps(synthetic.MODEL_ID) / described["map_id"] / "map.json"
    path.write_text(json.dumps({k: said for k, said in described.items() if k != "lists"}))
    several = {"artists": ["A", "B"]}
    synthetic.write_catalog(home, ({**with_lists(i), **several} for i in range(12)))
    assert not reports.draw_map(home).did_work


def records(home: Home, name: str) -> pl.DataFrame:
    """What the standing map says of the past."""
    maps = home.maps(synthetic.MODEL_ID)
    map_id = json.loads((maps / "current.json").read_text())["map_id"]
    return pl.read_parquet(maps / map_id / f"{name}.parquet")


def test_groups_of_songs_that_sound_alike_are_found_and_named_after_their_tags(home):
    synthetic.write_home(home, 72)
    summary = reports.draw_map(home)
    described, songs, clusters = current(home)
    genres = [synthetic.genre_of(i) for i in range(72)]
    pure = songs.with_columns(genre=pl.Series(genres)).group_by("cluster_id").agg("genre")
    assert all(len(set(names)) == 1 for names in pure["genre"])
    for name, genre in clusters.join(pure, on="cluster_id").select("name", "genre").rows():
        assert name.startswith(genre[0])
    assert described["quality"]["neighbor_recall"] > 0.5
    assert described["quality"]["trustworthiness"] > 0.9
    assert summary.plots["map"].startswith(b"\x89PNG")
    assert len(summary.tables["clusters"]) == len(clusters) == described["quality"]["clusters"]


def test_the_same_songs_again_are_no_work(home):
    synthetic.write_home(home, 30)
    first, again = reports.draw_map(home), reports.draw_map(home)
    assert (first.did_work, again.did_work) == (True, False)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 11, 12, 14, 30])
def test_small_collections_have_a_map_too(home, n):
    synthetic.write_home(home, n)
    reports.draw_map(home)
    described, songs, _ = current(home)
    assert described["n_tracks"] == len(songs) == n
    assert np.isfinite(songs.select("x", "y").to_numpy()).all()
    assert songs.select("x", "y").unique().height == n
    assert n < 12 or songs.select("x", "y").to_numpy().std() > 1  # not all in one heap


def test_songs_that_all_sound_the_same_have_a_map_too(home, monkeypatch):
    monkeypatch.setattr(synthetic, "vector", lambda i, *_: np.eye(1, 32, dtype=np.float32)[0])
    synthetic.write_home(home, 40, segments=0)
    reports.draw_map(home)
    _, songs, _ = current(home)
    assert np.isfinite(songs.select("x", "y").to_numpy()).all()


def test_every_songs_neighbours_are_the_most_similar_in_order(home):
    synthetic.write_home(home, 30)
    reports.draw_map(home)
    folder = next(path for path in home.maps(synthetic.MODEL_ID).iterdir() if path.is_dir())
    found = pl.read_parquet(folder / "neighbors.parquet")
    vectors = np.stack([synthetic.vector(i) for i in range(30)])
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    for i in range(30):
        mine = found.filter(pl.col("track_id") == synthetic.track_id(i)).sort("rank")
        expected = [synthetic.track_id(j) for j in np.argsort(-similarity[i])[:20]]
        assert mine["neighbor_id"].to_list() == expected
        assert mine["rank"].to_list() == list(range(1, 21))


def test_a_few_new_songs_join_their_kind_and_no_old_one_moves(home):
    synthetic.write_home(home, 66)
    reports.draw_map(home)
    before, old, _ = current(home)
    synthetic.write_home(home, 72)
    summary = reports.draw_map(home)
    after, songs, clusters = current(home)
    assert after["map_id"] != before["map_id"]
    assert songs.head(66).equals(old)
    places = [frame.head(66).select("x", "y").to_numpy() for frame in (songs, old)]
    assert places[0].tobytes() == places[1].tobytes()
    assert songs["placed_by"].tail(6).to_list() == ["transform"] * 6
    assert summary.counts["new_songs"] == 6
    assert "6 new placed" in summary.headline
    names = dict(clusters.select("cluster_id", "name").rows())
    joined = [names[i] for i in songs["cluster_id"].tail(6) if i >= 0]
    assert len(joined) >= 4
    for i, cluster_id in zip(range(66, 72), songs["cluster_id"].tail(6), strict=True):
        assert cluster_id < 0 or names[cluster_id].startswith(synthetic.genre_of(i))


def test_past_a_tenth_of_new_songs_all_are_laid_out_anew_near_where_they_were(home):
    synthetic.write_home(home, 66)
    reports.draw_map(home)
    _, old, old_clusters = current(home)
    synthetic.write_home(home, 78)
    reports.draw_map(home)
    _, songs, clusters = current(home)
    assert set(songs["placed_by"]) == {"fit"}
    latest = records(home, "history").row(-1, named=True)
    assert latest["drawn_by"] == "refit"
    assert 0 < latest["procrustes_distance"] < 0.02
    assert latest["median_movement"] < 0.3
    assert latest["same_cluster_share"] > 0.9
    kept = clusters.join(old_clusters, on="cluster_id")
    assert len(kept) >= len(old_clusters) - 1
    assert kept["name"].to_list() == kept["name_right"].to_list()
    assert len(old) == 66


def test_what_was_is_told_of_every_map_though_only_two_are_kept(home):
    for n in (30, 31, 32, 36):
        synthetic.write_home(home, n)
        summary = reports.draw_map(home)
        assert ("history" in summary.plots) == (n > 30)
    history = records(home, "history")
    assert history["drawn_by"].to_list() == ["fit", "transform", "transform", "refit"]
    assert history["songs"].to_list() == [30, 31, 32, 36]
    assert history["new_songs"].to_list() == [30, 1, 1, 4]
    placed = history[1:3]
    for figure, exact in (
        ("median_movement", 0), ("procrustes_distance", 0), ("same_cluster_share", 1),
    ):  # fmt: skip
        assert placed[figure].to_list() == [exact, exact]
        assert history[figure][0] is None
    assert history[3]["median_movement"][0] > 0
    assert history.select("neighbor_recall", "trustworthiness").null_count().row(0) == (0, 0)
    assert [row["songs"] for row in summary.tables["maps"]] == [36, 32, 31, 30]
    born = records(home, "changes").filter(pl.col("map_id") == history["map_id"][0])
    assert set(born["kind"]) == {"born"}
    assert len(born) == history["clusters"][0]
    again = reports.draw_map(home)
    assert not again.did_work
    assert again.plots == summary.plots


def test_a_song_that_comes_back_finds_its_place_and_after_a_refit_its_cluster(home):
    synthetic.write_home(home, 60)
    reports.draw_map(home)
    _, old, _ = current(home)
    songs = [synthetic.song(i) for i in range(60)]
    for there in (songs[3:], songs):
        synthetic.write_catalog(home, there)
        reports.draw_map(home)
    assert current(home)[1].equals(old)
    assert records(home, "gone").is_empty()
    synthetic.write_catalog(home, songs[10:])  # more than a tenth are gone
    reports.draw_map(home)
    assert len(records(home, "gone")) == 10
    synthetic.write_catalog(home, songs)
    reports.draw_map(home)
    assert records(home, "history")["drawn_by"].to_list()[-2:] == ["refit", "refit"]
    _, back, _ = current(home)
    moved = back.select("x", "y").to_numpy() - old.select("x", "y").to_numpy()
    spread = old.select("x", "y").to_numpy().std()
    assert np.median(np.linalg.norm(moved, axis=1)) < 0.3 * spread
    assert (back["cluster_id"] == old["cluster_id"]).sum() >= 54


@pytest.mark.parametrize("left", [0, 5])
def test_a_map_goes_on_when_most_songs_are_gone_or_all_are_others(home, left):
    synthetic.write_home(home, 40)
    reports.draw_map(home)
    described, old, old_clusters = current(home)
    there = range(left) if left else range(40, 70)
    synthetic.write_vectors(home, range(40, 70), shard=2)
    synthetic.write_catalog(home, [synthetic.song(i) for i in there])
    reports.draw_map(home)
    _, songs, clusters = current(home)
    assert len(songs) == len(there)
    assert np.isfinite(songs.select("x", "y").to_numpy()).all()
    assert set(songs["cluster_id"]) - {-1} == set(clusters["cluster_id"])
    ended = records(home, "changes").filter(pl.col("kind").is_in(["died", "merged"]))
    assert set(ended["cluster_id"]) == set(old_clusters["cluster_id"]) - set(clusters["cluster_id"])
    if left:
        assert len(set(clusters["cluster_id"]) - set(old_clusters["cluster_id"])) == 0
    else:
        assert clusters["cluster_id"].min() >= described["next_cluster_id"]
    if left:  # too few for a layout of their own
        places = [frame.head(5).select("x", "y").to_numpy() for frame in (songs, old)]
        np.testing.assert_array_equal(*places)


def test_a_map_of_an_earlier_version_stands_though_it_says_nothing_of_the_past(home):
    synthetic.write_home(home, 40)
    reports.draw_map(home)
    described, old, _ = current(home)
    folder = home.maps(synthetic.MODEL_ID) / described["map_id"]
    for name in ("history", "changes", "gone"):
        (folder / f"{name}.parquet").unlink()
    (folder / "map.json").write_text(json.dumps({**described, "version": 1, "fingerprint": "old"}))
    reports.draw_map(home)
    assert current(home)[1].equals(old)
    assert records(home, "history")["drawn_by"].to_list() == ["transform"]
    assert records(home, "changes").is_empty()


def test_neighbours_written_before_texts_were_kept_once_are_gone_on_from(home):
    synthetic.write_home(home, 66)
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(64)])
    reports.draw_map(home)
    described, _, _ = current(home)
    path = home.maps(synthetic.MODEL_ID) / described["map_id"] / "neighbors.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)
    assert not reports.draw_map(home).did_work
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(66)])
    assert reports.draw_map(home).counts["drawn_by"] == "transform"
    assert set(table["track_id"].to_pylist()) < set(records(home, "neighbors")["track_id"])


def test_a_damaged_past_is_found_and_costs_the_map_nothing(home):
    synthetic.write_home(home, 40)
    reports.draw_map(home)
    described, old, _ = current(home)
    damaged = home.maps(synthetic.MODEL_ID) / described["map_id"] / "history.parquet"
    for published in (False, True):
        damaged.write_bytes(b"nonsense")
        (finding,) = verify_maps.check(home, None, repair=True)
        assert finding.path == damaged
        assert list(verify_maps.check(home, None, repair=True)) == []
        assert damaged.exists() == published
        if not published:
            synthetic.write_home(home, 41)
            reports.draw_map(home)
            publish(home)
            damaged = home.maps(synthetic.MODEL_ID) / current(home)[0]["map_id"] / "history.parquet"
            told = records(home, "history")
    assert records(home, "history").equals(told)
    assert current(home)[1].head(40).equals(old)


def test_songs_that_left_are_gone_and_the_others_stay(home):
    synthetic.write_home(home, 60)
    reports.draw_map(home)
    _, old, _ = current(home)
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(57)])
    reports.draw_map(home)
    _, songs, clusters = current(home)
    assert songs.equals(old.head(57))
    assert clusters["size"].sum() == (songs["cluster_id"] >= 0).sum()


def test_small_additions_add_up_to_a_refit(home):
    for n, placed_by in ((60, {"fit"}), (64, {"fit", "transform"}), (67, {"fit"})):
        synthetic.write_home(home, n)
        reports.draw_map(home)
        assert set(current(home)[1]["placed_by"]) == placed_by


def test_retagged_songs_stay_where_they_are_and_their_clusters_get_new_names(home):
    synthetic.write_home(home, 60)
    reports.draw_map(home)
    _, old, _ = current(home)
    retagged = [{**synthetic.song(i), "genre": None, "artist": f"B {i % 6}"} for i in range(60)]
    synthetic.write_catalog(home, retagged)
    reports.draw_map(home)
    _, songs, clusters = current(home)
    assert songs.equals(old)
    assert all(name.startswith("B ") for name in clusters["name"])


def test_the_map_before_is_kept_and_older_ones_are_removed(home):
    for n in (20, 21, 22, 23):
        synthetic.write_home(home, n)
        reports.draw_map(home)
    folders = [path for path in home.maps(synthetic.MODEL_ID).iterdir() if path.is_dir()]
    assert len(folders) == 2


def test_a_damaged_map_is_drawn_anew(home):
    synthetic.write_home(home, 20)
    reports.draw_map(home)
    described, *_ = current(home)
    folder = home.maps(synthetic.MODEL_ID) / described["map_id"]
    (folder / "points.parquet").write_bytes(b"nonsense")
    assert reports.draw_map(home).did_work
    assert len(current(home)[1]) == 20


def test_names_with_markup_of_any_kind_can_be_drawn(home):
    synthetic.write_home(home, 30)
    bad = [{**synthetic.song(i), "artist": "$\\frac{<b>♥ 音楽", "genre": None} for i in range(30)]
    synthetic.write_catalog(home, bad)
    assert reports.draw_map(home).plots["map"].startswith(b"\x89PNG")


def test_without_vectors_the_user_is_told_to_embed(home):
    synthetic.write_catalog(home, [synthetic.song(0)])
    synthetic.write_model(home)
    with pytest.raises(UserError, match="fastdino embed"):
        reports.draw_map(home)


def test_vectors_that_are_not_numbers_are_refused(home, monkeypatch):
    monkeypatch.setattr(synthetic, "vector", lambda i, *_: np.full(32, np.nan, np.float32))
    synthetic.write_home(home, 5, segments=0)
    with pytest.raises(UserError, match="not finite"):
        reports.draw_map(home)
