import pytest
import torch

from fastdino.training.encoder import Encoder
from fastdino.training.settings import EncoderSettings

SETTINGS = EncoderSettings(widths=(16, 24), depths=(1, 2), strides=(4, 2), kernel=5)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(SETTINGS).eval()


def seen_by(encoder: Encoder, n_frames: int, frame: int) -> set[int]:
    """Output positions that change when one input frame does."""
    frames = torch.rand(1, n_frames, SETTINGS.n_mels)
    nudged = frames.clone()
    nudged[0, frame] += 1
    with torch.no_grad():
        moved = (encoder(frames) - encoder(nudged)).abs().amax(-1)[0]
    return set(torch.nonzero(moved > 1e-6).flatten().tolist())


def test_a_frame_changes_only_the_positions_that_have_it_in_their_window(encoder: Encoder) -> None:
    reach = SETTINGS.receptive_field
    for frame in (200, 203, 401):
        seen = seen_by(encoder, 800, frame)
        assert seen, "the frame is seen somewhere"
        for position in seen:
            centre = (position + 0.5) * SETTINGS.stride
            assert abs(frame + 0.5 - centre) <= reach / 2


def test_the_receptive_field_is_as_wide_as_it_says(encoder: Encoder) -> None:
    frames = torch.rand(1, 800, SETTINGS.n_mels, requires_grad=True)
    (encoder(frames)[0, 50] * torch.rand(SETTINGS.dim)).sum().backward()
    assert frames.grad is not None
    inside = torch.nonzero(frames.grad[0].abs().amax(-1)).flatten()
    assert inside.max() - inside.min() + 1 == SETTINGS.receptive_field


def test_output_has_one_position_for_each_stride_of_frames(encoder: Encoder) -> None:
    assert encoder(torch.rand(3, 100, 80)).shape == (3, 100 // SETTINGS.stride, SETTINGS.dim)


@pytest.mark.parametrize("every", [2, 4, 7])
def test_of_each_so_manieth_position_features_and_gradients_are_what_they_are_of_all(
    encoder: Encoder, every: int
) -> None:
    frames = torch.rand(2, 200, 80)
    found = []
    for wanted in (encoder(frames)[:, ::every], encoder(frames, every)):
        gradients = torch.autograd.grad(wanted.square().sum(), list(encoder.parameters()))
        found.append([wanted, *gradients])
    for of_all, of_some in zip(*found, strict=True):
        torch.testing.assert_close(of_some, of_all, rtol=1e-3, atol=1e-4)


def test_the_first_stages_are_a_network_of_their_own() -> None:
    network, frames = Encoder(SETTINGS), torch.rand(2, 100, 80)
    network.band_mean.fill_(0.5)
    cut = network.first(1)
    assert cut.settings == EncoderSettings(widths=(16,), depths=(1,), strides=(4,), kernel=5)
    entered = []
    network.layers[len(cut.layers)].register_forward_pre_hook(lambda _, x: entered.append(x[0]))
    network(frames)
    assert torch.equal(cut(frames), entered[0])
    assert torch.equal(network.first(2)(frames), network(frames))


def test_quantised_frames_are_brought_to_the_scale_of_the_collection(encoder: Encoder) -> None:
    frames = torch.randint(0, 256, (1, 64, 80), dtype=torch.uint8)
    assert torch.equal(encoder(frames), encoder(frames.float()))


@pytest.mark.parametrize("every", [1, 4])
def test_flops_agree_with_what_pytorch_counts(every: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    settings = EncoderSettings()
    with FlopCounterMode(display=False) as counter:
        Encoder(settings)(torch.rand(2, 800, 80), every)
    assert settings.flops(2 * 800, every) == pytest.approx(counter.get_total_flops(), rel=0.01)
