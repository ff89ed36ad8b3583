import base64
import io
import math
from pathlib import Path

import pytest
from dagster._core.definitions.metadata import metadata_map_from_external
from PIL import Image

from assets.child import PLOT_WIDTH, metadata, run, together
from fastdino.core import text
from fastdino.core.errors import UserError
from fastdino.core.outcomes import Outcome
from fastdino.core.summary import Column, Relation, Summary


def png(width: int = 2, height: int = 1) -> bytes:
    image = io.BytesIO()
    Image.new("RGB", (width, height)).save(image, "PNG")
    return image.getvalue()


def shown(summary: Summary) -> dict[str, object]:
    """What Dagster makes of a summary's metadata."""
    return {k: v.value for k, v in metadata_map_from_external(metadata(summary)).items()}


def test_figures_keep_their_types_so_that_the_ui_can_plot_them() -> None:
    counts = {"songs": 3, "hours": 0.5, "quick": True, "codec": "mp3"}
    assert counts.items() <= shown(Summary("s", "h", True, counts=counts)).items()


def test_figures_that_are_not_known_are_shown_as_text() -> None:
    values = shown(Summary("s", "h", True, counts={"rank": None, "loss": math.nan}))
    assert (values["rank"], values["loss"]) == ("–", "nan")


def test_a_command_among_the_figures_can_be_typed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "program", lambda: "bin/fastdino")
    values = shown(Summary("s", "h", True, counts={"opens by": "`fastdino serve`"}))
    assert values["opens by"] == "`bin/fastdino serve`"


@pytest.mark.parametrize(
    ("value", "read"),
    [(0.123456, 0.1235), (-2.81947, -2.819), (4.7474e-05, 4.747e-05), (12345.6, 12346.0)],
)
def test_figures_are_rounded_to_what_a_person_reads(value: float, read: float) -> None:
    summary = Summary("s", "h", True, counts={"loss": value}, tables={"t": [{"loss": value}]})
    values = shown(summary)
    assert values["loss"] == read
    assert values["t (table)"].records[0].data == {"loss": read}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("size", "fitting"),
    [((2 * PLOT_WIDTH, 600), (PLOT_WIDTH, 300)), ((700, 300), (700, 300))],
)
def test_a_plot_is_never_wider_than_dagster_shows_it(
    size: tuple[int, int], fitting: tuple[int, int]
) -> None:
    values = shown(Summary("s", "h", True, plots={"p": png(*size)}))
    image = str(values["p (plot)"]).removeprefix("![p](data:image/png;base64,").removesuffix(")")
    assert Image.open(io.BytesIO(base64.b64decode(image))).size == fitting


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
        plots={"shards": png()},
        paths={"shards": Path("/x")},
    )
    values = shown(summary)
    assert {"shards", "shards (table)", "shards (plot)", "shards (path)"} <= set(values)
    assert str(values["shards (plot)"]).startswith("![shards](data:image/png;base64,iVBORw0KGgo")


def test_an_empty_table_is_left_out() -> None:
    assert "failures (table)" not in shown(Summary("s", "h", True, tables={"failures": []}))


def test_warnings_are_shown() -> None:
    assert shown(Summary("s", "h", False, warnings=["do this"]))["warnings"] == "do this"


def test_of_several_steps_all_is_shown_and_the_first_is_the_headline() -> None:
    first = Summary("a", "first", False, counts={"n": 1}, warnings=["one"])
    second = Summary("b", "second", True, counts={"n": 2, "m": 3}, warnings=["two"])
    done = together([Outcome(first, 0.0, 1.0), Outcome(second, 1.0, 2.0)])
    values = {k: v.value for k, v in metadata_map_from_external(done).items()}
    assert values["summary"] == "first"
    assert (values["n"], values["m"]) == (1, 3)
    assert values["warnings"] == "one\ntwo"
    assert values["did work"] is True
    assert values["ended"] == 2.0


def test_the_first_table_goes_by_dagsters_own_names_and_every_column_is_described() -> None:
    songs = Relation("music.main.songs", "Start here", 3, [Column("title", "VARCHAR", "Its name")])
    files = Relation("music.main.files", "Music files", 4, [Column("size", "BIGINT", "Bytes")])
    values = shown(Summary("s", "h", True, relations=[songs, files]))
    assert values["dagster/table_name"] == "music.main.songs"
    assert values["dagster/row_count"] == 3
    schemas = {"dagster/column_schema": songs, "music.main.files (columns)": files}
    for name, relation in schemas.items():
        (column,), (of,) = values[name].columns, relation.columns  # type: ignore[attr-defined]
        assert (column.name, column.type, column.description) == (of.name, of.type, of.means)
    rows = [record.data for record in values["tables (table)"].records]  # type: ignore[attr-defined]
    assert rows[1] == {"table": "music.main.files", "rows": 4, "means": "Music files"}


def test_a_step_that_was_sent_to_another_version_says_so_at_once() -> None:
    with pytest.raises(UserError, match=r"has fastdino .* where Dagster has 0\.0\.0: install"):
        run({"version": "0.0.0", "home": "/nowhere", "steps": [("ingest", {})]})
