"""What a device does with a training step: the measurements, each part on its own.

Belongs here: the parts of ``fastdino bench gpu``, and running them one after the other in a process
of their own. Does not: ending that process when its time is up, or showing what came out (``gpu``).

An error in one measurement is a line of what came out. Where there is no GPU the parts are run in a
small form, which shows that they run and nothing of a GPU.
"""

import dataclasses
import functools
import gc
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
import torch._inductor.config
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from fastdino.bench.gpu_tables import COLLECTION_HOURS, PARTS, Figures
from fastdino.core.home import Home
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.training import labels as label_files
from fastdino.training import model as models
from fastdino.training import registry
from fastdino.training.device import best_device, device_name, multiplies_in
from fastdino.training.evaluation import embed_sample, evaluate, evaluation_sample
from fastdino.training.loop import Run
from fastdino.training.model import SongModel
from fastdino.training.objectives import OBJECTIVES
from fastdino.training.sampler import CropSampler, _Slot, frame_budget
from fastdino.training.settings import PRESETS, Collection, TrainingSettings

log = logging.getLogger(__name__)

SPEC = SpectrogramSettings()
SONG_S = 180
# How a step is made to run, and what that is to ``Run.compile``.
EAGER, COMPILED, GRAPHS = "eager", "compiled", "CUDA graphs"
MODES = {EAGER: "", COMPILED: "default", GRAPHS: "reduce-overhead"}
# Of the objectives, those whose operations are those of one pass of the encoder.
ONE_PASS = ("fastdino", "published")
CHUNK_BYTES = 10**9
# In a group of steps that is waited for as a whole.
MOST_STEPS = 50
# Shares of a run at which it is evaluated.
LOOKS = (0.1, 0.25, 0.5, 0.75, 1.0)
# What PyTorch does on a CPU without computing anything.
NO_KERNELS = {
    "alias", "as_strided", "as_strided_", "chunk", "detach", "empty", "empty_like",
    "empty_strided", "expand", "expand_as", "flatten", "item", "lift_fresh", "narrow", "new_empty",
    "permute", "reshape", "resize_", "resolve_conj", "resolve_neg", "result_type", "select",
    "slice", "split", "squeeze", "t", "to", "transpose", "unbind", "unflatten", "unfold",
    "unsqueeze", "view", "view_as", "_local_scalar_dense", "_reshape_alias", "_unsafe_view",
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How much is measured.

    Attributes:
        presets: the recipes; the last one is what the parts after the first compare with.
        songs: batch sizes.
        hours: of made-up frames, if they fit.
        matrix: widths of the matrices that are multiplied.
        copied_bytes: of the tensor that is copied.
        groups: of steps, whose median counts.
        group_s: seconds that one lasts.
        compile_s: that compiling may take, until one has been seen to.
    """

    presets: tuple[str, ...]
    songs: tuple[int, ...]
    hours: float
    matrix: tuple[int, ...]
    copied_bytes: int
    groups: int
    group_s: float
    compile_s: float


ON_GPU = Form(
    presets=("cpu", "gpu"),
    songs=(64, 128, 256, 512, 1024),
    hours=COLLECTION_HOURS,
    matrix=(4096, 8192, 16384),
    copied_bytes=2**30,
    groups=5,
    group_s=0.5,
    compile_s=60,
)
SMALL = Form(
    presets=("tiny",),
    songs=(4, 8),
    hours=0.5,
    matrix=(512,),
    copied_bytes=2**24,
    groups=2,
    group_s=0.01,
    compile_s=100,
)


class Bench:
    """The device, what is measured on it, and the time that is left for it."""

    def __init__(self, home: Home, folder: Path) -> None:
        """Look what there is.

        Args:
            home: where real shards are, if there are any.
            folder: for files in the making.
        """
        self.home, self.folder = home, folder
        self.device = best_device()
        self.on_gpu = self.device.type == "cuda"
        self.form = ON_GPU if self.on_gpu else SMALL
        self.part, self.deadline = "", math.inf
        self._compiled_in: list[float] = []

    @property
    def compile_s(self) -> float:
        """Seconds that compiling may take."""
        return 1.2 * max(self._compiled_in) if self._compiled_in else self.form.compile_s

    @property
    def left_s(self) -> float:
        """Seconds until this part has to be over."""
        return self.deadline - time.monotonic()

    @property
    def settings(self) -> TrainingSettings:
        """The recipe for this device."""
        return PRESETS[self.form.presets[-1]]

    def synchronise(self) -> None:
        """Wait until the device has done all that it was told."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """How long ``work`` takes when repeated: the median of groups that are waited for."""
        work()
        once = self._group(work, 1)
        steps = max(1, min(MOST_STEPS, round(self.form.group_s / max(once, 1e-6))))
        return statistics.median(self._group(work, steps) for _ in range(self.form.groups))

    def _group(self, work: Callable[[], object], times: int) -> float:
        self.synchronise()
        start = time.perf_counter()
        for _ in range(times):
            work()
        self.synchronise()
        return (time.perf_counter() - start) / times

    def bytes_held(self) -> int:
        """Of the device's memory, what tensors take now."""
        return torch.cuda.memory_allocated(self.device) if self.on_gpu else 0

    def tidy(self) -> None:
        """Give back what the last measurement held."""
        if self._compiled_in:
            torch.compiler.reset()
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def attempt(self, name: str, measure: Callable[[], Figures], needs_s: float = 5) -> Figures:
        """One measurement, or why there is none.

        Raises:
            torch.AcceleratorError: the device takes no more orders from this process.
        """
        if self.left_s < needs_s:
            return Figures(self.part, name, note=f"no time: it may take {needs_s:.0f} s")
        try:
            return measure()
        except torch.AcceleratorError:
            raise
        except torch.OutOfMemoryError:
            return Figures(self.part, name, note="out of memory")
        except Exception as error:  # of many kinds: a driver's, a compiler's, a file's
            log.exception("%s: %s", self.part, name)
            return Figures(self.part, name, note=_why(error))
        finally:
            self.tidy()

    def step(
        self, name: str, sampler: CropSampler, hours: float, settings: TrainingSettings, mode: str
    ) -> Figures:
        """One training step: how long, how much of it is what, and how much memory."""
        if mode == GRAPHS and not self.on_gpu:
            return Figures(self.part, f"{name}, {mode}", note="needs a GPU")
        needs_s = 3 * self.form.groups * self.form.group_s
        if mode != EAGER:
            needs_s += self.compile_s
        measure = functools.partial(self._step, name, sampler, hours, settings, mode)
        return self.attempt(f"{name}, {mode}", measure, needs_s)

    def step_as_in_training(
        self, name: str, sampler: CropSampler, hours: float, settings: TrainingSettings
    ) -> Figures:
        """One training step: compiled on a GPU, unless there is no compiler or no time for it."""
        found = None
        if self.on_gpu:
            found = self.step(name, sampler, hours, settings, COMPILED)
        if found is None or not found.values:
            found = self.step(name, sampler, hours, settings, EAGER)
        return found

    def _step(
        self, name: str, sampler: CropSampler, hours: float, settings: TrainingSettings, mode: str
    ) -> Figures:
        before = self.bytes_held()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        run = self.run(settings, sampler, hours)
        values = {"hours": hours, "compile_s": self.compiled(run, mode)}

        def step() -> None:
            run.one_step()
            run.step += 1

        crops = settings.songs * settings.crops
        took = values["step_s"] = self.seconds(step)
        values["crops_per_s"] = crops / took
        if settings.objective in ONE_PASS:
            values["flops"] = (
                settings.encoder.learning_flops(crops * run.crop_frames, run.objective.every) / took
            )
        values["pass_s"] = COLLECTION_HOURS * 3600 / settings.crop_s / values["crops_per_s"]
        if self.on_gpu:
            values["step_bytes"] = torch.cuda.max_memory_allocated(self.device) - before
        draw = (settings.songs, settings.crops, run.crop_frames)
        values["drawing"] = self.seconds(lambda: sampler.batch(run.step, *draw)) / took
        values["optimiser"] = self.seconds(lambda: optimise(run)) / took
        return Figures(self.part, f"{name}, {mode}", values)

    def run(self, settings: TrainingSettings, sampler: CropSampler, hours: float) -> Run:
        """A run from its beginning."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return Run(
            settings,
            sampler,
            collection=Collection(hours, round(hours * 3600 / SONG_S)),
            frames_per_s=SPEC.frames_per_s,
            device=self.device,
            folder=folder,
        )

    def compiled(self, run: Run, mode: str) -> float:
        """Compile a run's encoders, and take its first steps; returns the seconds it took.

        Raises:
            RuntimeError: no compiler works here.
        """
        if mode == EAGER:
            return 0.0
        counters.clear()
        start = time.perf_counter()
        if not run.compile(MODES[mode]):
            raise RuntimeError("not compiled: the log says why")
        run.one_step()
        self.synchronise()
        if mode == GRAPHS and counters["inductor"]["cudagraph_skips"]:
            raise RuntimeError("PyTorch made no CUDA graph: the log says why")
        self._compiled_in.append(time.perf_counter() - start)
        return self._compiled_in[-1]


def made_up(bench: Bench) -> tuple[CropSampler, float]:
    """A sampler of songs of noise, made in memory; and how many hours they last."""
    an_hour = 3600 * SPEC.frames_per_s * SPEC.n_mels
    budget = frame_budget(bench.device)
    songs = max(1, int(min(bench.form.hours, budget / an_hour) * 3600 / SONG_S))
    lengths = np.full(songs, round(SONG_S * SPEC.frames_per_s))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    # Of a real shard of one song, whose place the others take.
    folder = Path(tempfile.mkdtemp(dir=bench.folder))
    info = shard_files.TrackInfo("0", SPEC.min_db, SPEC.step_db, SONG_S, SONG_S, False)
    with shard_files.ShardWriter(folder / shard_files.name_of(1)) as writer:
        writer.append(info, np.zeros((lengths[0], SPEC.n_mels), np.uint8))
    sampler = CropSampler.of(folder, bench.device, seed=0)
    n_frames = int(lengths.sum())
    frames = torch.empty((n_frames, SPEC.n_mels), dtype=torch.uint8, device=bench.device)
    for chunk in frames.split(CHUNK_BYTES // SPEC.n_mels):
        chunk.random_(0, 256)
    sampler._frames = frames
    sampler._slots = {0: _Slot(0, n_frames, starts, lengths, [str(i) for i in range(songs)])}
    return sampler, songs * SONG_S / 3600


def real(bench: Bench) -> tuple[CropSampler, float] | None:
    """A sampler of the home's shards, and how many hours they last; None if it has none."""
    folder = bench.home.shards(SPEC.spec_id)
    n_frames = pc.sum(shard_files.read_index(folder)["n_frames"]).as_py()
    if not n_frames:
        return None
    sampler = CropSampler.of(folder, bench.device, seed=0)
    return sampler, n_frames / SPEC.frames_per_s / 3600


def peaks(bench: Bench) -> Iterator[Figures]:
    """How fast the device multiplies matrices, and how fast it copies."""
    dtype = multiplies_in(bench.device)
    name = str(dtype).removeprefix("torch.")
    for width in bench.form.matrix:

        def multiply(width: int = width) -> Figures:
            a, b = torch.randn(2, width, width, device=bench.device).to(dtype)
            flops = 2 * width**3 / bench.seconds(lambda: a @ b)
            return Figures(bench.part, f"{name} product, {width} wide", {"flops": flops})

        yield bench.attempt(f"{name} product, {width} wide", multiply)

    def copy() -> Figures:
        a = torch.zeros(bench.form.copied_bytes, dtype=torch.uint8, device=bench.device)
        b = torch.empty_like(a)
        speed = 2 * len(a) / bench.seconds(lambda: b.copy_(a))
        return Figures(bench.part, "copy, read and written", {"bytes_per_s": speed})

    yield bench.attempt("copy, read and written", copy)


def presets(bench: Bench) -> Iterator[Figures]:
    """A step of each recipe on made-up frames, compiled as in training."""
    sampler, hours = made_up(bench)
    for preset in bench.form.presets:
        settings = PRESETS[preset]
        name = f"{preset}, {settings.songs} songs"
        for mode in (COMPILED, EAGER) if bench.on_gpu else (EAGER, COMPILED):
            yield bench.step(name, sampler, hours, settings, mode)


def on_shards(bench: Bench) -> Iterator[Figures]:
    """The same on the home's own songs."""
    if (found := real(bench)) is None:
        yield Figures(bench.part, "real shards", note=f"no shards in {bench.home.root}")
        return
    sampler, hours = found
    window = "all in memory" if sampler.resident else "through a window"
    name = f"{bench.settings.preset}, {window}"
    yield bench.step_as_in_training(name, sampler, hours, bench.settings)


def quality(bench: Bench) -> Iterator[Figures]:
    """How long the device's recipe takes to be as good as the home's model, or the CPU's recipe."""
    if (found := real(bench)) is None:
        yield Figures(bench.part, "time to quality", note=f"no shards in {bench.home.root}")
        return
    sampler, hours = found
    labels = label_files.read(bench.home.catalog)
    if not any(each.artist for each in labels.values()):
        why = f"no artists are known: {bench.home.catalog} is missing, or names none"
        yield Figures(bench.part, "time to quality", note=why)
        return
    songs = evaluation_sample(sampler)

    def artist_1nn(model: SongModel) -> float:
        figure = evaluate(embed_sample(model, songs, SPEC), labels)["artist_1nn"]
        if figure is None:
            raise ValueError("no artist has two songs here")
        return figure

    def reference() -> Figures:
        start = time.perf_counter()
        if model_id := registry.current_id(bench.home):
            model, about = models.load(bench.home.model(model_id), bench.device)
            values, name = {}, f"the home's model, preset {about['settings']['preset']}"
        else:
            # Quick enough, uncompiled, to take a third of this part's time.
            settings = dataclasses.replace(PRESETS["cpu"], minutes=bench.left_s / 3 / 60)
            run = bench.run(settings, sampler, hours)
            for _ in looks(bench, run, [1.0]):
                pass
            model, values = finished(bench, run), {"training_s": run.elapsed_s}
            name = "preset cpu, trained here"
            start = time.perf_counter()
        values["artist_1nn"] = artist_1nn(model)
        bench.synchronise()
        values["evaluation_s"] = time.perf_counter() - start
        return Figures(bench.part, name, values)

    wanted = bench.attempt("what is to be reached", reference, 20)
    yield wanted
    if not wanted.values:
        return
    compile_s = bench.compile_s if bench.on_gpu else 0.0
    training_s = 0.8 * bench.left_s - len(LOOKS) * wanted.values["evaluation_s"] - compile_s
    name = f"preset {bench.settings.preset}"
    if training_s < 5:
        yield Figures(bench.part, name, note="no time to train")
        return
    settings = dataclasses.replace(bench.settings, minutes=training_s / 60)
    run = bench.run(settings, sampler, hours)
    start = time.perf_counter()
    if bench.on_gpu:  # as in training, which goes on without if it does not work
        run.compile()
    compile_s = time.perf_counter() - start
    for share in looks(bench, run, LOOKS):
        values = {"training_s": run.elapsed_s, "artist_1nn": artist_1nn(finished(bench, run))}
        values["compile_s"] = compile_s
        note = "reached" if values["artist_1nn"] >= wanted.values["artist_1nn"] else ""
        yield Figures(bench.part, f"{name}, {share:.0%} of its run", values, note)


def looks(bench: Bench, run: Run, shares: Sequence[float]) -> Iterator[float]:
    """Train, with a pause for each of ``shares``; the clock of the run stands still meanwhile."""
    for share in shares:
        bench.synchronise()
        started = time.monotonic() - run.elapsed_s
        while run.share_done < share:
            run.one_step()
            run.step += 1
            run.elapsed_s = time.monotonic() - started
        bench.synchronise()
        run.elapsed_s = time.monotonic() - started
        yield share


def finished(bench: Bench, run: Run) -> SongModel:
    """A model of what a run has learned so far; evaluating it fits its projection."""
    return SongModel.of(run.result, run.settings.dim).to(bench.device)


def kernels(bench: Bench) -> Iterator[Figures]:
    """How many kernels a step starts; on a CPU, how many operations that compute something."""
    sampler, hours = made_up(bench)
    for mode in (EAGER, COMPILED):
        name = f"{bench.settings.preset}, {mode}"

        def count(mode: str = mode, name: str = name) -> Figures:
            run = bench.run(bench.settings, sampler, hours)
            bench.compiled(run, mode)
            run.one_step()

            def learn() -> None:
                run.learned.zero_grad()
                run._forward()[0].backward()

            values = {"learn": kernels_of(bench, learn)}
            values["optimise"] = kernels_of(bench, lambda: optimise(run))
            return Figures(bench.part, name, values)

        # On a CPU the trace names a compiled kernel only if asked to.
        with torch._inductor.config.patch("cpp.enable_kernel_profile", not bench.on_gpu):
            yield bench.attempt(name, count, 5 if mode == EAGER else bench.compile_s)


def optimise(run: Run) -> None:
    """What a step ends with."""
    for optimizer in run.optimizers:
        optimizer.step()


def kernels_of(bench: Bench, work: Callable[[], None]) -> float:
    """Kernels that ``work`` starts; see ``kernels``."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * bench.on_gpu
    work()
    bench.synchronise()
    with profile(activities=activities) as seen:
        work()
        bench.synchronise()
    events = seen.events() or []
    if bench.on_gpu:
        on_device = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
        if not on_device:
            raise RuntimeError("the profiler sees no kernels: it may not be allowed to")
        return sum(not event.is_user_annotation for event in on_device)
    # An operation that is made of others is those.
    ends = {id(event) for event in events if _computes(event.name)}
    parents = set()
    for event in events:
        above = event.cpu_parent if id(event) in ends else None
        while above is not None:
            parents.add(id(above))
            above = above.cpu_parent
    return len(ends - parents)


def _computes(name: str) -> bool:
    operation = name.removeprefix("aten::")
    return "cpp_fused" in name or (operation != name and operation not in NO_KERNELS)


def batches(bench: Bench) -> Iterator[Figures]:
    """A step at other batch sizes, compiled and not; the extremes first."""
    sampler, hours = made_up(bench)
    sizes = bench.form.songs
    outer_first = sorted(sizes, key=lambda size: -abs(sizes.index(size) - (len(sizes) - 1) / 2))
    for songs in outer_first:
        settings = dataclasses.replace(bench.settings, songs=songs)
        name = f"{settings.preset}, {songs} songs"
        for mode in MODES:
            yield bench.step(name, sampler, hours, settings, mode)


def modes(bench: Bench) -> Iterator[Figures]:
    """A step of the device's recipe with CUDA graphs, beside those of the first part."""
    sampler, hours = made_up(bench)
    name = f"{bench.settings.preset}, {bench.settings.songs} songs"
    yield bench.step(name, sampler, hours, bench.settings, GRAPHS)


def objectives(bench: Bench) -> Iterator[Figures]:
    """A step of every objective, with the device's recipe otherwise."""
    sampler, hours = made_up(bench)
    for objective in OBJECTIVES:
        settings = dataclasses.replace(bench.settings, objective=objective)
        name = f"{objective}, {settings.songs} songs"
        yield bench.step_as_in_training(name, sampler, hours, settings)


MEASURES: dict[str, Callable[[Bench], Iterator[Figures]]] = {
    "peaks": peaks,
    "presets": presets,
    "real shards": on_shards,
    "CUDA graphs": modes,
    "quality": quality,
    "kernels": kernels,
    "objectives": objectives,
    "batch sizes": batches,
}


def about(device: torch.device) -> dict[str, str]:
    """The device, and what drives it."""
    found = {"device": device_name(device), "torch": torch.__version__}
    if device.type == "cpu":
        found["form"] = "small, as there is no GPU: shows that it runs, and nothing of a GPU"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["memory"] = f"{card.total_memory / 1e9:.1f} GB"
        found["processors"] = str(card.multi_processor_count)
        found["compute capability"] = f"{card.major}.{card.minor}"
        found["CUDA"] = str(torch.version.cuda)
        found["driver"] = _driver()
    return found


def _driver() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:  # another system, or another maker
        return "not known"


def serve(pipe: Connection, bench: Bench, parts: Sequence[str], deadline: float) -> None:
    """Run parts in this process.

    Args:
        pipe: takes what ``about`` says, and then for each part its figures one by one and None.
        bench: what there is to measure.
        parts: names of those to run.
        deadline: by ``time.monotonic``, when all has to be over.

    Raises:
        torch.AcceleratorError: the device takes no more orders from this process.
    """
    pipe.send(about(bench.device))
    for part in parts:
        bench.part, bench.deadline = part, min(deadline, time.monotonic() + PARTS[part])
        log.info("%s: %.0f s left", part, bench.left_s)
        try:
            for figures in MEASURES[part](bench):
                log.info("%s", figures)
                pipe.send(figures)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # as in ``Bench.attempt``
            log.exception("%s", part)
            pipe.send(Figures(part, part, note=_why(error)))
        bench.tidy()
        pipe.send(None)


def _why(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
