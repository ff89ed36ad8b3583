"""Assets and the child process that makes them, with nothing stood in for."""

import sys
import warnings
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import extract_data_version_from_entry
from dagster_shared.utils.warnings import PreviewWarning

from assets import stage
from assets.ingestion import catalog, catalog_has_songs
from assets.pipes import pipes_client
from assets.playlists import playlists
from assets.research import comparison
from assets.stage import HomeFolder, run_steps
from assets.training import fastdino_model
from fastdino.core.home import Home
from fastdino.ingestion import catalog as files_catalog
from fastdino.steps import Embed, Ingest


def materialize(
    home: Home, instance: dg.DagsterInstance, *assets: object, music: Path | None = None
) -> dg.ExecuteInProcessResult:
    config = {"ops": {"catalog": {"config": {"music": [str(music)]}}}} if music else {}
    return dg.materialize(
        list(assets),  # type: ignore[arg-type]
        instance=instance,
        resources={
            "home": HomeFolder(path=str(home.root)),
            "pipes": pipes_client(),
        },
        run_config=config,
        raise_on_error=False,
    )


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    data = result.failure_data_for_node(step)
    assert data is not None
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def retries(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)


def test_a_stage_runs_in_a_child_whose_log_and_summary_reach_dagster_without_a_warning_of_its_own(
    home: Home, library: Path
) -> None:
    with warnings.catch_warnings(record=True) as said, dg.DagsterInstance.ephemeral() as instance:
        warnings.simplefilter("always")
        result = materialize(home, instance, catalog, catalog_has_songs, music=library)
        assert result.success
        (event,) = result.asset_materializations_for_node("catalog")
        headline = event.metadata["summary"].value
        log = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert "12 songs" in str(headline)
    assert headline in log
    assert files_catalog.read(home)["track_id"].n_unique() == 13  # twelve, and the damaged: null
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    assert [w for w in said if issubclass(w.category, PreviewWarning)] == []


def test_a_quiet_night_brings_no_new_data_and_a_new_song_does(home: Home, music: Path) -> None:
    versions = []
    with dg.DagsterInstance.ephemeral() as instance:
        for night in range(3):
            if night == 2:
                next(music.rglob("*.flac")).unlink()
            assert materialize(home, instance, catalog, music=music).success
            record = instance.get_latest_data_version_record(catalog.key)
            assert record
            version = extract_data_version_from_entry(record.event_log_entry)
            versions.append(version.value if version else None)
    first, quiet, changed = versions
    assert first == quiet != changed


def test_what_only_the_user_can_mend_fails_at_once_with_the_plain_message(
    home: Home, tmp_path: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(home, instance, catalog, music=tmp_path / "unmounted")
    assert not result.success
    assert str(tmp_path / "unmounted") in failure_of(result, "catalog")
    assert "Traceback" not in failure_of(result, "catalog")
    assert retries(result) == 0


@pytest.mark.parametrize(
    ("asset", "options", "said"),
    [
        (fastdino_model, {"minutes": -1}, "-1 minutes are no time to train: give a number above 0"),
        (fastdino_model, {"seed": -1}, "-1 is no seed: give 0 or more"),
        (fastdino_model, {"ranks": 0}, "0 ranks are none: give 1 or more"),
        (comparison, {"minutes": [0.1], "seeds": 0}, "0 runs of each are none: give 1 or more"),
        (comparison, {"vectors": ["no name"]}, "no name"),
        (playlists, {"folder": "lists", "songs": 0}, "0 songs are no playlist: give 1 or more"),
        (playlists, {"folder": "lists", "paths": "odd"}, "'odd' is no way to name songs: give"),
    ],
)
def test_an_option_in_the_launchpad_that_cannot_be_fails_at_once_with_the_plain_message(
    asset: dg.AssetsDefinition, options: dict[str, object], said: str, home: Home
) -> None:
    name = asset.key.to_user_string()
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset],
            instance=instance,
            resources={"home": HomeFolder(path=str(home.root)), "pipes": pipes_client()},
            run_config={"ops": {name: {"config": options}}},
            raise_on_error=False,
        )
    assert not result.success
    assert said in failure_of(result, name)
    assert retries(result) == 0


def test_what_a_disk_refuses_before_a_step_begins_is_told_in_plain_words(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(Home(tmp_path / ("long" * 100)), instance, catalog)
    assert "File name too long; choose a shorter name" in failure_of(result, "catalog")


def test_anything_else_is_tried_once_more_and_then_fails_with_its_message(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RETRY_AFTER_S", 0)

    class Broken(Ingest):
        """What a child makes of options that nobody checked."""

        def plain(self) -> dict[str, object]:
            return {"music": ["\0"], "or_demo": False}

    @dg.asset
    def careless(
        context: dg.AssetExecutionContext, home: HomeFolder, pipes: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        return run_steps(context, pipes, home, Broken())

    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(home, instance, careless)
    assert not result.success
    assert "ValueError" in failure_of(result, "careless")
    assert retries(result) == 1


def test_a_child_that_is_killed_is_started_once_more_and_then_told_of(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RETRY_AFTER_S", 0)
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

    class Killed(dg.PipesSubprocessClient):
        """Starts what is killed at once in every child's place."""

        def run(self, **asked: Any) -> Any:
            return super().run(**{**asked, "command": [sys.executable, "-c", killed]})

    @dg.asset
    def unlucky(context: dg.AssetExecutionContext, home: HomeFolder) -> dg.MaterializeResult:
        return run_steps(context, Killed(), home, Embed())

    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(home, instance, unlucky)
    assert "embed: ended without a word, was it killed?" in failure_of(result, "unlucky")
    assert retries(result) == 1
