"""FastDINO as it was first published, kept as the baseline that speed and quality are held against.

Belongs here: its encoder and learning rate, as they were. Does not: its loss
(``objectives.published``), or anything the pipeline runs on.
"""

import torch
from torch import Tensor, nn

WIDTHS = (80, 160, 320, 640)
BLOCKS = 4
LEARNING_RATE = 1e-4


class _Norm(nn.Module):
    """LayerNorm over the channels of ``[batch, channels, time]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class _ResponseNorm(nn.Module):
    """The published response normalisation: over time and channels together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, width, 1))
        self.beta = nn.Parameter(torch.zeros(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(dim=(1, 2), keepdim=True)
        return self.gamma * (x * size / (size.mean(1, keepdim=True) + 1e-6)) + self.beta + x


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(width, width, 7, padding=3, groups=width),
            _Norm(width),
            nn.Conv1d(width, 4 * width, 1),
            nn.GELU(),
            _ResponseNorm(4 * width),
            nn.Conv1d(4 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PublishedEncoder(nn.Module):
    """18.4 M parameters, stride 16, a receptive field of 753 frames."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv1d(80, WIDTHS[0], 3, padding=1),
            nn.GELU(),
            nn.Conv1d(WIDTHS[0], WIDTHS[0], 3, stride=2, padding=1),
        ]
        for index, width in enumerate(WIDTHS):
            if index:
                layers += [_Norm(WIDTHS[index - 1])]
                layers += [nn.Conv1d(WIDTHS[index - 1], width, 3, stride=2, padding=1)]
            layers += [_Block(width) for _ in range(BLOCKS)]
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """``[batch, time, 80]`` to features ``[batch, time // 16, 640]``."""
        return self.layers(frames.transpose(1, 2)).transpose(1, 2)
