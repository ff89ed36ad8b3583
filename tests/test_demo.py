import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from fastdino import demo
from fastdino.core.errors import UserError


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {**container.metadata, **container.streams.audio[0].metadata}


def test_the_library_has_every_format_a_copy_and_a_damaged_file(library: Path) -> None:
    songs = demo.plan(library, artists=4, songs_per_artist=3, seconds=4.0)
    assert {song.path.suffix for song in songs} == set(demo.FORMATS)
    assert all(song.path.is_file() for song in songs)
    copy = library / "Unsorted" / "copy.mp3"
    assert copy.read_bytes() == songs[0].path.read_bytes()
    with pytest.raises(av.FFmpegError):
        av.open(str(library / "Unsorted" / "broken download.m4a"))
    assert len([p for p in library.rglob("*") if p.is_file()]) == len(songs) + 2


def test_every_song_lasts_as_long_as_asked_and_carries_its_tags(library: Path) -> None:
    for song in demo.plan(library, artists=4, songs_per_artist=3, seconds=4.0):
        tags = tags_of(song.path)
        assert tags["title"] == song.title, song.path
        assert tags["artist"] == song.artist.name
        assert tags["album"] == song.album
        assert tags["genre"] == song.artist.genre
        assert tags["date"] == str(song.year)
        assert tags["track"] == str(song.track)
        with av.open(str(song.path)) as container:
            assert container.duration is not None
            assert container.duration / 1e6 >= 4.0


def test_the_default_library_is_as_large_as_promised() -> None:
    songs = demo.plan(Path("x"), len(demo.ARTISTS), 6, 30.0)
    assert len(songs) >= 60
    assert len({song.artist.name for song in songs}) >= 8
    assert len({song.path for song in songs}) == len(songs)
    for artist in demo.ARTISTS:
        assert len({song.album for song in songs if song.artist is artist}) == 2


def test_a_second_run_writes_nothing_and_missing_songs_are_made_again(music: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in music.rglob("*") if p.is_file()}
    demo.synthesise(music, artists=4, songs_per_artist=3, seconds=4.0)
    assert {p: p.stat().st_mtime_ns for p in music.rglob("*") if p.is_file()} == before
    songs = [p for p in before if p.parent.name != "Unsorted"]
    contents = {path: path.read_bytes() for path in songs}
    for path in contents:
        path.unlink()
    demo.synthesise(music, artists=4, songs_per_artist=3, seconds=4.0)
    assert {path: path.read_bytes() for path in contents} == contents, "made the same every time"


def test_songs_of_one_artist_sound_alike_but_are_not_copies() -> None:
    songs = demo.plan(Path("x"), artists=6, songs_per_artist=3, seconds=4.0)
    colours = np.stack([colour(demo.compose(song)) for song in songs])
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 0.01
    nearest = distances.argmin(axis=1)
    right = [songs[i].artist is songs[j].artist for i, j in enumerate(nearest)]
    assert np.mean(right) > 0.8


def colour(audio: np.ndarray) -> np.ndarray:
    """Loudness in third octaves, in decades: the plainest description of a mix."""
    power = np.abs(np.fft.rfft(audio.mean(axis=0))) ** 2
    edges = (40 * 2 ** (np.arange(25) / 3) * audio.shape[1] / demo.RATE).astype(int)
    return np.log10([power[a:b].mean() + 1e-9 for a, b in itertools.pairwise(edges)])


def test_it_is_not_written_among_the_songs_of_others(tmp_path: Path) -> None:
    (tmp_path / "Abbey Road").mkdir()
    with pytest.raises(UserError, match="is not empty"):
        demo.synthesise(tmp_path, artists=1, songs_per_artist=1, seconds=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["Abbey Road"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        demo.synthesise(tmp_path / "file", artists=1, songs_per_artist=6, seconds=1.0)
