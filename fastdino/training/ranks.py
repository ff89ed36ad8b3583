"""Ranks: the processes that train one model together, each on its share of every batch.

Belongs here: which rank this process is, what ranks give one another, and joining those that
torchrun has started. Does not: what is learned from what they give; Ray, which starts ranks on
many machines (``on_cluster``).

Rank 0 leads: it decides, keeps the clock, logs and writes. Where nothing has started several
processes there is one rank, and what is here hands back what it is given.
"""

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastdino.core.errors import UserError

# What lies in memory goes over gloo also where there are GPUs: no rank then waits for its device
# in order to tell the others the time.
ON_GPUS, ON_CPUS = "cpu:gloo,cuda:nccl", "gloo"
# The others wait while rank 0 waits for another run to end. A rank that dies is noticed at once.
PATIENCE = timedelta(days=7)
GRACE_S = 10.0


def rank() -> int:
    """Which of the ranks this process is; the first is 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_this_machine() -> int:
    """How many of the ranks share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world() > 1 else 1


def share(songs: int, ranks: int) -> int:
    """How many songs of a batch each rank takes.

    Raises:
        UserError: they cannot be shared out evenly.
    """
    if songs % ranks:
        fitting = ", ".join(str(n) for n in range(1, songs + 1) if songs % n == 0)
        raise UserError(
            f"a batch of {songs} songs cannot be shared out evenly to {ranks} ranks: "
            f"take one of {fitting}"
        )
    return songs // ranks


class _Gathered(torch.autograd.Function):
    # Not torch.distributed.nn.functional.all_gather: under gloo its gradients were wrong where
    # they were not contiguous.
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        every = own.new_empty((world() * len(own), *own.shape[1:]))
        dist.all_gather_into_tensor(every, own.contiguous())
        return every

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


def gathered(own: Tensor) -> Tensor:
    """What all ranks have, one after the other.

    Its gradient is that of the sum of what the ranks make of it.

    Args:
        own: ``[n, ...]``, of the same shape on every rank.

    Returns:
        ``[world * n, ...]``.
    """
    gathering: Tensor = own if world() == 1 else _Gathered.apply(own)
    return gathering


def averaged(module: nn.Module) -> nn.Module:
    """The module, its gradients the mean over the ranks, which hold the same parameters."""
    if world() == 1:
        return module
    # Of no consequence: two ways to say how a dimension of length one lies in memory.
    warnings.filterwarnings("ignore", "Grad strides do not match")
    return DistributedDataParallel(module, init_sync=False, broadcast_buffers=False)


def agreed(*numbers: float) -> list[float]:
    """The numbers that rank 0 has. No device is waited for."""
    if world() == 1:
        return list(numbers)
    told = torch.tensor(numbers, dtype=torch.float64)
    dist.broadcast(told, 0)
    return told.tolist()


def least(number: float) -> float:
    """The smallest of the numbers that the ranks have."""
    if world() == 1:
        return number
    told = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(told, dist.ReduceOp.MIN)
    return float(told)


def same(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, on the CPU, that rank 0 has; the others may have none or others."""
    if world() == 1:
        return dict(tensors)
    return load(_told(save(dict(tensors)) if rank() == 0 else b""))


class Say(Protocol):
    """Tells the other ranks, once, what they are to do."""

    def __call__(self, **plan: Any) -> None:
        """Tell them ``plan``: values that go through JSON."""


@contextlib.contextmanager
def leading() -> Iterator[Say]:
    """For rank 0: yield what gives the others the plan that they wait for in ``led``.

    If the block ends without a word, also by an exception, they hear that there is none.
    """
    said = world() == 1

    def say(**plan: Any) -> None:
        nonlocal said
        if not said:
            said = True
            _told(json.dumps(plan).encode())

    try:
        yield say
    finally:
        with contextlib.suppress(RuntimeError):  # they have gone
            say()


def led() -> dict[str, Any]:
    """For the other ranks: wait for the plan of rank 0; empty if there is nothing to do."""
    plan: dict[str, Any] = json.loads(_told(b""))
    return plan


def _told(data: bytes) -> bytes:
    """The bytes that rank 0 has."""
    (size,) = agreed(len(data))
    told = torch.zeros(int(size), dtype=torch.uint8)
    if rank() == 0:
        told = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    dist.broadcast(told, 0)
    return told.numpy().tobytes()


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the ranks that torchrun has started, if it has; nothing otherwise.

    Nobody leaves before rank 0 is done. What goes wrong is said by rank 0, or by the rank that it
    went wrong for; the others end with it.

    Raises:
        UserError: there are more ranks than GPUs, or another rank has ended before its time.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield
        return
    if torch.cuda.is_available():
        own, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= there:
            raise UserError(f"there are {there} GPUs here: give --nproc-per-node {there} at most")
        torch.cuda.set_device(own)
    dist.init_process_group(ON_GPUS if torch.cuda.is_available() else ON_CPUS, timeout=PATIENCE)
    follows = rank() > 0
    if follows:
        logging.disable(logging.WARNING)
    try:
        yield
        agreed(0)
    except KeyboardInterrupt:
        if follows:
            raise SystemExit(130) from None
        raise
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        if follows:
            # torchrun ends all when one ends: let it be the one that has something to say.
            time.sleep(GRACE_S)
            raise SystemExit(1) from None
        raise UserError(
            "another rank has ended: what it said is above; the next run goes on from here"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        if not torch.cuda.is_available() or sys.exc_info()[0] is None:
            # Of GPUs' ranks that have lost one another none can be sure that this ends.
            dist.destroy_process_group()


def _is_lost(error: BaseException) -> bool:
    """Whether it comes of another rank that is no longer there."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
