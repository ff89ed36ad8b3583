import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from song_shards import songs, write_songs
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastdino.core.home import Home
from fastdino.spectrograms.shards import list_shards
from fastdino.training import loop
from fastdino.training.loop import Run, Start
from fastdino.training.objectives import OBJECTIVES
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import PRESETS, Collection

CPU = torch.device("cpu")
SETTINGS = dataclasses.replace(PRESETS["tiny"], min_steps=12, songs=6, crop_s=2.0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list_shards(write_songs(Home(tmp_path_factory.mktemp("loop")), songs()))


def start(shards: list[Path], folder: Path, given: Start | None = None, **changes: object) -> Run:
    settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]
    sampler = CropSampler(shards, device=CPU, budget_bytes=10**9, seed=settings.seed)
    folder.mkdir(exist_ok=True)
    return Run(
        settings,
        sampler,
        collection=Collection(0.0, 0),
        frames_per_s=100,
        device=CPU,
        folder=folder,
        start=given,
    )


def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(
    shards: list[Path], tmp_path: Path
) -> None:
    undisturbed = start(shards, tmp_path / "a")
    undisturbed.train()

    interrupted = start(shards, tmp_path / "b")
    interrupted.train(stop=lambda: interrupted.step == 5)
    resumed = start(shards, tmp_path / "b")
    assert resumed.step == 5
    resumed.train()

    for name, value in undisturbed.learned.state_dict().items():
        assert torch.equal(resumed.learned.state_dict()[name], value), name
    steps = [json.loads(line)["step"] for line in resumed.metrics.read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_the_same_seed_gives_the_same_encoder_and_another_seed_another(
    shards: list[Path], tmp_path: Path
) -> None:
    losses = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = start(shards, tmp_path / folder, seed=seed, min_steps=3)
        run.train()
        losses.append(json.loads(run.metrics.read_text().splitlines()[0])["loss"])
    assert losses[0] == losses[1] != losses[2]


Tensors = dict[str, torch.Tensor]
About = dict[str, str]


def without_an_optimizers_state(tensors: Tensors, about: About) -> None:
    del tensors[next(name for name in tensors if name.startswith("optimizer.0."))]


def of_another_shape(tensors: Tensors, about: About) -> None:
    name = next(name for name in tensors if name.startswith("learned.encoder."))
    tensors[name] = torch.zeros(3)


def not_a_number(tensors: Tensors, about: About) -> None:
    next(iter(tensors.values())).fill_(torch.nan)


def at_no_step(tensors: Tensors, about: About) -> None:
    about["step"] = "soon"


def about_nothing(tensors: Tensors, about: About) -> None:
    about.clear()


@pytest.fixture(scope="module")
def interrupted(shards: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run that was interrupted: only read it."""
    run = start(shards, tmp_path_factory.mktemp("interrupted"))
    run.train(stop=lambda: run.step == 2)
    return run.checkpoint


@pytest.mark.parametrize(
    ("spoil", "resealed"),
    [
        (without_an_optimizers_state, False),
        (at_no_step, False),
        # As another version of this program, or a training that went astray, might write it.
        (of_another_shape, True),
        (not_a_number, True),
        (at_no_step, True),
        (about_nothing, True),
    ],
)
def test_a_checkpoint_of_odd_content_means_starting_again_and_says_so(
    shards: list[Path],
    interrupted: Path,
    tmp_path: Path,
    spoil: Callable[[Tensors, About], None],
    resealed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    about, tensors = loop.read_checkpoint(interrupted)
    spoil(tensors, about)
    if resealed:
        about["digest"] = loop._digest(tensors, about)
    save_file(tensors, tmp_path / "checkpoint.safetensors", metadata=about)
    run, fresh = start(shards, tmp_path), start(shards, tmp_path / "fresh")
    assert run.step == 0
    assert run.elapsed_s == 0
    for name, value in fresh.learned.state_dict().items():
        assert torch.equal(run.learned.state_dict()[name], value), name
    assert not any(optimizer.state_dict()["state"] for optimizer in run.optimizers)
    assert "training begins anew" in caplog.text


@pytest.mark.parametrize("spoilt", [b"", b"no checkpoint at all", b"\xff" * 1000])
def test_a_spoilt_checkpoint_means_starting_again(
    shards: list[Path], tmp_path: Path, spoilt: bytes
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(spoilt)
    assert start(shards, tmp_path).step == 0


def test_rows_of_metrics_that_cannot_be_read_are_left_out(
    shards: list[Path], tmp_path: Path
) -> None:
    run = start(shards, tmp_path)
    run.train(stop=lambda: run.step == 1)
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole + b'[1]\n{"step": "\xff"}\n' + whole)
    again = start(shards, tmp_path)
    again.train(stop=lambda: True)
    assert again.metrics.read_bytes() == whole


def test_a_warm_run_begins_with_the_weights_it_is_given(shards: list[Path], tmp_path: Path) -> None:
    trained = start(shards, tmp_path / "a")
    trained.train(stop=lambda: trained.step == 2)
    warm = start(shards, tmp_path / "b", given=Start("a", trained.result))
    for name, value in trained.encoder.state_dict().items():
        assert torch.equal(warm.encoder.state_dict()[name], value), name
    warm.train(stop=lambda: warm.step == 1)
    assert start(shards, tmp_path / "b", given=Start("a", trained.result)).step == 1
    assert start(shards, tmp_path / "b").step == 0


def test_a_checkpoint_of_another_recipe_is_not_continued(
    shards: list[Path], tmp_path: Path
) -> None:
    run = start(shards, tmp_path)
    run.train(stop=lambda: run.step == 2)
    assert start(shards, tmp_path).step == 2
    assert start(shards, tmp_path, learning_rate=1e-4).step == 0


@pytest.mark.parametrize("seed", [20_261_128_104_330, 2**63 - 1])
def test_any_seed_will_do(shards: list[Path], tmp_path: Path, seed: int) -> None:
    run = start(shards, tmp_path, seed=seed)
    run.train(stop=lambda: run.step == 1)
    assert run.step == 1


def test_time_ends_a_run_that_has_steps_left(shards: list[Path], tmp_path: Path) -> None:
    run = start(shards, tmp_path, min_steps=100_000, minutes=1 / 60)
    run.train()
    assert 0 < run.step < 100_000
    assert run.elapsed_s >= 1


def test_training_lowers_the_loss_and_does_not_collapse(shards: list[Path], tmp_path: Path) -> None:
    run = start(shards, tmp_path, min_steps=80)
    run.train()
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    # Two clusters, as the published loss ends in, are a rank of 1.
    assert rows[-1]["rank"] > 2


class Waits(TorchDispatchMode):
    """Notes every copy between host and device that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._pinned: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten._pin_memory.default:  # which fake tensors do not know
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        result = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, result)) if torch.is_tensor(each)]
        if len({each.device.type for each in tensors}) > 1:
            pinned = any(args[0] is each for each in self._pinned)
            if not (pinned and (kwargs or {}).get("non_blocking")):
                self.seen.append(func.overloadpacket.__name__)
        return result


def onto(device: torch.device, run: Run, mode: FakeTensorMode) -> None:
    """Turn all that a run computes with into tensors on ``device`` that have shapes alone."""

    def fake(value: torch.Tensor) -> torch.Tensor:
        return torch.empty(value.shape, dtype=value.dtype, device=device)

    with mode:
        for module in run.learned.modules():
            for name, value in module._parameters.items():
                module._parameters[name] = nn.Parameter(fake(value), value.requires_grad)
            module._buffers.update({name: fake(value) for name, value in module._buffers.items()})
        run.sampler._frames = fake(run.sampler._frames)
        run.device = run.sampler.device = device
        run.optimizers = loop._optimizers(run.settings, run.learned)


PLANTED = {
    "no wait": lambda loss, features: torch.where(features > loss, features, 0).mean() * 2,
    "a number": lambda loss, features: loss.item(),
    "a condition": lambda loss, features: bool(loss > 3),
    "a choice by mask": lambda loss, features: features[features > 0],
    "a place": lambda loss, features: features.nonzero(),
    "a copy to the host": lambda loss, features: features.cpu(),
    "a number to the device": lambda loss, features: torch.tensor(0.5, device=features.device),
    "a list as index": lambda loss, features: features[[0, 1]],
}


@pytest.mark.parametrize(
    ("objective", "planted"),
    [
        *((objective, "no wait") for objective in OBJECTIVES),
        # That one would be noticed, in whatever step it is.
        *(("fastdino", planted) for planted in PLANTED if planted != "no wait"),
    ],
)
def test_no_step_waits_for_the_gpu(
    shards: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    planted: str,
) -> None:
    """On a GPU that is not there: its tensors have no values, so nothing can ask for one."""
    run = start(shards, tmp_path, objective=objective)
    mode = FakeTensorMode()
    onto(torch.device("cuda"), run, mode)
    # Of what a step needs, only these are not to be had without a GPU; for the backward pass see
    # the next test.
    host = torch.Generator()
    monkeypatch.setattr(torch, "Generator", lambda device: host)

    def backward(loss: torch.Tensor) -> None:
        for parameter in run.learned.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with mode, Waits() as waits, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available")
        run.one_step()
        loss, features = run.one_step()
        assert features.is_cuda
        assert waits.seen == []
        try:
            PLANTED[planted](loss, features)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            waits.seen.append(str(error))
    assert bool(waits.seen) == (planted != "no wait")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_backward_pass_asks_for_a_value(
    shards: list[Path], tmp_path: Path, objective: str
) -> None:
    run = start(shards, tmp_path, objective=objective)
    mode = FakeTensorMode()
    onto(CPU, run, mode)
    with mode:
        run.one_step()
        loss, _ = run.one_step()
        with pytest.raises(DataDependentOutputException):
            loss.item()


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(name, marks=() if name == "fastdino" else pytest.mark.thorough)
        for name in OBJECTIVES
    ],
)
def test_a_compiled_run_learns_what_one_that_is_not_compiled_learns(
    shards: list[Path], tmp_path: Path, objective: str
) -> None:
    plain = start(shards, tmp_path / "a", objective=objective, min_steps=3)
    plain.train()
    compiled = start(shards, tmp_path / "b", objective=objective, min_steps=3)
    # Traces and cuts the graph as on a GPU; only the last part, making kernels of it, is left out.
    compiled.compile(backend="aot_eager")
    assert compiled.encoder._compiled_call_impl is not None
    compiled.train()
    expected = plain.learned.state_dict()
    for name, value in compiled.learned.state_dict().items():
        # Muon makes much of bfloat16's rounding.
        difference = (value - expected[name]).norm()
        assert difference <= 0.02 * expected[name].norm() + 1e-3, name


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_run_learns_with_real_kernels_in_every_mode(
    shards: list[Path], tmp_path: Path, mode: str
) -> None:
    plain = start(shards, tmp_path / "a", min_steps=3)
    plain.train()
    compiled = start(shards, tmp_path / "b", min_steps=3)
    assert compiled.compile(mode)
    compiled.train()
    expected = plain.learned.state_dict()
    for name, value in compiled.learned.state_dict().items():
        difference = (value - expected[name]).norm()
        assert difference <= 0.02 * expected[name].norm() + 1e-3, name


def test_a_machine_without_a_compiler_trains_all_the_same(
    shards: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("no compiler here")

    plain = start(shards, tmp_path / "a", min_steps=2)
    plain.train()
    run = start(shards, tmp_path / "b", min_steps=2)
    assert not run.compile(backend=no_compiler)  # type: ignore[arg-type]
    assert "without compiled kernels" in caplog.text
    run.train()
    expected = plain.learned.state_dict()
    assert all(torch.equal(expected[name], v) for name, v in run.learned.state_dict().items())
