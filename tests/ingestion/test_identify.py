import contextlib
import os
import random
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fastdino import demo
from fastdino.core.failures import MACHINE
from fastdino.ingestion import identify
from fastdino.ingestion.identify import Identified
from fastdino.spectrograms import decode
from tests import formats
from tests.editing import retag
from tests.tagging import ogg_checksum

TAGS = {
    "title": "Grüße, 世界 🎵",
    "artist": "The Artist",
    "album": "The Album",
    "album_artist": "Various Artists",
    "genre": "Folk",
    "date": "2004",
    "track": "3",
}
OTHER_TAGS = {**TAGS, "title": "Another title", "artist": "Someone else", "date": "1999"}
# Formats that are read but that the demo library has none of: container, codec.
FURTHER = {
    ".aiff": ("aiff", "pcm_s16be"), ".wma": ("asf", "wmav2"), ".m4a": ("ipod", "alac"),
    ".mka": ("matroska", "flac"), ".oga": ("ogg", "flac"), ".wv": ("wv", "wavpack"),
    ".au": ("au", "pcm_s16be"), ".caf": ("caf", "pcm_s16le"), ".tta": ("tta", "tta"),
    ".aac": ("adts", "aac"), ".mp2": ("mp2", "mp2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    song = demo.plan(Path("x"), artists=1, songs_per_artist=6, seconds=2.0)[0]
    return demo.compose(song)


@pytest.mark.parametrize("suffix", demo.FORMATS)
def test_tags_and_properties_are_read_from_every_format(
    suffix: str, audio: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / f"song{suffix}"
    demo.encode(path, audio, demo.RATE, TAGS)
    found = identify.identify(str(path))
    assert found.error is None
    assert (found.title, found.artist, found.album) == (TAGS["title"], "The Artist", "The Album")
    assert (found.genre, found.year, found.track_number) == ("Folk", 2004, 3)
    # WAV's own tags have no place for the album's artist.
    assert found.album_artist == (None if suffix == ".wav" else "Various Artists")
    assert found.channels == 2
    assert found.sample_rate == demo.FORMATS[suffix].rate
    assert found.duration_s == pytest.approx(audio.shape[1] / demo.RATE, abs=0.1)


def test_times_that_cannot_be_true_are_no_length(audio: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "song.opus"
    demo.encode(path, audio, demo.RATE, TAGS)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"OggS", 0, content.rfind(b"OggS"))
    length = 27 + content[at + 26] + sum(content[at + 27 : at + 27 + content[at + 26]])
    struct.pack_into("<q", content, at + 6, 1 << 47)  # its time
    struct.pack_into("<I", content, at + 22, 0)
    struct.pack_into("<I", content, at + 22, ogg_checksum(content[at : at + length]))
    path.write_bytes(content)
    found = identify.identify(str(path))
    assert found.track_id
    assert found.duration_s is None


@pytest.mark.parametrize("suffix", demo.FORMATS)
def test_retagging_keeps_the_track_and_changes_the_tags(
    suffix: str, audio: np.ndarray, tmp_path: Path
) -> None:
    before, after = tmp_path / f"before{suffix}", tmp_path / f"after{suffix}"
    demo.encode(before, audio, demo.RATE, TAGS)
    retag(before, after, OTHER_TAGS)
    assert before.read_bytes() != after.read_bytes()
    old, new = identify.identify(str(before)), identify.identify(str(after))
    assert old.track_id == new.track_id
    assert (new.title, new.artist, new.year) == ("Another title", "Someone else", 1999)


def encode_further(path: Path, container_name: str, codec: str, audio: np.ndarray) -> None:
    with av.open(str(path), "w", format=container_name) as container:
        stream: Any = container.add_stream(codec, rate=44_100, layout="stereo")
        stream.bit_rate = 128_000
        container.metadata.update(TAGS)
        stream.metadata.update(TAGS)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio), "fltp", "stereo")
        frame.sample_rate = demo.RATE
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.mark.parametrize("suffix", FURTHER)
def test_further_formats_are_read_too(suffix: str, audio: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"song{suffix}"
    encode_further(path, *FURTHER[suffix], audio)
    found = identify.identify(str(path))
    assert found.error is None
    assert found.track_id
    assert found.duration_s == pytest.approx(audio.shape[1] / demo.RATE, abs=0.2)
    if suffix in (".wma", ".m4a", ".mka", ".oga"):
        assert (found.title, found.artist, found.year) == (TAGS["title"], "The Artist", 2004)
        assert (found.album_artist, found.track_number) == ("Various Artists", 3)


def test_tags_at_the_end_of_an_mp3_do_not_belong_to_the_track(
    audio: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "song.mp3"
    demo.encode(path, audio, demo.RATE, {})
    track_id = identify.identify(str(path)).track_id
    with path.open("ab") as file:
        file.write(b"TAG" + b"An old title".ljust(125, b"\0"))
    assert identify.identify(str(path)).track_id == track_id


def test_a_wav_is_the_same_track_wherever_its_samples_begin(tmp_path: Path) -> None:
    samples = random.Random(0).randbytes(100_000)
    form = b"fmt " + (16).to_bytes(4, "little") + bytes.fromhex("0100020044ac000010b1020004001000")
    data = b"data" + len(samples).to_bytes(4, "little") + samples
    note = b"LIST" + (4000).to_bytes(4, "little") + b"INFO" + bytes(3996)

    def track(name: str, *chunks: bytes) -> str | None:
        body = b"WAVE" + b"".join(chunks)
        (tmp_path / name).write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
        return identify.identify(str(tmp_path / name)).track_id

    ids = {
        track("plain.wav", form, data),
        track("before.wav", form, note, data),
        track("after.wav", form, data, note),
    }
    assert len(ids) == 1
    assert None not in ids


def test_cover_art_is_not_part_of_the_track(audio: np.ndarray, tmp_path: Path) -> None:
    plain, covered = tmp_path / "plain.mp3", tmp_path / "covered.mp3"
    demo.encode(plain, audio, demo.RATE, TAGS)
    with av.open(str(plain)) as old, av.open(str(covered), "w") as new:
        sound: Any = new.add_stream_from_template(old.streams.audio[0])
        cover: Any = new.add_stream("png", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "rgb24"
        new.metadata.update(TAGS)
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        for packet in (*cover.encode(picture), *cover.encode(None)):
            new.mux(packet)
        for packet in old.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                new.mux(packet)
    assert covered.read_bytes().count(b"PNG")
    assert identify.identify(str(covered)) == identify.identify(str(plain))


def test_different_recordings_are_different_tracks(library: Path) -> None:
    songs = demo.plan(library, artists=4, songs_per_artist=3, seconds=4.0)
    assert len({identify.identify(str(song.path)).track_id for song in songs}) == len(songs)


def test_a_song_cut_short_is_a_track_as_long_as_what_is_left(
    audio: np.ndarray, tmp_path: Path
) -> None:
    for suffix in (".mp3", ".flac", ".ogg", ".opus", ".wav"):
        path = tmp_path / f"song{suffix}"
        demo.encode(path, audio, demo.RATE, TAGS)
        whole = identify.identify(str(path))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        half = identify.identify(str(path))
        assert half.error is None
        assert half.track_id != whole.track_id
        assert half.duration_s is not None
        assert 0.2 < half.duration_s / audio.shape[1] * demo.RATE < 0.8, suffix


def test_a_song_damaged_in_the_middle_is_still_a_track(audio: np.ndarray, tmp_path: Path) -> None:
    for suffix in demo.FORMATS:
        path = tmp_path / f"song{suffix}"
        demo.encode(path, audio, demo.RATE, TAGS)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = random.Random(1).randbytes(2000)
        path.write_bytes(content)
        found = identify.identify(str(path))
        assert found.error is None, suffix
        assert found.title == TAGS["title"]


@pytest.mark.parametrize("tenth", [3, 6, 9])
def test_what_a_demuxer_calls_a_disks_trouble_is_damage_where_the_disk_has_none(
    tenth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "song.mpc"
    content = bytearray(formats.MPC_HEADER + 1240 * formats.MPC_FRAME + b"SE\x03")
    path.write_bytes(content)
    whole = identify.identify(str(path))
    at = len(content) * tenth // 10
    content[at : at + 512] = bytes(512)
    path.write_bytes(content)
    found = identify.identify(str(path))
    assert (found.error, found.codec) == (None, whole.codec)
    assert found.track_id != whole.track_id
    assert (found.duration_s or 0) == pytest.approx((whole.duration_s or 0) * tenth / 10, rel=0.05)
    monkeypatch.setattr(identify, "unreadable", lambda _: "cannot be read: Input/output error")
    assert identify.identify(str(path)) == Identified(
        error="cannot be read: Input/output error", error_kind=MACHINE
    )


def test_what_libsndfile_alone_opens_is_a_song(audio: np.ndarray, tmp_path: Path) -> None:
    twice, listed = tmp_path / "twice.ogg", tmp_path / "listed.wav"
    demo.encode(twice, audio, demo.RATE, TAGS)
    twice.write_bytes(with_headers_twice(twice.read_bytes()))
    demo.encode(listed, audio, demo.RATE, {})
    listed.write_bytes(listed.read_bytes() + b"LIST" + bytes(4))
    for path, codec in ((twice, "vorbis"), (listed, "pcm_16")):
        with pytest.raises(av.FFmpegError):
            av.open(str(path))
        found = identify.identify(str(path))
        assert found.error is None
        assert found.codec == codec
        assert found.duration_s == pytest.approx(audio.shape[1] / demo.RATE, abs=0.1)
        again = tmp_path / path.with_stem("again").name
        again.write_bytes(path.read_bytes())
        assert identify.identify(str(again)).track_id == found.track_id
        heard_s = 0.0
        for _, decoder in decode.decoders(path):
            with contextlib.suppress(decode.DecodeError):
                sound = decoder(path, 0.0, None)
                heard_s = sum(map(len, sound.blocks)) / sound.rate
                break
        assert heard_s == pytest.approx(audio.shape[1] / demo.RATE, abs=0.1)
    assert identify.identify(str(twice)).title == TAGS["title"]


def with_headers_twice(song: bytes) -> bytes:
    """Ogg Vorbis as an editor of tags has left it: before the sound, its headers come once more."""
    pages = [b"OggS" + page for page in song.split(b"OggS")[1:]]
    whole = b""
    for number, page in enumerate(pages[:2] + pages):
        header = bytearray(page[:27])
        header[5] = header[5] & ~2 if number else 2  # which page is the stream's first
        header[18:26] = struct.pack("<II", number, 0)
        header[22:26] = struct.pack("<I", ogg_checksum(bytes(header) + page[27:]))
        whole += bytes(header) + page[27:]
    return whole


@pytest.mark.parametrize(
    "suffix", [".mp3", ".aac", ".ogg", ".flac", ".wav", ".m4a", ".wma", ".mp2"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\0" * 100_000,
        b"Dear diary, today I called a text file a song.\n" * 500,
        random.Random(2).randbytes(1000),
        random.Random(3).randbytes(300_000),
        b"#EXTM3U\n#EXTINF:10,\nhttp://localhost/song.mp3\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
    ],
    ids=["empty", "one-byte", "zeros", "text", "noise", "more-noise", "playlist", "script"],
)
def test_what_is_no_audio_gets_a_reason(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"song{suffix}"
    path.write_bytes(content)
    found = identify.identify(str(path))
    assert found == Identified(error=found.error)
    assert found.error


def test_no_format_is_opened_that_names_other_files() -> None:
    formats = set(identify.OPEN_OPTIONS["format_whitelist"].split(","))
    lists = {"applehttp", "concat", "dash", "hls", "image2", "imf", "lavfi", "sdp", "rtsp", "tty"}
    assert not formats & lists
    known = {name for each in av.formats_available for name in each.split(",")}
    assert formats <= known | {"mpc8"}


@pytest.mark.parametrize("suffix", [".mp3", ".mp4", ".mkv", ".avi", ".rm", ".flv", ".wmv", ".dts"])
def test_a_playlist_does_not_make_us_open_the_files_it_names(
    suffix: str, audio: np.ndarray, tmp_path: Path
) -> None:
    song, trap = tmp_path / "song.mp3", tmp_path / f"trap{suffix}"
    demo.encode(song, audio, demo.RATE, TAGS)
    trap.write_text(f"ffconcat version 1.0\nfile '{song}'\n")
    assert identify.identify(str(trap)).track_id is None
    trap.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{song}\n#EXT-X-ENDLIST\n")
    assert identify.identify(str(trap)).track_id is None


def test_a_picture_is_not_a_song(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp3"
    with av.open(str(path), "w", format="image2") as container:
        stream: Any = container.add_stream("png", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for packet in (*stream.encode(picture), *stream.encode(None)):
            container.mux(packet)
    assert identify.identify(str(path)).error


def test_a_file_we_may_not_read_says_so(ordinary_user: Path) -> None:
    path = ordinary_user / "song.mp3"
    path.write_bytes(b"secret")
    path.chmod(0)
    assert identify.identify(str(path)).error == f"{identify.CANNOT_READ}: Permission denied"
    assert identify.identify(str(path) + "x").error == (
        f"{identify.CANNOT_READ}: No such file or directory"
    )


@pytest.mark.parametrize(
    ("suffix", "container", "size"), [(".mka", "matroska", 100), (".opus", "ogg", 100)]
)
def test_damage_is_not_told_as_a_disks_trouble(
    suffix: str, container: str, size: int, audio: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / f"song{suffix}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(demo.FORMATS, suffix, demo.Format(container, "libopus", rate=48_000))
        demo.encode(path, audio, demo.RATE, {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises((OSError, av.FFmpegError), match=r"Input/output|End of file"):
        av.open(str(path))
    assert (identify.identify(str(path)).error or "").startswith("damaged")


def test_a_file_that_would_end_before_it_starts_is_as_long_as_its_packets(
    audio: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "song.wv"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(demo.FORMATS, ".wv", demo.Format("wv", "wavpack"))
        demo.encode(path, audio, demo.RATE, {})
    content = bytearray(path.read_bytes())
    blocks = [at for at in range(len(content)) if content[at : at + 4] == b"wvpk"]
    content[blocks[0] + 16 : blocks[0] + 20] = (2**31).to_bytes(4, "little")  # its first sample
    path.write_bytes(content)
    found = identify.identify(str(path))
    assert found.track_id
    assert found.duration_s == pytest.approx(audio.shape[1] / demo.RATE, rel=0.1)


def test_a_file_that_hangs_is_given_up_and_its_neighbours_are_not(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, song = tmp_path / "pipe.mp3", next(library.rglob("*.flac"))
    os.mkfifo(pipe)
    monkeypatch.setattr(identify, "PATIENCE_S", 1.0)
    found = dict(identify.identify_files([(str(pipe), 0), (str(song), song.stat().st_size)]))
    assert "stopped" in (found[str(pipe)].error or "")
    assert found[str(song)] == identify.identify(str(song))
