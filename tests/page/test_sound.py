"""Sound for browsers that do not know a format: the same WAV file, whatever part is asked for."""

import io
from pathlib import Path
from typing import Any

import anyio
import av
import formats
import numpy as np
import pytest
import soundfile
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response

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


@pytest.mark.parametrize("suffix", sorted(formats.WRITERS))
def test_in_every_format_what_is_heard_after_seeking_is_as_loud_as_it_is_there(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"song{suffix}"
    formats.write(path)
    total = sound.HEADER_BYTES + RATE * 3 // 2 * sound.FRAME_BYTES  # not all say how long they are
    whole = b"".join(sound.wav(path, total, 0, total))
    for at_s in (0.7, 1.2):
        start = sound.HEADER_BYTES + round(RATE * at_s) * sound.FRAME_BYTES
        part = b"".join(sound.wav(path, total, start, total))
        there, heard = (
            np.frombuffer(each, np.int16).astype(float)[2_000:].std()
            for each in (whole[start:], part)
        )
        assert there > 100
        # The decoder of AMR only comes to its loudness.
        assert heard == pytest.approx(there, rel=0.4)


def answer(response: Response, wanted: str | None) -> tuple[int, str | None, str | None, bytes]:
    """Status, range, length and content that a player gets."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await anyio.sleep_forever()

    headers = [] if wanted is None else [(b"range", wanted.encode())]
    scope = {"type": "http", "method": "GET", "headers": headers, "extensions": {}}
    anyio.run(response, scope, receive, send)
    told = Headers(raw=sent[0]["headers"])
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], told.get("content-range"), told.get("content-length"), content


RANGES = (
    None, "bytes=0-", "bytes=10-", "bytes=10-19", "bytes=0-0", "Bytes = 3 - 7", "bytes=50-99999999",
    "bytes=5-3", "bytes=5-4", "bytes=-10", "bytes=-1", "bytes=-0", "bytes=-99999999",
    "bytes=99999999-", "bytes=99999999-100000000", "bytes=", "bytes=-", "bytes=x-", "bytes=,4-9",
    "items=0-5", "nonsense", "", "bytes=1-2,99999999-", "bytes=5-3,9-10", "bytes=0-9,x",
)  # fmt: skip


@pytest.mark.parametrize("wanted", RANGES)
def test_a_range_of_decoded_sound_is_answered_like_one_of_a_file(
    wanted: str | None, tmp_path: Path, samples: np.ndarray
) -> None:
    soundfile.write(tmp_path / "song.aiff", samples, RATE)
    total = total_of(tmp_path / "song.aiff")
    whole = b"".join(sound.wav(tmp_path / "song.aiff", total, 0, total))
    (tmp_path / "song.wav").write_bytes(whole)
    status, told, length, content = answer(FileResponse(tmp_path / "song.wav"), wanted)
    found = answer(sound.response(tmp_path / "song.aiff", wanted), wanted)
    assert found[:2] == (status, told)
    if status < 400:
        assert found[2:] == (length, content)


def test_of_several_ranges_all_is_sent() -> None:
    assert sound.byte_range("bytes=1-2,5-6", 100) is None


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
