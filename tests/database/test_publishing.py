"""The published DuckDB file: what is in it, when it is made anew, and who may be reading it."""

import datetime
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic
from published import rows

from fastdino import reports
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.database.publishing import published_fingerprint, unreadable
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import ShardWriter, TrackInfo, name_of

N = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Forty songs with a map, published; only read it."""
    home = Home(tmp_path_factory.mktemp("published"))
    synthetic.write_home(home, N)
    reports.draw_map(home)
    publish(home)
    return home


@pytest.fixture
def db(published: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(published.database), read_only=True) as connection:
        yield connection


def test_every_song_of_the_catalogue_is_a_row_with_tags_cluster_and_place(db):
    songs = db.sql("SELECT * FROM songs ORDER BY track_id").pl()
    assert songs["track_id"].to_list() == [synthetic.track_id(i) for i in range(N)]
    assert songs["genre"].to_list() == [synthetic.genre_of(i) for i in range(N)]
    assert (
        songs.select("title", "path", "duration_s", "x", "y").null_count().sum_horizontal()[0] == 0
    )


def test_vectors_are_arrays_of_the_models_dimension_and_equal_the_parquet_files(db):
    types = dict(
        db.execute("SELECT column_name, column_type FROM (DESCRIBE embeddings)").fetchall()
    )
    assert types["vec"] == f"FLOAT[{synthetic.DIM}]"
    vectors = db.execute("SELECT vec FROM current_embeddings ORDER BY track_id").fetchnumpy()["vec"]
    np.testing.assert_array_equal(np.stack(list(vectors)), [synthetic.vector(i) for i in range(N)])


def test_rows_of_every_table_belong_to_a_track(db):
    for table in ("embeddings", "segments", "neighbors", "map_points", "cluster_members"):
        orphans = f"SELECT count(*) FROM {table} ANTI JOIN tracks USING (track_id)"
        assert db.execute(orphans).fetchone() == (0,), table
        assert db.execute(f"SELECT count(*) > 0 FROM {table}").fetchone() == (True,), table


def test_all_tables_views_and_columns_are_explained(db):
    bare = """
        SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal
        UNION SELECT table_name, NULL FROM duckdb_tables() WHERE comment IS NULL
        UNION SELECT view_name, NULL FROM duckdb_views() WHERE comment IS NULL AND NOT internal
        UNION SELECT function_name, NULL FROM duckdb_functions()
              WHERE comment IS NULL AND NOT internal
    """
    assert db.execute(bare).fetchall() == []


def test_similar_to_finds_what_a_matrix_product_finds(db):
    vectors = np.stack([synthetic.vector(i) for i in range(N)])
    similarity = vectors @ vectors[3]
    expected = [int(i) for i in np.argsort(-similarity) if i != 3][:5]
    found = db.execute("FROM similar_to(?, ?)", [synthetic.track_id(3), 5]).fetchall()
    assert [row[0] for row in found] == [synthetic.track_id(i) for i in expected]
    assert [row[4] for row in found] == pytest.approx(similarity[expected].tolist(), abs=1e-6)


def test_similar_to_takes_a_title_and_ten_songs_by_default(db):
    by_title = db.execute("FROM similar_to('paper BRIDGE')").fetchall()
    assert by_title == db.execute("FROM similar_to(?)", [synthetic.track_id(0)]).fetchall()
    assert len(by_title) == 10


def test_a_song_s_own_length_is_a_second_of_it_though_ends_of_moments_are_rounded(db):
    ends_at = db.execute(
        "SELECT max(end_s)::DOUBLE FROM current_segments WHERE track_id = track_of('Paper Bridge')"
    ).fetchall()[0][0]
    query = "FROM similar_segments('Paper Bridge', ?)"
    last = db.execute(query, [ends_at]).fetchall()
    assert db.execute(query, [ends_at + 0.0099]).fetchall() == last != []


def test_an_unknown_song_is_an_error_that_says_what_to_do(db):
    with pytest.raises(duckdb.Error, match=r"no song has this id or title: nonsense.*find_song"):
        db.execute("FROM similar_to('nonsense')").fetchall()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("similar_segments('Paper Bridge', 999)", "no second 999 in Paper Bridge, which ends at"),
        ("similar_segments('Paper Bridge', -1)", "no second -1 in Paper Bridge"),
        ("similar_segments('Paper Bridge', NULL)", "no second NULL in Paper Bridge"),
        ("similar_segments('Jagged Orbit', 5)", "the sound of Jagged Orbit is not known"),
        ("similar_to('Jagged Orbit')", "the sound of Jagged Orbit is not known. Try: FROM"),
        ("similar_to_all(['Paper Bridge', 'Jagged Orbit'])", "the sound of Jagged Orbit is not"),
        ("songs_between('Jagged Orbit', 'Paper Bridge')", "the sound of Jagged Orbit is not known"),
        ("songs_between('Paper Bridge', 'Jagged Orbit')", "the sound of Jagged Orbit is not known"),
        ("playlist_like('Jagged Orbit')", "the sound of Jagged Orbit is not known"),
        ("playlist_between('Paper Bridge', 'Jagged Orbit')", "the sound of Jagged Orbit is not"),
        ("playlist_like('nonsense')", "no song has this id or title: nonsense"),
        ("artists_like('nobody')", "no song is by nobody"),
        ("artists_like(NULL)", "no song is by NULL"),
        ("model_overlap('model-a', 'nothing')", "no model with a map has this name: nothing"),
        ("model_overlap('nothing', 'model-a')", "no model with a map has this name: nothing"),
        ("model_overlap('model-a', NULL)", "no model with a map has this name: NULL"),
        # As the cookbook asks where there is no second model.
        (
            "model_overlap((SELECT model_id FROM models WHERE is_current), "
            "(SELECT max(model_id) FROM models WHERE false))",
            "no model with a map has this name: NULL",
        ),
    ],
)
def test_a_question_of_what_is_not_there_is_an_error_and_not_an_empty_answer(
    demo_home: tuple[Home, list[Path]], query: str, says: str
) -> None:
    with (
        duckdb.connect(str(demo_home[0].database), read_only=True) as db,
        pytest.raises(duckdb.Error, match=says),
    ):
        db.execute(f"FROM {query}").fetchall()


def test_find_song_forgives_case_accents_and_typing_errors(db):
    for words in (
        "paper bridge",
        "PÁPER BRÍDGE",
        "papr brige",
        f"bridge {synthetic.song(0)['artist']}",
    ):
        first = db.execute("SELECT title FROM find_song(?)", [words]).fetchone()
        assert first == ("Paper Bridge",), words
    assert db.execute("FROM find_song('qqqq zzzz')").fetchall() == []


def test_similar_segments_gives_one_moment_of_each_other_song(db):
    found = db.sql("FROM similar_segments('Paper Bridge', 12, 7)").pl()
    assert found["track_id"].n_unique() == len(found) == 7
    assert synthetic.track_id(0) not in found["track_id"].to_list()
    assert (found["to_s"] - found["from_s"] == 10).all()
    assert found["similarity"].is_sorted(descending=True)


def test_songs_between_leads_from_one_song_to_the_other_without_repeating(db):
    ends = [synthetic.track_id(0), synthetic.track_id(1)]
    way = db.sql("FROM songs_between(?, ?, 6)", params=ends).pl()
    assert way["stop"].to_list() == [1, 2, 3, 4, 5, 6]
    assert way["track_id"].n_unique() == 6
    assert not set(ends) & set(way["track_id"])
    nearer = way["similarity_to_last"] - way["similarity_to_first"]
    assert nearer[0] < 0 < nearer[5]


def test_similar_to_all_ranks_by_the_average(db):
    found = db.sql(
        "FROM similar_to_all(['Paper Bridge', ?], 5)", params=[synthetic.track_id(6)]
    ).pl()
    assert len(found) == 5
    assert not {synthetic.track_id(0), synthetic.track_id(6)} & set(found["track_id"])


def test_near_duplicates_are_listed_once_a_pair(db):
    pairs = db.execute("SELECT track_id, other_id FROM near_duplicates(-1)").fetchall()
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) > 0


def test_artists_are_compared_by_all_of_their_songs(db):
    of = {}
    for i in range(N):
        of.setdefault(synthetic.song(i)["artist"], []).append(synthetic.vector(i))
    name, *others = of
    expected = {other: np.mean(np.stack(of[name]) @ np.stack(of[other]).T) for other in others}
    found = db.execute("FROM artists_like(?, 100)", [name.upper()]).fetchall()
    assert {row[0]: row[2] for row in found} == pytest.approx(expected, abs=1e-6)
    assert [row[0] for row in found] == sorted(expected, key=lambda other: -expected[other])


def test_outliers_are_the_songs_least_like_their_nearest(db):
    vectors = np.stack([synthetic.vector(i) for i in range(N)])
    similarity = np.sort(vectors @ vectors.T - 9 * np.eye(N))[:, -5:].mean(axis=1)
    expected = [synthetic.track_id(int(i)) for i in np.argsort(similarity)[:3]]
    assert [row[0] for row in db.execute("FROM outliers(3)").fetchall()] == expected


def test_songs_are_found_as_players_write_them(db):
    song = synthetic.song(7)
    for words in (f"{song['artist']} - {song['title']}", f"{song['title']} ({song['artist']})"):
        found = db.execute("SELECT title, artist FROM find_song(?)", [words]).fetchone()
        assert found == (song["title"], song["artist"])


def test_a_model_agrees_with_itself(db):
    overlap = db.execute("FROM model_overlap('model-a', 'model-a')").fetchone()
    assert overlap == (N, 1.0)


def test_songs_tell_when_they_were_first_seen_also_from_a_catalogue_of_before(home):
    synthetic.write_home(home, 3)  # as versions without most of today's columns wrote it
    assert "identified_by" not in pl.read_parquet_schema(home.catalog)
    publish(home)
    found = rows(home, "SELECT track_id, epoch(added_at) FROM songs ORDER BY ALL")
    assert found == [
        (synthetic.track_id(i), synthetic.song(i)["added_at"].timestamp()) for i in range(3)
    ]


def test_columns_that_came_later_stand_behind_those_of_before(db):
    before = {
        "songs": "track_id title artist artists album album_artist genre genres year "
        "original_year track_number recording_mbid isrc duration_s path start_s end_s "
        "cluster_id cluster x y | added_at",
        "find_song('paper')": "track_id title artist album path score | genre year",
        "similar_to('Paper Bridge')": "track_id title artist album similarity path | genre year",
        "similar_to_all(['Paper Bridge'])": "track_id title artist album similarity path "
        "| genre year",
        "similar_segments('Paper Bridge', 2)": "track_id title artist from_s to_s similarity path "
        "| genre year",
        "songs_between('Paper Bridge', 'Paper Bridge')": "stop track_id title artist album "
        "similarity_to_first similarity_to_last path | genre year",
        "songs_by('nobody')": "track_id title artist album year original_year with_others_first "
        "path | genre",
        "outliers()": "track_id title artist album similarity path | genre year",
        "playlist_like('Paper Bridge')": "place track_id title artist album duration_s path "
        "| genre year",
    }
    for what, columns in before.items():
        assert db.sql(f"FROM {what}").columns == columns.replace("| ", "").split()


def test_publishing_again_without_changes_does_nothing(home):
    synthetic.write_home(home, 5)
    first = publish(home)
    before = home.database.stat()
    again = publish(home)
    assert (first.did_work, again.did_work) == (True, False)
    assert home.database.stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(path.name for path in home.root.glob("*duckdb*")) == ["music.duckdb"]


@pytest.mark.parametrize("change", ["catalogue", "vectors", "model", "failures", "map"])
def test_any_change_of_the_inputs_publishes_anew(home, change):
    synthetic.write_home(home, 8)
    publish(home)
    if change == "catalogue":
        synthetic.write_catalog(home, [{**synthetic.song(i), "genre": "Polka"} for i in range(8)])
    elif change == "vectors":
        synthetic.write_vectors(home, [7], shard=2)
    elif change == "model":
        synthetic.write_model(home, "model-b", current=False)
    elif change == "failures":
        write_failures(home, [0])
    else:
        reports.draw_map(home)
    assert publish(home).did_work
    assert not publish(home).did_work


def test_a_song_that_left_the_catalogue_is_nowhere(home):
    synthetic.write_home(home, 20)
    reports.draw_map(home)
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(1, 20)])
    publish(home)
    gone = synthetic.track_id(0)
    for table, column in (
        ("tracks", "track_id"), ("files", "track_id"), ("embeddings", "track_id"),
        ("segments", "track_id"), ("neighbors", "track_id"), ("neighbors", "neighbor_id"),
        ("map_points", "track_id"), ("cluster_members", "track_id"), ("clusters", "medoid_id"),
    ):  # fmt: skip
        assert not rows(home, f"SELECT 1 FROM {table} WHERE {column} = '{gone}'"), (table, column)


def test_two_files_with_one_recording_are_one_song(home):
    synthetic.write_home(home, 3)
    twin = {**synthetic.song(1), "path": "/music/copy.flac", "title": "Copy"}
    twin["added_at"] = synthetic.START + datetime.timedelta(days=1)
    synthetic.write_catalog(home, [*(synthetic.song(i) for i in range(3)), twin])
    publish(home)
    assert rows(home, "SELECT count(*) FROM songs") == [(3,)]
    assert rows(home, "SELECT count(*) FROM files") == [(4,)]
    one = rows(
        home, f"SELECT title, n_files FROM tracks WHERE track_id = '{synthetic.track_id(1)}'"
    )
    assert one == [(synthetic.song(1)["title"], 2)]


def test_a_song_in_two_shards_is_taken_from_the_newer(home):
    synthetic.write_home(home, 4, segments=2)
    synthetic.write_vectors(home, [2], shard=2, segments=3)
    publish(home)
    assert rows(home, "SELECT count(*) FROM embeddings") == [(4,)]
    assert rows(home, "SELECT count(*) FROM segments") == [(3 * 2 + 3,)]


def write_failures(home: Home, tracks: list[int]) -> None:
    folder = home.shards(SpectrogramSettings().spec_id)
    folder.mkdir(parents=True, exist_ok=True)
    failed = [
        {
            "track_id": synthetic.track_id(i), "path": f"/music/{i}.flac", "size": 1,
            "mtime_ns": 1_700_000_000_000_000_000, "reason": "took too long",
            "failed_at": synthetic.START,
        }
        for i in tracks
    ]  # fmt: skip
    pl.DataFrame(failed).write_parquet(folder / "failures.parquet")


def test_failures_of_both_stages_are_listed(home):
    synthetic.write_home(home, 3)
    broken = {**synthetic.song(9), "track_id": None, "error": "not audio", "path": "/music/no.mp3"}
    synthetic.write_catalog(home, [*(synthetic.song(i) for i in range(3)), broken])
    write_failures(home, [1, 77])  # 77 is not in the catalogue any more
    publish(home)
    assert rows(home, "SELECT path, stage, reason FROM failures ORDER BY stage") == [
        ("/music/no.mp3", "ingestion", "not audio"),
        ("/music/1.flac", "spectrograms", "took too long"),
    ]


def test_models_stand_side_by_side_and_one_of_another_dimension_is_named_but_left_out(home):
    synthetic.write_home(home, 30)
    for model_id, dim in (("model-b", synthetic.DIM), ("model-c", 8)):
        synthetic.write_model(home, model_id, dim)
        synthetic.write_vectors(home, range(30), model_id, dim=dim)
        reports.draw_map(home)
    synthetic.write_model(home)
    reports.draw_map(home)
    summary = publish(home)
    assert rows(home, "SELECT model_id, is_current, has_vectors FROM models ORDER BY ALL") == [
        ("model-a", True, True), ("model-b", False, True), ("model-c", False, False),
    ]  # fmt: skip
    assert any("model-c" in warning for warning in summary.warnings)
    assert rows(home, "SELECT count(*) FROM current_embeddings") == [(30,)]
    assert rows(home, "SELECT count(*) FROM embeddings") == [(60,)]
    songs, overlap = rows(home, "FROM model_overlap('model-a', 'model-c')")[0]
    assert songs == 30
    assert 0 < overlap < 1
    assert rows(home, "SELECT count(*) FROM songs") == [(30,)]


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"model_id": "model-b", "dim": "many"}'])
def test_an_old_model_that_cannot_be_read_is_left_out_with_a_warning(home, damaged):
    synthetic.write_home(home, 3)
    synthetic.write_model(home, "model-b", current=False)
    (home.model("model-b") / "model.json").write_text(damaged)
    (warning,) = publish(home).warnings
    assert str(home.model("model-b")) in warning
    assert rows(home, "SELECT model_id FROM models") == [("model-a",)]


def test_a_model_in_the_making_is_not_published(home):
    synthetic.write_home(home, 3)
    shutil.copytree(home.model("model-a"), home.models / ".training")
    publish(home)
    assert rows(home, "SELECT model_id FROM models") == [("model-a",)]


def test_without_a_map_its_tables_are_empty_and_songs_still_there(home):
    synthetic.write_home(home, 3)
    publish(home)
    assert rows(home, "SELECT count(*), count(x), count(cluster) FROM songs") == [(3, 0, 0)]


def test_before_any_vector_the_catalogue_is_published_with_a_warning(home):
    synthetic.write_catalog(home, [synthetic.song(0)])
    synthetic.write_model(home)
    summary = publish(home)
    assert any("fastdino embed" in warning for warning in summary.warnings)
    assert rows(home, "SELECT count(*) FROM songs") == [(1,)]


def test_without_a_model_the_user_is_told_to_train(home):
    synthetic.write_catalog(home, [synthetic.song(0)])
    with pytest.raises(UserError, match="fastdino train"):
        publish(home)


def test_a_damaged_file_of_vectors_is_named_and_the_standing_database_stays(home):
    synthetic.write_home(home, 3)
    publish(home)
    before = home.database.read_bytes()
    bad = home.vectors(synthetic.MODEL_ID) / "spectrograms-000002.parquet"
    bad.write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(UserError, match=re.escape(str(bad))):
        publish(home)
    assert home.database.read_bytes() == before
    assert sorted(path.name for path in home.root.glob("*duckdb*")) == ["music.duckdb"]


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_damaged_standing_file_is_replaced(home, content):
    synthetic.write_home(home, 3)
    home.database.write_bytes(content)
    assert publish(home).did_work
    assert rows(home, "SELECT count(*) FROM songs") == [(3,)]


def test_a_log_left_by_a_killed_writer_does_not_reach_the_new_file(home):
    synthetic.write_home(home, 3)
    publish(home)
    killed = (
        "import duckdb, os, sys; db = duckdb.connect(sys.argv[1]);"
        "db.execute('CREATE TABLE mine (a INT)'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", killed, home.database], check=False)
    wal = home.database.with_name("music.duckdb.wal")
    assert wal.exists()
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(2)])
    assert publish(home).did_work
    assert not wal.exists()
    assert rows(home, "SELECT count(*) FROM songs") == [(2,)]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_program_that_has_the_file_open_keeps_it_and_does_not_block_publishing(home, read_only):
    synthetic.write_home(home, 3)
    publish(home)
    reader = (
        "import duckdb, sys; db = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'True');"
        "print('open', flush=True); sys.stdin.readline();"
        "print(db.execute('SELECT count(*) FROM songs').fetchone()[0])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, home.database, str(read_only)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "open\n"
        synthetic.write_catalog(home, [synthetic.song(i) for i in range(2)])
        assert publish(home).did_work
        output, _ = process.communicate("\n", timeout=30)
    assert output == "3\n"
    assert rows(home, "SELECT count(*) FROM songs") == [(2,)]


def test_a_folder_with_pattern_characters_in_its_name_is_taken_as_it_stands(tmp_path):
    home = Home(tmp_path / "my [live] music*")
    synthetic.write_home(home, 3)
    publish(home)
    assert rows(home, "SELECT count(*) FROM embeddings") == [(3,)]


def test_what_is_published_says_what_it_was_made_from(published):
    [(model_id, metrics, quality)] = rows(
        published,
        "SELECT published.model_id, metrics, quality FROM published "
        "JOIN models USING (model_id) JOIN maps USING (model_id)",
    )
    assert model_id == synthetic.MODEL_ID
    assert json.loads(metrics) == {"rank": 21.5}
    assert json.loads(quality)["clusters"] > 0


def test_a_standing_file_that_is_damaged_deep_inside_is_replaced(home):
    synthetic.write_home(home, 10)
    publish(home)
    expected = rows(home, "SELECT track_id, vec FROM embeddings ORDER BY track_id")
    content, whole = home.database.read_bytes(), published_fingerprint(home.database)
    for place in range(20_000, len(content), 100_000):
        home.database.write_bytes(content[:place] + b"?" * 100 + content[place + 100 :])
        if published_fingerprint(home.database) == whole and unreadable(home.database):
            break
    assert publish(home).did_work
    assert rows(home, "SELECT track_id, vec FROM embeddings ORDER BY track_id") == expected
    assert not publish(home).did_work


def test_while_another_program_writes_to_the_standing_file_a_new_one_is_published(home):
    synthetic.write_home(home, 3)
    publish(home)
    script = (
        "import duckdb, sys\n"
        f"with duckdb.connect({str(home.database)!r}) as db:\n"
        "    db.execute('CREATE TABLE mine AS SELECT 1')\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        synthetic.write_home(home, 4)
        assert publish(home).did_work
        assert rows(home, "SELECT count(*) FROM songs") == [(4,)]
        writer.stdin.close()
    assert rows(home, "SELECT count(*) FROM songs") == [(4,)]
    assert not publish(home).did_work


def test_a_song_is_as_long_as_its_sound_and_what_is_cut_is_told(home):
    synthetic.write_home(home, 4)
    lengths = {0: (10.0, 10.0), 1: (10.0, 20.0), 2: (10.0, None)}
    folder = home.shards(SpectrogramSettings().spec_id)
    folder.mkdir(parents=True)
    with ShardWriter(folder / name_of(1)) as writer:
        for i, (decoded_s, header_s) in lengths.items():
            info = TrackInfo(synthetic.track_id(i), -90.0, 0.375, header_s, decoded_s, False)
            writer.append(info, np.ones((1_000, 80), np.uint8))
    publish(home)
    found = rows(home, "SELECT duration_s, stated_s, is_incomplete FROM tracks ORDER BY track_id")
    undecoded = synthetic.song(3)["duration_s"]
    assert found[:3] == [(10.0, 10.0, False), (10.0, 20.0, True), (10.0, None, False)]
    assert found[3] == (undecoded, None, False)
    # The database matters more than lengths do.
    next(folder.glob("*.parquet")).write_bytes(b"spoilt")
    assert publish(home).did_work
