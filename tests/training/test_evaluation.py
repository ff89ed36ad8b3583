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
    NothingLearned,
    embed_sample,
    evaluate,
    song_outcomes,
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
    return SongModel(EncoderSettings(widths=(16,), depths=(1,)), 16, 6, 5).eval()


@pytest.mark.parametrize(
    "extractor",
    [
        MelStatistics(),
        MelStatistics(deviations=False),
        NothingLearned.of(model().encoder, 16),
        model(),
    ],
)
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
    shape = EncoderSettings(widths=(16,), depths=(1,))
    first, second = SongModel(shape, 16).eval(), SongModel(shape, 16).eval()
    second.encoder.load_state_dict(first.encoder.state_dict())
    assert isinstance(first.encoder, Encoder)
    a, b = embed_sample(first, TRACKS[:4], SPEC), embed_sample(second, TRACKS[:4], SPEC)
    np.testing.assert_allclose(a.songs, b.songs, atol=1e-5)


@pytest.fixture(scope="module")
def heard() -> EvaluationVectors:
    return embed_sample(model(), TRACKS, SPEC)


def test_a_figure_is_the_mean_of_what_its_songs_scored(heard: EvaluationVectors) -> None:
    albums = {
        name: Labels(each.artist, f"{name[-1] in '01'}", each.label)
        for name, each in LABELS.items()
    }
    found = evaluate(heard, albums)
    scored = song_outcomes(heard, albums)
    assert len(scored) == 4
    for name, values in scored.items():
        assert values.shape == (len(TRACKS),)
        assert found[name] == pytest.approx(np.nanmean(values))


def test_some_songs_among_themselves_are_judged_as_if_there_were_no_others(
    heard: EvaluationVectors,
) -> None:
    def wanted(track_id: str) -> bool:
        return track_id[:2] != "01"

    alone = embed_sample(MelStatistics(), [each for each in TRACKS if wanted(each[0])], SPEC)
    every = embed_sample(MelStatistics(), TRACKS, SPEC)
    assert every.only(wanted).track_ids == alone.track_ids
    assert evaluate(every.only(wanted), LABELS) == pytest.approx(evaluate(alone, LABELS))
    # One song's artist is nobody else's sound: other songs come between.
    moved = LABELS | {"00-01": Labels("02", None, None)}
    asked = evaluate(heard, moved, wanted)
    among = evaluate(heard.only(wanted), moved)
    assert among["artist_map"] != asked["artist_map"]
    # What asks nobody looks at the same songs either way.
    for name in ("effective_rank", "alignment", "uniformity", "gain_invariance"):
        assert among[name] == asked[name]


def test_of_vectors_alone_what_needs_no_more_is_measured(
    heard: EvaluationVectors, tmp_path: Path
) -> None:
    EvaluationVectors(heard.track_ids, heard.songs).save(tmp_path / "peer.safetensors")
    found = evaluate(EvaluationVectors.load(tmp_path / "peer.safetensors"), LABELS)
    whole = evaluate(heard, LABELS)
    unknown = {name for name, value in found.items() if value is None and whole[name] is not None}
    assert unknown == {
        "target_entropy", "alignment", "gain_invariance", "eq_invariance", "level_tilt_share",
    }  # fmt: skip
    assert all(found[name] == whole[name] for name in FIGURES if name not in unknown)
