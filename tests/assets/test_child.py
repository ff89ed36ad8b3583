import math
from pathlib import Path

from dagster._core.definitions.metadata import metadata_map_from_external

from assets.child import metadata
from fastdino.summary import Summary

PNG = b"\x89PNG\r\n\x1a\n..."


def shown(summary: Summary) -> dict[str, object]:
    """What Dagster makes of a summary's metadata."""
    return {k: v.value for k, v in metadata_map_from_external(metadata(summary)).items()}


def test_figures_keep_their_types_so_that_the_ui_can_plot_them() -> None:
    counts = {"songs": 3, "hours": 0.5, "quick": True, "codec": "mp3"}
    assert counts.items() <= shown(Summary("s", "h", True, counts=counts)).items()


def test_figures_that_are_not_known_are_shown_as_text() -> None:
    values = shown(Summary("s", "h", True, counts={"rank": None, "loss": math.nan}))
    assert (values["rank"], values["loss"]) == ("–", "nan")


def test_tags_in_a_table_stay_what_they_are() -> None:
    rows = [{"title": "<img src=x>|`\n", "year": 1999}, {"title": None, "year": None}]
    table = shown(Summary("s", "h", True, tables={"songs": rows}))["songs (table)"]
    assert [r.data for r in table.records] == [  # type: ignore[attr-defined]
        {"title": "<img src=x>|`\n", "year": 1999},
        {"title": "–", "year": "–"},
    ]
    assert [c.type for c in table.schema.columns] == ["string", "float"]  # type: ignore[attr-defined]


def test_a_figure_a_table_a_plot_and_a_path_of_one_name_are_all_shown() -> None:
    summary = Summary(
        "s",
        "h",
        True,
        counts={"shards": 1},
        tables={"shards": [{"name": "a"}]},
        plots={"shards": PNG},
        paths={"shards": Path("/x")},
    )
    values = shown(summary)
    assert {"shards", "shards (table)", "shards (plot)", "shards (path)"} <= set(values)
    assert str(values["shards (plot)"]).startswith("![shards](data:image/png;base64,iVBORw0KGgo")


def test_an_empty_table_is_left_out() -> None:
    assert "failures (table)" not in shown(Summary("s", "h", True, tables={"failures": []}))


def test_warnings_are_shown() -> None:
    assert shown(Summary("s", "h", False, warnings=["do this"]))["warnings"] == "do this"
