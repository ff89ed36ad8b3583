"""What every objective is to the training loop.

Belongs here: the interface. Does not: any particular objective.
"""

import torch
from torch import Tensor, nn

from fastdino.training.encoder import Encoder


class Objective(nn.Module):
    """A loss, with whatever it trains beside the encoder.

    Made with the encoder it is to train (for its shape, or to copy it); parameters that are not to
    be learned by gradients have ``requires_grad`` off.

    Attributes:
        every: of the encoder's positions, each so manieth is asked for.
    """

    every = 1

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()

    def forward(
        self, encoder: Encoder, crops: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss of one batch, or of this rank's share of it.

        Several ranks have as many songs each. The mean of their losses is the loss of the whole
        batch: where a song is held against others, the others' are gathered (``ranks``).

        Args:
            encoder: the network to train.
            crops: uint8 ``[songs, crops, frames, n_mels]``.
            generator: of anything random, on the device of ``crops``; of every rank alike.

        Returns:
            The loss, a scalar, and features ``[songs, crops, positions, dim]`` for the log.
        """
        raise NotImplementedError

    def after_step(self, encoder: Encoder, share_done: float) -> None:
        """Whatever follows a step of the optimiser; ``share_done`` of the run is 0 to 1."""

    def kept(self, encoder: Encoder) -> Encoder:
        """The encoder that is worth keeping at the end."""
        return encoder


def encode(encoder: Encoder, crops: Tensor, every: int = 1) -> Tensor:
    """``[songs, crops, frames, n_mels]`` to features ``[songs, crops, positions, dim]``.

    Of each ``every``-th position, see ``Encoder.forward``.
    """
    return encoder(crops.flatten(0, 1), every).unflatten(0, crops.shape[:2])
