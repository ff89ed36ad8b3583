"""The asset ``server_ids``: off until a server is named, and in nobody's way."""

from pathlib import Path

import dagster as dg
import music_server
import pytest
import synthetic

from assets.page import report_page
from assets.pipes import pipes_client
from assets.servers import server_ids
from assets.stage import HomeFolder
from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.servers import matching


@pytest.fixture
def published(home: Home) -> Home:
    synthetic.write_home(home, 12)
    reports.draw_map(home)
    publish(home)
    return home


def materialize(home: Home, *assets: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [server_ids, *assets],
            instance=instance,
            resources={"home": HomeFolder(path=str(home.root)), "pipes": pipes_client()},
            raise_on_error=False,
        )


def test_unless_a_server_is_named_it_says_what_to_set_and_does_nothing(home: Home) -> None:
    result = materialize(home)
    (event,) = result.asset_materializations_for_node("server_ids")
    assert "set FASTDINO_SERVER" in str(event.metadata["summary"].value)
    assert event.metadata["did work"].value is False
    assert not home.root.exists()


def test_it_learns_the_ids_and_a_server_that_is_gone_leaves_them_and_the_rest_goes_on(
    published: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(music_server.PASSWORD)
    monkeypatch.setenv("FASTDINO_SERVER_USER", music_server.USER)
    monkeypatch.setenv("FASTDINO_SERVER_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("FASTDINO_SERVER_PATHS", "/music=/srv")
    with music_server.serving([music_server.told(i) for i in range(5)]) as music:
        monkeypatch.setenv("FASTDINO_SERVER", music.url)
        result = materialize(published)
        (event,) = result.asset_materializations_for_node("server_ids")
        assert event.metadata["matched_by_path"].value == 5
    before = published.server_ids.read_bytes()
    assert len(matching.read(published)) == 5
    result = materialize(published, report_page)
    said = str(result.failure_data_for_node("server_ids").user_failure_data.description)
    assert said.startswith(f"the music server {music.url} does not answer")
    assert "\n" not in said
    shown = " ".join(str(event) for event in result.all_events)
    assert music_server.PASSWORD not in said + shown
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)
    assert published.server_ids.read_bytes() == before
    assert result.asset_materializations_for_node("report_page")
