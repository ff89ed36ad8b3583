"""Training in double precision, where several ranks differ from one by no more than rounding.

``python doubled.py train ...`` is ``fastdino train ...`` like that; torchrun runs it, too.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastdino.training import loop

# At this step rank 0 is killed, with a checkpoint just written.
KILL_AT = "KILL_AT_STEP"


@contextlib.contextmanager
def precision() -> Iterator[None]:
    """All that is learned is computed in double precision, Muon's bfloat16 included."""
    kept: Any = Tensor.float, Tensor.bfloat16, loop.autocast
    tensor: Any = Tensor
    torch.set_default_dtype(torch.float64)
    tensor.float = tensor.bfloat16 = Tensor.double
    loop.autocast = lambda _: contextlib.nullcontext()
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        tensor.float, tensor.bfloat16, loop.autocast = kept


def kill_at(step: int) -> None:
    """Have rank 0 killed at a step."""
    one_step = loop.Run.one_step

    def one_more(run: loop.Run) -> tuple[Tensor, Tensor]:
        if run.step == step:
            run.save()
            if torch.distributed.get_rank() == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return one_step(run)

    loop.Run.one_step = one_more  # type: ignore[method-assign]


if __name__ == "__main__":
    from fastdino.__main__ import main

    if KILL_AT in os.environ:
        kill_at(int(os.environ[KILL_AT]))
    with precision():
        sys.exit(main(sys.argv[1:]))
