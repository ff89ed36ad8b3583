"""Every format and every kind of damage: a right length, or a reason."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import formats
import numpy as np
import pytest
import soundfile

from fastdino.core.failures import MACHINE, MISSING
from fastdino.core.workers import WorkerFailure, WorkerPool
from fastdino.spectrograms import decode, extract
from fastdino.spectrograms.extract import Extracted, is_short
from fastdino.spectrograms.settings import SpectrogramSettings

Extract = Callable[[Path], tuple[Any, np.ndarray]]
Record = Callable[..., Path]

FORMATS = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"}


def test_every_format_decodes_to_its_length(library: Path, extracted: Extract) -> None:
    seen = set()
    for path in sorted(library.rglob("*")):
        if path.suffix in FORMATS and "broken" not in path.name:
            result, frames = extracted(path)
            seconds = catalogued_seconds(path)
            assert result.sound
            assert result.attempts == 1
            assert result.decoded_s == pytest.approx(seconds, abs=0.1), path
            assert len(frames) == pytest.approx(100 * seconds, abs=10)
            assert frames.max() > 100
            seen.add(path.suffix)
    assert seen == FORMATS


def catalogued_seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        assert container.duration is not None
        return container.duration / av.time_base


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg"])
def test_both_decoders_hear_the_same(suffix: str, library: Path) -> None:
    path = next(library.rglob(f"*{suffix}"))
    first, second = (
        np.concatenate(list(open_(path).blocks))
        for open_ in (decode.with_libsndfile, decode.with_ffmpeg)
    )
    length = min(len(first), len(second))
    assert len(first) == pytest.approx(len(second), abs=2500)
    assert np.corrcoef(first[:length], second[:length])[0, 1] > 0.99


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_any_rate_and_number_of_channels_gives_the_same_frames(
    rate: int, channels: int, record: Record, extracted: Extract
) -> None:
    _, expected = extracted(record("plain.wav", rate=16_000))
    result, frames = extracted(record("sound.flac", rate=rate, channels=channels))
    assert result.decoded_s == pytest.approx(2.0)
    audible = expected[5:-5] > 100
    difference = frames[5:-5].astype(int) - expected[5:-5]
    assert audible.any()
    assert np.abs(difference[audible]).max() <= 3


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_kind_of_sample_has_the_same_level(subtype: str, record: Record) -> None:
    samples, rate = soundfile.read(record("sound.wav"))
    path = record("again.wav")
    soundfile.write(path, samples, rate, subtype=subtype)
    heard = np.concatenate(list(decode.with_ffmpeg(path).blocks))
    assert np.abs(heard - samples).max() < 0.01


def test_silence_has_its_reason(tmp_path: Path, extracted: Extract) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(32_000), 16_000)
    assert extracted(tmp_path / "a.flac")[0] == WorkerFailure("silent throughout")


def test_a_silent_beginning_before_damage_is_not_all_there_is(
    tmp_path: Path, extracted: Extract
) -> None:
    path = tmp_path / "a.mp3"
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (20 * 44_100, 2))
    sound[: 4 * 44_100] = 0
    soundfile.write(path, sound, 44_100, format="MP3")
    content = path.read_bytes()
    at = len(content) // 4
    path.write_bytes(content[:at] + bytes(4_000) + content[at:])
    result, frames = extracted(path)
    assert isinstance(result, Extracted)
    assert result.decoded_s > 15
    assert frames.any()


def test_a_fifth_of_a_second_is_too_short(record: Record, extracted: Extract) -> None:
    result, _ = extracted(record("a.wav", seconds=0.2))
    assert result == WorkerFailure("too short: 0.20 s of sound")


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".flac", ".wav", ".m4a"])
@pytest.mark.parametrize("content", [b"", b"Dear diary,\n" * 100, random.Random(0).randbytes(9999)])
def test_what_is_no_music_has_a_reason(
    suffix: str, content: bytes, tmp_path: Path, extracted: Extract
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    result, _ = extracted(path)
    assert isinstance(result, WorkerFailure)
    assert result.reason
    assert str(path) not in result.reason


def test_where_nothing_decodes_each_decoder_has_its_say(tmp_path: Path, extracted: Extract) -> None:
    for suffix, order in ((".mp3", ("libsndfile", "FFmpeg")), (".dsf", ("FFmpeg", "libsndfile"))):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"DSD " + bytes(5_000))
        result, _ = extracted(path)
        told = [part.partition(": ") for part in result.reason.split("; ")]
        assert tuple(name for name, _, _ in told) == order
        assert all(reason for _, _, reason in told)


def test_an_implausible_rate_is_the_reason_that_is_told(tmp_path: Path, extracted: Extract) -> None:
    formats.dsf(tmp_path / "a.dsf", 8 * 2_000_001)
    reason = extracted(tmp_path / "a.dsf")[0].reason
    assert reason.startswith("FFmpeg: a sample rate of 2000001 Hz is not plausible; libsndfile: ")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_name_in_any_bytes_is_decoded_by_both(suffix: str, record: Record) -> None:
    path = record(f"plain{suffix}")
    try:
        path = path.rename(path.with_name(os.fsdecode(b"caf\xe9" + suffix.encode())))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for _, open_ in decode.decoders(path):
        assert sum(len(block) for block in open_(path).blocks) > 30_000
        with pytest.raises(decode.DecodeError) as told:
            open_(path.with_suffix(".gone"))
        assert str(told.value) in ("No such file or directory", "System error.")


def test_what_libraries_say_of_a_damaged_file_does_not_reach_the_terminal(
    record: Record, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = []
    for name, damage in (("zeros", bytes(4_000)), ("page", b"<html>no song</html>" * 200)):
        path = record(f"{name}.mp3", seconds=20, rate=44_100)
        content = path.read_bytes()
        at = len(content) // 2
        path.write_bytes(content[:at] + damage + content[at:])
        tasks.append(extract.Task(path, path.with_suffix(".spool"), SpectrogramSettings()))
    for task in tasks:
        extract.extract(task)
    # Here, where nothing catches it.
    assert "error" in capfd.readouterr().err
    with WorkerPool(extract.in_worker, timeout_s=lambda _: 60.0) as pool:
        for _, result in pool.map(tasks):
            assert isinstance(result, Extracted)
            assert result.salvaged
    assert capfd.readouterr().err == ""


def test_a_playlist_in_disguise_opens_nothing(record: Record, extracted: Extract) -> None:
    song = record("real.wav")
    playlist = song.with_name("innocent.mp3")
    playlist.write_text(f"#EXTM3U\n#EXTINF:2,\n{song}\n#EXT-X-ENDLIST\n")
    assert isinstance(extracted(playlist)[0], WorkerFailure)


def test_what_goes_on_for_days_is_given_up(
    record: Record, extracted: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "LONGEST_S", 3.0)
    assert extracted(record("short.flac", seconds=3))[0].decoded_s == pytest.approx(3.0, abs=0.01)
    assert extracted(record("long.flac", seconds=10))[0] == WorkerFailure("longer than 0 hours")


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".wav"])
def test_a_cut_file_gives_what_is_left_and_says_so(
    suffix: str, record: Record, extracted: Extract
) -> None:
    path = record(f"a{suffix}", seconds=20, rate=44_100, channels=2)
    os.truncate(path, path.stat().st_size // 2)
    result, frames = extracted(path)
    # Cut Ogg has lost the page that told its length; of cut WAV the file's size is believed.
    assert not result.sound or suffix in (".ogg", ".wav")
    assert 5 < result.decoded_s < 15
    assert len(frames) == pytest.approx(100 * result.decoded_s, abs=2)


def test_damage_in_the_middle_costs_the_damaged_part_only(
    record: Record, extracted: Extract
) -> None:
    path = record("a.flac", seconds=20, rate=44_100, channels=2)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = random.Random(0).randbytes(2000)
    path.write_bytes(content)
    result, _ = extracted(path)
    assert result.decoded_s > 15


def test_what_the_first_decoder_refuses_the_second_may_play(
    record: Record, extracted: Extract
) -> None:
    # Matroska in all but name: libsndfile, asked first for this suffix, refuses it.
    path = record("a.wav", seconds=3).with_name("b.mp3")
    with av.open(str(path.with_name("a.wav"))) as source, av.open(str(path), "w", "matroska") as to:
        stream = to.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                to.mux(packet)
    result, _ = extracted(path)
    assert result.attempts == 2
    assert result.decoded_s == pytest.approx(3.0, abs=0.01)
    assert not result.salvaged


def test_no_block_is_longer_than_a_few_seconds(record: Record) -> None:
    for suffix in (".wav", ".flac", ".mp3"):
        path = record(f"long{suffix}", seconds=60)
        for _, open_ in decode.decoders(path):
            longest = max(len(block) for block in open_(path).blocks)
            assert longest <= decode.SAMPLES_PER_BLOCK + 8192


def test_a_header_may_be_a_little_off() -> None:
    assert not is_short(100.0, None)
    assert not is_short(99.5, 100.0)
    assert not is_short(995.0, 1000.0)
    assert is_short(90.0, 100.0)


def test_what_a_disk_does_not_give_is_not_the_file_s_fault(
    tmp_path: Path, extracted: Extract
) -> None:
    # The system has this file, and refuses to read it as a failing disk would.
    (tmp_path / "song.mp3").symlink_to("/proc/self/mem")
    failure, _ = extracted(tmp_path / "song.mp3")
    assert failure == WorkerFailure("cannot be read: Input/output error", MACHINE)


def test_a_file_that_is_not_there_or_not_to_be_opened_has_not_failed(
    tmp_path: Path, record: Record, extracted: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure, _ = extracted(tmp_path / "gone.mp3")
    assert failure == WorkerFailure("cannot be read: No such file or directory", MISSING)
    song = record("song.wav")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for others than root
    assert extracted(song)[0] == WorkerFailure("cannot be read: Permission denied", MISSING)
