import datetime
import importlib
from pathlib import Path

import dagster as dg
import pytest
import yaml

from assets import ingestion, playlists, promotion, research, spectrograms, training
from assets.database import FRESHNESS
from assets.stage import config_of
from fastdino.core.errors import UserError
from fastdino.steps import Compare, Ingest, Promote, Train, made
from pipelines.definitions import build_defs, defs
from pipelines.schedules import nightly_refresh

ROOT = Path(__file__).parent.parent.parent
NAMES = [
    "catalog", "spectrogram_shards", "fastdino_model", "embedding_vectors", "promotion",
    "collection_map", "music_duckdb", "report_page",
]  # fmt: skip
RESEARCH = "comparison"
# For players and servers, as the page is for people: none waits for another.
BESIDE_THE_PAGE = ("playlists", "server_ids")


def assets_of(job: str) -> set[str]:
    keys = defs.resolve_job_def(job).asset_layer.selected_asset_keys
    return {key.to_user_string() for key in keys}


def steps_of(job: str) -> list[str]:
    """Names of the steps of ``job``, each after those it waits for."""
    return [node.name for node in defs.resolve_job_def(job).nodes_in_topological_order]


def field(config: type[dg.Config], name: str) -> dg.Field:
    return config.to_fields_dict()[name]


def test_the_assets_tell_the_story_of_the_stages_in_order() -> None:
    graph = defs.resolve_asset_graph()
    order = [
        key.to_user_string() for level in graph.toposorted_asset_keys_by_level for key in level
    ]
    order.remove(RESEARCH)
    for name in BESIDE_THE_PAGE:
        order.remove(name)
    assert order == NAMES


def test_all_assets_are_in_one_group_for_dagster_shows_several_folded_up() -> None:
    graph = defs.resolve_asset_graph()
    assert {graph.get(key).group_name for key in graph.toposorted_asset_keys} == {"fastdino"}


def test_research_stands_beside_the_story() -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey(RESEARCH))
    assert {key.to_user_string() for key in node.parent_keys} == {"spectrogram_shards"}
    assert not node.child_keys


@pytest.mark.parametrize("name", BESIDE_THE_PAGE)
def test_nothing_waits_for_what_is_for_players_which_waits_for_the_database(name: str) -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey(name))
    assert {key.to_user_string() for key in node.parent_keys} == {"music_duckdb"}
    assert not node.child_keys


@pytest.mark.parametrize("name", [*NAMES, RESEARCH, *BESIDE_THE_PAGE])
def test_an_asset_says_what_it_is_and_shares_no_file_with_another_writer(name: str) -> None:
    asset = defs.resolve_assets_def(name)
    spec = asset.get_asset_spec()
    assert spec.description
    assert "Lies in" in spec.description
    assert spec.kinds
    assert spec.owners
    assert spec.code_version
    assert asset.op.pool in {"collection", "gpu", "duckdb"}
    # With a policy, cancelling a run would start the cancelled step again.
    assert asset.op.retry_policy is None


def test_refresh_makes_everything_but_the_model() -> None:
    made = {*NAMES, *BESIDE_THE_PAGE} - {"fastdino_model", "promotion"}
    assert assets_of("refresh") == made


def test_refresh_keeps_the_order_although_the_model_is_left_out() -> None:
    steps = [step for step in steps_of("refresh") if step in NAMES]
    assert steps == [name for name in NAMES if name not in ("fastdino_model", "promotion")]


def test_refresh_looks_whether_the_model_still_fits_once_the_catalogue_is_new() -> None:
    steps = steps_of("refresh")
    assert steps.index("fastdino_model_model_fits_the_collection") > steps.index("catalog")


@pytest.mark.parametrize("job", ["refresh", "train"])
def test_whether_new_songs_are_of_a_known_kind_is_asked_once_they_have_vectors(job: str) -> None:
    steps = steps_of(job)
    check = steps.index("fastdino_model_new_songs_are_of_a_known_kind")
    assert check > steps.index("embedding_vectors")


def test_train_makes_the_model_and_what_comes_after_it() -> None:
    assert assets_of("train") == {*NAMES[2:], *BESIDE_THE_PAGE} - {"promotion"}


def test_promote_alone_puts_the_candidate_to_use_and_draws_all_that_depends_on_it() -> None:
    job = defs.resolve_job_def("promote")
    assert assets_of("promote") == {
        "promotion",
        "collection_map",
        "music_duckdb",
        "report_page",
        *BESIDE_THE_PAGE,
    }
    options = dg.validate_run_config(job, job.run_config)["ops"]["promotion"]["config"]
    assert options == Promote().plain()


def test_after_a_promotion_the_model_that_is_now_in_use_is_judged() -> None:
    job = defs.resolve_job_def("promote")
    steps = [node.name for node in job.graph.nodes_in_topological_order]
    judging = [name for name in steps if "model_fits" in name or "known_kind" in name]
    assert len(judging) == 2
    assert steps.index("promotion") < min(map(steps.index, judging))


def test_without_being_asked_to_nothing_is_promoted() -> None:
    assert promotion.PromotionConfig().model_id == ""


def test_compare_alone_makes_the_comparison_and_as_the_command_line_does() -> None:
    job = defs.resolve_job_def("compare")
    assert assets_of("compare") == {RESEARCH}
    options = dg.validate_run_config(job, job.run_config)["ops"][RESEARCH]["config"]
    assert made("compare", options) == Compare()


def test_a_comparison_that_nobody_asks_for_trains_nothing() -> None:
    assert research.ComparisonConfig().minutes == []


def test_the_nightly_schedule_asks_for_one_refresh_and_is_off_at_first() -> None:
    assert defs.resolve_schedule_def("nightly_refresh") == nightly_refresh
    assert nightly_refresh.default_status is dg.DefaultScheduleStatus.STOPPED
    night = datetime.datetime(2025, 6, 1, 3, tzinfo=datetime.UTC)
    tick = nightly_refresh.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=night))
    assert nightly_refresh.job_name == "refresh"
    assert tick.run_requests is not None
    assert len(tick.run_requests) == 1


def test_the_database_is_overdue_when_a_night_brought_no_refresh() -> None:
    policy = defs.resolve_assets_def("music_duckdb").get_asset_spec().freshness_policy
    assert isinstance(policy, type(FRESHNESS))
    night = datetime.timedelta(days=1)
    assert night < policy.warn_window.to_timedelta() < 2 * night
    assert policy.warn_window.to_timedelta() < policy.fail_window.to_timedelta()


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (ingestion.CatalogConfig, {"music", "rescan"}),
        (spectrograms.SpectrogramsConfig, {"retry"}),
        (training.TrainingConfig, {"preset", "minutes", "seed", "afresh", "warm", "ranks"}),
        (promotion.PromotionConfig, {"model_id"}),
        (playlists.PlaylistsConfig, {"folder", "paths", "songs", "leave_out"}),
        (research.ComparisonConfig, {"arms", "minutes", "seeds", "labels", "vectors", "preset"}),
    ],
)
def test_every_option_in_the_launchpad_is_described_and_optional(
    config: type[dg.Config], names: set[str]
) -> None:
    assert set(config.to_fields_dict()) == names
    for name in names:
        assert field(config, name).description
        assert not field(config, name).is_required


def test_the_preset_is_chosen_from_a_list() -> None:
    job = defs.resolve_job_def("train")
    options = {"preset": "tiny", "minutes": 1.5}
    run = {"ops": {"fastdino_model": {"config": options}}}
    assert dg.validate_run_config(job, run)["ops"]["fastdino_model"]["config"]["minutes"] == 1.5
    options["preset"] = "huge"
    with pytest.raises(dg.DagsterInvalidConfigError, match="preset"):
        dg.validate_run_config(job, run)


def test_options_are_those_of_the_steps_and_default_to_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FASTDINO_MUSIC", "FASTDINO_PRESET", "FASTDINO_MINUTES"):
        monkeypatch.delenv(name, raising=False)
    assert config_of(Ingest)().model_dump(mode="json") == {
        "music": [],
        "or_demo": False,
        "rescan": False,
    }
    assert made("train", config_of(Train)().model_dump(mode="json")) == Train(preset="auto")
    monkeypatch.setenv("FASTDINO_MUSIC", "/a:/b")
    monkeypatch.setenv("FASTDINO_PRESET", "gpu")
    monkeypatch.setenv("FASTDINO_MINUTES", "2.5")
    assert config_of(Ingest)().music == ["/a:/b"]
    options = config_of(Train)().model_dump(mode="json")
    assert made("train", options) == Train(preset="gpu", minutes=2.5)


def test_what_is_set_wrongly_is_named_when_the_definitions_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTDINO_MINUTES", "ten")
    with pytest.raises(UserError, match="FASTDINO_MINUTES is 'ten': set"):
        config_of(Train)


def test_steps_run_beside_dagster_unless_a_cluster_is_named_for_them() -> None:
    assert isinstance(defs.resources["pipes"], dg.PipesSubprocessClient)  # type: ignore[index]


def test_resources_can_be_replaced_for_a_test() -> None:
    other = dg.PipesSubprocessClient(env={"HERE": "1"})
    assert build_defs({"pipes": other}).resources["pipes"] is other  # type: ignore[index]


def test_the_workspace_file_loads_these_definitions() -> None:
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    location = entry["python_module"]
    assert (ROOT / location["working_directory"]).resolve() == ROOT
    assert importlib.import_module(location["module_name"]).defs is defs


def test_dagster_accepts_its_settings_and_keeps_its_history_under_var(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_config(str(ROOT)) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.global_op_concurrency_default_limit == 1
        assert [entry.name for entry in tmp_path.iterdir()] == ["var"]
        assert instance.root_directory == "var/dagster"
