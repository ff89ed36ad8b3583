"""The streams give what one call would, and levels mean what the settings say."""

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdino.spectrograms import mel
from fastdino.spectrograms.settings import SpectrogramSettings

SETTINGS = SpectrogramSettings()


def cut(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    ends = np.cumsum(sizes).clip(max=len(samples))
    return np.split(samples, ends)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32) * 0.1


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@given(sizes=st.lists(st.integers(0, 40_000), max_size=6))
@settings(max_examples=5)
def test_resampling_in_blocks_equals_resampling_at_once(rate: int, sizes: list[int]) -> None:
    samples = noise(int(rate * 1.3) + 7)
    expected = torchaudio.functional.resample(torch.from_numpy(samples), rate, 16_000)
    resampler = mel.Resampler(rate, 16_000)
    blocks = [resampler.push(block) for block in cut(samples, sizes)]
    streamed = torch.cat([*blocks, resampler.finish()])
    assert streamed.shape == expected.shape
    assert torch.allclose(streamed, expected, atol=2e-5)


def test_a_long_push_is_resampled_as_a_whole() -> None:
    samples = noise(400_000)
    resampler = mel.Resampler(44_100, 16_000)
    streamed = torch.cat([resampler.push(samples), resampler.finish()])
    expected = torchaudio.functional.resample(torch.from_numpy(samples), 44_100, 16_000)
    assert torch.allclose(streamed, expected, atol=2e-5)


@pytest.mark.parametrize("rate", [16_001, 44_056, 47_999, 999_983])
def test_an_odd_rate_is_resampled_to_nearly_the_right_length(rate: int) -> None:
    resampler = mel.Resampler(rate, 16_000)
    out = torch.cat([resampler.push(noise(rate)), resampler.finish()])
    assert len(out) == pytest.approx(16_000, rel=1e-3)


@given(count=st.integers(0, 20_000), sizes=st.lists(st.integers(0, 5000), max_size=8))
def test_frames_do_not_depend_on_how_samples_come(count: int, sizes: list[int]) -> None:
    samples = noise(count)
    whole, parts = mel.LogMel(SETTINGS), mel.LogMel(SETTINGS)
    expected = np.concatenate([whole.push(torch.from_numpy(samples)), whole.finish()])
    blocks = [parts.push(torch.from_numpy(block)) for block in cut(samples, sizes)]
    streamed = np.concatenate([*blocks, parts.finish()])
    assert len(expected) == count // SETTINGS.hop
    # Sums in another order may round to the next level, rarely.
    assert streamed.shape == expected.shape
    assert np.abs(streamed.astype(int) - expected.astype(int)).max(initial=0) <= 1


def test_frames_agree_with_a_plain_stft() -> None:
    samples = torch.from_numpy(noise(16_000))
    log_mel = mel.LogMel(SETTINGS)
    frames = np.concatenate([log_mel.push(samples), log_mel.finish()])
    window = torch.hann_window(400)
    padded = torch.nn.functional.pad(samples, (120, 120))
    spectrum = torch.stft(padded, 400, 160, window=window, center=False, return_complex=True)
    power = (spectrum.abs() * 2 / window.sum()).square()
    bands = torchaudio.functional.melscale_fbanks(201, 0.0, 8000.0, 80, 16_000, mel_scale="slaney")
    decibels = (10 * (bands.T @ power).log10()).T.numpy()
    ours = SETTINGS.min_db + SETTINGS.step_db * frames.astype(np.float32)
    assert np.abs(ours - decibels).max() <= SETTINGS.step_db * 0.51


def test_a_full_scale_sine_is_near_zero_decibels_and_does_not_clip() -> None:
    t = torch.arange(16_000) / 16_000
    for hertz in (100, 440, 1000, 3000, 7000):
        loudest = int(mel.LogMel(SETTINGS).push(torch.sin(2 * np.pi * hertz * t)).max())
        assert abs(SETTINGS.min_db + SETTINGS.step_db * loudest) < 4
        assert loudest < 255


def test_broken_samples_become_silence_not_noise() -> None:
    samples = torch.full((16_000,), float("nan"))
    samples[8000:] = float("inf")
    assert mel.LogMel(SETTINGS).push(samples).max() == 0


def test_every_band_hears_something() -> None:
    frames = mel.LogMel(SETTINGS).push(torch.from_numpy(noise(16_000)))
    assert (frames.mean(0) > 50).all()


def test_settings_that_differ_have_names_that_differ() -> None:
    assert SETTINGS.spec_id == SpectrogramSettings().spec_id
    assert len(SETTINGS.spec_id) == 12
    assert SpectrogramSettings(n_mels=64).spec_id != SETTINGS.spec_id
    assert SETTINGS.frames_per_s == 100
