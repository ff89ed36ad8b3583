from pathlib import Path

import numpy as np
import pytest
import torch
from song_shards import songs
from torch import Tensor

from fastdino.spectrograms import SpectrogramSettings
from fastdino.training.encoder import Encoder
from fastdino.training.evaluation import (
    FIGURES,
    EvaluationVectors,
    MelStatistics,
    embed_sample,
    evaluate,
)
from fastdino.training.labels import Labels
from fastdino.training.model import SongModel
from fastdino.training.settings import EncoderSettings

SPEC = SpectrogramSettings()
TRACKS: list[tuple[str, Tensor]] = [
    (name, torch.from_numpy(frames)) for name, frames in songs(n_frames=2500).items()
]
LABELS = {
    name: Labels(name[:2], None, "even" if int(name[:2]) % 2 else "odd") for name, _ in TRACKS
}


def model() -> SongModel:
    torch.manual_seed(0)
    return SongModel(EncoderSettings(widths=(16, 24), depths=(1, 1)), 16).eval()


@pytest.mark.parametrize("extractor", [MelStatistics(), MelStatistics(deviations=False), model()])
def test_every_figure_is_there_and_every_song_counts(extractor: MelStatistics | SongModel) -> None:
    vectors = embed_sample(extractor, TRACKS, SPEC)
    found = evaluate(vectors, LABELS)
    assert tuple(found) == FIGURES
    assert found["artist_1nn"] == 1.0  # each artist here has a colour of their own
    assert len(vectors.songs) == len(TRACKS)
    assert (
        len(vectors.segments) == len(vectors.owners) == sum(len(f) // 1000 + 1 for _, f in TRACKS)
    )


def test_a_model_that_hears_no_level_is_unmoved_by_gain() -> None:
    class Colour(MelStatistics):
        """Bands against their mean: the same however loud."""

        def vectors(self, pooled: Tensor) -> Tensor:
            mean = pooled[:, :80]
            return mean - mean.mean(1, keepdim=True)

    quiet = [(name, frames.clamp(20, 200)) for name, frames in TRACKS]
    found = evaluate(embed_sample(Colour(), quiet, SPEC), LABELS)
    plain = evaluate(embed_sample(MelStatistics(), quiet, SPEC), LABELS)
    assert found["gain_invariance"] == pytest.approx(1.0, abs=1e-3)
    assert (plain["gain_invariance"] or 0) < 0.999
    assert (found["eq_invariance"] or 0) < 0.999


def test_some_songs_can_be_asked_and_all_of_them_answer() -> None:
    found = embed_sample(MelStatistics(), TRACKS, SPEC)
    # Whose song 00-01 becomes nobody can tell by its sound.
    moved = LABELS | {"00-01": Labels("02", None, None)}
    asked = [evaluate(found, moved, lambda t, a=artist: t[:2] == a) for artist in ("00", "01")]  # type: ignore[misc]
    assert (asked[0]["artist_1nn"] or 0) < 1.0
    assert asked[1]["artist_1nn"] == 1.0
    assert asked[0]["effective_rank"] != asked[1]["effective_rank"]


def test_what_was_heard_survives_a_trip_to_disk(tmp_path: Path) -> None:
    found = embed_sample(model(), TRACKS, SPEC)
    found.save(tmp_path / "found.safetensors")
    again = EvaluationVectors.load(tmp_path / "found.safetensors")
    assert evaluate(again, LABELS) == evaluate(found, LABELS)
    assert again.track_ids == found.track_ids


def test_the_trained_encoder_is_judged_without_its_objective() -> None:
    torch.manual_seed(0)
    shape = EncoderSettings(widths=(16, 24), depths=(1, 1))
    first, second = SongModel(shape, 16).eval(), SongModel(shape, 16).eval()
    second.encoder.load_state_dict(first.encoder.state_dict())
    assert isinstance(first.encoder, Encoder)
    a, b = embed_sample(first, TRACKS[:4], SPEC), embed_sample(second, TRACKS[:4], SPEC)
    np.testing.assert_allclose(a.songs, b.songs, atol=1e-5)
