"""The asset ``playlists``: off until a folder is named, and in nobody's way."""

from pathlib import Path

import dagster as dg
import pytest
import synthetic

from assets.page import report_page
from assets.pipes import pipes_client
from assets.playlists import playlists
from assets.stage import HomeFolder
from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish


@pytest.fixture
def published(home: Home, tmp_path: Path) -> Home:
    songs = [{**synthetic.song(i), "path": f"{tmp_path}/music/{i}.flac"} for i in range(12)]
    synthetic.write_home(home, 12)
    synthetic.write_catalog(home, songs)
    (tmp_path / "music").mkdir()
    for song in songs:
        Path(str(song["path"])).touch()
    reports.draw_map(home)
    publish(home)
    return home


def materialize(home: Home, *assets: dg.AssetsDefinition, **options: object):
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [playlists, *assets],
            instance=instance,
            resources={"home": HomeFolder(path=str(home.root)), "pipes": pipes_client()},
            run_config={"ops": {"playlists": {"config": options}}},
            raise_on_error=False,
        )


def test_unless_a_folder_is_named_it_says_what_to_set_and_does_nothing(home, monkeypatch) -> None:
    result = materialize(home, folder=None)
    (event,) = result.asset_materializations_for_node("playlists")
    assert "set FASTDINO_PLAYLISTS" in str(event.metadata["summary"].value)
    assert event.metadata["did work"].value is False
    assert not home.root.exists()


def test_it_brings_the_folder_up_to_date_and_lists_what_is_in_it(published, tmp_path) -> None:
    (tmp_path / "lists").mkdir()
    result = materialize(published, folder=str(tmp_path / "lists"), paths="relative", songs=3)
    (event,) = result.asset_materializations_for_node("playlists")
    records = event.metadata["playlists (table)"].value.records
    told = {record.data["file"]: record.data["songs"] for record in records}
    assert set(told) == {path.name for path in (tmp_path / "lists").iterdir()}
    assert told["Surprise of the day.m3u8"] == 3


def test_a_folder_that_is_gone_fails_it_with_one_line_and_the_rest_goes_on(
    published, tmp_path
) -> None:
    result = materialize(published, report_page, folder=str(tmp_path / "gone"))
    data = result.failure_data_for_node("playlists")
    said = str(data.user_failure_data.description)
    assert said.startswith(f"{tmp_path}/gone, the folder for playlists, is not there")
    assert "\n" not in said
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)
    assert result.asset_materializations_for_node("report_page")
    assert published.page.exists()
