"""One of several gloo ranks: what they compute together, against what one computes alone.

``python gloo_ranks.py RANK WORLD HOW OBJECTIVES FOLDER SHARD...``; each leaves what it found in a
file, rank 0 the differences, too. HOW is "plain" or "compiled", OBJECTIVES are joined by commas.
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from doubled import double
from torch import Tensor

from fastdino.training import ranks
from fastdino.training.loop import Run
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import PRESETS, Collection

CPU = torch.device("cpu")
STEPS = 2


def learned(
    shards: list[Path],
    folder: Path,
    objective: str,
    *,
    compiled: bool = False,
    budget_bytes: int = 10**9,
) -> dict[str, dict[str, Tensor]]:
    """The first gradients and the last weights of a short run, and what a batch is made of."""
    settings = dataclasses.replace(
        PRESETS["tiny"], objective=objective, songs=8, crop_s=2.0, min_steps=STEPS, minutes=1e6
    )
    folder.mkdir()
    sampler = CropSampler(
        shards,
        device=CPU,
        budget_bytes=budget_bytes,
        seed=0,
        rank=ranks.rank(),
        world=ranks.world(),
    )
    run = Run(
        settings,
        sampler,
        collection=Collection(0.0, 0),
        frames_per_s=100,
        device=CPU,
        folder=folder,
    )
    if compiled:
        run.compile(backend="aot_eager")
        assert run.encoder._compiled_call_impl is not None
    run.one_step()
    run.step += 1
    gradients = {
        name: value.grad.clone()
        for name, value in run.learned.named_parameters()
        if value.grad is not None
    }
    run.train()
    return {"gradients": gradients, "weights": dict(run.learned.state_dict())}


def most(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((value - other[name]).abs().max()) for name, value in one.items())


def of_gathered(world: int) -> dict[str, float]:
    """How far the gradients of ``gathered`` are from their definition, however tensors lie."""

    def given(rank: int) -> Tensor:
        return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(rank))

    def weights(rank: int) -> Tensor:
        return torch.randn(5, 4 * world, 3, generator=torch.Generator().manual_seed(10 + rank))

    own = given(ranks.rank()).requires_grad_()
    # Neither what goes in nor the gradient that comes back is contiguous.
    every = ranks.gathered(own.transpose(0, 1))
    assert not own.transpose(0, 1).is_contiguous()
    (every.permute(2, 0, 1) * weights(ranks.rank())).sum().backward()
    assert own.grad is not None
    expected = sum(weights(rank) for rank in range(world))[:, 4 * ranks.rank() :][:, :4]
    whole = torch.cat([given(rank).transpose(0, 1) for rank in range(world)])
    return {
        "values": float((every - whole).abs().max()),
        "gradient": float((own.grad - expected.permute(2, 1, 0)).abs().max()),
    }


def main(
    rank: int, world: int, how: str, objectives: list[str], folder: Path, shards: list[Path]
) -> None:
    torch.set_num_threads(1)
    double()
    alone = {}
    if rank == 0:
        alone = {
            # Compiled likewise: a compiler does not see that floats are doubles here.
            o: learned(shards, folder / f"{o}-alone", o, compiled=how == "compiled")
            for o in objectives
        }
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    together = {
        o: learned(shards, folder / f"{o}-{rank}", o, compiled=how == "compiled")
        for o in objectives
    }
    # Of a collection larger than memory.
    shared_out = learned(shards, folder / f"shared-out-{rank}", "fastdino", budget_bytes=10)
    found = {
        "shared_out": [float(value.sum()) for value in shared_out["weights"].values()],
        "gathered": of_gathered(world),
        "least": ranks.least(8.0 - rank),
        "agreed": ranks.agreed(rank + 0.25, rank + 7),
    }
    if rank == 0:
        for objective, each in together.items():
            found[objective] = {k: most(v, alone[objective][k]) for k, v in each.items()}
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    number, ranks_there, way, learned_by, where, *files = sys.argv[1:]
    asked = learned_by.split(",")
    main(int(number), int(ranks_there), way, asked, Path(where), [Path(file) for file in files])
