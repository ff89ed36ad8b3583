"""A finished model: the encoder, and the fixed map from pooled features to a vector.

Belongs here: pooling, projection, saving and loading. Does not: learning the encoder's weights.

A song's vector is made of the mean and the standard deviation over time of its local features,
centred, turned to the directions in which the training collection spreads most, and brought to unit
length. Centre and directions were fitted once, so that a song added next year lands in the same
space. The directions are not whitened: the nearest song was found as often, the next ones less.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_file
from torch import Tensor, nn

from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.storage import atomic_replace
from fastdino.training import registry
from fastdino.training.device import autocast
from fastdino.training.encoder import Encoder
from fastdino.training.settings import EncoderSettings

SEGMENT_S = 10.0
# Of the widest direction's variance: less than what is left of rounding in single precision.
NO_SPREAD = 1e-12


@dataclass
class Moments:
    """Running sums of local features over time, from which mean and deviation follow.

    Attributes:
        total: ``[..., dim]``, sum over positions.
        squares: ``[..., dim]``, sum of squares over positions.
        count: positions summed.
    """

    total: Tensor
    squares: Tensor
    count: int

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Moments of ``[..., positions, dim]`` over positions."""
        features = features.float()
        return cls(features.sum(-2), features.square().sum(-2), features.shape[-2])

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.total + other.total, self.squares + other.squares, self.count + other.count
        )

    @property
    def pooled(self) -> Tensor:
        """``[..., 2 * dim]``: mean and standard deviation over time."""
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0)
        return torch.cat([mean, variance.sqrt()], -1)


class SongModel(nn.Module):
    """Frames to features to vectors."""

    center: Tensor
    projection: Tensor

    def __init__(self, settings: EncoderSettings, dim: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings)
        self.register_buffer("center", torch.zeros(2 * settings.dim))
        self.register_buffer("projection", torch.eye(2 * settings.dim, dim))

    @classmethod
    def of(cls, encoder: Encoder, dim: int) -> "SongModel":
        """A model, ready for use, with the weights of ``encoder`` and vectors ``dim`` long."""
        model = cls(encoder.settings, dim)
        model.encoder.load_state_dict(encoder.state_dict())
        return model.eval()

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.projection.shape[1]

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """uint8 ``[batch, frames, n_mels]`` to features ``[batch, positions, encoder dim]``.

        Padded with repeats of the last frame to one position at least.
        """
        stride = self.encoder.settings.stride
        if frames.shape[1] < stride:
            last = frames[:, -1:].expand(-1, stride - frames.shape[1], -1)
            frames = torch.cat([frames, last], 1)
        with autocast(frames.device):
            return self.encoder(frames).float()

    def vectors(self, pooled: Tensor) -> Tensor:
        """Pooled features ``[n, 2 * encoder dim]`` to unit vectors ``[n, dim]``."""
        # In double precision, or else the last bits depend on how many threads there are.
        centred = pooled.double() - self.center.double()
        return F.normalize(centred @ self.projection.double(), dim=-1).float()

    def pool(
        self, pieces: Iterable[Tensor], frames_per_s: float
    ) -> tuple[Tensor, list[tuple[float, float]]]:
        """Pool one track's features, piece by piece, so that a long one needs no more memory.

        The result depends on the track alone, not on what else is embedded in the same run.

        Args:
            pieces: uint8 ``[frames, n_mels]`` on the model's device, in order; at least one.
            frames_per_s: of the spectrograms.

        Returns:
            Pooled features ``[1 + segments, 2 * encoder dim]``, the whole song first, and the
            segments' ``(start_s, end_s)``.
        """
        song: Moments | None = None
        spans: list[tuple[float, float]] = []
        parts: list[Moments] = []
        begin = 0
        for piece in pieces:
            features = self.features(piece[None])[0]
            here = Moments.of(features)
            song = here if song is None else song + here
            bounds = segment_bounds(len(piece), frames_per_s)
            stride = self.encoder.settings.stride
            fresh = split_features(features, bounds, stride)
            times = [((begin + a) / frames_per_s, (begin + b) / frames_per_s) for a, b in bounds]
            if parts and _is_rest(len(piece), frames_per_s):
                parts[-1] += fresh.pop()
                spans[-1] = (spans[-1][0], times.pop()[1])
            parts += fresh
            spans += times
            begin += len(piece)
        if song is None:
            raise ValueError("a track of no pieces")
        return torch.stack([song.pooled, *(part.pooled for part in parts)]), spans

    def fit_projection(self, pooled: Tensor) -> None:
        """Fit centre and directions to ``[n, 2 * encoder dim]`` pooled segments of many songs.

        Directions in which they do not spread, as those of a few songs, are zero. If they do not
        spread at all, as those of a single short song, they are kept as they are.
        """
        pooled = pooled.double()
        center = pooled.mean(0)
        covariance = torch.cov(pooled.T, correction=0)
        spread, directions = torch.linalg.eigh(covariance)  # the widest comes last
        if spread[-1] <= NO_SPREAD * center.square().sum():
            self.center.zero_()
            self.projection.copy_(torch.eye(len(center))[:, : self.dim])
            return
        # Directions of no spread are any that are left over, other ones in each run.
        directions[:, spread <= NO_SPREAD * spread[-1]] = 0
        self.center.copy_(center)
        self.projection.copy_(directions.flip(1)[:, : self.dim])


def segment_bounds(n_frames: int, frames_per_s: float) -> list[tuple[int, int]]:
    """Cut a piece of ``n_frames`` into segments of ``SEGMENT_S`` seconds, ``(start, end)`` each.

    What is left at the end is a segment of its own if it is at least half as long; otherwise it
    belongs to the one before.
    """
    starts = list(range(0, n_frames, round(SEGMENT_S * frames_per_s)))
    if len(starts) > 1 and _is_rest(n_frames - starts[-1], frames_per_s):
        starts.pop()
    return list(zip(starts, [*starts[1:], n_frames], strict=True))


def _is_rest(n_frames: int, frames_per_s: float) -> bool:
    """Whether so few frames belong to the segment before."""
    return n_frames < round(SEGMENT_S * frames_per_s) // 2


def split_features(
    features: Tensor, bounds: Sequence[tuple[int, int]], stride: int
) -> list[Moments]:
    """Moments of each segment of one piece's features ``[positions, dim]``."""
    last = features.shape[0]
    spans = [(min(a // stride, last - 1), max(b // stride, a // stride + 1)) for a, b in bounds]
    return [Moments.of(features[a : min(b, last)]) for a, b in spans]


def save(folder: Path, model: SongModel, about: dict[str, Any]) -> None:
    """Write ``model.safetensors``, then ``model.json``.

    The latter says ``about``, the encoder's shape, and the digest of the weights.
    """
    weights = tensor_file({name: t.contiguous().cpu() for name, t in model.state_dict().items()})
    with atomic_replace(folder / registry.WEIGHTS) as part:
        part.write_bytes(weights)
    shape = {"encoder": asdict(model.encoder.settings), "dim": model.dim}
    weights_digest = registry.weights_digest(weights)
    registry.write_metadata(folder, {**about, **shape, "weights_digest": weights_digest})


def load(folder: Path, device: torch.device) -> tuple[SongModel, dict[str, Any]]:
    """Read a model; the counterpart of ``save``.

    Raises:
        UserError: a file is missing or damaged; names it.
    """
    try:
        about = registry.read_checked(folder / "model.json")
        shape: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in about["encoder"].items()
        }
        model = SongModel(EncoderSettings(**shape), about["dim"])
        model.load_state_dict(read_tensors(registry.read_weights(folder, about)))
    except Exception as error:
        if trouble := disk_trouble(error, folder):
            raise trouble from error
        raise UserError(
            f"the model in {folder} cannot be read ({error}): bring it back from a backup, or "
            "train another with 'fastdino train --afresh' and put it to use with 'fastdino promote'"
        ) from error
    return model.to(device).eval(), about
