"""The comparison's report: figures as they are, spreads only where there are some, safe pages."""

import json
import re
import statistics
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from embedded import HOSTILE, embedded
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.research import figures, page, table
from fastdino.research.compare import DIFFERENCES
from fastdino.training.evaluation import FIGURES
from fastdino.training.settings import EncoderSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SMALL = EncoderSettings(widths=(16, 24), depths=(1, 2), strides=(4, 2), kernel=5)
FLOORS = ("mel mean", "mel mean+std", "untrained")
SCHEMA = {
    "arm": pl.String,
    "kind": pl.String,
    "minutes": pl.Float64,
    "seed": pl.Int64,
    "subset": pl.String,
    "n_tracks": pl.Int64,
    "steps": pl.Int64,
    "elapsed_s": pl.Float64,
    "heard_s": pl.Float64,
    "flops": pl.Float64,
    **dict.fromkeys(FIGURES, pl.Float64),
    "run": pl.String,
}


def row(arm: str, kind: str, minutes: float = 0, seed: int = 0, **changes: object) -> dict:
    """One row of results; figures that are not given are not known."""
    trained = {
        "steps": round(100 * minutes),
        "elapsed_s": 60 * minutes,
        "heard_s": 7200 * minutes,
        "flops": 2e15 * minutes,
        "run": f"{arm}-{minutes:g}-{seed}" if minutes else None,
    }
    named = {"arm": arm, "kind": kind, "minutes": minutes, "seed": seed}
    return {**named, "subset": "all", "n_tracks": 300, **trained, **changes}


def results(minutes: tuple[float, ...] = (2, 5), seeds: int = 3, **extra: str) -> pl.DataFrame:
    """A comparison in which every run does a little differently; ``extra`` arms by kind."""
    kinds = {"published": "baseline", "dino": "baseline", "fastdino": "ours", **extra}
    random = np.random.default_rng(0)
    rows = []
    for subset in ("all", "held out"):
        for number, (arm, kind) in enumerate(kinds.items()):
            for budget in minutes:
                for seed in range(seeds):
                    quality = 0.1 + 0.1 * number + random.uniform(0, 0.02)
                    rows.append(
                        row(
                            arm, kind, budget, seed, subset=subset, artist_1nn=quality,
                            artist_map=quality / 2, effective_rank=10 * number + 5,
                        )
                    )  # fmt: skip
        rows += [
            row(arm, "floor", subset=subset, artist_1nn=0.15, artist_map=0.07) for arm in FLOORS
        ]
    return pl.DataFrame(rows, SCHEMA)


def differences(arms: tuple[str, ...] = ("dino", "mel mean")) -> pl.DataFrame:
    """Arms held against the default of five minutes, in one measure each way settled."""
    rows = [
        {
            "arm": arm, "kind": "floor" if arm == "mel mean" else "baseline",
            "minutes": 0.0 if arm == "mel mean" else 5.0, "subset": "all", "measure": measure,
            "against_minutes": 5.0, "seeds": 3, "against_seeds": 4, "difference": apart,
            "error": error, "songs": 100, "artists": 20,
            "settled": error is not None and abs(apart) > 2 * error,
        }
        for arm in arms
        for measure, apart, error in (
            ("artist_1nn", -0.1, 0.02),
            ("artist_map", 0.03, 0.02),
            ("artist_map_other_album", 0.5, None),
        )
    ]  # fmt: skip
    return pl.DataFrame(rows, pl.Schema(DIFFERENCES))


def logged(n: int = 40, rank: float = 20.0) -> list[dict[str, float]]:
    """The log of one run."""
    return [
        {"step": 10 * i, "elapsed_s": 0.2 + 2 * i, "loss": 3 - i / n, "rank": rank}
        for i in range(n)
    ]


def pixels_like(picture: np.ndarray, color: str) -> int:
    """How many pixels of a picture are of a colour."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    seen = (255 * picture[:, :, :3]).round().astype(int)
    return int((np.abs(seen - wanted).max(axis=2) < 12).sum())


def color_of(name: str) -> str:
    return next(arm.color for arm in table.ARMS if arm.name == name)


@pytest.fixture
def compared(home: Home) -> Home:
    """A home with results and logs."""
    results().write_parquet(_made(home.comparison) / "results.parquet")
    for run in results()["run"].drop_nulls().unique():
        log = _made(home.comparison / "runs" / run) / "metrics.jsonl"
        log.write_text("".join(json.dumps(line) + "\n" for line in logged()))
    differences().write_parquet(home.comparison / "differences.parquet")
    about = {"device": "Abacus", "tracks": 300, "hours": 12.34, "preset": "tiny"}
    (home.comparison / "about.json").write_text(json.dumps(about))
    return home


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_every_figure_that_is_judged_is_shown() -> None:
    assert {measure.key for measure in table.MEASURES} == set(FIGURES)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_table_has_mean_and_deviation_over_seeds(values: list[float]) -> None:
    rows = [row("dino", "baseline", 5, seed, artist_1nn=v) for seed, v in enumerate(values)]
    (found,) = table.table(pl.DataFrame(rows, SCHEMA)).to_dicts()
    assert found["seeds"] == len(values)
    assert found["artist_1nn"] == pytest.approx(statistics.mean(values))
    assert found["artist_1nn_sd"] == pytest.approx(statistics.stdev(values), abs=1e-6)
    assert (found["steps"], found["heard_h"], found["pflop"]) == (500, 10, 10)
    assert found["label_knn"] is found["label_knn_sd"] is None


def test_ours_comes_first_then_baselines_floors_and_ablations_each_by_minutes() -> None:
    found = table.table(results(**{"fastdino, AdamW": "ablation"}))
    assert found["arm"].unique(maintain_order=True).to_list() == [
        "fastdino",
        "published",
        "dino",
        "mel mean+std",
        "mel mean",
        "untrained",
        "fastdino, AdamW",
    ]
    assert found.filter(pl.col("arm") == "dino")["minutes"].to_list() == [2, 5]


def test_subsets_of_the_songs_are_told_apart() -> None:
    mixed = results().with_columns(
        artist_1nn=pl.when(pl.col("subset") == "held out").then(0.9).otherwise(0.1)
    )
    assert set(table.table(mixed)["artist_1nn"].round(3)) == {0.1}
    assert set(table.table(mixed, "held out")["artist_1nn"].round(3)) == {0.9}


def test_a_spread_is_shown_only_where_there_are_several_seeds() -> None:
    rows = [
        row("dino", "baseline", 5, 0, artist_1nn=0.5, effective_rank=20),
        row("dino", "baseline", 5, 1, artist_1nn=0.6),
        row("mel mean", "floor", artist_1nn=0.25),
    ]
    dino, mel = table.formatted(table.table(pl.DataFrame(rows, SCHEMA)))
    assert list(dino) == [
        "arm", "minutes", "seeds", "Artist 1-NN", "Effective rank", "steps", "hours heard", "PFLOP",
    ]  # fmt: skip
    found = ["DINO", "5", "2", "0.550 ± 0.071", "20.0", "500", "10.0", "10.00"]
    assert list(dino.values()) == found
    assert list(mel.values()) == ["Mel mean", "–", "1", "0.250", "–", "–", "–", "–"]


def test_an_ablation_is_described_by_what_it_changes_and_has_a_colour_of_its_own() -> None:
    changed = {"fastdino, AdamW": "ablation", "fastdino, no head": "ablation"}
    found = {arm.name: arm for arm in table.arms(results(**changed))}
    assert found["fastdino, AdamW"].label == "FastDINO, AdamW"
    assert found["fastdino, AdamW"].says == "FastDINO with one change: AdamW."
    assert len({arm.color for arm in found.values() if arm.kind != "floor"}) == 5


def test_a_difference_has_its_error_beside_it_and_a_star_where_it_is_settled() -> None:
    (title, (dino, mel)), *more = table.differences_tables(differences()).items()
    assert (title, more) == ("All songs", [])
    assert dino == {
        "All songs": "DINO",
        "min": "5",
        "against": "FastDINO 5 min",
        "seeds": "3, 4",
        "1-NN": "-0.100 ± 0.020 *",
        "mAP": "+0.030 ± 0.020",
        "mAP, other album": "+0.500 ± –",
    }
    assert (mel["All songs"], mel["min"]) == ("Mel mean", "–")
    assert table.differences_tables(pl.DataFrame(schema=pl.Schema(DIFFERENCES))) == {}


def test_vectors_from_elsewhere_are_a_level_of_a_colour_of_their_own_whatever_their_name() -> None:
    peers = [
        row(name, "peer", subset="all", artist_1nn=0.3, artist_map=0.2, effective_rank=9)
        for name in (r"$\frac{", "bliss")
    ]
    both = pl.concat([results(), pl.DataFrame(peers, SCHEMA)])
    found = {arm.name: arm for arm in table.arms(both) if arm.kind == "peer"}
    assert [arm.label for arm in found.values()] == [r"$\frac{", "bliss"]
    picture = imread(BytesIO(figures.quality_figure(both)))
    for arm in found.values():
        assert not arm.trained
        assert pixels_like(picture, arm.color) > 40


@pytest.mark.parametrize(("minutes", "seeds"), [((2, 5, 10), 3), ((5,), 3), ((2, 5), 1)])
def test_the_quality_figure_draws_every_arm(minutes: tuple[float, ...], seeds: int) -> None:
    picture = imread(BytesIO(figures.quality_figure(results(minutes, seeds))))
    for arm in ("fastdino", "published", "dino"):
        assert pixels_like(picture, color_of(arm)) > 100, arm
    assert pixels_like(picture, color_of("autoencoder")) == 0


def test_the_quality_figure_leaves_out_what_is_not_known() -> None:
    unknown = results().with_columns(artist_map=None)
    assert imread(BytesIO(figures.quality_figure(unknown))).size


def test_the_names_of_arms_that_end_together_do_not_cover_each_other() -> None:
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    axes = Figure().add_subplot()
    figures._name_ends(axes, [(arm, 1, 0.98) for arm in table.ARMS])
    names = [child for child in axes.get_children() if isinstance(child, Annotation)]
    heights = [name.xyann[1] for name in names]
    assert len(names) == len(table.ARMS)
    assert min(np.diff(sorted(heights))) > 0.06
    assert 0 <= min(heights) <= max(heights) <= 1


def test_the_collapse_figure_draws_every_arm_that_has_a_log() -> None:
    curves = {"fastdino": [logged(rank=40), logged(rank=42)], "published": [logged(rank=3)]}
    picture = imread(BytesIO(figures.collapse_figure(curves)))
    assert pixels_like(picture, color_of("fastdino")) > 500
    assert pixels_like(picture, color_of("published")) > 500
    assert pixels_like(picture, color_of("dino")) == 0


def test_the_collapse_figure_stands_a_run_of_one_row_and_no_run_at_all() -> None:
    assert figures.collapse_figure({"fastdino": [logged(1)]}).startswith(b"\x89PNG")
    assert figures.collapse_figure({}).startswith(b"\x89PNG")


def test_a_thinned_curve_keeps_its_time_and_its_level() -> None:
    seconds, values = figures.thinned(logged(5_000, rank=7.0), "rank")
    assert len(seconds) <= figures.CURVE_POINTS
    assert (np.diff(seconds) > 0).all()
    assert values == pytest.approx(np.full(len(seconds), 7.0))


def test_influence_is_measured_over_just_the_receptive_field() -> None:
    strength = figures.influence(SMALL, 800)
    inside = np.flatnonzero(strength)
    assert inside[-1] - inside[0] + 1 == SMALL.receptive_field
    assert strength.max() == 1
    assert abs(int(strength.argmax()) - 404) <= SMALL.stride  # the middle position's own frames
    assert (figures.influence(SMALL, 800) == strength).all()


def test_the_receptive_field_figure_is_a_picture() -> None:
    picture = imread(BytesIO(figures.receptive_field_figure(SMALL, crop_s=4.0)))
    assert pixels_like(picture, color_of("fastdino")) > 500


def test_a_run_writes_the_page_and_every_picture(compared: Home) -> None:
    summary = page.run(compared)
    data = embedded(summary.paths["page"].read_text(encoding="utf-8"))
    assert data["facts"] == "Abacus · 300 songs · 12.3 hours · up to 3 seeds"
    assert list(data["subsets"]) == ["all", "held out"]
    assert [m["key"] for m in data["measures"]] == ["artist_1nn", "artist_map", "effective_rank"]
    assert {arm: len(runs) for arm, runs in data["curves"].items()} == {
        "fastdino": 3,
        "published": 3,
        "dino": 3,
    }
    assert {file.stem for file in summary.paths["figures"].glob("*.png")} == {
        "quality",
        "quality_held_out",
        "collapse",
        "receptive_field",
    }
    assert set(summary.tables) == {"All songs", "Artists set aside", "All songs, differences"}
    assert data["differences"] == differences().to_dicts()
    assert summary.headline == "6 arms compared in 18 runs"


def test_what_is_drawn_is_not_drawn_again_until_something_is_new(compared: Home) -> None:
    first = page.run(compared)
    assert first.did_work
    quiet = page.run(compared)
    assert not quiet.did_work
    assert (quiet.plots, quiet.tables) == (first.plots, first.tables)
    with (compared.comparison / "runs" / "dino-5-1" / "metrics.jsonl").open("a") as log:
        log.write(json.dumps(logged(1, rank=99)[0]) + "\n")
    assert page.run(compared).did_work


def test_results_alone_are_enough_for_a_page(home: Home) -> None:
    results().write_parquet(_made(home.comparison) / "results.parquet")
    data = embedded(page.run(home).paths["page"].read_text(encoding="utf-8"))
    assert data["curves"] == {}
    assert data["differences"] == []
    assert data["facts"] == "up to 3 seeds"


def test_curves_are_of_the_longest_runs(compared: Home) -> None:
    short = compared.comparison / "runs" / "dino-2-0" / "metrics.jsonl"
    short.write_text("")
    long = compared.comparison / "runs" / "dino-5-1" / "metrics.jsonl"
    long.write_text(json.dumps(logged(1, rank=99)[0]) + "\n")
    curves = page.read_curves(compared, results())
    assert [len(run) for run in curves["dino"]] == [40, 1, 40]


def test_before_the_first_comparison_the_user_is_told_what_to_run(home: Home) -> None:
    with pytest.raises(UserError, match="fastdino compare"):
        page.run(home)


def test_the_page_loads_nothing_and_may_load_nothing(tmp_path: Path) -> None:
    page.write(results(), {}, {}, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>/\*\*.*?</script>", "", text, count=1, flags=re.S)  # plotly.js itself
    assert len(own) < len(text) / 10
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|<link|@import|url\(|fetch\(", own)
    assert "default-src 'none'" in own


@pytest.mark.browser
def test_a_browser_draws_the_comparison_and_takes_hostile_names_as_text(
    chromium: "Browser", tmp_path: Path
) -> None:
    file, picture = tmp_path / "page.html", tmp_path / "page.png"
    curves = {arm: [logged()] for arm in ("fastdino", "published", "dino", HOSTILE)}
    about = {"device": HOSTILE, "tracks": 300, "hours": 1.0}
    peer = row(f"{HOSTILE} peer", "peer", artist_1nn=0.3, artist_map=0.2, effective_rank=9)
    compared = pl.concat([results(**{HOSTILE: "baseline"}), pl.DataFrame([peer], SCHEMA)])
    page.write(compared, curves, about, file, differences(("dino", HOSTILE)))
    opened = chromium.new_page(viewport={"width": 1280, "height": 800})
    opened.goto(file.as_uri())
    opened.wait_for_selector("html[data-ready]")
    dom = opened.content()
    opened.screenshot(path=picture)
    opened.close()
    assert 'data-ready="8"' in dom
    assert "<b>−0.100</b>" in dom
    assert "<span>+0.030</span>" in dom
    assert "<title>Ways to learn, compared</title>" in dom
    assert dom.count('<tr class="') >= 7
    assert "Artists set aside" in dom
    for arm in ("fastdino", "published", "dino"):
        assert pixels_like(imread(picture), color_of(arm)) > 200, arm
