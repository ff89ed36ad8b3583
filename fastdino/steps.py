"""What a run consists of: each step by name, with its options.

Belongs here: the steps that the command line, Dagster's child processes and the benchmark of
changes all go by, and which of them a command means. Does not: the work, which is the rooms' below;
parsing a command line. Imports no stage before its step runs: the heavy packages cost seconds.
"""

import dataclasses
import datetime
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fastdino.core import environment, outcomes
from fastdino.core.errors import UserError
from fastdino.core.home import Home, expanded
from fastdino.core.options import from_plain, option
from fastdino.core.outcomes import Outcome
from fastdino.core.paths import to_path
from fastdino.core.summary import Summary

# PyTorch's threads wait for each other by spinning. Where a core is also needed elsewhere, as on
# any computer in use, that more than halved the speed of training; after a short spin they now
# sleep, which costs nothing measurable on an idle one. Read when torch is loaded, so set before.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

log = logging.getLogger(__name__)

SIZE = "size of the encoder (auto: by the device found)"


@dataclass(frozen=True)
class Step:
    """One step of a run; its fields are its options.

    Attributes:
        name: what it goes by in ``STEPS``, in ``COMMANDS`` and between processes.
    """

    name: ClassVar[str]

    def run(self, home: Home) -> Summary | None:
        """Do it; None if there was nothing to do that anyone would want to hear of.

        Raises:
            UserError: something is wrong that a person can mend.
        """
        raise NotImplementedError

    def plain(self) -> dict[str, Any]:
        """Its options as values that go through JSON, for ``made``."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class Ingest(Step):
    """Find music files, identify recordings, read tags."""

    name = "ingest"
    music: tuple[str, ...] = option(
        environment.MUSIC,
        "all music folders, with everything below them (several in one: separated as in $PATH); "
        "where none is given, those of last time",
    )
    or_demo: bool = option(
        False,
        "if there is no music folder yet, synthesise a small demo library and take that",
    )

    rescan: bool = option(
        False, "read all files anew, also those that have not changed; nothing is decoded for it"
    )

    def run(self, home: Home) -> Summary:
        """See ``fastdino.ingestion``."""
        from fastdino import demo, ingestion

        folders = music_folders(home, self.music)
        made_up = home.root.absolute() / "demo"
        if self.or_demo and folders in ([], [made_up]):
            log.info("no music folder is given: this is the demo library, %s", made_up)
            demo.synthesise(made_up)
            folders = [made_up]
        if not folders:
            raise UserError("no music folder given: name one, or set FASTDINO_MUSIC")
        log.info("Looking for music in %s", ", ".join(map(str, folders)))
        return ingestion.run(home, folders, environment.EXCLUDE.value(), rescan=self.rescan)


@dataclass(frozen=True)
class Spectrograms(Step):
    """Decode new recordings into spectrogram shards."""

    name = "spectrograms"
    retry: bool = option(
        False,
        "try all that could not be decoded once more; by itself that is only done for files that "
        "have changed, and for what the computer was to blame for",
    )

    def run(self, home: Home) -> Summary:
        """See ``fastdino.spectrograms``."""
        from fastdino import spectrograms

        return spectrograms.run(home, retry=self.retry)


@dataclass(frozen=True)
class Train(Step):
    """Train an encoder, unless there is one that fits the collection."""

    name = "train"
    preset: str = option(environment.PRESET, SIZE, choices=environment.PRESETS)
    minutes: float | None = option(
        environment.MINUTES,
        "minutes to train at most; if nothing is set 5, more above 125 hours of music; with four "
        "times as many, the encoder is wider",
    )
    seed: int = option(0, "seed of everything random")
    afresh: bool = option(False, "train even if there is a model that fits the collection")
    warm: bool = option(
        False,
        "begin with the weights of the current model, not with random ones, and take a third of "
        "the steps",
    )
    ranks: int = option(
        1,
        "train with so many processes on the cluster that RAY_ADDRESS names, each on its share of "
        "every batch",
    )

    def __post_init__(self) -> None:
        _check_preset(self.preset)
        if self.minutes is not None:
            _check_minutes(self.minutes)
        if not 0 <= self.seed < 2**63:
            raise UserError(f"{self.seed} is no seed: give 0 or more, of at most 18 digits")
        if self.ranks < 1:
            raise UserError(f"{self.ranks} ranks are none: give 1 or more")

    def run(self, home: Home) -> Summary | None:
        """See ``fastdino.training``; None in a process of torchrun's that is not the first."""
        from fastdino import training

        recipe = partial(training.settings_for, self.preset, minutes=self.minutes, seed=self.seed)
        how = {"afresh": self.afresh, "warm": self.warm}
        if self.ranks > 1:
            return training.run_on_cluster(home, recipe, self.ranks, **how)
        return training.run(home, recipe(), **how)


@dataclass(frozen=True)
class Embed(Step):
    """Compute vectors for tracks that have none."""

    name = "embed"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.embeddings``."""
        from fastdino import embeddings

        return embeddings.run(home)


@dataclass(frozen=True)
class CompareCandidate(Step):
    """Compare the candidate that waits, if there is one, with the model in use."""

    name = "candidate"

    def run(self, home: Home) -> Summary | None:
        """See ``fastdino.reports.model_comparison``."""
        from fastdino.reports import model_comparison

        return model_comparison.compare_candidate(home)


@dataclass(frozen=True)
class DrawMap(Step):
    """Draw the map, clusters and neighbours."""

    name = "map"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.reports``."""
        from fastdino import reports

        return reports.draw_map(home)


@dataclass(frozen=True)
class Publish(Step):
    """Publish the DuckDB file."""

    name = "publish"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.database``."""
        from fastdino import database

        return database.publish(home)


@dataclass(frozen=True)
class WritePage(Step):
    """Write the page."""

    name = "page"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.page``."""
        from fastdino import page

        return page.write_page(home)


@dataclass(frozen=True)
class Playlists(Step):
    """Bring a folder of playlists up to date, where one is named."""

    name = "playlists"
    folder: str | None = option(
        environment.PLAYLISTS, "where to keep them; files of others that lie there stay as they are"
    )
    paths: str = option(
        environment.PLAYLISTS_PATHS,
        "how songs are named: absolute, relative, or /home/me/Music=/music where who plays them "
        "knows the folder by another name",
    )
    songs: int = option(environment.PLAYLISTS_SONGS, "how many songs a playlist has at most")
    leave_out: tuple[str, ...] = option(
        environment.PLAYLISTS_EXCLUDE,
        "a folder, or a pattern as '*/Audiobooks/*', of which nothing is played",
    )

    def __post_init__(self) -> None:
        if self.songs < 1:
            raise UserError(f"{self.songs} songs are no playlist: give 1 or more")
        try:
            environment.PLAYLISTS_PATHS.parse(self.paths)
        except ValueError:
            may_be = environment.PLAYLISTS_PATHS.may_be
            raise UserError(f"{self.paths!r} is no way to name songs: give {may_be}") from None

    def run(self, home: Home) -> Summary | None:
        """See ``fastdino.database.playlist_folder``; None if no folder is named."""
        from fastdino.database import playlist_folder

        if not self.folder:
            return None
        return playlist_folder.update(
            home,
            expanded(self.folder).absolute(),
            paths=self.paths,
            songs=self.songs,
            leave_out=self.leave_out,
            today=datetime.date.today(),
        )


@dataclass(frozen=True)
class MatchServer(Step):
    """Learn which songs a music server means by its ids, where one is named."""

    name = "match"

    def run(self, home: Home) -> Summary | None:
        """See ``fastdino.servers``; None if no server is named."""
        from fastdino import servers

        return servers.match(home)


@dataclass(frozen=True)
class ListModels(Step):
    """List the models, and compare the candidate with the current one."""

    name = "models"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.reports.model_comparison``."""
        from fastdino.reports import model_comparison

        return model_comparison.list_models(home)


@dataclass(frozen=True)
class Promote(Step):
    """Put another model to use."""

    name = "promote"
    model_id: str = option(
        "candidate",
        "a name, 'candidate' (default), or 'previous', which undoes the last promotion",
    )

    def run(self, home: Home) -> Summary:
        """See ``fastdino.training.promotion``."""
        from fastdino.training import promotion

        return promotion.promote(home, self.model_id)


@dataclass(frozen=True)
class Forget(Step):
    """Delete a model that is not in use."""

    name = "forget"
    model_id: str = option("", "its name, as `fastdino models` tells it")

    def run(self, home: Home) -> Summary:
        """See ``fastdino.training.promotion``."""
        from fastdino.training import promotion

        return promotion.forget(home, self.model_id)


@dataclass(frozen=True)
class Compact(Step):
    """Drop what was computed of songs that left the collection."""

    name = "compact"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.upkeep.compaction``."""
        from fastdino.upkeep import compaction

        return compaction.run(home)


@dataclass(frozen=True)
class Compare(Step):
    """Train every method for every budget and seed."""

    name = "compare"
    arms: tuple[str, ...] = option(
        ("fastdino", "published", "dino", "autoencoder"),
        "ways of learning: fastdino, published, dino, autoencoder, 'fastdino, AdamW'; what costs "
        "no training is always shown beside them",
    )
    minutes: tuple[float, ...] = option(
        (1.0, 2.0, 5.0),
        "budgets of wall time: every arm is trained once for each, with each seed; where none is "
        "given nothing is trained, and what has been compared so far is drawn again",
    )
    seeds: int = option(3, "runs of each arm and budget")
    labels: tuple[str, ...] = option(
        (),
        "CSV files with the columns path,label,artist, beside what the tags say; other labels cost "
        "no training",
    )
    vectors: tuple[str, ...] = option(
        (),
        "vectors that another program made of the songs, judged beside the arms under that name: a "
        "Parquet file with the columns path (or track_id) and vector, or an npz file with the "
        "arrays paths (or track_ids) and vectors; it must have every song. They are kept, and "
        "shown by later comparisons too",
    )
    preset: str = option(environment.PRESET, SIZE, choices=environment.PRESETS)

    def __post_init__(self) -> None:
        _check_preset(self.preset)
        for budget in self.minutes:
            _check_minutes(budget)
        if self.seeds < 1:
            raise UserError(f"{self.seeds} runs of each are none: give 1 or more")
        for given in self.vectors:
            named_file(given)

    def run(self, home: Home) -> Summary | None:
        """See ``fastdino.research.compare``."""
        asked = self.minutes or self.labels or self.vectors
        # Results are of the songs they were made on: after a new one only what needs no training
        # would be left in the table.
        if not asked and (home.comparison / "results.parquet").exists():
            return None
        from fastdino.research import compare

        return compare.run(
            home,
            names=self.arms,
            minutes=self.minutes,
            seeds=self.seeds,
            csv_files=[expanded(file) for file in self.labels],
            vectors=dict(map(named_file, self.vectors)),
            preset=self.preset,
        )


@dataclass(frozen=True)
class DrawComparison(Step):
    """Draw what the comparison found."""

    name = "comparison"

    def run(self, home: Home) -> Summary:
        """See ``fastdino.research.page``."""
        from fastdino.research import page

        return page.run(home)


STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (
        Ingest, Spectrograms, Train, Embed, CompareCandidate, DrawMap, Publish, WritePage,
        Playlists, MatchServer, ListModels, Promote, Forget, Compact, Compare, DrawComparison,
    )
}  # fmt: skip
# What a step leaves behind: a folder, and which files of it.
FILES: dict[type[Step], Callable[[Home], tuple[Path, str]]] = {
    Ingest: lambda home: (home.catalog.parent, "*.parquet"),
    Spectrograms: lambda home: (home.root / "shards", "*/*.parquet"),
    # Not of one that is being trained, or on its way out.
    Train: lambda home: (home.models, "[!.]*/model.json"),
    Embed: lambda home: (home.root / "vectors", "*/*.parquet"),
    DrawMap: lambda home: (home.root / "maps", "*/current.json"),
    Publish: lambda home: (home.database.parent, home.database.name),
    WritePage: lambda home: (home.page.parent, home.page.name),
    MatchServer: lambda home: (home.server_ids.parent, home.server_ids.name),
    ListModels: lambda home: (home.models, "current.json"),
    Promote: lambda home: (home.models, "current.json"),
    DrawComparison: lambda home: (home.comparison, "*.parquet"),
}
# What a person calls a stage may be several steps: whoever embeds wants the SQL tables too.
COMMANDS: dict[str, tuple[type[Step], ...]] = {
    "ingest": (Ingest,),
    "spectrograms": (Spectrograms,),
    "train": (Train,),
    "embed": (Embed, CompareCandidate, Publish),
    "report": (DrawMap, Publish, WritePage),
    "run": (
        Ingest,
        Spectrograms,
        Train,
        Embed,
        CompareCandidate,
        DrawMap,
        Publish,
        WritePage,
        Playlists,
        MatchServer,
    ),
    "playlists": (Playlists,),
    "match": (MatchServer,),
    "models": (ListModels,),
    # What everyone sees is of the model in use: it is all made anew from that model's vectors.
    "promote": (Promote, Embed, DrawMap, Publish, WritePage, Playlists),
    "forget": (Forget, Publish, WritePage),
    "compact": (Compact, Publish),
    "compare": (Compare, DrawComparison),
}


def made(name: str, options: Mapping[str, Any]) -> Step:
    """The step of this name with these options, as ``Step.plain`` gives them.

    Raises:
        UserError: there is no such step or option, or it cannot be that.
    """
    if name not in STEPS:
        raise UserError(f"there is no step {name!r}: there are {', '.join(STEPS)}")
    return from_plain(STEPS[name], options)


def perform(step: Step, home: Home) -> Outcome | None:
    """Run a step and keep what it did, so that Dagster may be told of it, too.

    Raises:
        UserError: something is wrong that a person can mend.
    """
    began_s = time.time()
    summary = step.run(home)
    if summary is None:
        return None
    outcome = Outcome(summary, began_s, time.time())
    outcomes.keep(home, step.name, outcome)
    return outcome


def data_version(home: Home, names: Sequence[str]) -> str | None:
    """What stands for all that the steps of these names leave behind; None if that is nothing."""
    steps = [STEPS[name] for name in names]
    # Each once: several steps of an asset may leave the same.
    return outcomes.version(dict.fromkeys(FILES[step](home) for step in steps if step in FILES))


def named_file(given: str) -> tuple[str, Path]:
    """The name and the file that ``NAME=FILE`` gives.

    Raises:
        UserError: it gives no such two.
    """
    name, _, file = given.partition("=")
    if not name.strip() or not name.isprintable() or not file:
        raise UserError(f"{given!r} names no vectors: write NAME=FILE")
    return name.strip(), expanded(file)


def music_folders(home: Home, given: Sequence[str]) -> list[Path]:
    """Where to look for music.

    That is in the folders ``given`` (each may be several, separated as in ``$PATH``), or where the
    songs of the catalogue were found; empty if there is neither.
    """
    from fastdino.ingestion import catalog

    names = [name for text in given for name in _split(text)]
    if not names and home.catalog.exists():
        names = [to_path(name) for name in catalog.read(home)["folder"].unique().sort()]
    return [expanded(name) for name in names]


def _split(text: str) -> list[str]:
    # A folder whose own name has the separator in it is taken as it stands.
    if text and os.path.exists(expanded(text)):
        return [text]
    return [name for name in text.split(os.pathsep) if name]


def _check_preset(name: str) -> None:
    if name not in environment.PRESETS:
        raise UserError(f"there is no preset {name!r}: choose {environment.PRESET.may_be}")


def _check_minutes(given: float) -> None:
    if not 0 < given < float("inf"):
        raise UserError(f"{given:g} minutes are no time to train: give a number above 0")
