"""Training in double precision, where several ranks differ from one by no more than rounding.

``python doubled.py train ...`` is ``fastdino train ...`` like that; torchrun runs it, too.
"""

import contextlib
import os
import signal
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastdino import training
from fastdino.training import loop, ranks, settings
from fastdino.training.settings import TrainingSettings

# At this step rank 0 is killed, with a checkpoint just written.
KILL_AT = "KILL_AT_STEP"


def double() -> None:
    """From now on this process learns in double precision, where Muon has bfloat16, too."""
    torch.set_default_dtype(torch.float64)
    tensor: Any = Tensor
    tensor.float = tensor.bfloat16 = Tensor.double
    loop.autocast = lambda _: contextlib.nullcontext()


def kill_at(step: int) -> None:
    """Have rank 0 killed at a step, once."""
    one_step = loop.Run.one_step

    def one_more(run: loop.Run) -> tuple[Tensor, Tensor]:
        if run.step == step and not run.checkpoint.exists():
            run.save()
            if ranks.rank() == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return one_step(run)

    loop.Run.one_step = one_more  # type: ignore[method-assign]


def settings_for(preset: str, kill_step: str | None, **given: Any) -> TrainingSettings:
    """The recipe; also sets this process up, which may be one of a cluster."""
    double()
    if kill_step:
        kill_at(int(kill_step))
    return settings.settings_for(preset, **given)


if __name__ == "__main__":
    from fastdino.__main__ import main

    training.settings_for = partial(settings_for, kill_step=os.environ.get(KILL_AT))
    sys.exit(main(sys.argv[1:]))
