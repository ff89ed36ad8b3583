"""A finished model: the encoder, and the fixed map from pooled features to a vector.

Belongs here: pooling, projection, saving and loading. Does not: learning the encoder's weights.

A song's vector has two halves that count the same. One is of features, their mean and standard
deviation over time: those that the network learned, and as much of ``random_features``. The other
tells how the mel bands move together (``timbre``). Each part is centred, projected to directions
that tell songs apart (``projection``), and brought to unit length. All that was fitted once, so
that a song added next year lands in the same space. Models of before lack the random features, and
the oldest have learned ones alone; all models go on giving the vectors they gave.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_file
from torch import Tensor, nn

from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.storage import atomic_replace
from fastdino.training import registry
from fastdino.training.device import autocast
from fastdino.training.encoder import Encoder
from fastdino.training.projection import Projection, divided, joined
from fastdino.training.random_features import RandomFeatures
from fastdino.training.settings import EncoderSettings
from fastdino.training.timbre import Products, Timbre, merged, total

SEGMENT_S = 10.0
# Frames of one position of what is not learned, random features and bands: 80 ms.
STRIDE = 8
# Of positions, from which one up to which; or all.
Span = tuple[int, int | None]
WHOLE: Span = (0, None)


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


@dataclass
class Sums:
    """What is summed over a stretch of a song.

    Attributes:
        features: of the learned ones; and of the random ones, if they count.
        bands: of the bands, if they count.
    """

    features: list[Moments]
    bands: Products | None

    def __add__(self, other: "Sums") -> "Sums":
        pairs = zip(self.features, other.features, strict=True)
        bands = self.bands + other.bands if self.bands and other.bands else None
        return Sums([a + b for a, b in pairs], bands)


class SongModel(nn.Module):
    """Frames to features to vectors."""

    def __init__(
        self, settings: EncoderSettings, dim: int, timbre_dim: int = 0, random_dim: int = 0
    ) -> None:
        """A model that is yet to be fitted.

        Args:
            settings: the encoder's shape.
            dim: length of a vector.
            timbre_dim: how much of it tells how the bands move together; 0: nothing of it does.
            random_dim: how much of it is of random features; they come with a timbre only.
        """
        super().__init__()
        self.encoder = Encoder(settings)
        self.learned = Projection(2 * self.channels, dim - timbre_dim - random_dim)
        self.random = RandomFeatures(settings.n_mels, STRIDE, random_dim) if random_dim else None
        self.timbre = Timbre(settings.n_mels, timbre_dim) if timbre_dim else None

    @classmethod
    def of(cls, encoder: Encoder, dim: int) -> "SongModel":
        """A model, ready to be fitted, with the weights of ``encoder`` and vectors ``dim`` long."""
        model = cls(encoder.settings, dim, -(-dim // 3), dim // 3)
        model.encoder.load_state_dict(encoder.state_dict())
        return model.eval()

    @property
    def channels(self) -> int:
        """Of the learned features."""
        return self.encoder.settings.dim

    @property
    def strides(self) -> list[int]:
        """Frames from one position to the next, of each kind of ``features``."""
        learned = self.encoder.settings.stride
        return [learned, STRIDE] if self.random else [learned]

    @property
    def parts(self) -> list[Projection]:
        """What pooled numbers are of, in their order."""
        return [part for part in (self.learned, self.random, self.timbre) if part is not None]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return sum(part.dim for part in self.parts)

    def fit_bands(self, tracks: Iterable[Tensor]) -> None:
        """Fit what the bands are held against to uint8 ``[frames, n_mels]`` of many songs.

        Comes before ``pool``, which the projection is fitted to what came out of.
        """
        if self.timbre:
            self.timbre.fit_bands(total(Products.of(merged(each, STRIDE)) for each in tracks))

    @torch.inference_mode()
    def features(self, frames: Tensor) -> list[Tensor]:
        """Learned features of every position, then random ones if they count.

        Args:
            frames: uint8 ``[batch, frames, n_mels]``; padded with repeats of the last frame to one
                position of each kind at least.

        Returns:
            Each ``[batch, its positions, its channels]``.
        """
        lacking = max(self.strides) - frames.shape[1]
        if lacking > 0:
            last = frames[:, -1:].expand(-1, lacking, -1)
            frames = torch.cat([frames, last], 1)
        with autocast(frames.device):
            return [each.float() for each in self.of_positions(frames)]

    def of_positions(self, frames: Tensor) -> list[Tensor]:
        """See ``features``; of one position at least."""
        made = [self.encoder(frames)]
        if self.random:
            made.append(self.random(self.encoder.standardise(frames)))
        return made

    def vectors(self, pooled: Tensor) -> Tensor:
        """What ``pool`` gave, ``[n, width]``, to unit vectors ``[n, dim]``."""
        *features, last = [part.vectors(own) for part, own in divided(pooled, self.parts)]
        return joined([joined(features), last] if features else [last]).float()

    def pool(
        self, pieces: Iterable[Tensor], frames_per_s: float
    ) -> tuple[Tensor, list[tuple[float, float]]]:
        """Pool one track's features, piece by piece, so that a long one needs no more memory.

        The result depends on the track alone, not on what else is embedded in the same run.

        Args:
            pieces: uint8 ``[frames, n_mels]`` on the model's device, in order; at least one.
            frames_per_s: of the spectrograms.

        Returns:
            Pooled ``[1 + segments, width]``, the whole song first: mean and deviation of learned
            features, of random ones, then of the bands what ``timbre`` makes of them; and the
            segments' ``(start_s, end_s)``.
        """
        song: Sums | None = None
        spans: list[tuple[float, float]] = []
        parts: list[Sums] = []
        begin = 0
        for piece in pieces:
            features = [each[0] for each in self.features(piece[None])]
            bands = merged(piece, STRIDE) if self.timbre else None
            here = _sums(features, bands, [WHOLE] * len(features), WHOLE)
            song = here if song is None else song + here
            bounds = segment_bounds(len(piece), frames_per_s)
            pairs = zip(features, self.strides, strict=True)
            of_each = zip(*(position_spans(len(f), bounds, s) for f, s in pairs), strict=True)
            of_bands = position_spans(max(1, len(piece) // STRIDE), bounds, STRIDE)
            cuts = zip(of_each, of_bands, strict=True)
            fresh = [_sums(features, bands, *cut) for cut in cuts]
            times = [((begin + a) / frames_per_s, (begin + b) / frames_per_s) for a, b in bounds]
            if parts and _is_rest(len(piece), frames_per_s):
                parts[-1] += fresh.pop()
                spans[-1] = (spans[-1][0], times.pop()[1])
            parts += fresh
            spans += times
            begin += len(piece)
        if song is None:
            raise ValueError("a track of no pieces")
        every = [song, *parts]
        pooled = torch.stack([torch.cat([m.pooled for m in part.features]) for part in every])
        if self.timbre:
            bands = self.timbre.pooled([part.bands for part in every if part.bands])
            pooled = torch.cat([pooled, bands], -1)
        return pooled, spans

    def fit_projection(self, pooled: Tensor, songs: Tensor) -> None:
        """Fit centres and directions; see ``projection.fitted_projection``."""
        for part, own in divided(pooled, self.parts):
            part.fit_projection(own, songs)


def _sums(
    features: Sequence[Tensor], bands: Tensor | None, spans: Sequence[Span], of_bands: Span
) -> Sums:
    """Of each kind of features a span of its positions, and one of the bands'."""
    pairs = zip(features, spans, strict=True)
    moments = [Moments.of(each[slice(*span)]) for each, span in pairs]
    return Sums(moments, None if bands is None else Products.of(bands[slice(*of_bands)]))


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


def position_spans(
    n_positions: int, bounds: Sequence[tuple[int, int]], stride: int
) -> list[tuple[int, int]]:
    """Where each segment lies among a piece's positions, ``(begin, end)``; one has one at least."""
    last = n_positions - 1
    spans = [(min(a // stride, last), max(b // stride, a // stride + 1)) for a, b in bounds]
    return [(a, min(b, n_positions)) for a, b in spans]


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
        weights = read_tensors(registry.read_weights(folder, about))
        # Models of before lack parts of a vector, had one projection without a name, or a second
        # stage that only training needed.
        dims = {
            f"{part}_dim": weights[f"{part}.projection"].shape[1]
            for part in ("timbre", "random")
            if f"{part}.projection" in weights
        }
        for name in {"center", "projection"} & weights.keys():
            weights[f"learned.{name}"] = weights.pop(name)
        settings = EncoderSettings.of(about["encoder"])
        if stages := about.get("stages"):
            settings = settings.first(stages)
        model = SongModel(settings, about["dim"], **dims)
        if stages:
            unused = {name for name in weights if name.startswith("encoder.layers.")}
            for name in unused - model.state_dict().keys():
                del weights[name]
        model.load_state_dict(weights)
    except Exception as error:
        if trouble := disk_trouble(error, folder):
            raise trouble from error
        raise UserError(
            f"the model in {folder} cannot be read ({error}): bring it back from a backup, or "
            "train another with 'fastdino train --afresh' and put it to use with 'fastdino promote'"
        ) from error
    return model.to(device).eval(), about
