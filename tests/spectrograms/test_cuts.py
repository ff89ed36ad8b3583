"""Songs that are a part of a file: the same samples and frames as if they were files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import formats
import numpy as np
import pytest
import soundfile

from fastdino.core.workers import WorkerFailure
from fastdino.spectrograms import decode, extract
from fastdino.spectrograms.extract import Extracted, Task
from fastdino.spectrograms.settings import SpectrogramSettings

Extract = Callable[[Path], tuple[Any, np.ndarray]]
RATE = 44_100
SECONDS = 20
# Name of the container and of the codec.
FORMATS = {
    ".wav": ("wav", "pcm_s16le"), ".flac": ("flac", "flac"), ".mp3": ("mp3", "libmp3lame"),
    ".ogg": ("ogg", "vorbis"), ".opus": ("ogg", "libopus"), ".m4a": ("ipod", "aac"),
    ".wv": ("wv", "wavpack"), ".tta": ("tta", "tta"), ".mka": ("matroska", "flac"),
    ".wma": ("asf", "wmav2"), ".aac": ("adts", "aac"), ".aiff": ("aiff", "pcm_s16be"),
    ".wave": ("wav", "adpcm_ima_wav"),
}  # fmt: skip


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """A tone that rises, over noise, so that no two moments are alike; float32 [n, 2]."""
    t = np.arange(RATE * SECONDS) / RATE
    tone = 0.3 * np.sin(2 * np.pi * (200 * t + 60 * t**2))
    noise = np.random.default_rng(0).normal(0, 0.02, len(t))
    return np.stack([tone + noise, tone - noise], 1).astype(np.float32)


@pytest.fixture(scope="module", params=FORMATS)
def album(
    request: pytest.FixtureRequest, samples: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("album") / f"album{request.param}"
    container, codec = FORMATS[request.param]
    with av.open(str(path), "w", container) as written:
        rate = 48_000 if codec == "libopus" else RATE
        stream: Any = written.add_stream(
            codec, rate=rate, layout="stereo", options={"strict": "experimental"}
        )
        if codec in ("wmav2", "vorbis"):
            stream.bit_rate = 128_000
        kind = stream.codec.audio_formats[0]
        fitting = av.AudioResampler(kind, "stereo", rate, frame_size=stream.frame_size or 2048)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", "stereo")
        frame.sample_rate = RATE
        frame.pts = 0
        for ready in [*fitting.resample(frame), *fitting.resample(None)]:
            written.mux(stream.encode(ready))
        written.mux(stream.encode(None))
    return path


def heard(sound: decode.Sound) -> np.ndarray:
    return np.concatenate(list(sound.blocks))


@pytest.mark.parametrize("decoder", [decode.with_libsndfile, decode.with_ffmpeg])
def test_a_part_of_a_file_is_that_part_of_its_samples(album: Path, decoder: decode.Decoder) -> None:
    try:
        sound = decoder(album, 0.0)
    except decode.DecodeError:
        pytest.skip("not a format of this decoder")
    rate, whole = sound.rate, heard(sound)
    start, end = 7 + 11 / 75, 12 + 30 / 75
    part = heard(decode.cut(album, decoder, start, end))
    expected = whole[round(start * rate) : round(end * rate)]
    assert len(part) == len(expected)
    # The times of Matroska and of ASF have milliseconds.
    best = max(
        np.corrcoef(part[100:-100], expected[100 + by : len(expected) - 100 + by])[0, 1]
        for by in (range(-44, 45) if album.suffix in (".mka", ".wma") else [0])
    )
    assert best > 0.9999
    to_the_end = heard(decode.cut(album, decoder, start, None))
    assert len(to_the_end) == pytest.approx(len(whole) - round(start * rate), abs=50)


def test_where_seeking_leads_astray_all_before_a_part_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "album.ra"
    formats.write(path)
    sound = decode.cut(path, decode.with_ffmpeg)
    whole = heard(sound)
    part = heard(decode.cut(path, decode.with_ffmpeg, 1.2))
    np.testing.assert_array_equal(part, whole[round(1.2 * sound.rate) :])


def frames_of(task: Task) -> tuple[Extracted | WorkerFailure, np.ndarray]:
    result = extract.extract(task)
    return result, np.fromfile(task.spool, np.uint8).reshape(-1, task.settings.n_mels)


def test_a_song_in_a_file_has_the_frames_of_a_file_of_its_own(
    samples: np.ndarray, tmp_path: Path, extracted: Extract
) -> None:
    soundfile.write(tmp_path / "album.flac", samples, RATE)
    start, end = 5.4, 11 + 7 / 75
    soundfile.write(tmp_path / "song.flac", samples[round(start * RATE) : round(end * RATE)], RATE)
    expected, own_frames = extracted(tmp_path / "song.flac")
    task = Task(tmp_path / "album.flac", tmp_path / "spool", SpectrogramSettings(), start, end)
    result, frames = frames_of(task)
    assert isinstance(result, Extracted)
    assert result.sound
    assert result.decoded_s == expected.decoded_s
    assert result.header_s == pytest.approx(end - start)
    np.testing.assert_array_equal(frames, own_frames)


def test_a_song_beyond_what_is_left_of_a_file_has_its_reason(
    samples: np.ndarray, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "album.wav", samples[: RATE * 4], RATE)
    for start, reason in ((9.0, "too short: 0.00 s of sound"), (3.8, "too short: 0.20 s of sound")):
        task = Task(tmp_path / "album.wav", tmp_path / "spool", SpectrogramSettings(), start, 19.0)
        assert extract.extract(task) == WorkerFailure(reason)
    task = Task(tmp_path / "album.wav", tmp_path / "spool", SpectrogramSettings(), 2.0, 19.0)
    result, frames = frames_of(task)
    assert isinstance(result, Extracted)
    assert result.decoded_s == pytest.approx(2.0)
    assert len(frames) == 200


def test_all_songs_of_a_file_are_decoded_in_about_the_time_that_it_takes_once(
    samples: np.ndarray, tmp_path: Path
) -> None:
    """Told by where decoding begins, as a clock tells of other programs as well."""
    path = tmp_path / "album.flac"
    soundfile.write(path, np.tile(samples, (6, 1)), RATE)
    decoded = 0
    for start in range(0, 120, 10):
        sound = decode.cut(path, decode.with_ffmpeg, start, start + 10)
        sought, at_s = decode._opened(path, max(start - decode.RUN_UP_S, 0))
        assert at_s is not None
        assert start - 2 * decode.RUN_UP_S <= at_s <= start
        sought.blocks.close()
        decoded += len(heard(sound))
    assert decoded == 120 * RATE
