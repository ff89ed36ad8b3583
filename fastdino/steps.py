"""What a run consists of: each step by name, with the options it takes.

Belongs here: the table of steps that the command line, Dagster's child processes and the benchmark
of changes all go by, and which steps a command means. Does not: the work, which is the stages';
parsing a command line. Imports no stage before its step runs: the heavy packages cost seconds.
"""

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Summary

# PyTorch's threads wait for each other by spinning. Where a core is also needed elsewhere, as on
# any computer in use, that more than halved the speed of training; after a short spin they now
# sleep, which costs nothing measurable on an idle one. Read when torch is loaded, so set before.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

log = logging.getLogger(__name__)


def music_folders(home: Home, given: Sequence[str]) -> list[Path]:
    """Where to look for music.

    That is in the folders ``given``, or in those of ``$FASTDINO_MUSIC`` (either separated as in
    ``$PATH``), or where the songs of the catalogue were found; empty if there is none of these.
    """
    from fastdino.ingestion import catalog

    names = [n for text in given or [os.environ.get("FASTDINO_MUSIC", "")] for n in _split(text)]
    if not names and home.catalog.exists():
        names = catalog.read(home)["folder"].unique().sort().to_list()
    return [Path(name).expanduser() for name in names]


def _split(text: str) -> list[str]:
    # A folder whose own name has the separator in it is taken as it stands.
    if Path(text).expanduser().exists():
        return [text] if text else []
    return [name for name in text.split(os.pathsep) if name]


def ingest(home: Home, options: argparse.Namespace) -> Summary:
    """Find files, identify recordings, read tags."""
    from fastdino import demo, ingestion

    folders = music_folders(home, options.music)
    made_up = home.root.absolute() / "demo"
    if options.or_demo and folders in ([], [made_up]):
        log.info("no music folder is given: this is the demo library, %s", made_up)
        demo.synthesise(made_up)
        folders = [made_up]
    if not folders:
        raise UserError("no music folder given: name one, or set FASTDINO_MUSIC")
    log.info("Looking for music in %s", ", ".join(map(str, folders)))
    return ingestion.run(home, folders)


def spectrograms(home: Home, options: argparse.Namespace) -> Summary:
    """Decode new recordings into spectrogram shards."""
    from fastdino import spectrograms

    return spectrograms.run(home)


def train(home: Home, options: argparse.Namespace) -> Summary:
    """Train an encoder, unless there is one that fits the collection."""
    from fastdino import training

    settings = training.settings_for(options.preset, minutes=options.minutes, seed=options.seed)
    return training.run(home, settings, afresh=options.afresh, warm=options.warm)


def embed(home: Home, options: argparse.Namespace) -> Summary:
    """Compute vectors for tracks that have none."""
    from fastdino import embeddings

    return embeddings.run(home)


def draw_map(home: Home, options: argparse.Namespace) -> Summary:
    """Draw the map, clusters and neighbours."""
    from fastdino import reports

    return reports.draw_map(home)


def publish(home: Home, options: argparse.Namespace) -> Summary:
    """Publish the DuckDB file."""
    from fastdino import database

    return database.publish(home)


def page(home: Home, options: argparse.Namespace) -> Summary:
    """Write the report page."""
    from fastdino import page

    return page.write_page(home)


def list_models(home: Home, options: argparse.Namespace) -> Summary:
    """List the models, and compare the candidate with the current one."""
    from fastdino.reports import model_comparison

    return model_comparison.run(home)


def promote(home: Home, options: argparse.Namespace) -> Summary:
    """Put another model to use."""
    from fastdino.training import promotion

    return promotion.promote(home, options.model)


def forget(home: Home, options: argparse.Namespace) -> Summary:
    """Delete a model that is not in use."""
    from fastdino.training import promotion

    return promotion.forget(home, options.model)


def compact(home: Home, options: argparse.Namespace) -> Summary:
    """Drop what was computed of songs that left the collection."""
    from fastdino.upkeep import compaction

    return compaction.run(home)


def compare(home: Home, options: argparse.Namespace) -> Summary:
    """Train every arm for every budget and seed."""
    from fastdino.research import compare as comparing

    return comparing.run(
        home,
        names=options.arms,
        minutes=options.minutes,
        seeds=options.seeds,
        csv_files=[Path(file).expanduser() for file in options.labels],
        preset=options.preset,
    )


def draw_comparison(home: Home, options: argparse.Namespace) -> Summary:
    """Draw what the comparison found."""
    from fastdino.research import comparison

    return comparison.run(home)


Step = Callable[[Home, argparse.Namespace], Summary]
STEPS: dict[str, Step] = {
    "ingest": ingest,
    "spectrograms": spectrograms,
    "train": train,
    "embed": embed,
    "map": draw_map,
    "publish": publish,
    "page": page,
    "models": list_models,
    "promote": promote,
    "forget": forget,
    "compact": compact,
    "compare": compare,
    "comparison": draw_comparison,
}
# What a person calls a stage may be several steps: whoever embeds wants the SQL tables too.
COMMANDS: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "spectrograms": ("spectrograms",),
    "train": ("train",),
    "embed": ("embed", "publish"),
    "report": ("map", "publish", "page"),
    "run": ("ingest", "spectrograms", "train", "embed", "map", "publish", "page"),
    "models": ("models",),
    # What everyone sees is of the model in use: it is all made anew from that model's vectors.
    "promote": ("promote", "embed", "map", "publish", "page"),
    "forget": ("forget", "publish", "page"),
    "compact": ("compact", "publish"),
    "compare": ("compare", "comparison"),
}
