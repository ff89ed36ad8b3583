"""Songs are as long as their sound, whatever a header says of them, and whoever joined them."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from joined import encode, tone

from fastdino import demo
from fastdino.core.workers import WorkerFailure
from fastdino.ingestion.identify import identify
from fastdino.spectrograms.extract import Extracted, Task, extract
from fastdino.spectrograms.settings import SpectrogramSettings

RATE = 44_100


def both(path: Path) -> tuple[float, float]:
    """Length as the catalogue has it, and as far as it is decoded."""
    packets_s = identify(str(path)).duration_s
    result = extract(
        Task(path, path.with_suffix(".spool"), SpectrogramSettings(), packets_s=packets_s)
    )
    assert packets_s is not None
    assert isinstance(result, Extracted), result
    return packets_s, result.decoded_s


def mp3(path: Path, seconds: float, rate: int = RATE, channels: int = 2) -> bytes:
    sound = tone(seconds, 440, rate=rate, channels=channels)
    return encode(path, "mp3", "libmp3lame", sound, rate).read_bytes()


def opus(path: Path, seconds: float, channels: int = 2) -> bytes:
    sound = tone(seconds, 440, rate=48_000, channels=channels)
    return encode(path, "ogg", "libopus", sound, 48_000).read_bytes()


def vorbis(path: Path, seconds: float, rate: int = RATE) -> bytes:
    return encode(path, "ogg", "vorbis", tone(seconds, 440, rate=rate), rate).read_bytes()


def flac_in_ogg(path: Path, seconds: float, rate: int = RATE) -> bytes:
    return encode(path, "ogg", "flac", tone(seconds, 440, rate=rate), rate).read_bytes()


@pytest.mark.parametrize(
    ("name", "parts", "seconds"),
    [
        ("two.mp3", [(mp3, 6.0), (mp3, 6.0)], 12.0),
        ("unlike.mp3", [(mp3, 6.0), (mp3, 3.0, 48_000, 1)], 9.0),
        ("many.mp3", 5 * [(mp3, 2.0)], 10.0),
        ("chain.opus", [(opus, 6.0), (opus, 3.0)], 9.0),
        ("stereo, mono.opus", [(opus, 6.0), (opus, 3.0, 1)], 9.0),
        ("chain.ogg", [(vorbis, 6.0), (vorbis, 3.0)], 9.0),
        ("other rate.ogg", [(vorbis, 6.0), (vorbis, 3.0, 32_000)], 9.0),
        ("vorbis, opus.ogg", [(vorbis, 6.0), (opus, 3.0)], 9.0),
        ("opus, flac.ogg", [(opus, 3.0), (flac_in_ogg, 4.0)], 7.0),
        ("there and back.ogg", [(vorbis, 2.0), (vorbis, 3.0, 32_000), (vorbis, 2.0)], 7.0),
    ],
)
def test_what_is_joined_from_several_files_is_heard_to_its_end(
    name: str, parts: list[tuple], seconds: float, tmp_path: Path
) -> None:
    path = tmp_path / name
    made = [make(tmp_path / f"part{path.suffix}", *how) for make, *how in parts]
    path.write_bytes(b"".join(made))
    packets_s, decoded_s = both(path)
    # MP3 and Opus begin with some silence, and each part does.
    slack = 0.12 * len(parts)
    assert packets_s == pytest.approx(seconds, abs=slack)
    assert decoded_s == pytest.approx(seconds, abs=slack)


@pytest.mark.parametrize("claimed", [3, 10_000_000])
def test_a_header_that_lies_about_the_frames_of_an_mp3_is_not_believed(
    claimed: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp3"
    content = bytearray(mp3(path, 6.0))
    at = next(n for mark in (b"Xing", b"Info") if (n := content.find(mark)) >= 0)
    content[at + 8 : at + 12] = struct.pack(">I", claimed)
    path.write_bytes(content)
    packets_s, decoded_s = both(path)
    assert packets_s == pytest.approx(6.0, abs=0.1)
    assert decoded_s == pytest.approx(6.0, abs=0.1)


def test_flac_in_ogg_goes_on_at_another_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.oga"
    path.write_bytes(flac_in_ogg(path, 4.0) + flac_in_ogg(path, 3.0, 32_000))
    # FFmpeg tells the times of the second part in the first one's unit; what is decoded counts.
    assert both(path)[1] == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
def test_channels_that_are_each_other_s_opposite_are_no_silence(
    suffix: str, tmp_path: Path
) -> None:
    path, sound = tmp_path / f"a{suffix}", tone(3.0, 440)
    sound[1] *= -1
    demo.encode(path, sound, demo.RATE, {})
    settings = SpectrogramSettings()
    result = extract(Task(path, tmp_path / "spool", settings))
    assert isinstance(result, Extracted)
    frames = np.fromfile(tmp_path / "spool", np.uint8).reshape(-1, settings.n_mels)
    demo.encode(path, tone(3.0, 440), demo.RATE, {})
    extract(Task(path, tmp_path / "spool", settings))
    alike = np.fromfile(tmp_path / "spool", np.uint8).reshape(-1, settings.n_mels)
    loud = alike > 100  # what lies below is the encoder's own noise
    assert np.abs(frames.astype(int) - alike)[loud].mean() < 1.0
    demo.encode(path, np.zeros_like(sound), demo.RATE, {})
    assert extract(Task(path, tmp_path / "spool", settings)) == WorkerFailure("silent throughout")


def test_a_chain_of_hundreds_of_links_is_heard_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    links = [vorbis(path, 0.2), vorbis(path, 0.2, 32_000)]
    path.write_bytes(b"".join(links * 300))
    packets_s, decoded_s = both(path)
    assert packets_s == pytest.approx(120, rel=0.1)
    assert decoded_s == pytest.approx(120, rel=0.1)


def test_opposite_channels_are_heard_beside_silent_ones(tmp_path: Path) -> None:
    sound, path = tone(3.0, 440), tmp_path / "a.wav"
    silence = np.zeros_like(sound[0])
    soundfile.write(path, np.stack([silence, sound[0], -sound[0]], axis=1), demo.RATE)
    task = Task(path, tmp_path / "spool", SpectrogramSettings())
    assert isinstance(extract(task), Extracted)
    assert np.fromfile(task.spool, np.uint8).max() > 100


def test_ordinary_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    path, settings = tmp_path / "a.wav", SpectrogramSettings()
    apart = np.concatenate([tone(3.0, 440)[:1], tone(3.0, 1_234)[:1]])
    demo.encode(path, apart, demo.RATE, {})
    extract(Task(path, tmp_path / "spool", settings))
    frames = np.fromfile(tmp_path / "spool", np.uint8)
    demo.encode(path, apart.mean(0, keepdims=True), demo.RATE, {})
    extract(Task(path, tmp_path / "spool", settings))
    mono = np.fromfile(tmp_path / "spool", np.uint8)
    assert np.abs(frames.astype(int) - mono)[mono > 60].max() <= 1  # below is 16 bits' own noise
