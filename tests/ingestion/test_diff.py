import datetime
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fastdino.ingestion import aliases, catalog, diff, identify

DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def files(**paths: str | dict[str, Any] | None) -> pl.DataFrame:
    """A catalogue from ``name="track"``, ``name=None`` (unreadable) or ``name={column: value}``."""
    rows = []
    for path, what in paths.items():
        row = what if isinstance(what, dict) else {"track_id": what}
        error = None if row.get("track_id") else row.get("error", "damaged")
        usual = {
            "folder": "/",
            "size": 1,
            "mtime_ns": 1,
            "ctime_ns": 1,
            "added_at": DAY,
            "identified_by": identify.FAILED_VERSION if error else identify.VERSION,
        }
        rows.append({"path": path, **usual, **row})
        rows[-1]["error"] = error
    return pl.DataFrame(rows, schema=catalog.SCHEMA).sort("path")


def cut(*songs: str, title: str | None = None) -> list[dict[str, object]]:
    nothing = dict.fromkeys(catalog.CUE_SONG.to_schema())
    return [{**nothing, "track_id": song, "title": title} for song in songs]


def told(before: pl.DataFrame, after: pl.DataFrame) -> list[tuple[str | None, ...]]:
    """Changes as (kind, path, old_path, track_id)."""
    return diff.changes(before, after).cast({"kind": pl.String}).rows()


def test_a_first_look_is_all_new() -> None:
    assert told(files(), files(a="1", b="2")) == [("new", "a", None, "1"), ("new", "b", None, "2")]


def test_nothing_changed_means_no_rows() -> None:
    same = files(a="1", b="1", c=None)
    assert told(same, same) == []


def test_a_moved_file_is_one_change() -> None:
    assert told(files(a="1"), files(b="1")) == [("moved", "b", "a", "1")]


def test_copies_that_move_together_are_paired_off() -> None:
    assert told(files(a="1", b="1"), files(c="1", d="1", e="1")) == [
        ("moved", "c", "a", "1"), ("moved", "d", "b", "1"), ("duplicate", "e", None, "1"),
    ]  # fmt: skip


def test_one_of_two_copies_moving_is_a_move() -> None:
    assert told(files(a="1", b="1"), files(a="1", c="1")) == [("moved", "c", "b", "1")]


def test_a_copy_of_a_known_song_is_a_duplicate() -> None:
    assert told(files(a="1"), files(a="1", b="1")) == [("duplicate", "b", None, "1")]


def test_two_copies_of_a_new_song_are_one_new_song_and_a_duplicate() -> None:
    assert told(files(), files(a="1", b="1")) == [
        ("new", "a", None, "1"), ("duplicate", "b", None, "1"),
    ]  # fmt: skip


def test_another_list_of_artists_is_retagged() -> None:
    before = files(a={"track_id": "1", "artist": "A; B", "artists": ["A", "B"]})
    after = files(a={"track_id": "1", "artist": "A; B", "artists": ["A; B"]})
    assert told(before, before) == []
    assert told(before, after) == [("retagged", "a", None, "1")]
    assert told(before, files(a={"track_id": "1", "artist": "A; B"})) == [
        ("retagged", "a", None, "1")
    ]


def test_other_tags_are_retagged() -> None:
    after = files(a={"track_id": "1", "title": "New"})
    assert told(files(a="1"), after) == [("retagged", "a", None, "1")]


def test_another_recording_under_the_same_path_is_replaced() -> None:
    assert told(files(a="1"), files(a="2")) == [("replaced", "a", None, "2")]


def test_a_path_taken_over_by_another_song_is_told_with_where_its_own_went() -> None:
    assert told(files(a="1"), files(a="2", b="1")) == [
        ("moved", "b", "a", "1"), ("replaced", "a", None, "2"),
    ]  # fmt: skip


def test_two_songs_that_swap_names_are_both_replaced() -> None:
    assert told(files(a="1", b="2"), files(a="2", b="1")) == [
        ("replaced", "a", None, "2"), ("replaced", "b", None, "1"),
    ]  # fmt: skip


def test_a_file_that_a_sheet_cuts_into_other_songs_is_told_from_one_with_other_titles() -> None:
    before, retitled, recut = (
        files(a={"track_id": "1", "cue": songs})
        for songs in (cut("x", "y"), cut("x", "y", title="New"), cut("x", "z"))
    )
    assert told(before, before) == []
    assert told(before, retitled) == [("retagged", "a", None, "1")]
    assert told(before, recut) == [("recut", "a", None, "1")]
    assert told(before, files(a="1")) == told(files(a="1"), before) == [("recut", "a", None, "1")]
    # What lies beside a file is no change of it as long as nothing comes of it.
    assert told(files(a={"track_id": "1", "sheets": "s"}), files(a={"track_id": "1"})) == []


def test_a_file_that_is_gone_is_removed() -> None:
    assert told(files(a="1", b=None), files()) == [
        ("removed", "a", None, "1"), ("removed", "b", None, None),
    ]  # fmt: skip


def test_files_that_break_or_are_mended_are_told_once() -> None:
    assert told(files(a="1"), files(a=None, b=None)) == [
        ("unreadable", "a", None, None), ("unreadable", "b", None, None),
    ]  # fmt: skip
    assert told(files(a=None), files(a="1")) == [("repaired", "a", None, "1")]


def test_a_file_written_again_unchanged_is_touched() -> None:
    after = files(a={"track_id": "1", "mtime_ns": 2})
    assert told(files(a="1"), after) == [("touched", "a", None, "1")]


def test_only_files_of_the_same_size_and_time_still_hold() -> None:
    machine = {"track_id": None, "error": "killed", "error_kind": "machine"}
    before = files(
        a="1",
        b="2",
        c="3",
        d=None,
        e={"error": f"{identify.CANNOT_READ}: Permission denied"},
        f={**machine, "next_try_at": DAY},
        g={**machine, "next_try_at": DAY + datetime.timedelta(hours=1)},
        h="4",
    )
    listed = pl.DataFrame(
        {
            "path": list("abcdefghi"),
            "size": [1, 2, 1, 1, 1, 1, 1, 1, 1],
            "mtime_ns": [1, 1, 2, 1, 1, 1, 1, 1, 1],
            "ctime_ns": [1, 1, 1, 1, 1, 1, 1, 2, 1],
        }
    )
    assert diff.unchanged(before, listed, DAY)["path"].to_list() == ["a", "d", "g"]


states = st.one_of(
    st.fixed_dictionaries(
        {
            "track_id": st.sampled_from("12345"),
            "title": st.sampled_from([None, "x", "y"]),
            "size": st.integers(1, 2),
            "cue": st.sampled_from([None, None, cut("x", "y"), cut("x", "z")]),
        }
    ),
    st.fixed_dictionaries({"error": st.sampled_from(["damaged", "empty"])}),
)
collections = st.dictionaries(st.sampled_from("abcdefgh"), states).map(lambda d: files(**d))


@given(collections)
def test_a_collection_never_differs_from_itself(same: pl.DataFrame) -> None:
    assert diff.changes(same, same).is_empty()


@given(collections, collections)
def test_the_changes_lead_from_before_to_after(before: pl.DataFrame, after: pl.DataFrame) -> None:
    changes = diff.changes(before, after)
    assert changes.schema == diff.CHANGES
    holds = dict(before.select("path", "track_id").iter_rows())
    own_rows = set(changes["path"])
    for kind, path, old_path, track_id in changes.iter_rows():
        if kind == "removed":
            assert holds.pop(path) == track_id
            continue
        if kind == "moved" and old_path not in own_rows:
            assert holds.pop(old_path) == track_id
        holds[path] = track_id
    assert holds == dict(after.select("path", "track_id").iter_rows())


@given(collections, collections)
def test_every_path_is_accounted_for_once(before: pl.DataFrame, after: pl.DataFrame) -> None:
    changes = diff.changes(before, after)
    paths = changes["path"].to_list()
    assert len(paths) == len(set(paths))
    old_paths = changes["old_path"].drop_nulls().to_list()
    assert len(old_paths) == len(set(old_paths))
    same = before.join(after, on=before.columns, how="semi", nulls_equal=True)["path"].to_list()
    everything = set(before["path"]) | set(after["path"])
    assert everything == set(paths) | set(old_paths) | set(same)
    assert not set(paths) & set(same)


@given(collections, collections)
def test_a_song_is_new_once_and_only_if_it_was_nowhere(
    before: pl.DataFrame, after: pl.DataFrame
) -> None:
    changes = diff.changes(before, after)
    new = changes.filter(kind="new")["track_id"].to_list()
    assert len(new) == len(set(new))
    assert not set(new) & set(before["track_id"].drop_nulls())


def test_what_another_version_failed_at_is_opened_again_and_nothing_else() -> None:
    before = files(a="x", b={"error": "damaged", "identified_by": identify.VERSION}, c=None)
    kept = diff.unchanged(before, before.select("path", "size", "mtime_ns", "ctime_ns"), DAY)
    assert kept["path"].to_list() == ["a", "c"]


def test_what_another_version_has_read_no_longer_holds_but_is_no_change() -> None:
    before = files(a={"track_id": "x", "identified_by": None}, b={"track_id": "y"})
    listed = before.select("path", "size", "mtime_ns", "ctime_ns")
    assert diff.unchanged(before, listed, DAY)["path"].to_list() == ["b"]
    after = files(a={"track_id": "x", "genre": "read now"}, b={"track_id": "y"})
    assert told(before, after) == []
    # Whether the file is another one is a change all the same.
    assert told(before, files(a={"track_id": "z"}, b={"track_id": "y"})) != []
    retagged = files(a={"track_id": "x", "genre": "new", "size": 2}, b={"track_id": "y"})
    assert [kind for kind, *_ in told(before, retagged)] == ["retagged"]


def opened(**audio_ids: str | None) -> pl.DataFrame:
    """Files of size and time 1 as they are found to hold these recordings now."""
    rows = [{"path": p, "size": 1, "mtime_ns": 1, "audio_id": a} for p, a in audio_ids.items()]
    schema = {name: catalog.SCHEMA[name] for name in ("path", "size", "mtime_ns", "audio_id")}
    return pl.DataFrame(rows, schema=schema)


def ids(before: pl.DataFrame, now: pl.DataFrame, **carried: str) -> dict[str, str | None]:
    known = pl.DataFrame(list(carried.items()), schema=aliases.SCHEMA, orient="row")
    return dict(diff.with_known_ids(before, now, known).select("path", "track_id").rows())


def test_a_file_that_an_older_version_has_read_keeps_the_id_it_gave() -> None:
    before = files(a={"track_id": "old", "identified_by": None})
    assert ids(before, opened(a="new", b="new", c="other")) == {
        "a": "old",
        "b": "old",
        "c": "other",
    }
    # Also if it was renamed since, or is not there at the moment.
    assert ids(before, opened(z="new")) == {"z": "old"}
    assert ids(before.clear(), opened(z="new"), new="old") == {"z": "old"}
    # One that has changed since may hold anything.
    changed = opened(a="new").with_columns(size=pl.lit(2, pl.Int64))
    assert ids(before, changed) == {"a": "new"}


def test_an_id_that_was_carried_over_stays_with_the_recording() -> None:
    before = files(a={"track_id": "old", "audio_id": "new"})
    assert ids(before, opened(b="new", c=None)) == {"b": "old", "c": None}


def test_two_ids_of_one_recording_become_its_own_or_that_of_the_file_first_seen() -> None:
    with_tag = {"track_id": "tagged", "identified_by": None}
    clean = {"track_id": "clean", "identified_by": None}
    before = files(a=with_tag, b=clean)
    assert ids(before, opened(a="clean", b="clean")) == {"a": "clean", "b": "clean"}
    later = {**clean, "track_id": "too", "added_at": DAY + datetime.timedelta(days=1)}
    assert set(ids(files(a=later, b=with_tag), opened(a="x", b="x")).values()) == {"tagged"}
