"""Every way of learning, on the same songs, encoder, device and wall time, over and over.

Belongs here: which arms there are, training each for each budget and seed, and the table of what
came out. Does not: drawing it (``reports.comparison``), or the measures.

Every run has a folder of its own with the vectors it ended with. A run that is there is not
repeated, one that was interrupted goes on; figures are computed from the vectors, so other labels
cost no training.
"""

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fastdino import __version__
from fastdino.errors import UserError
from fastdino.home import Home
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.storage import alone, read_json, replacing, write_json
from fastdino.summary import Summary
from fastdino.training import labels as label_files
from fastdino.training.encoder import Encoder
from fastdino.training.judge import FIGURES, Heard, MelStatistics, figures, listen
from fastdino.training.labels import Labels
from fastdino.training.loop import Run
from fastdino.training.model import SongModel, best_device, device_name
from fastdino.training.sampler import CropSampler, frame_budget
from fastdino.training.settings import TrainingSettings, settings_for

log = logging.getLogger(__name__)

# More songs than this would make judging longer than a short run.
SAMPLE_TRACKS = 1000
SEED_OF_SAMPLE = 0
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


@dataclass(frozen=True)
class Arm:
    """One way of learning.

    Attributes:
        name: what it is called in tables.
        kind: "ours", "baseline", or "ablation" (ours with one thing changed back).
        settings: its recipe.
    """

    name: str
    kind: str
    settings: TrainingSettings


def arms(base: TrainingSettings) -> dict[str, Arm]:
    """All arms by name, at the scale of ``base``, the default recipe."""

    def arm(name: str, kind: str, **changes: Any) -> Arm:
        return Arm(name, kind, dataclasses.replace(base, **changes))

    def baseline(name: str, **changes: Any) -> Arm:
        return arm(name, "baseline", objective=name, min_steps=NEVER, **changes)

    every = (
        # The default recipe, which may be done before its time is up.
        arm("fastdino", "ours"),
        # As it was published, down to batch, optimiser and step size; the encoder is everyone's.
        baseline(
            "published",
            songs=2 * base.songs,
            crops=1,
            crop_s=12 * base.crop_s,
            optimizer="adamw",
            learning_rate=1e-4,
            weight_decay=0.0,
        ),
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
    preset: str = "auto",
) -> Summary:
    """Train every arm for every budget and seed, unless it has been, and tabulate.

    Args:
        home: where shards are found; results go to its ``comparison`` folder.
        names: of arms.
        minutes: budgets of wall time; with none, nothing is trained and the table made anew.
        seeds: how many, from 0.
        csv_files: labels beside the tags, see ``labels.read``.
        preset: size of the encoder, as for training.

    Raises:
        UserError: there are no spectrograms, an arm has no such name, or a budget is no time.
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
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"no arm is called {unknown[0]!r}: there are {', '.join(known)}")
    labels = label_files.read(home.catalog, csv_files)
    data = _Data.of(index, spec)
    home.comparison.mkdir(parents=True, exist_ok=True)
    plan = [
        dataclasses.replace(known[name].settings, minutes=budget, seed=seed)
        for seed in range(seeds)
        for budget in sorted(minutes)
        for name in names
    ]
    arms_of_plan = [known[name] for _ in range(seeds) for _ in minutes for name in names]
    trained, device = 0, best_device()
    with alone(home.comparison):
        about = {"device": device_name(device), "preset": base.preset}
        about |= {"tracks": data.n_tracks, "hours": data.hours}
        write_json(home.comparison / "about.json", about)
        laboratory = _Laboratory(home, spec, data, device)
        laboratory.floors(seeds, base)
        for number, (arm, settings) in enumerate(zip(arms_of_plan, plan, strict=True), 1):
            if laboratory.is_done(arm.name, settings):
                continue
            log.info(
                "Run %d of %d: %s, %g minutes, seed %d",
                number,
                len(plan),
                arm.name,
                settings.minutes,
                settings.seed,
            )
            laboratory.train(arm, settings)
            laboratory.tabulate(labels)
            trained += 1
        rows = laboratory.tabulate(labels)
    return Summary(
        "compare",
        f"{len(plan)} runs of {len(names)} arms, {trained} of them now; {rows} rows",
        did_work=trained > 0,
        counts={"runs": len(plan), "trained": trained, "tracks": data.n_tracks},
        paths={"results": home.comparison / "results.parquet"},
    )


def held_out(artist: str) -> bool:
    """Whether an artist is among those set aside."""
    return int(hashlib.sha256(artist.encode()).hexdigest(), 16) % HELD_OUT_OF == 0


@dataclass(frozen=True)
class _Data:
    """The songs that a comparison is made on; runs on other songs do not count."""

    digest: str
    n_tracks: int
    hours: float

    @classmethod
    def of(cls, index: pa.Table, spec: SpectrogramSettings) -> "_Data":
        ids = sorted(set(index["track_id"].to_pylist()))
        digest = hashlib.blake2b("\n".join([spec.spec_id, *ids]).encode(), digest_size=6)
        hours = pc.sum(index["n_frames"]).as_py() / spec.frames_per_s / 3600
        return cls(digest.hexdigest(), len(ids), hours)


class _Laboratory:
    """Trains arms and keeps what came out."""

    def __init__(
        self, home: Home, spec: SpectrogramSettings, data: _Data, device: torch.device
    ) -> None:
        self.home, self.spec, self.data, self.device = home, spec, data, device
        self.runs = home.comparison / "runs"
        self._sampler: CropSampler | None = None

    def sampler(self, seed: int) -> CropSampler:
        """The collection's sampler with this seed; the last one is kept."""
        if self._sampler is None or self._sampler.seed != seed:
            self._sampler = None  # before the next one takes as much memory again
            self._sampler = CropSampler(
                shard_files.list_shards(self.home.shards(self.spec.spec_id)),
                device=self.device,
                budget_bytes=frame_budget(self.device),
                seed=seed,
            )
        return self._sampler

    def songs(self, seed: int) -> list[tuple[str, Tensor]]:
        """The songs that everything is judged on."""
        return list(self.sampler(seed).tracks(SAMPLE_TRACKS, SEED_OF_SAMPLE))

    def floors(self, seeds: int, base: TrainingSettings) -> None:
        """What needs no training: mel statistics, and an encoder that never learned."""
        for name, deviations in (("mel mean", False), ("mel mean+std", True)):
            folder = self.runs / _slug(name, 0, 0)
            if not self._is_whole(folder, {"name": name}):
                heard = listen(MelStatistics(deviations=deviations), self.songs(0), self.spec)
                self._keep(folder, heard, {"name": name}, arm=name, kind="floor", seed=0)
        for seed in range(seeds):
            name, settings = "untrained", dataclasses.replace(base, minutes=0.0, seed=seed)
            folder = self.runs / _slug(name, 0, seed)
            identity = {"name": name, "recipe_id": settings.recipe_id}
            if not self._is_whole(folder, identity):
                shutil.rmtree(folder, ignore_errors=True)
                untrained = self._run(folder, settings)
                heard = self._listen(untrained.encoder, settings)
                self._keep(folder, heard, identity, arm=name, kind="floor", seed=seed)

    def is_done(self, name: str, settings: TrainingSettings) -> bool:
        """Whether this run has been made, on these songs."""
        assert settings.minutes is not None
        folder = self.runs / _slug(name, settings.minutes, settings.seed)
        return self._is_whole(folder, {"name": name, "recipe_id": settings.recipe_id})

    def train(self, arm: Arm, settings: TrainingSettings) -> None:
        """Make one run."""
        assert settings.minutes is not None
        folder = self.runs / _slug(arm.name, settings.minutes, settings.seed)
        identity = {"name": arm.name, "recipe_id": settings.recipe_id}
        beginning = folder / "begun.json"
        if not beginning.exists() or read_json(beginning) != self._identity(identity):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(beginning, self._identity(identity))
        training = self._run(folder, settings)
        training.train()
        heard = self._listen(training.result, settings)
        steps, elapsed_s = training.step, training.elapsed_s
        with FlopCounterMode(display=False) as counter:
            training.one_step()
        self._keep(
            folder,
            heard,
            identity,
            arm=arm.name,
            kind=arm.kind,
            minutes=settings.minutes,
            seed=settings.seed,
            steps=steps,
            elapsed_s=elapsed_s,
            heard_s=steps * settings.songs * settings.crops * settings.crop_s,
            flops=float(steps * counter.get_total_flops()),
            run=folder.name,
        )
        training.checkpoint.unlink()

    def tabulate(self, labels: Mapping[str, Labels]) -> int:
        """Write ``results.parquet``: the figures of every run on these songs; returns the rows."""
        rows = [row for folder in sorted(self.runs.iterdir()) for row in self._rows(folder, labels)]
        with replacing(self.home.comparison / "results.parquet") as part:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), part, compression="zstd")
        return len(rows)

    def _rows(self, folder: Path, labels: Mapping[str, Labels]) -> Iterator[dict[str, Any]]:
        try:
            result = read_json(folder / "result.json")
        except FileNotFoundError:
            return
        if result["identity"]["data"] != self.data.digest:
            return
        heard = Heard.load(folder / "heard.safetensors")

        def artist(track_id: str) -> str | None:
            return labels[track_id].artist if track_id in labels else None

        subsets = {
            "all": lambda _: True,
            "chosen on": lambda track_id: not held_out(artist(track_id) or ""),
            "held out": lambda track_id: held_out(artist(track_id) or ""),
        }
        for subset, wanted in subsets.items():
            n_tracks = sum(map(wanted, heard.track_ids))
            if n_tracks < 2:
                continue
            yield {
                **result["row"],
                "subset": subset,
                "n_tracks": n_tracks,
                **figures(heard, labels, wanted),
            }

    def _run(self, folder: Path, settings: TrainingSettings) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return Run(
            settings,
            self.sampler(settings.seed),
            hours=self.data.hours,
            frames_per_s=self.spec.frames_per_s,
            device=self.device,
            folder=folder,
        )

    def _listen(self, encoder: Encoder, settings: TrainingSettings) -> Heard:
        model = SongModel(settings.encoder, settings.dim)
        model.encoder.load_state_dict(encoder.state_dict())
        model.to(self.device).eval()
        return listen(model, self.songs(settings.seed), self.spec)

    def _identity(self, identity: Mapping[str, str]) -> dict[str, str]:
        return {**identity, "data": self.data.digest, "code_version": __version__}

    def _is_whole(self, folder: Path, identity: Mapping[str, str]) -> bool:
        try:
            return bool(read_json(folder / "result.json")["identity"] == self._identity(identity))
        except (FileNotFoundError, ValueError, KeyError):
            return False

    def _keep(self, folder: Path, heard: Heard, identity: Mapping[str, str], **row: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        nothing = {"minutes": 0.0, "steps": 0, "elapsed_s": 0.0, "heard_s": 0.0, "flops": 0.0}
        heard.save(folder / "heard.safetensors")
        # Last: who finds it finds the rest.
        result = {"identity": self._identity(identity), "row": {**nothing, "run": None, **row}}
        write_json(folder / "result.json", result)


def _slug(name: str, minutes: float, seed: int) -> str:
    words = "".join(c if c.isalnum() else "-" for c in name.lower())
    return f"{words}-{minutes:g}min-seed{seed}"
