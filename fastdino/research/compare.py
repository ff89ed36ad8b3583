"""Every way of learning, on the same songs, encoder, device and wall time, over and over.

Belongs here: which arms there are, training each for each budget and seed, and the tables of what
came out, beside vectors that others made. Does not: reading those (``peers``), differences between
arms (``paired``), drawing (``page``), or the measures.

Every run has a folder of its own with the vectors it ended with. A run that is there is not
repeated, one that was interrupted goes on; figures are computed from the vectors, so other labels
cost no training.
"""

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.flop_counter import FlopCounterMode

from fastdino import __version__
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock, read_json, write_json
from fastdino.core.summary import Summary
from fastdino.research import peers
from fastdino.research.paired import DEFAULT, Judged, differences
from fastdino.research.table import differences_tables
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.training import labels as label_files
from fastdino.training.device import best_device, device_name
from fastdino.training.encoder import Encoder
from fastdino.training.evaluation import (
    FIGURES,
    EvaluationVectors,
    FeatureExtractor,
    MelStatistics,
    NothingLearned,
    embed_sample,
    evaluate,
    evaluation_sample,
    song_outcomes,
)
from fastdino.training.labels import Labels
from fastdino.training.loop import Run
from fastdino.training.model import SongModel
from fastdino.training.published_encoder import LEARNING_RATE as PUBLISHED_RATE
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import Collection, TrainingSettings, settings_for

log = logging.getLogger(__name__)

# A third of the artists, by a hash of their name, that no choice of a recipe ever looked at.
HELD_OUT_OF = 3
# Steps that no budget reaches: time alone ends a run.
NEVER = 10**9
SCHEMA = pa.schema(
    {
        "arm": pa.string(),
        "kind": pa.string(),
        "minutes": pa.float64(),
        "seed": pa.int64(),
        "subset": pa.string(),
        "n_tracks": pa.int64(),
        "steps": pa.int64(),
        "elapsed_s": pa.float64(),
        "heard_s": pa.float64(),
        "flops": pa.float64(),
        **dict.fromkeys(FIGURES, pa.float64()),
        "run": pa.string(),
    }
)
DIFFERENCES = pa.schema(
    {
        "arm": pa.string(),
        "kind": pa.string(),
        "minutes": pa.float64(),
        "subset": pa.string(),
        "measure": pa.string(),
        "against_minutes": pa.float64(),
        "seeds": pa.int64(),
        "against_seeds": pa.int64(),
        "difference": pa.float64(),
        "error": pa.float64(),
        "songs": pa.int64(),
        "artists": pa.int64(),
        "settled": pa.bool_(),
    }
)
# The kind of arm whose vectors come from a file.
PEER = "peer"


@dataclass(frozen=True)
class Arm:
    """One way of learning.

    Attributes:
        name: what it is called in tables.
        kind: "ours", "baseline", "ablation" (ours with one thing changed back), or "floor" (what
            costs no training).
        settings: its recipe.
    """

    name: str
    kind: str
    settings: TrainingSettings


def arms(base: TrainingSettings) -> dict[str, Arm]:
    """All arms by name, at the scale of ``base``, the default recipe."""

    def arm(name: str, kind: str, **changes: Any) -> Arm:
        return Arm(name, kind, dataclasses.replace(base, **changes))

    def baseline(name: str, *, objective: str = "", **changes: Any) -> Arm:
        changes = {"objective": objective or name, "min_steps": NEVER, **changes}
        return arm(name, "baseline", **changes)

    every = (
        arm("mel mean", "floor"),
        arm("mel mean+std", "floor"),
        arm("nothing learned", "floor"),
        arm("untrained", "floor"),
        # The default recipe, which may be done before its time is up.
        arm(DEFAULT, "ours"),
        # As it was published, down to batch, optimiser and step size; the encoder is everyone's.
        baseline(
            "published",
            songs=min(64, 2 * base.songs),  # fewer in tests only
            crops=1,
            crop_s=12 * base.crop_s,
            optimizer="adamw",
            learning_rate=PUBLISHED_RATE,
            weight_decay=0.0,
        ),
        baseline("published loss", objective="published"),
        # Its local views are a quarter of a crop, and must be as wide as what a position sees.
        baseline("dino", crop_s=2 * base.crop_s),
        baseline("autoencoder"),
        arm("fastdino, AdamW", "ablation", optimizer="adamw"),
        arm("fastdino, AdamW at 0.001", "ablation", optimizer="adamw", learning_rate=1e-3),
        arm("fastdino, no last pass", "ablation", min_steps=NEVER),
    )
    return {each.name: each for each in every}


def run(
    home: Home,
    *,
    names: Sequence[str],
    minutes: Sequence[float],
    seeds: int,
    csv_files: Sequence[Path] = (),
    vectors: Mapping[str, Path] | None = None,
    preset: str = "auto",
) -> Summary:
    """Train every arm for every budget and seed, unless it has been, and tabulate.

    Args:
        home: where shards are found; results go to its ``comparison`` folder.
        names: of arms.
        minutes: budgets of wall time; with none, nothing is trained and the table made anew. In one
            of four times the usual all arms train the wider encoder, see ``with_time``.
        seeds: how many, from 0.
        csv_files: labels beside the tags, see ``labels.read``.
        vectors: files of vectors that others made, by the name to show them under, see
            ``peers.read``; they are kept, and judged from then on.
        preset: size of the encoder, as for training.

    Raises:
        UserError: there are no spectrograms, an arm has no such name, a budget is no time, or a
            file of vectors cannot be used.
    """
    if any(budget <= 0 for budget in minutes):
        raise UserError(f"a budget must be more than 0 minutes: {min(minutes):g} is not")
    spec = SpectrogramSettings()
    folder = home.shards(spec.spec_id)
    index = shard_files.read_index(folder)
    if not index.num_rows:
        raise UserError(
            "there are no spectrograms to compare on: run 'fastdino ingest FOLDER' and "
            "'fastdino spectrograms' first"
        )
    base = settings_for(preset)
    known = arms(base)
    trainable = [arm.name for arm in known.values() if arm.kind != "floor"]
    if unknown := [name for name in names if name not in trainable]:
        there = ", ".join(map(repr, trainable))
        raise UserError(f"no arm is called {unknown[0]!r}: there are {there}")
    given = vectors or {}
    if taken := [name for name in given if name in known]:
        raise UserError(f"{taken[0]!r} is an arm of its own: give those vectors another name")
    labels = label_files.read(home.catalog, csv_files)
    data, device = _Data.of(index, spec), best_device()
    plan = [
        (known[name], float(budget), seed)
        for seed in range(seeds)
        for budget in sorted(minutes)
        for name in names
    ]
    trained = 0
    with exclusive_lock(home.comparison):
        where = {"device": device_name(device), "preset": base.preset}
        write_json(home.comparison / "about.json", where | dataclasses.asdict(data.collection))
        experiment = _Experiment(home, spec, data, device, known)
        experiment.floors(seeds)
        tracks = label_files.tracks_of_files(home.catalog) if given else {}
        for name, file in given.items():
            experiment.take_in(name, file, tracks)
        outdated = experiment.outdated_peers()
        rows, apart = experiment.tabulate(labels)
        for number, (arm, budget, seed) in enumerate(plan, 1):
            if experiment.is_done(arm, budget, seed):
                continue
            what = f"{arm.name}, {budget:g} minutes, seed {seed}"
            log.info("Run %d of %d: %s", number, len(plan), what)
            experiment.train(arm, budget, seed)
            rows, apart = experiment.tabulate(labels)
            trained += 1
        runs = experiment.outdated_runs()
    return Summary(
        "compare",
        f"{len(plan)} runs of {len(names)} arms, {trained} of them now; {rows} rows",
        did_work=trained > 0 or bool(given),
        counts={"runs": len(plan), "trained": trained, "tracks": data.collection.tracks},
        tables={
            f"{title}, differences": rows
            for title, rows in differences_tables(
                pl.from_dicts(apart, pl.Schema(DIFFERENCES))
            ).items()
        },
        warnings=[
            f"the vectors called {name} are of other songs than there are now: give them anew with "
            f"--vectors '{name}=FILE'"
            for name in outdated
        ]
        + [
            f"{runs} runs are of other songs than there are now and not shown: give their --arms "
            "and --minutes to train them anew"
        ][: bool(runs)],
        paths={
            "results": home.comparison / "results.parquet",
            "differences": home.comparison / "differences.parquet",
        },
    )


def held_out(artist: str) -> bool:
    """Whether an artist is among those set aside."""
    return int(hashlib.sha256(artist.encode()).hexdigest(), 16) % HELD_OUT_OF == 0


@dataclass(frozen=True)
class _Data:
    """The songs that a comparison is made on; runs on other songs do not count."""

    digest: str
    collection: Collection

    @classmethod
    def of(cls, index: pa.Table, spec: SpectrogramSettings) -> "_Data":
        ids = sorted(set(index["track_id"].to_pylist()))
        digest = hashlib.blake2b("\n".join([spec.spec_id, *ids]).encode(), digest_size=6)
        return cls(digest.hexdigest(), Collection.of(index, spec.frames_per_s))


class _Experiment:
    """Trains arms and keeps what came out: a folder for each run, whole once it has a result."""

    def __init__(
        self,
        home: Home,
        spec: SpectrogramSettings,
        data: _Data,
        device: torch.device,
        known: Mapping[str, Arm],
    ) -> None:
        self.home, self.spec, self.data, self.device = home, spec, data, device
        self.runs = home.comparison / "runs"
        self.known = known
        self._sampler: CropSampler | None = None
        # Of each run that is whole: neither it nor the labels change while this lasts.
        self._tabulated: dict[Path, list[tuple[dict[str, Any], Judged]]] = {}

    def sampler(self, seed: int) -> CropSampler:
        """The collection's sampler with this seed; the last one is kept."""
        if self._sampler is None or self._sampler.seed != seed:
            self._sampler = None  # before the next one takes as much memory again
            folder = self.home.shards(self.spec.spec_id)
            self._sampler = CropSampler.of(folder, self.device, seed)
        return self._sampler

    def floors(self, seeds: int) -> None:
        """What needs no training: mel statistics, and an encoder that never learned."""
        untrained = self.known["untrained"]

        def encoder_of(seed: int) -> Encoder:
            return self._begin(untrained, 0.0, seed).untrained()

        plain: dict[str, Callable[[], FeatureExtractor]] = {
            "mel mean": lambda: MelStatistics(deviations=False),
            "mel mean+std": MelStatistics,
            "nothing learned": lambda: NothingLearned.of(encoder_of(0), untrained.settings.dim),
        }
        for name, extractor in plain.items():
            arm = self.known[name]
            if not self.is_done(arm, 0.0, 0):
                songs = evaluation_sample(self.sampler(0))
                self._save(arm, 0.0, 0, embed_sample(extractor(), songs, self.spec))
        for seed in range(seeds):
            if not self.is_done(untrained, 0.0, seed):
                encoder = encoder_of(seed)
                vectors = self._embed(encoder, untrained.settings, seed)
                self._save(untrained, 0.0, seed, vectors)

    def is_done(self, arm: Arm, minutes: float, seed: int) -> bool:
        """Whether this run has been made, by this recipe, on these songs."""
        result = self._result(self._folder(arm, minutes, seed))
        return bool(result["identity"] == self._identity(arm, minutes, seed))

    def train(self, arm: Arm, minutes: float, seed: int) -> None:
        """Make one run, or go on with it."""
        training = self._begin(arm, minutes, seed)
        training.train()
        vectors = self._embed(training.result, arm.settings, seed)
        steps, settings = training.step, arm.settings
        # What is compiled is not counted.
        with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
            training.one_step()
        self._save(
            arm,
            minutes,
            seed,
            vectors,
            steps=steps,
            elapsed_s=training.elapsed_s,
            heard_s=steps * settings.songs * settings.crops * settings.crop_s,
            flops=float(steps * counter.get_total_flops()),
            run=training.folder.name,
        )
        training.checkpoint.unlink()

    def take_in(self, name: str, file: Path, tracks: Mapping[str, Sequence[str]]) -> None:
        """Keep vectors that others made of the songs which the arms are judged on."""
        floor = EvaluationVectors.load(
            self._folder(self.known["mel mean"], 0.0, 0) / "heard.safetensors"
        )
        songs = torch.from_numpy(peers.read(file, tracks, floor.track_ids))
        vectors = EvaluationVectors(floor.track_ids, songs, level_tilt=floor.level_tilt)
        folder = self._peer_folder(name)
        # First: half of what was called so and half of what is now would be neither.
        (folder / "result.json").unlink(missing_ok=True)
        self._write(folder, _row(name, PEER, 0.0, 0), self._peer_identity(name), vectors)

    def outdated_peers(self) -> list[str]:
        """Names of the vectors that were given when there were other songs."""
        rows = [self._result(folder)["row"] for folder in self.runs.glob("peer-*")]
        return sorted(row["arm"] for row in rows if row and not self._still_holds(row))

    def outdated_runs(self) -> int:
        """How many runs that trained something were made when there were other songs."""
        results = [self._result(folder) for folder in self.runs.iterdir()]
        return sum(
            result["identity"]["data"] != self.data.digest
            for result in results
            if result["row"] and result["row"]["kind"] not in (PEER, "floor")
        )

    def tabulate(self, labels: Mapping[str, Labels]) -> tuple[int, list[dict[str, Any]]]:
        """Write ``results.parquet`` and ``differences.parquet``, of every run that still holds.

        Runs on other songs, or by a recipe that has changed since, are left out.

        Returns:
            How many rows the results have; the differences (``paired.differences``).
        """
        for folder in sorted(self.runs.iterdir()):
            if not self._tabulated.get(folder):
                self._tabulated[folder] = list(self._judged(folder, labels))
        every = [pair for folder in sorted(self._tabulated) for pair in self._tabulated[folder]]
        artists = {track_id: each.artist for track_id, each in labels.items() if each.artist}
        apart = differences([judged for _, judged in every], artists)
        for name, rows, schema in (
            ("results", [row for row, _ in every], SCHEMA),
            ("differences", apart, DIFFERENCES),
        ):
            with atomic_replace(self.home.comparison / f"{name}.parquet") as part:
                pq.write_table(pa.Table.from_pylist(rows, schema), part, compression="zstd")
        return len(every), apart

    def _judged(
        self, folder: Path, labels: Mapping[str, Labels]
    ) -> Iterator[tuple[dict[str, Any], Judged]]:
        """The rows of one run, a subset each, and what its songs scored."""
        row = self._result(folder)["row"]
        if not row or not self._still_holds(row):
            return
        every = EvaluationVectors.load(folder / "heard.safetensors")

        def artist(track_id: str) -> str:
            return (labels[track_id].artist if track_id in labels else None) or ""

        def set_aside(track_id: str) -> bool:
            return held_out(artist(track_id))

        def anyone(track_id: str) -> bool:
            return True

        # Which songs are searched, and which of them are asked.
        subsets: dict[str, tuple[EvaluationVectors, Callable[[str], bool]]] = {
            "all": (every, anyone),
            "chosen on": (every, lambda track_id: not set_aside(track_id)),
            "held out": (every, set_aside),
            "held out, among themselves": (every.only(set_aside), anyone),
        }
        for subset, (vectors, wanted) in subsets.items():
            n_tracks = sum(map(wanted, vectors.track_ids))
            if n_tracks > 1:
                figures = evaluate(vectors, labels, wanted)
                scored = {
                    measure: {
                        track_id: float(score)
                        for track_id, score in zip(vectors.track_ids, scores, strict=True)
                        if wanted(track_id) and not np.isnan(score)
                    }
                    for measure, scores in song_outcomes(vectors, labels).items()
                }
                yield (
                    {**row, "subset": subset, "n_tracks": n_tracks, **figures},
                    Judged(row["arm"], row["kind"], row["minutes"], row["seed"], subset, scored),
                )

    def _begin(self, arm: Arm, minutes: float, seed: int) -> Run:
        folder, identity = self._folder(arm, minutes, seed), self._identity(arm, minutes, seed)
        begun = folder / "begun.json"
        if not begun.exists() or read_json(begun) != identity:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(begun, identity)
        return Run(
            _recipe(arm, minutes, seed).with_time(self.data.collection),
            self.sampler(seed),
            collection=self.data.collection,
            frames_per_s=self.spec.frames_per_s,
            device=self.device,
            folder=folder,
        )

    def _embed(self, encoder: Encoder, settings: TrainingSettings, seed: int) -> EvaluationVectors:
        model = SongModel.of(encoder, settings.dim).to(self.device)
        return embed_sample(model, evaluation_sample(self.sampler(seed)), self.spec)

    def _folder(self, arm: Arm, minutes: float, seed: int) -> Path:
        words = "".join(c if c.isalnum() else "-" for c in arm.name.lower())
        return self.runs / f"{words}-{minutes:g}min-seed{seed}"

    def _identity(self, arm: Arm, minutes: float, seed: int) -> dict[str, str]:
        """What a run depends on; another one is another run."""
        return {
            "name": arm.name,
            "recipe_id": _recipe(arm, minutes, seed).recipe_id,
            "data": self.data.digest,
            "device": device_name(self.device),
            "code_version": __version__,
        }

    def _peer_folder(self, name: str) -> Path:
        # Names that people choose may differ in what no folder's name can.
        return self.runs / f"peer-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"

    def _peer_identity(self, name: str) -> dict[str, str]:
        return {"name": name, "data": self.data.digest}

    def _result(self, folder: Path) -> dict[str, Any]:
        """``identity`` and ``row`` of a run; both None if it is not whole."""
        try:
            return dict(read_json(folder / "result.json"))
        except (FileNotFoundError, ValueError):
            return {"identity": None, "row": None}

    def _still_holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a run was made on these songs and, if it is an arm's, by its recipe."""
        if row["kind"] == PEER:
            result = self._result(self._peer_folder(row["arm"]))
            return bool(result["identity"] == self._peer_identity(row["arm"]))
        arm = self.known.get(row["arm"])
        return arm is not None and self.is_done(arm, row["minutes"], row["seed"])

    def _save(
        self, arm: Arm, minutes: float, seed: int, vectors: EvaluationVectors, **figures: Any
    ) -> None:
        row = _row(arm.name, arm.kind, minutes, seed, **figures)
        identity = self._identity(arm, minutes, seed)
        self._write(self._folder(arm, minutes, seed), row, identity, vectors)

    def _write(
        self,
        folder: Path,
        row: Mapping[str, Any],
        identity: Mapping[str, str],
        vectors: EvaluationVectors,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        vectors.save(folder / "heard.safetensors")
        # Last: who finds it finds the rest.
        write_json(folder / "result.json", {"identity": identity, "row": row})


def _recipe(arm: Arm, minutes: float, seed: int) -> TrainingSettings:
    return dataclasses.replace(arm.settings, minutes=minutes, seed=seed)


def _row(arm: str, kind: str, minutes: float, seed: int, **figures: Any) -> dict[str, Any]:
    """A run in the results, but for how good it is; nothing was spent on what is not trained."""
    row = {"arm": arm, "kind": kind, "minutes": float(minutes), "seed": seed}
    nothing = {"steps": 0, "elapsed_s": 0.0, "heard_s": 0.0, "flops": 0.0, "run": None}
    return row | nothing | figures
