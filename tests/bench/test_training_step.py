"""The measurements of a training step."""

import dataclasses

import pytest

from fastdino.bench import training
from fastdino.spectrograms import SpectrogramSettings
from fastdino.training.objectives.fastdino import EVERY
from fastdino.training.settings import PRESETS


def test_a_step_is_held_against_matrix_products_and_the_published_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = dataclasses.replace(PRESETS["tiny"], songs=4, crop_s=1.0)
    monkeypatch.setattr(training, "settings_for", lambda _: settings)
    for name, value in {"SONGS": 4, "SONG_S": 4, "STEPS": 2, "PUBLISHED_CROPS": 2}.items():
        monkeypatch.setattr(training, name, value)
    step, flops, share, one_pass, drawing = training.rows()
    assert step.theirs is not None
    assert step.theirs > 0
    crops = settings.songs * settings.crops
    frames = crops * round(settings.crop_s * SpectrogramSettings().frames_per_s)
    # Crops a second, and the operations of a crop.
    operations = settings.encoder.learning_flops(frames, EVERY) / crops
    assert flops.unit == "GFLOP/s"
    assert flops.ours == pytest.approx(step.ours * operations / 1e9)
    assert "matrix products" in share.measure
    assert share.unit == "%"
    assert share.ours > 0
    assert one_pass.ours > 0
    assert drawing.ours > 0


def test_the_product_is_the_largest_of_the_encoder() -> None:
    shape = PRESETS["cpu"].encoder
    frames = 1600
    multiply, operations = training._product(shape, frames, training.best_device())
    positions = frames // shape.stride
    assert multiply().shape == (positions, shape.expansion * shape.dim)
    assert operations == 2 * positions * shape.dim * shape.expansion * shape.dim
