"""What commands did shows in Dagster, once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import stages
import synthetic
from dagster._core.definitions.data_version import (
    CachingStaleStatusResolver,
    StaleStatus,
    extract_data_version_from_entry,
)
from dagster._core.loader import LoadingContextForTest

from assets import run_report
from assets.ingestion import catalog
from assets.pipes import pipes_client
from assets.stage import HomeFolder
from fastdino.core.home import Home
from fastdino.steps import ListModels, Promote, perform
from fastdino.steps import data_version as data_version_of
from fastdino.training import registry
from pipelines.catch_up import NOT_KEPT, catch_up
from pipelines.definitions import build_defs, defs

ROOT = Path(__file__).parents[2]
MADE = [
    "catalog", "spectrogram_shards", "fastdino_model", "embedding_vectors", "promotion",
    "collection_map", "music_duckdb", "report_page", "comparison", "playlists",
    "server_ids",
]  # fmt: skip


def command(home: Home, music: Path) -> None:
    """What ``fastdino run`` does."""
    for step in stages.steps(music):
        perform(step, home)


@pytest.fixture(scope="module")
def finished(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("catch_up") / "home")
    command(home, library)
    return home


def shown(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    record = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert record
    assert record.asset_materialization
    return {name: v.value for name, v in record.asset_materialization.metadata.items()}


@pytest.mark.thorough
def test_all_that_a_command_made_shows_once_and_is_in_step(finished: Home) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert set(catch_up(finished, instance)) == set(MADE)
        assert catch_up(finished, instance) == []
        assert shown(instance, "catalog")["summary"].startswith("12 songs in 14 files")
        database = shown(instance, "music_duckdb")
        assert database["dagster/table_name"] == "music.main.songs"
        assert database["dagster/row_count"] == 12
        columns = {column.name: column for column in database["dagster/column_schema"].columns}
        assert columns["title"].description.startswith("Title tag")
        assert database["what to do next"] == run_report.NOTHING
        stale = CachingStaleStatusResolver(
            instance, defs.resolve_asset_graph(), LoadingContextForTest(instance)
        )
        assert {stale.get_status(dg.AssetKey(name)) for name in MADE} == {StaleStatus.FRESH}


def data_version(instance: dg.DagsterInstance, asset: str) -> str:
    record = instance.get_latest_data_version_record(dg.AssetKey(asset))
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    assert version
    return version.value


@pytest.mark.thorough
def test_a_refresh_after_a_command_shows_no_new_data(finished: Home, library: Path) -> None:
    job = build_defs({"home": HomeFolder(path=str(finished.root))}).resolve_job_def("refresh")
    music = {"ops": {"catalog": {"config": {"music": [str(library)]}}}}
    unasked = ("fastdino_model", "promotion", "comparison", "playlists", "server_ids")
    refreshed = [name for name in MADE if name not in unasked]
    with dg.DagsterInstance.ephemeral() as instance:
        catch_up(finished, instance)
        before = {name: data_version(instance, name) for name in refreshed}
        assert job.execute_in_process(instance=instance, run_config=music).success
        assert {name: data_version(instance, name) for name in refreshed} == before
        assert catch_up(finished, instance) == []


def test_what_dagster_made_itself_is_not_told_again_and_a_command_after_it_is(
    home: Home, library: Path
) -> None:
    ingest = stages.steps(library)[0]
    with dg.DagsterInstance.ephemeral() as instance:
        made = dg.materialize(
            [catalog],
            instance=instance,
            resources={"home": HomeFolder(path=str(home.root)), "pipes": pipes_client()},
            run_config={"ops": {"catalog": {"config": {"music": [str(library)]}}}},
        )
        version = data_version(instance, "catalog")
        assert made.success
        assert "catalog" not in catch_up(home, instance)
        perform(ingest, home)
        assert catch_up(home, instance) == ["catalog"]
        assert data_version(instance, "catalog") == version
        assert "13 unchanged" in shown(instance, "catalog")["summary"]
        assert catch_up(home, instance) == []


def test_what_was_made_before_outcomes_were_kept_shows_without_them(
    demo_home: tuple[Home, list[Path]],
) -> None:
    home, _ = demo_home
    with dg.DagsterInstance.ephemeral() as instance:
        assert {"catalog", "music_duckdb"} <= set(catch_up(home, instance))
        assert shown(instance, "catalog") == {"summary": NOT_KEPT}
        assert catch_up(home, instance) == []


def test_which_model_is_in_use_is_told_by_whatever_said_it_last(home: Home) -> None:
    synthetic.write_home(home, 3)
    newer = "2026-01-01T00:00:00+00:00"
    synthetic.write_model(home, "model-b", current=False, created_at=newer)
    (home.model("model-b") / registry.WEIGHTS).write_bytes(b"weights")
    with dg.DagsterInstance.ephemeral() as instance:
        for step, said in (
            (ListModels(), "candidate model-b is waiting beside model-a"),
            (Promote(), "model model-b is in use instead of model-a"),
            (ListModels(), "model model-b is in use; no candidate is waiting"),
        ):
            perform(step, home)
            assert "promotion" in catch_up(home, instance)
            assert shown(instance, "promotion")["summary"].startswith(said)
            assert catch_up(home, instance) == []


def test_the_version_of_which_model_is_in_use_is_that_of_one_file(home: Home) -> None:
    synthetic.write_model(home)
    both = data_version_of(home, [ListModels.name, Promote.name])
    assert both == data_version_of(home, [ListModels.name])


def test_an_empty_home_is_nothing_to_tell(home: Home) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert catch_up(home, instance) == []


@pytest.mark.parametrize("here", [".", "inner"])
def test_the_home_that_a_file_of_settings_names_is_told_of_and_shown_also_from_a_folder_above(
    here: str, demo_home: tuple[Home, list[Path]], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"FASTDINO_HOME={demo_home[0].root}\n")
    (tmp_path / "inner").mkdir()
    environment = {name: text for name, text in os.environ.items() if name != "FASTDINO_HOME"}

    def said(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path / here,
            env={**environment, "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    assert "without it: catalog" in said("-m", "pipelines.start", "true")
    shown = "from pipelines.definitions import defs; print(defs.resources['home'].path)"
    assert said("-c", shown).strip() == str(demo_home[0].root)
