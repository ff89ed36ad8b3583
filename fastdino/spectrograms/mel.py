"""From samples to quantised log-mel frames, block by block.

Belongs here: resampling and the mel spectrogram as streams whose output does not depend on how
the input is cut into blocks. Does not: where samples come from or where frames go.
"""

import math
from fractions import Fraction

import numpy as np
import torch
import torchaudio

from fastdino.spectrograms.settings import SpectrogramSettings

# Fit a core's second-level cache: larger blocks run at half the speed.
SAMPLES_PER_BLOCK = 1 << 17
FRAMES_PER_BLOCK = 500
# A filter has as many phases as the ratio's terms are large. Real rates have small ones; for any
# other the nearest small ratio is taken (inaudibly off, by less than a thousandth), where the
# exact one could need gigabytes.
LARGEST_TERM = 2000


class Resampler:
    """Converts mono float32 samples from one rate to another as they come.

    The output is the same, to rounding, as resampling everything at once.
    """

    def __init__(self, rate: int, target: int) -> None:
        largest = max(1, LARGEST_TERM * target // max(rate, target))
        ratio = Fraction(rate, target).limit_denominator(largest)
        self._step, self._out = ratio.numerator, ratio.denominator
        self._resample = torchaudio.transforms.Resample(self._step, self._out)
        # Whole input steps on either side of a block that reach beyond the filter.
        width = 0 if ratio == 1 else self._resample.width
        self._context = math.ceil(width / self._step) + 1
        self._take = max(1, SAMPLES_PER_BLOCK // self._step)
        self._held = torch.zeros(self._context * self._step)

    def push(self, samples: np.ndarray) -> torch.Tensor:
        """Take float32 samples ``[n]``; returns those that are ready at the target rate."""
        if self._step == self._out:
            return torch.from_numpy(samples)
        self._held = torch.cat([self._held, torch.from_numpy(samples)])
        steps = len(self._held) // self._step - 2 * self._context
        return self._convert(steps) if steps >= self._take else torch.empty(0)

    def finish(self) -> torch.Tensor:
        """The samples that were waiting for more input."""
        if self._step == self._out:
            return torch.empty(0)
        left = len(self._held) - self._context * self._step
        steps = math.ceil(left / self._step)
        padding = (steps + 2 * self._context) * self._step - len(self._held)
        self._held = torch.nn.functional.pad(self._held, (0, padding))
        return self._convert(steps)[: math.ceil(left * self._out / self._step)]

    def _convert(self, steps: int) -> torch.Tensor:
        ready = []
        for start in range(0, steps, self._take):
            end = min(start + self._take, steps)
            block = self._held[start * self._step : (end + 2 * self._context) * self._step]
            edge = self._context * self._out
            ready.append(self._resample(block)[edge : edge + (end - start) * self._out])
        self._held = self._held[steps * self._step :].clone()
        return torch.cat(ready) if ready else torch.empty(0)


class LogMel:
    """Turns mono float32 samples into frames as they come, one per ``hop`` samples."""

    def __init__(self, settings: SpectrogramSettings) -> None:
        self._settings = settings
        window = torch.hann_window(settings.n_fft)
        # A sine of amplitude 1 gets power 1 in its bin.
        self._window = window * (2 / window.sum())
        self._bands = torchaudio.functional.melscale_fbanks(
            settings.n_fft // 2 + 1,
            0.0,
            settings.sample_rate / 2,
            settings.n_mels,
            settings.sample_rate,
            # At 400 samples a window, triangles of the HTK scale fall between the lowest bins.
            mel_scale="slaney",
        )
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
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self._window))
        power = spectrum.square_().sum(-1) @ self._bands
        # Broken float files hold NaN and infinity, which have no level of their own.
        power = torch.nan_to_num_(power, nan=0.0, posinf=0.0).clamp_min_(1e-20)
        level = (power.log10_() * 10 - self._settings.min_db) / self._settings.step_db
        return level.round_().clamp_(0, 255).to(torch.uint8)
