"""The training loop: sample, forward, backward, step; and nothing lost when it is killed.

Belongs here: optimiser, schedule, checkpoints, the metrics of a run. Does not: the objective, the
data, or what becomes of the encoder.
"""

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fastdino import __version__
from fastdino.core.progress import Progress, progress
from fastdino.core.storage import atomic_replace
from fastdino.training import ranks
from fastdino.training.device import autocast, keep_freed_memory, use_cores
from fastdino.training.encoder import Encoder
from fastdino.training.metrics import effective_rank
from fastdino.training.muon import Muon
from fastdino.training.objectives import OBJECTIVES
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import Collection, TrainingSettings

log = logging.getLogger(__name__)

# To look at the loss is to wait for the device: not at every step.
LOG_EVERY_S = 1.0
CHECKPOINT_EVERY_S = 30.0
BAND_SAMPLE = 100_000
CHECKPOINT = "checkpoint.safetensors"
# What a row of ``metrics.jsonl`` has at least.
MEASURED = ("step", "elapsed_s", "loss", "rank")


class Start(NamedTuple):
    """Weights to begin with instead of random ones, and the name of the model they are of."""

    model_id: str
    encoder: Encoder


class Learned(nn.ModuleDict):
    """All that is learned: an ``encoder``, and the ``objective`` that it is trained with."""

    def forward(self, crops: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See ``Objective.forward``."""
        made: tuple[Tensor, Tensor] = self["objective"](self["encoder"], crops, generator)
        return made


class Run:
    """One training run: what is learned, how far it has come, and its checkpoint file."""

    def __init__(
        self,
        settings: TrainingSettings,
        sampler: CropSampler,
        *,
        collection: Collection,
        frames_per_s: float,
        device: torch.device,
        folder: Path,
        start: Start | None = None,
    ) -> None:
        """Set up a run, or take up one that was interrupted.

        All ranks begin with what rank 0 has, which alone reads and writes files; on how many the
        run was before is all the same.

        Args:
            settings: the recipe.
            sampler: where crops come from.
            collection: how much there is, which decides how long to train.
            frames_per_s: of the spectrograms.
            device: to train on.
            folder: for the checkpoint and ``metrics.jsonl``. A checkpoint found there is continued
                if it is of the same recipe and start, and is as it was written.
            start: what to begin with; None: random weights. Its encoder has the recipe's shape.
        """
        self.settings, self.sampler, self.device, self.folder = settings, sampler, device, folder
        self.start = start
        self.steps = settings.steps(collection)
        self.seconds = settings.seconds(collection)
        self.crop_frames = round(settings.crop_s * frames_per_s)
        use_cores()
        keep_freed_memory()
        self._begin()
        if ranks.rank() == 0 and self.checkpoint.exists():
            try:
                self._resume()
            # Whatever it is that the file makes torch raise: nothing of it is kept.
            except Exception as error:
                log.warning("%s: training begins anew (%s)", self.checkpoint, error)
                self._begin()
        self._follow()
        self._averaged = ranks.averaged(self.learned)

    def _begin(self) -> None:
        self.encoder = self.untrained()
        if self.start:
            self.encoder.load_state_dict(self.start.encoder.state_dict())
        self.objective = OBJECTIVES[self.settings.objective](self.encoder)
        self.learned = Learned({"encoder": self.encoder, "objective": self.objective})
        self.learned.to(self.device).train()
        self.optimizers = _optimizers(self.settings, self.learned)
        self.step = 0
        self.elapsed_s = 0.0

    def untrained(self) -> Encoder:
        """An encoder with random weights, on the CPU; resets PyTorch's random state."""
        torch.manual_seed(self.settings.seed)
        encoder = Encoder(self.settings.encoder)
        bands = self.sampler.sample_frames(BAND_SAMPLE).float().cpu()
        encoder.band_mean.copy_(bands.mean(0))
        encoder.band_deviation.copy_(bands.std(0).clamp_min(1.0))
        return encoder

    def _follow(self) -> None:
        """Be where rank 0 is."""
        if ranks.world() > 1:
            self._restore(ranks.same(self._tensors()))
            step, self.elapsed_s = ranks.agreed(self.step, self.elapsed_s)
            self.step = int(step)

    @property
    def checkpoint(self) -> Path:
        """The file an interrupted run goes on from."""
        return self.folder / CHECKPOINT

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step, elapsed_s, loss, rank, learning_rate, songs_per_s."""
        return self.folder / "metrics.jsonl"

    @property
    def result(self) -> Encoder:
        """The encoder that the run has made so far."""
        return self.objective.kept(self.encoder)

    @property
    def share_done(self) -> float:
        """0 to 1: of the steps or of the time, whichever has come further."""
        return min(1.0, max(self.step / self.steps, self.elapsed_s / self.seconds))

    def train(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the end, or until ``stop`` says so after a step.

        The clock and ``stop`` are rank 0's.
        """
        if self.device.type == "cuda":
            self.compile()
        # What a killed run logged after its last checkpoint is done again, and logged again.
        kept = _metrics_up_to(self.metrics, self.step)
        leads = ranks.rank() == 0
        with (
            open(self.metrics if leads else os.devnull, "w", encoding="utf-8") as metrics,
            progress("Training", 100, "%") if leads else nullcontext(Progress("", 1, "")) as shown,
        ):
            metrics.writelines(kept)
            started = saved = time.monotonic() - self.elapsed_s
            first = logged_step = self.step
            logged = time.monotonic()
            shown.advance(100 * self.share_done)
            (stopped,) = ranks.agreed(stop())
            while self.share_done < 1.0 and not stopped:
                share_before = self.share_done
                loss, features = self.one_step()
                self.step += 1
                now = time.monotonic()
                due = self.step == first + 1 or now - logged >= LOG_EVERY_S
                self.elapsed_s, measured, stopped = ranks.agreed(now - started, due, stop())
                note = ""
                if measured or self.share_done == 1.0:
                    steps_per_s = (self.step - logged_step) / (now - logged)
                    row = self._measure(loss, features, steps_per_s)
                    logged, logged_step = time.monotonic(), self.step
                    metrics.write(json.dumps(row) + "\n")
                    metrics.flush()
                    note = f"loss {row['loss']:.3f}, rank {row['rank']:.0f}, "
                    note += f"{row['songs_per_s']:.0f} songs/s"
                shown.advance(100 * (self.share_done - share_before), note)
                if now - saved >= CHECKPOINT_EVERY_S:
                    saved = now
                    self.save()
        self.save()

    def compile(self, mode: str = "default", backend: str = "inductor") -> bool:
        """Let PyTorch fuse the encoders' kernels, before the clock starts.

        What is learned so far stays as it is. Where no compiler works, training is only slower.

        Args:
            mode: of ``torch.compile``: "default", or "reduce-overhead" for CUDA graphs.
            backend: of ``torch.compile``.

        Returns:
            Whether it worked.
        """
        encoders = [module for module in self.learned.modules() if isinstance(module, Encoder)]
        for encoder in encoders:
            encoder.compile(mode=mode, backend=backend, fullgraph=True, dynamic=False)
        before = {name: value.clone() for name, value in self.learned.state_dict().items()}
        try:
            # A CUDA graph is recorded in the second round and played in the third.
            for _ in range(1 if mode == "default" else 3):
                self.learned.zero_grad()
                loss, _ = self._forward()
                loss.backward()
        except Exception as error:  # of many kinds: this machine's compiler is anyone's
            log.warning("Training without compiled kernels: %s", str(error).split("\n")[0])
            for encoder in encoders:
                encoder._compiled_call_impl = None
        self.learned.load_state_dict(before)
        self.learned.zero_grad()
        return self.encoder._compiled_call_impl is not None

    def one_step(self) -> tuple[Tensor, Tensor]:
        """The forward passes that the objective makes, one backward pass, one optimiser step.

        Returns:
            The loss and the features ``[songs, crops, positions, dim]`` of this rank's share of
            the batch, still on the device.
        """
        settings = self.settings
        rate = settings.learning_rate * _schedule(self.share_done, settings.warmup)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        # Before the forward pass: a CUDA graph's next round writes over the gradients of the last.
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss, features = self._forward()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.objective.after_step(self.encoder, self.share_done)
        return loss.detach(), features.detach()

    def _forward(self) -> tuple[Tensor, Tensor]:
        settings = self.settings
        crops = self.sampler.batch(self.step, settings.songs, settings.crops, self.crop_frames)
        seed = (settings.seed * 1_000_003 + self.step) % 2**63
        generator = torch.Generator(self.device).manual_seed(seed)
        with autocast(self.device):
            loss, features = self._averaged(crops, generator)
        return loss, features

    def _measure(self, loss: Tensor, features: Tensor, steps_per_s: float) -> dict[str, float]:
        loss = ranks.gathered(loss[None]).mean()
        means = ranks.gathered(features.float().mean(2).flatten(0, 1)).cpu().numpy()
        return {
            "step": self.step,
            "elapsed_s": round(self.elapsed_s, 3),
            "loss": round(float(loss), 5),
            "rank": round(effective_rank(means), 2),
            "learning_rate": self.optimizers[0].param_groups[0]["lr"],
            "songs_per_s": round(self.settings.songs * steps_per_s, 2),
        }

    def save(self) -> None:
        """Write the checkpoint, atomically; rank 0 does it for all."""
        if ranks.rank():
            return
        tensors = self._tensors()
        about = {
            "run": self._identity,
            "step": str(self.step),
            "elapsed_s": repr(self.elapsed_s),
        }
        about["digest"] = _digest(tensors, about)
        with atomic_replace(self.checkpoint) as part:
            save_file(tensors, part, metadata=about)

    def _tensors(self) -> dict[str, Tensor]:
        """What is learned and the optimisers' states, on the CPU."""
        tensors = {f"learned.{k}": v.contiguous() for k, v in self.learned.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                prefix = f"optimizer.{number}.{index}"
                tensors.update({f"{prefix}.{key}": value for key, value in state.items()})
        return {name: value.detach().cpu() for name, value in tensors.items()}

    @property
    def _identity(self) -> str:
        """What a checkpoint has to be of to be continued."""
        started = self.start.model_id if self.start else "random weights"
        return f"{__version__}, recipe {self.settings.recipe_id}, from {started}"

    def _resume(self) -> None:
        about, tensors = read_checkpoint(self.checkpoint)
        if about["run"] != self._identity:
            log.info("The interrupted training was another one (%s)", about["run"])
            return
        self._restore(tensors)
        self.step, self.elapsed_s = int(about["step"]), float(about["elapsed_s"])

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what ``_tensors`` gave."""
        self.learned.load_state_dict(
            {k.removeprefix("learned."): v for k, v in tensors.items() if k.startswith("learned.")}
        )
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimizer.{number}."):
                    _, _, index, key = name.split(".")
                    state.setdefault(int(index), {})[key] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})


def read_checkpoint(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What ``Run.save`` wrote: about the run, and all tensors, on the CPU.

    Raises:
        ValueError: it is not what was saved, or holds what are no numbers. safetensors raises
            errors of its own for what is no checkpoint at all.
    """
    with safe_open(path, framework="pt") as file:
        about: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if about.pop("digest", None) != _digest(tensors, about):
        raise ValueError("the checkpoint is not what was saved")
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} is not all numbers")
    return about, tensors


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _optimizers(settings: TrainingSettings, learned: nn.Module) -> list[torch.optim.Optimizer]:
    """What the settings ask for; weight decay is for matrices alone."""
    parameters = [p for p in learned.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2]
    others = [p for p in parameters if p.ndim != 2]
    rate, decay = settings.learning_rate, settings.weight_decay
    plain = torch.optim.AdamW(others, lr=rate, weight_decay=0, fused=True)
    if settings.optimizer == "adamw":
        return [torch.optim.AdamW(matrices, lr=rate, weight_decay=decay, fused=True), plain]
    # Muon, which makes each update of a matrix orthogonal, learned in a third of AdamW's steps; it
    # is for matrices only.
    muon = Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muon, plain]


def _schedule(share: float, warmup: float) -> float:
    """Learning rate over its peak: a linear rise, then a cosine to zero."""
    rise = min(1.0, (share + 1e-3) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * share))


def _metrics_up_to(path: Path, step: int) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    kept = []
    for line in lines:
        try:
            row = json.loads(line)
            if not all(isinstance(row[name], int | float) for name in MEASURED):
                break
            if row["step"] > step:
                break
        except (ValueError, LookupError, TypeError):
            break
        kept.append(line)
    return kept
