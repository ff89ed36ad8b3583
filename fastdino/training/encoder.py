"""The encoder: a 1-D ConvNeXt whose every output position sees a local window and nothing else.

Belongs here: the network, from dB frames to features. Its shape is ``settings.EncoderSettings``.
Does not: how it is trained (``objectives``, ``loop``) or what is made of its features
(``model``).

Locality is what the method lives on: each output position is a free local crop. So nothing in
here may look along the whole of time. LayerNorm works on one position's channels; ConvNeXt-V2's
response normalisation over time, which would tell every position about the whole song, is left
out on purpose.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdino.training.settings import EncoderSettings


class Block(nn.Module):
    """Depthwise convolution along time, then a two-layer perceptron, around a residual.

    Works on ``[batch, time, channels]``: that is the order in which the perceptron is a plain
    matrix product, and the depthwise convolution sees the same memory as a channels-last image
    one pixel wide, for which PyTorch's kernels are several times faster than ``Conv1d``. ReLU in
    place of ConvNeXt's GELU learned as well and saved a quarter of a step.
    """

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            width, width, (kernel, 1), padding=(kernel // 2, 0), groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor, every: int = 1) -> Tensor:
        """``[batch, time, width]`` to the same, of each ``every``-th position, the first included.

        The convolution is made at all of them: strided, it takes PyTorch several times as long.
        """
        image = x.unsqueeze(2).permute(0, 3, 1, 2)
        y = self.depthwise(image).permute(0, 2, 3, 1).squeeze(2)[:, ::every]
        y = F.relu(self.expand(self.norm(y)))
        # The matrix is scaled instead of what it gives, which is so much larger.
        weight, bias = self.scale[:, None] * self.contract.weight, self.scale * self.contract.bias
        # Blocks add up in float32.
        return x[:, ::every].float() + F.linear(y, weight, bias)


class Merge(nn.Module):
    """Merges ``stride`` neighbouring positions into one by a linear map of all their channels."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.linear = nn.Linear(stride * width_in, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, time, width_in]`` to ``[batch, time // stride, width_out]``."""
        time = x.shape[1] // self.stride
        return self.linear(x[:, : time * self.stride].reshape(x.shape[0], time, -1))


class Encoder(nn.Module):
    """Log-mel frames to local features.

    The input's bands are brought to zero mean and unit deviation by two fixed vectors
    (``band_mean``, ``band_deviation``), measured once on the training collection: constants of
    the collection, the same for every song, so a song's own loudness and colour stay visible.
    """

    band_mean: Tensor
    band_deviation: Tensor

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("band_mean", torch.zeros(settings.n_mels))
        self.register_buffer("band_deviation", torch.ones(settings.n_mels))
        layers: list[nn.Module] = []
        width_in = settings.n_mels
        shape = zip(settings.widths, settings.depths, settings.strides, strict=True)
        for index, (width, depth, stride) in enumerate(shape):
            layers.append(Merge(width_in, width, stride))
            if not index:
                layers.append(nn.LayerNorm(width))
            layers.extend(Block(width, settings.kernel, settings.expansion) for _ in range(depth))
            layers.append(nn.LayerNorm(width))
            width_in = width
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor, every: int = 1) -> Tensor:
        """Encode frames.

        Args:
            frames: quantised or dB frames ``[batch, time, n_mels]``, any real dtype, on the scale
                that ``band_mean`` and ``band_deviation`` were measured on.
            every: of the positions, each so manieth is wanted, the first included; what would be
                computed for the others alone is left out.

        Returns:
            Features ``[batch, time // stride, dim]``, or as many of the positions as are wanted.
        """
        *layers, block, norm = self.layers
        x = self.standardise(frames)
        for layer in layers:
            x = layer(x)
        features: Tensor = norm(block(x, every))
        return features

    def first(self, stages: int) -> "Encoder":
        """The same network up to the end of a stage, as if there were no others."""
        cut = Encoder(self.settings.first(stages))
        weights = self.state_dict()
        cut.load_state_dict({name: weights[name] for name in cut.state_dict()})
        return cut

    def standardise(self, frames: Tensor) -> Tensor:
        """The same frames with every band at zero mean and unit deviation over the collection."""
        return (frames.float() - self.band_mean) / self.band_deviation
