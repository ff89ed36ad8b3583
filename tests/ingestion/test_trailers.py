"""What stands behind the sound makes no other recording; the sound itself does."""

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joined import BEHIND, encode, tone

from fastdino.ingestion import identify, trailers

RATE = 44_100
# Ending: container, encoder.
FORMATS = {
    ".mp3": ("mp3", "libmp3lame"),
    ".mp2": ("mp2", "mp2"),
    ".flac": ("flac", "flac"),
    ".aac": ("adts", "aac"),
    ".tta": ("tta", "tta"),
    ".wv": ("wv", "wavpack"),
    ".ac3": ("ac3", "ac3"),
    ".eac3": ("eac3", "eac3"),
    ".wav": ("wav", "pcm_s16le"),
    ".aiff": ("aiff", "pcm_s16be"),
    ".au": ("au", "pcm_s16be"),
    ".caf": ("caf", "pcm_s16be"),
    ".m4a": ("ipod", "aac"),
    ".opus": ("ogg", "libopus"),
    ".mka": ("matroska", "flac"),
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("songs")
    made = {}
    for suffix, (container, codec) in FORMATS.items():
        rate = 48_000 if suffix == ".opus" else RATE
        sound = tone(1.5, 330, rate=rate)
        made[suffix] = encode(folder / f"a{suffix}", container, codec, sound, rate)
    return made


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_tag_and_no_padding_behind_the_sound_makes_another_recording(
    suffix: str, songs: dict[str, Path], tmp_path: Path
) -> None:
    path, content = tmp_path / f"b{suffix}", songs[suffix].read_bytes()
    clean = identify.identify(str(songs[suffix]))
    assert clean.track_id
    for what, behind in BEHIND.items():
        if suffix == ".au" and "zero" in what:
            continue  # They are silence there.
        path.write_bytes(content + behind)
        found = identify.identify(str(path))
        assert found.track_id == clean.track_id, what
        if suffix != ".au":
            assert found.duration_s == pytest.approx(clean.duration_s, abs=1e-6), what


@pytest.mark.parametrize("suffix", [s for s in FORMATS if s not in (".m4a", ".mka")])
def test_sound_that_is_missing_at_the_end_makes_another_recording(
    suffix: str, songs: dict[str, Path], tmp_path: Path
) -> None:
    path, content = tmp_path / f"b{suffix}", songs[suffix].read_bytes()
    path.write_bytes(content[: -len(content) // 4])
    assert identify.identify(str(path)).track_id != identify.identify(str(songs[suffix])).track_id


def test_a_flac_frame_that_ends_in_zeros_keeps_them(tmp_path: Path) -> None:
    path, content = tmp_path / "a.flac", b"\1"
    for number in itertools.count():  # one in 256 frames ends so
        if content[-1] == 0:
            break
        content = encode(path, "flac", "flac", tone(0.03, 200 + number), RATE).read_bytes()
    clean = identify.identify(str(path)).track_id
    for behind in (bytes(1), bytes(200), BEHIND["ID3v1"]):
        path.write_bytes(content + behind)
        assert identify.identify(str(path)).track_id == clean


@given(st.binary(max_size=300), st.sampled_from([b"", *BEHIND.values()]))
def test_the_end_is_never_found_within_what_may_be_sound(sound: bytes, behind: bytes) -> None:
    end = trailers.sound_end(io.BytesIO(sound + b"\x01" + behind), "flac")
    assert end <= len(sound) + 1 or not behind
    if behind:
        assert end == len(sound) + 1


@given(st.binary(max_size=400))
def test_any_bytes_have_an_end(content: bytes) -> None:
    assert 0 <= trailers.sound_end(io.BytesIO(content), "mp3") <= len(content)


def test_silence_at_the_end_is_sound_and_no_padding() -> None:
    content = b"\1" + bytes(100) + BEHIND["ID3v1"]
    assert trailers.sound_end(io.BytesIO(content), "pcm_s16le") == 101
    assert trailers.sound_end(io.BytesIO(content), "mp3") == 1
