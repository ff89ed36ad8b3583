"""What a comparison found, as a page to look at.

Belongs here: gathering what ``comparison.html`` shows, writing it, and the folder of figures beside
it. Does not: training or measuring (``compare``); how the page looks and behaves, which is the
template's.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl

from fastdino.core import outcomes
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock, read_json
from fastdino.core.summary import Summary
from fastdino.core.text import counted
from fastdino.page.page import page_fingerprint, render, sealed
from fastdino.research.figures import (
    collapse_figure,
    quality_figure,
    receptive_field_figure,
    thinned,
)
from fastdino.research.table import (
    ARMS,
    MEASURES,
    SUBSETS,
    arms,
    differences_tables,
    formatted,
    table,
)
from fastdino.training.settings import PRESETS


def read_curves(home: Home, results: pl.DataFrame) -> dict[str, list[list[dict[str, float]]]]:
    """The logs of every arm's longest runs: of each arm a list of runs, each a list of rows.

    A run is left out whose log is not there (any more).
    """
    runs = results.drop_nulls("run").unique("run").sort("seed", "run")
    longest = runs.filter(pl.col("minutes") == pl.col("minutes").max().over("arm"))
    curves: dict[str, list[list[dict[str, float]]]] = {}
    for arm in arms(results):
        for run in longest.filter(pl.col("arm") == arm.name)["run"]:
            log = home.comparison / "runs" / run / "metrics.jsonl"
            if log.exists() and (lines := log.read_text(encoding="utf-8").splitlines()):
                curves.setdefault(arm.name, []).append([json.loads(line) for line in lines])
    return curves


def gather(
    results: pl.DataFrame,
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    about: Mapping[str, Any],
    apart: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """All that the page shows, as plain values."""
    subsets = [subset for subset in SUBSETS if (results["subset"] == subset).any()]
    known = [m for m in MEASURES if results[m.key].is_not_null().any()]
    keys = [m.key for m in known]
    single = results.select("arm", "minutes", "seed", "subset", *keys)
    seeds = results.filter(~pl.col("kind").is_in(["floor", "peer"]))["seed"].n_unique()
    return {
        "facts": _facts(about, seeds),
        "subsets": {
            subset: {
                "name": SUBSETS[subset],
                "tracks": results.filter(pl.col("subset") == subset)["n_tracks"].max(),
                "means": table(results, subset).to_dicts(),
            }
            for subset in subsets
        },
        "measures": [asdict(m) for m in known],
        "arms": [asdict(arm) for arm in arms(results)],
        "differences": [] if apart is None else apart.to_dicts(),
        "runs": single.filter(pl.col("minutes") > 0).to_dicts(),
        "curves": {
            arm: [
                {
                    figure: thinned(run, figure)[1].round(5).tolist()
                    for figure in ("elapsed_s", "rank", "loss")
                }
                for run in runs
            ]
            for arm, runs in curves.items()
        },
    }


def _facts(about: Mapping[str, Any], seeds: int) -> str:
    """The line under the headline."""
    parts = []
    if "device" in about:
        parts.append(str(about["device"]))
    if "tracks" in about:
        parts.append(f"{about['tracks']:,} songs")
    if "hours" in about:
        parts.append(f"{about['hours']:,.1f} hours")
    return " · ".join([*parts, f"up to {counted(seeds, 'seed')}"])


def write(
    results: pl.DataFrame,
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    about: Mapping[str, Any],
    path: Path,
    apart: pl.DataFrame | None = None,
    fingerprint: str = "",
) -> None:
    """Write the page: one file that needs no network.

    Args:
        results: as ``fastdino.research.compare`` writes them.
        curves: from ``read_curves``.
        about: what it was measured on, as far as known: ``device``, ``tracks``, ``hours``.
        path: where to write it.
        apart: differences to the default, as ``fastdino.research.compare`` writes them.
        fingerprint: of all that, for ``page_fingerprint``.
    """
    template = resources.files(__package__).joinpath("comparison.html").read_text(encoding="utf-8")
    shown = gather(results, curves, about, apart)
    with atomic_replace(path) as part:
        part.write_bytes(sealed(render(template, {"data": shown}, fingerprint)))


def _fingerprint(home: Home) -> str:
    """Of what was found, and of what draws it."""
    import plotly

    found = outcomes.version(
        [
            (home.comparison, "*.parquet"),
            (home.comparison, "about.json"),
            (home.comparison / "runs", "*/metrics.jsonl"),
        ]
    )
    digest = hashlib.blake2b(f"{found}\n{plotly.__version__}".encode(), digest_size=16)
    for source in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if source.is_file():
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _about(home: Home) -> dict[str, Any]:
    """What the comparison was made on: ``device``, ``tracks``, ``hours``, ``preset``."""
    try:
        return dict(read_json(home.comparison / "about.json"))
    except FileNotFoundError:
        return {}


def run(home: Home) -> Summary:
    """Draw what has been compared so far: ``reports/comparison.html`` and ``comparison/figures``.

    Only reads them where they already show it.

    Raises:
        UserError: nothing has been compared yet.
    """
    file = home.comparison / "results.parquet"
    if not file.exists():
        raise UserError("there is nothing to compare yet: run 'fastdino compare' first")
    results, about = pl.read_parquet(file, glob=False), _about(home)
    differences = home.comparison / "differences.parquet"
    apart = pl.read_parquet(differences, glob=False) if differences.exists() else None
    target, figures = home.root / "reports" / "comparison.html", home.comparison / "figures"
    subsets = [subset for subset in SUBSETS if (results["subset"] == subset).any()]
    qualities = {
        "quality" if subset == "all" else f"quality, {subset}": subset for subset in subsets
    }
    pictures = {
        name: figures / f"{name.replace(', ', ' ').replace(' ', '_')}.png"
        for name in (*qualities, "collapse", "receptive field")
    }
    fingerprint = _fingerprint(home)
    drawn = all(file.exists() for file in pictures.values())
    is_new = not drawn or page_fingerprint(target) != fingerprint
    if is_new:
        curves = read_curves(home, results)
        recipe = PRESETS[about.get("preset", "cpu")]
        plots = {
            **{name: quality_figure(results, subset) for name, subset in qualities.items()},
            "collapse": collapse_figure(
                {arm.name: curves[arm.name] for arm in ARMS if arm.name in curves}
            ),
            "receptive field": receptive_field_figure(recipe.encoder, recipe.crop_s),
        }
        with exclusive_lock(home.comparison):
            for name, picture in plots.items():
                with atomic_replace(pictures[name]) as part:
                    part.write_bytes(picture)
        # Last: it says that all is drawn.
        with exclusive_lock(target.parent):
            write(results, curves, about, target, apart, fingerprint)
    return Summary(
        "comparison",
        f"{len(arms(results))} arms compared in {results['run'].drop_nulls().n_unique()} runs",
        did_work=is_new,
        tables={
            **{SUBSETS[subset]: formatted(table(results, subset)) for subset in subsets},
            **{
                f"{title}, differences": rows
                for title, rows in ({} if apart is None else differences_tables(apart)).items()
            },
        },
        plots={name: file.read_bytes() for name, file in pictures.items()},
        paths={"page": target, "figures": figures, "results": file},
    )
