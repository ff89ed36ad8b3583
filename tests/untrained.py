"""A home with nothing but a small model, of random weights: enough to embed with."""

import torch

from fastdino.core.home import Home
from fastdino.spectrograms import SpectrogramSettings
from fastdino.training import model as models
from fastdino.training import registry
from fastdino.training.settings import PRESETS

MODEL = "untrained"


def write_model(home: Home) -> None:
    """Make the model, and put it to use."""
    torch.manual_seed(0)
    model = models.SongModel(PRESETS["tiny"].encoder, 32)
    about = {
        "model_id": MODEL, "created_at": "2025-01-02T03:04:05+00:00",
        "spec_id": SpectrogramSettings().spec_id, "trained_tracks": 0, "settings": {},
        "metrics": {},
    }  # fmt: skip
    home.model(MODEL).mkdir(parents=True)
    models.save(home.model(MODEL), model, about)
    registry.make_current(home, MODEL)
