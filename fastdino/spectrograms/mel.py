"""From samples to quantised log-mel frames, block by block.

Belongs here: resampling and the mel spectrogram as streams whose output does not depend on how
the input is cut into blocks. Does not: where samples come from or where frames go.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
import torchaudio

from fastdino.spectrograms.settings import SpectrogramSettings

# Fits a core's second-level cache: larger blocks run at half the speed.
FRAMES_PER_BLOCK = 500
# A filter has as many phases as the ratio's terms are large. Real rates have small ones; for any
# other the nearest small ratio is taken (inaudibly off, by less than a thousandth), where the
# exact one could need gigabytes.
LARGEST_TERM = 2000
# Output samples computed by one matrix product, and the input samples from one to the next row.
GROUP = 32
LEAST_STRIDE = 400


@dataclass(frozen=True)
class _Filters:
    """Windowed-sinc interpolation as a few dense matrix products.

    One row of ``stride`` input samples makes ``made`` output samples. Each output needs only a
    few of the inputs, and neighbours nearly the same: ``groups`` holds, for every ``GROUP``
    outputs, where they begin, where their inputs begin, and the weights ``[inputs, outputs]``.
    Against one product with all inputs for each output this is six times as fast.
    """

    stride: int
    made: int
    width: int  # input samples that count before and after the row itself
    groups: tuple[tuple[int, int, torch.Tensor], ...]


@lru_cache(maxsize=8)
def _filters(step: int, out: int) -> _Filters:
    plain = torchaudio.transforms.Resample(step, out)
    kernel, width = plain.kernel[:, 0], plain.width
    # A product reads its rows in place only if no row overlaps the next.
    stride = max(LEAST_STRIDE, GROUP * step // out + 2 * width + 2)
    rows = math.ceil(stride / step)
    weights = torch.zeros(rows * out, (rows - 1) * step + kernel.shape[1])
    for row in range(rows):
        part = weights[row * out : (row + 1) * out]
        part[:, row * step : row * step + kernel.shape[1]] = kernel
    groups = []
    for first in range(0, len(weights), GROUP):
        group = weights[first : first + GROUP]
        used = group.any(0).nonzero()[:, 0]
        start, end = int(used[0]), int(used[-1]) + 1
        groups.append((first, start, group[:, start:end].T.contiguous()))
    return _Filters(rows * step, rows * out, width, tuple(groups))


class Resampler:
    """Converts mono float32 samples from one rate to another as they come.

    The output is the same, to rounding, as torchaudio resampling everything at once.
    """

    def __init__(self, rate: int, target: int) -> None:
        largest = max(1, LARGEST_TERM * target // max(rate, target))
        ratio = Fraction(rate, target).limit_denominator(largest)
        self._step, self._out = ratio.numerator, ratio.denominator
        self._filters = None if ratio == 1 else _filters(self._step, self._out)
        self._held = torch.zeros(self._filters.width if self._filters else 0)

    def push(self, samples: np.ndarray) -> torch.Tensor:
        """Take float32 samples ``[n]``; returns those that are ready at the target rate."""
        fresh = torch.from_numpy(samples)
        if self._filters is None:
            return fresh
        self._held = torch.cat([self._held, fresh])
        rows = (len(self._held) - 2 * self._filters.width) // self._filters.stride
        if rows <= 0:
            return torch.empty(0)
        ready = torch.empty(rows, self._filters.made)
        for first, start, weights in self._filters.groups:
            inputs, outputs = weights.shape
            inside = self._held.as_strided((rows, inputs), (self._filters.stride, 1), start)
            torch.mm(inside, weights, out=ready[:, first : first + outputs])
        self._held = self._held[rows * self._filters.stride :].clone()
        return ready.flatten()

    def finish(self) -> torch.Tensor:
        """The samples that were waiting for more input."""
        if self._filters is None:
            return torch.empty(0)
        left = len(self._held) - self._filters.width
        rest = self.push(np.zeros(2 * self._filters.width + self._filters.stride, np.float32))
        return rest[: math.ceil(left * self._out / self._step)]


@lru_cache(maxsize=2)
def _bands(settings: SpectrogramSettings) -> torch.Tensor:
    """Mel triangles, ``[bins, n_mels]``."""
    return torchaudio.functional.melscale_fbanks(
        settings.n_fft // 2 + 1,
        0.0,
        settings.sample_rate / 2,
        settings.n_mels,
        settings.sample_rate,
        # At 400 samples a window, triangles of the HTK scale fall between the lowest bins.
        mel_scale="slaney",
    )


class LogMel:
    """Turns mono float32 samples into frames as they come, one per ``hop`` samples."""

    def __init__(self, settings: SpectrogramSettings) -> None:
        self._settings = settings
        window = torch.hann_window(settings.n_fft)
        # A sine of amplitude 1 gets power 1 in its bin.
        self._window = window * (2 / window.sum())
        self._bands = _bands(settings)
        self._edge = (settings.n_fft - settings.hop) // 2
        self._held = torch.zeros(self._edge)

    def push(self, samples: torch.Tensor) -> np.ndarray:
        """Take float32 samples ``[n]``; returns uint8 frames ``[m, n_mels]`` that are ready."""
        self._held = torch.cat([self._held, samples])
        overlap = self._settings.n_fft - self._settings.hop
        count = max(0, (len(self._held) - overlap) // self._settings.hop)
        if not count:
            return np.empty((0, self._settings.n_mels), np.uint8)
        frames = self._held.unfold(0, self._settings.n_fft, self._settings.hop)
        ready = torch.cat([self._quantise(block) for block in frames.split(FRAMES_PER_BLOCK)])
        self._held = self._held[count * self._settings.hop :].clone()
        return ready.numpy()

    def finish(self) -> np.ndarray:
        """The frames that were waiting for more samples."""
        return self.push(torch.zeros(self._settings.n_fft - self._settings.hop - self._edge))

    def _quantise(self, frames: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(torch.fft.rfft(frames * self._window)).square_()
        # Half the time of summing over the last dimension, which is short.
        power = (parts[..., 0] + parts[..., 1]) @ self._bands
        # Broken float files hold NaN and infinity, which have no level of their own.
        power = torch.nan_to_num_(power, nan=0.0, posinf=0.0).clamp_min_(1e-20)
        level = (power.log10_() * 10 - self._settings.min_db) / self._settings.step_db
        return level.round_().clamp_(0, 255).to(torch.uint8)
