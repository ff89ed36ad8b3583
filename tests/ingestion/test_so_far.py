"""A run that was stopped while it looked into files, and the one after it."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino import ingestion
from fastdino.core.failures import FORMAT, MACHINE
from fastdino.core.home import Home
from fastdino.ingestion import catalog, identify, so_far
from fastdino.ingestion.identify import Identified
from fastdino.ingestion.so_far import SoFar
from tests.faults.child import Moment, run

FILES = 14  # of the small library


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files that are looked into from here on."""
    paths: list[str] = []
    real = identify.identify_files

    def noting(
        files: Sequence[tuple[str, int]], folders: Iterable[str]
    ) -> Iterator[tuple[str, Identified]]:
        paths.extend(path for path, _ in files)
        return real(files, folders)

    monkeypatch.setattr(identify, "identify_files", noting)
    return paths


def killed(home: Home, music: Path, log: Path, *options: str) -> None:
    """Ingest, and be killed in the middle of the files."""
    command = ["ingest", str(music), *options]
    assert run(home, command, log, Moment("catalog", FILES), workers=False) is None
    assert 0 < len(list(home.so_far.iterdir())) < FILES


def test_a_run_that_was_killed_goes_on_where_it_was_and_ends_like_an_undisturbed_one(
    music: Path, home: Home, tmp_path: Path, opened: list[str]
) -> None:
    undisturbed = Home(tmp_path / "undisturbed")
    ingestion.run(undisturbed, [music])
    expected = catalog.read(undisturbed).drop("added_at")
    opened.clear()
    killed(home, music, tmp_path / "log")
    kept = len(list(home.so_far.iterdir()))
    killed(home, music, tmp_path / "log")
    assert len(list(home.so_far.iterdir())) > kept, (
        "further parts are added to those that are there"
    )
    kept = len(list(home.so_far.iterdir()))
    ingestion.run(home, [music])
    assert 0 < len(opened) <= FILES - kept
    assert catalog.read(home).drop("added_at").equals(expected)
    assert not home.so_far.exists()


def test_what_has_changed_since_is_looked_into_again(
    music: Path, home: Home, tmp_path: Path, opened: list[str]
) -> None:
    killed(home, music, tmp_path / "log")
    for path in music.rglob("*.*"):
        path.touch()
    ingestion.run(home, [music])
    assert len(opened) == FILES


def test_a_rescan_goes_on_from_a_rescan_alone(
    music: Path, home: Home, tmp_path: Path, opened: list[str]
) -> None:
    ingestion.run(home, [music])
    killed(home, music, tmp_path / "log", "--rescan")
    opened.clear()
    assert not ingestion.run(home, [music], rescan=True).did_work
    assert 0 < len(opened) < FILES
    home.catalog.unlink()
    killed(home, music, tmp_path / "log")
    opened.clear()
    ingestion.run(home, [music], rescan=True)
    assert len(opened) == FILES
    assert not home.so_far.exists()


def listed(*paths: str) -> pl.DataFrame:
    """Files as ``scan`` lists them."""
    rows = {"path": paths, "size": 1, "mtime_ns": 2, "ctime_ns": 3}
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(so_far.KEY[1:], pl.Int64))


def kept(home: Home, results: dict[str, Identified]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(so_far, "FLUSH_EVERY_S", 0.0)
        now = SoFar(home, rescan=False)
        for row in listed(*results).iter_rows():
            now.add(row, results[row[0]])


def test_files_in_which_the_computer_failed_are_tried_again(home: Home) -> None:
    results = {
        "/fine": Identified("id", title="Dust"),
        "/damaged": Identified(error="damaged"),
        "/odd": Identified(error="odd", error_kind=FORMAT),
        "/crashed": Identified(error="crashed", error_kind=MACHINE),
    }
    kept(home, results)
    found = SoFar(home, rescan=False).known(listed(*results))
    assert found == {path: result for path, result in results.items() if path != "/crashed"}


def test_what_another_version_has_read_is_looked_into_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(home, {"/fine": Identified("id")})
    monkeypatch.setattr(identify, "VERSION", identify.VERSION + 1)
    assert SoFar(home, rescan=False).known(listed("/fine")) == {}


def test_a_damaged_part_costs_no_more_than_itself(home: Home) -> None:
    kept(home, {"/a": Identified("a"), "/b": Identified("b")})
    first, _ = sorted(home.so_far.iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    assert set(SoFar(home, rescan=False).known(listed("/a", "/b"))) == {"/b"}


TEXT = st.none() | st.text() | st.binary().map(lambda each: each.decode("utf-8", "surrogateescape"))
VALUES = {
    "str | None": TEXT,
    "list[str] | None": st.none() | st.lists(TEXT.filter(lambda each: each is not None)),
    "int | None": st.none() | st.integers(),
    "float | None": st.none() | st.floats(allow_nan=False),
}


@given(st.builds(Identified, **{each.name: VALUES[str(each.type)] for each in fields(Identified)}))
def test_whatever_was_found_is_found_again(result: Identified) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept(Home(Path(folder)), {"/x": result})
        found = SoFar(Home(Path(folder)), rescan=False).known(listed("/x"))
    assert found == ({} if result.error_kind == MACHINE else {"/x": result})
