"""Sound for browsers that do not know a format: the same WAV file, whatever part is asked for."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from fastdino.page import sound

RATE = 44_100
SECONDS = 3.0


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """Three seconds of a tone that rises, so that every moment differs; float32 [n, 2]."""
    t = np.arange(int(RATE * SECONDS)) / RATE
    tone = 0.4 * np.sin(2 * np.pi * (200 * t + 400 * t**2))
    return np.stack([tone, 0.5 * tone], 1).astype(np.float32)


@pytest.fixture(scope="module", params=["aiff", "alac"])
def song(
    request: pytest.FixtureRequest, samples: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A song in a format that few browsers play."""
    folder = tmp_path_factory.mktemp("sounds")
    if request.param == "aiff":
        soundfile.write(folder / "song.aiff", samples, RATE)
        return folder / "song.aiff"
    with av.open(str(folder / "song.m4a"), "w") as container:
        stream = container.add_stream("alac", rate=RATE, layout="stereo")
        for block in np.split(samples.T, range(4096, len(samples), 4096), axis=1):
            ints = np.ascontiguousarray((block * 32767).round().astype(np.int16))
            frame = av.AudioFrame.from_ndarray(ints, "s16p", "stereo")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return folder / "song.m4a"


def total_of(path: Path) -> int:
    return sound.HEADER_BYTES + sound.n_frames(path) * sound.FRAME_BYTES


def test_it_is_a_wav_file_of_the_songs_length_and_sound(song: Path, samples: np.ndarray) -> None:
    total = total_of(song)
    whole = b"".join(sound.wav(song, total, 0, total))
    assert len(whole) == total
    heard, rate = soundfile.read(io.BytesIO(whole), dtype="float32")
    assert rate == RATE
    assert heard.shape[1] == 2
    assert len(heard) == len(samples)
    np.testing.assert_allclose(heard, samples, atol=2 / 32768)


def test_any_part_of_it_is_that_part_of_the_whole(song: Path) -> None:
    total = total_of(song)
    whole = b"".join(sound.wav(song, total, 0, total))
    for start, stop in ((0, 10), (3, 50), (44, 48), (47, 1000), (total - 7, total)):
        assert b"".join(sound.wav(song, total, start, stop)) == whole[start:stop]
    middle = total // 2 + 1
    part = b"".join(sound.wav(song, total, middle, middle + 40_001))
    assert part == whole[middle : middle + 40_001]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, (0, 100)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-", (10, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=10-500", (10, 100)),
        ("bytes=100-", (0, 100)),
        ("bytes=-5", (0, 100)),
        ("bytes=1-2,5-6", (0, 100)),
        ("nonsense", (0, 100)),
    ],
)
def test_ranges_are_read_as_they_are_meant(wanted: str | None, expected: tuple[int, int]) -> None:
    assert sound.byte_range(wanted, 100) == expected


def test_a_file_that_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "song.wma").write_bytes(b"not a song" * 100)
    with pytest.raises(sound.SoundError):
        sound.n_frames(tmp_path / "song.wma")


def test_a_song_that_breaks_off_ends_in_silence(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "song.aiff"
    soundfile.write(path, samples, RATE)
    total = total_of(path)
    path.write_bytes(path.read_bytes()[: total // 2])
    heard = b"".join(sound.wav(path, total, 0, total))
    assert len(heard) == total
    assert not any(heard[-1000:])
