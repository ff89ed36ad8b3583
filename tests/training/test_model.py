import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fastdino.core.errors import UserError
from fastdino.training.device import autocast
from fastdino.training.encoder import Encoder
from fastdino.training.model import STRIDE, Moments, SongModel, load, save, segment_bounds
from fastdino.training.settings import EncoderSettings
from fastdino.training.timbre import Products, merged

SMALL = EncoderSettings(widths=(16,), depths=(1,))
# Models had a second one.
OF_TWO_STAGES = EncoderSettings(widths=(16, 24), depths=(1, 1), strides=(4, 2))


@pytest.fixture(scope="module")
def model() -> SongModel:
    torch.manual_seed(0)
    return fitted(5, 3)


def fitted(timbre_dim: int = 0, random_dim: int = 0, shape: EncoderSettings = SMALL) -> SongModel:
    model = SongModel(shape, 12, timbre_dim, random_dim).eval()
    songs = [frames(n) for n in range(900, 1800, 100)]
    model.fit_bands(songs)
    pooled = [model.pool([each], 100.0)[0] for each in songs]
    owners = torch.cat([torch.full((len(each),), row) for row, each in enumerate(pooled)])
    model.fit_projection(torch.cat(pooled), owners)
    return model


def frames(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, 80), generator=generator, dtype=torch.uint8)


@given(st.integers(1, 20_000))
def test_segments_cover_a_piece_without_gap_or_overlap(n_frames: int) -> None:
    bounds = segment_bounds(n_frames, 100.0)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n_frames
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    assert all(500 <= b - a < 1500 for a, b in bounds) or len(bounds) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_moments_of_parts_add_up_to_those_of_the_whole(lengths: list[int]) -> None:
    features = torch.randn(sum(lengths), 6, generator=torch.Generator().manual_seed(len(lengths)))
    parts = [Moments.of(part) for part in features.split(lengths)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    expected = torch.cat([features.mean(0), features.std(0, correction=0)])
    torch.testing.assert_close(total.pooled, expected, atol=1e-3, rtol=1e-3)


def test_vectors_are_of_unit_length_and_segments_say_where_they_are(model: SongModel) -> None:
    pooled, spans = model.pool([frames(6000), frames(2600)], 100.0)
    vectors = model.vectors(pooled)
    assert vectors.shape == (1 + len(spans), 12)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    assert spans[-3:] == [(60, 70), (70, 80), (80, 86)]


@pytest.mark.parametrize(("rest", "end_s"), [(3, 60.03), (499, 64.99), (500, 65)])
def test_a_rest_after_a_whole_piece_belongs_to_the_segment_before(
    model: SongModel, rest: int, end_s: float
) -> None:
    pooled, spans = model.pool([frames(6000), frames(rest)], 100.0)
    assert spans[-1] == pytest.approx((50 if rest < 500 else 60, end_s))
    assert len(pooled) == 1 + len(spans)
    assert (pooled[1:, 16:32].mean(1) > 0).all()


@pytest.mark.parametrize("n_frames", [1, 7, 8, 33])
def test_the_shortest_sounds_have_a_vector(model: SongModel, n_frames: int) -> None:
    pooled, spans = model.pool([frames(n_frames)], 100.0)
    assert torch.isfinite(model.vectors(pooled)).all()
    assert len(spans) == 1


@pytest.mark.parametrize("n", [1, 3])
def test_where_all_segments_are_alike_vectors_are_still_of_unit_length(n: int) -> None:
    model = SongModel(SMALL, 12, 5, 3).eval()
    model.fit_bands([frames(500)])
    pooled, _ = model.pool([frames(500)], 100.0)
    model.fit_projection(pooled[1:].expand(n, -1), torch.arange(n))
    vectors = model.vectors(pooled)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_a_saved_model_gives_the_same_vectors(model: SongModel, tmp_path: Path) -> None:
    save(tmp_path, model, {"model_id": "m"})
    again, about = load(tmp_path, torch.device("cpu"))
    assert about["model_id"] == "m"
    pooled, _ = model.pool([frames(500)], 100.0)
    assert torch.equal(again.pool([frames(500)], 100.0)[0], pooled)
    assert torch.equal(again.vectors(pooled), model.vectors(pooled))


def test_a_model_whose_second_stage_only_training_needed_gives_the_vectors_it_gave(
    model: SongModel, tmp_path: Path
) -> None:
    whole = Encoder(OF_TWO_STAGES)
    whole.load_state_dict({**whole.state_dict(), **model.encoder.state_dict()})
    save(tmp_path, model, {"model_id": "m"})
    # As it was written: with all of the encoder, and the number of stages that vectors are of.
    weights = load_file(tmp_path / "model.safetensors")
    weights |= {f"encoder.{name}": value for name, value in whole.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    about = json.loads((tmp_path / "model.json").read_text())
    del about["digest"], about["weights_digest"]
    about |= {"encoder": dataclasses.asdict(OF_TWO_STAGES), "stages": 1}
    (tmp_path / "model.json").write_text(json.dumps(about))
    again, _ = load(tmp_path, torch.device("cpu"))
    pooled, _ = again.pool([frames(1700)], 100.0)
    assert torch.equal(pooled, model.pool([frames(1700)], 100.0)[0])
    assert torch.equal(again.vectors(pooled), model.vectors(pooled))


def test_learned_features_are_pooled_over_time() -> None:
    torch.manual_seed(0)
    encoder, cpu = Encoder(SMALL).eval(), torch.device("cpu")
    model = SongModel.of(encoder, 12)
    model.fit_bands([frames(930)])
    pooled, _ = model.pool([frames(930)], 100.0)
    with torch.inference_mode(), autocast(cpu):
        made = encoder(frames(930)[None])[0].float()
    assert len(made) == 930 // 4
    torch.testing.assert_close(pooled[0, :16], made.mean(0), atol=1e-4, rtol=1e-4)
    # Of the one segment, which is all of the song.
    torch.testing.assert_close(pooled[1], pooled[0], atol=1e-6, rtol=1e-6)


def test_a_segment_is_cut_at_the_same_moment_whatever_a_position_lasts() -> None:
    model = SongModel(SMALL, 12, 5, 3).eval()
    model.fit_bands([frames(3333)])
    pooled, spans = model.pool([frames(3333)], 100.0)
    assert len(pooled) == 1 + len(spans) == 4
    alone, _ = model.pool([frames(3333)[1000:2000]], 100.0)
    # But for what a position at the edge sees of the neighbour.
    torch.testing.assert_close(pooled[2], alone[0], atol=0.2, rtol=0.2)


def save_as_before(folder: Path, model: SongModel) -> None:
    """As models were written when the projection of learned features had no name."""
    save(folder, model, {"model_id": "m"})
    weights = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("learned."): value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors")
    about = json.loads((folder / "model.json").read_text())
    del about["digest"], about["weights_digest"]
    (folder / "model.json").write_text(json.dumps(about))


@pytest.mark.parametrize("timbre_dim", [0, 5])
def test_a_model_of_before_there_were_other_parts_gives_the_vectors_it_gave(
    timbre_dim: int, tmp_path: Path
) -> None:
    old = fitted(timbre_dim, shape=OF_TWO_STAGES)
    save_as_before(tmp_path, old)
    again, _ = load(tmp_path, torch.device("cpu"))
    pooled, _ = again.pool([frames(1700)], 100.0)
    features = old.features(frames(1700)[None])[0][0]
    mean_and_deviation = torch.cat([features.mean(0), features.std(0, correction=0)])
    torch.testing.assert_close(pooled[0, :48], mean_and_deviation, atol=1e-4, rtol=1e-4)
    centred = pooled[:, :48].double() - old.learned.center.double()
    expected = F.normalize(centred @ old.learned.projection.double(), dim=-1)
    if old.timbre:
        bands = old.timbre.vectors(pooled[:, 48:])
        expected = torch.cat([expected, bands], -1) / 2**0.5
    torch.testing.assert_close(again.vectors(pooled), expected.float())


def test_a_vector_s_halves_count_the_same_and_so_do_learned_and_random_features(
    model: SongModel,
) -> None:
    vectors = model.vectors(model.pool([frames(1700)], 100.0)[0])
    lengths = [part.norm(dim=1).square() for part in vectors.split([4, 3, 5], -1)]
    for length, share in zip(lengths, (1 / 4, 1 / 4, 1 / 2), strict=True):
        torch.testing.assert_close(length, torch.full((len(vectors),), share))


def test_a_song_in_pieces_is_pooled_to_what_it_is_in_one(model: SongModel) -> None:
    whole = merged(frames(1800), STRIDE)
    parts = Products.of(whole[:100]) + Products.of(whole[100:])
    assert model.timbre is not None
    assert torch.equal(model.timbre.pooled([parts]), model.timbre.pooled([Products.of(whole)]))


def test_a_damaged_model_file_is_named_in_the_error(model: SongModel, tmp_path: Path) -> None:
    save(tmp_path, model, {})
    (tmp_path / "model.safetensors").write_bytes(b"spoilt")
    with pytest.raises(UserError, match=str(tmp_path)):
        load(tmp_path, torch.device("cpu"))


def test_weights_that_are_not_those_that_were_saved_are_found(
    model: SongModel, tmp_path: Path
) -> None:
    save(tmp_path, model, {})
    weights = tmp_path / "model.safetensors"
    spoilt = bytearray(weights.read_bytes())
    spoilt[-3] ^= 1  # one bit of one number, which is still one
    weights.write_bytes(spoilt)
    with pytest.raises(UserError, match="not what was saved"):
        load(tmp_path, torch.device("cpu"))


def test_a_model_of_before_there_were_digests_is_read(model: SongModel, tmp_path: Path) -> None:
    save(tmp_path, model, {})
    about = json.loads((tmp_path / "model.json").read_text())
    del about["digest"], about["weights_digest"]
    (tmp_path / "model.json").write_text(json.dumps(about))
    load(tmp_path, torch.device("cpu"))


def test_a_description_that_is_not_what_was_written_is_found(
    model: SongModel, tmp_path: Path
) -> None:
    save(tmp_path, model, {"created_at": "2025-01-01T00:00:00+00:00"})
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace("2025", "2035"))
    with pytest.raises(UserError, match="not what was written"):
        load(tmp_path, torch.device("cpu"))
