"""``fastdino similar`` and ``fastdino playlist``: what people type, and what they are shown."""

import contextlib
import datetime
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import synthetic
from rich.cells import cell_len

from fastdino.__main__ import main
from fastdino.core.home import Home
from fastdino.database import publish, questions

Out = pytest.CaptureFixture[str]


@pytest.fixture
def ask(demo_home: tuple[Home, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the demo library in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: main([*words, "--home", str(demo_home[0].root)])


def test_a_song_is_found_by_half_its_title_and_those_like_it_are_listed(ask, capsys: Out) -> None:
    assert ask("similar", "papr", "brige", "-n", "3") == 0
    first, _, *songs = capsys.readouterr().out.splitlines()
    assert first == "Like Paper Bridge · The Paper Orchard · Little Umbrella"
    assert len(songs) == 3
    assert all("The Paper Orchard" in line for line in songs)


def test_where_several_songs_may_be_meant_the_others_are_offered(ask, capsys: Out) -> None:
    assert ask("similar", "hollow antenna") == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("Like Hollow Antenna · Blue Stairwell")
    assert "Hollow Antenna · Lantern & Wren" in second
    assert ask("similar", "hollow antenna", "lantern") == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("Like Hollow Antenna · Lantern & Wren")
    assert "If you mean another" not in second


def test_a_song_can_be_given_by_its_id(ask, capsys: Out) -> None:
    assert ask("similar", synthetic.track_id(18)) == 0
    assert "Like Distant River" in capsys.readouterr().out


def test_moments_are_found_with_where_they_begin(ask, capsys: Out) -> None:
    assert ask("similar", "Paper Bridge", "--at", "0:12", "-n", "4") == 0
    first, heading, *songs = capsys.readouterr().out.splitlines()
    assert first.endswith(", around 0:12")
    assert heading.split() == ["Title", "Artist", "Album", "From", "Similarity"]
    assert len(songs) == 4
    assert all(line.split()[-2] in {"0:00", "0:10", "0:20"} for line in songs)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["similar", "zzzz qqqq"], "no title, artist or album is like “zzzz qqqq”"),
        (["similar", "Paper Bridge", "--at", "9:00"], "ends at 0:30: give an earlier --at"),
        (["similar", "Jagged Orbit"], "is not known: stopped after its 61 s"),
        (["similar", "Jagged Orbit", "--at", "5"], "is not known: stopped after its 61 s"),
        (["playlist", "--like", "Jagged Orbit"], "is not known: stopped after its 61 s"),
        (["playlist", "--from", "Paper Bridge", "--to", "Jagged Orbit"], "is not known: stopped"),
        (["playlist", "--like", "zzzz qqqq"], "no title"),
        (
            ["playlist", "--cluster", "zzzz"],
            "no cluster has “zzzz” in the name. Name one of: Ambient",
        ),
        (
            ["playlist", "--cluster", ""],
            "several clusters have “” in the name. Name one of: Ambient",
        ),
        (["playlist", "--from", "Paper Bridge"], "--from SONG and --to SONG go together"),
        (["playlist", "--surprise", "--to", "Paper Bridge"], "--from SONG and --to SONG"),
    ],
)
def test_what_cannot_be_answered_is_said_with_what_to_do(ask, words, says, capsys: Out) -> None:
    assert ask(*words) == 2
    assert says in capsys.readouterr().err


# Titles, artists and albums as they are: most alone are wider than a narrow terminal.
LONG = [
    (
        "Études symphoniques, Op. 13: Variation XI. Andante espressivo (Remastered)",
        "Anna-Maria Hohenstaufen & the Chamber Orchestra of the North",
        "The Complete Recordings, Volume 12",
    ),
    (
        "夜に駆ける・銀河鉄道の夜・遠い川の向こう側、そして誰もいなくなった二十一世紀の歌",
        "東京スカパラダイスと仲間たち・特別編成交響楽団と少年少女合唱団および友人一同",
        "日本の歌 第二集",
    ),
    ("가나다라마바사" * 30, "밴드" * 30, "모음집" * 20),
    ("Up", "Yo", "A"),
]


def in_terminal(cells: int, *words: str) -> list[str]:
    """What a command prints on a real terminal of so many columns, without colours."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, cells, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fastdino", *words],
        stdin=theirs,
        stdout=theirs,
        env={**kept, "TERM": "xterm"},
    )
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # So ends what is read from a terminal.
        while part := os.read(ours, 4096):
            told += part
    os.close(ours)
    assert process.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", told.decode()).splitlines()


@pytest.mark.parametrize(("cells", "at"), [(160, []), (80, []), (40, ["--at", "0:05"])])
def test_no_name_pushes_rank_artist_or_figures_out_of_a_terminal(
    home: Home, cells: int, at: list[str]
) -> None:
    songs = [synthetic.song(i) for i in range(9)]
    for song, (title, artist, album) in zip(songs[1:], LONG * 2, strict=True):
        song |= {"title": title, "artist": artist, "artists": [artist], "album": album}
    synthetic.write_home(home, 9)
    synthetic.write_catalog(home, songs)
    publish(home)
    words = ["similar", synthetic.track_id(0), *at, "--home", str(home.root)]
    _, heading, *lines = in_terminal(cells, *words)
    assert heading.split() == ["Title", "Artist", *(["From"] if at else []), "Similarity"]
    assert len(lines) == 8
    artists = {artist: cell_len(artist) for _, artist, _ in LONG}
    begin = cell_len(heading[: heading.index("Artist")])
    for number, line in enumerate(lines, 1):
        # Every column is where its heading says, wide characters or not, and within the width.
        assert cell_len(line.rstrip()) == cell_len(heading.rstrip()) <= cells
        assert line.split()[0] == str(number)
        assert re.fullmatch(r"-?[01]\.\d\d", line.split()[-1])
        if at:
            assert re.fullmatch(r"\d:\d\d", line.split()[-2])
        at_artist = next(k for k in range(len(line)) if cell_len(line[:k]) == begin)
        shown = re.split(r"  |…", line[at_artist:])[0].rstrip()
        (whole,) = (artist for artist in artists if artist.startswith(shown))
        assert cell_len(shown) >= min(artists[whole], 5)


def test_what_goes_to_another_program_is_not_cut(home: Home, capsys: Out) -> None:
    names = {name: f"{name} " * 80 + "end" for name in ("title", "artist", "album")}
    synthetic.write_home(home, 2)
    synthetic.write_catalog(home, [synthetic.song(0), synthetic.song(1) | names])
    publish(home)
    assert main(["similar", "Paper Bridge", "--home", str(home.root)]) == 0
    _, _, line = capsys.readouterr().out.splitlines()
    assert all(name in line for name in names.values())


def test_of_several_words_none_is_dropped(ask, capsys: Out) -> None:
    assert ask("similar", "paper", "demons") == 2
    told = capsys.readouterr().err
    assert "no song has all of “paper demons”" in told
    assert "leave out “demons”" in told
    assert ask("similar", "the", "paper", "brigde") == 0  # a slip is none


@pytest.mark.parametrize(
    "words", [["--like", "a", "--like", "b"], ["--from", "a", "--to", "b", "--to", "c"]]
)
def test_what_is_given_twice_is_not_dropped_but_refused(ask, words, capsys: Out) -> None:
    with pytest.raises(SystemExit) as ended:
        ask("playlist", *words)
    assert ended.value.code == 2
    assert "is given twice" in capsys.readouterr().err


def test_a_playlist_that_takes_another_s_place_says_so(ask, capsys: Out) -> None:
    for place in ("", " (in place of the one that was there)"):
        assert ask("playlist", "--surprise", "-n", "3", "-o", "today.m3u8") == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith("today.m3u8" + place)


def test_a_relative_playlist_outside_of_the_music_is_told(ask, demo_home, capsys: Out) -> None:
    assert ask("playlist", "--surprise", "-n", "3", "--relative", "-o", "today.m3u8") == 0
    assert "! 3 of the songs do not lie under" in capsys.readouterr().out


def test_the_home_may_be_named_before_the_command(demo_home, capsys: Out) -> None:
    home = str(demo_home[0].root)
    assert main(["--home", home, "similar", "paper bridge"]) == 0
    assert main(["--home", "/nowhere", "similar", "paper bridge", "--home", home]) == 0


@pytest.mark.parametrize("words", [["similar", "x", "--at", "soon"], ["similar", "x", "-n", "0"]])
def test_what_is_no_time_or_number_is_refused_at_once(ask, words) -> None:
    with pytest.raises(SystemExit) as ended:
        ask(*words)
    assert ended.value.code == 2


@pytest.mark.parametrize("given", ["abc", "1.5", ""])
def test_what_is_no_number_is_called_so(ask, given: str, capsys: Out) -> None:
    for words in (["similar", "x"], ["playlist", "--surprise"]):
        with pytest.raises(SystemExit):
            ask(*words, "-n", given)
        assert f"argument -n: {given!r} is no whole number" in capsys.readouterr().err


def test_a_number_that_no_database_knows_is_no_damage(ask, capsys: Out) -> None:
    for words in (
        ["similar", "Paper Bridge"],
        ["similar", "Paper Bridge", "--at", "5"],
        ["playlist", "--like", "Paper Bridge"],
    ):
        for number in (2**63 - 1, 10**20):
            if ask(*words, "-n", str(number)):
                told = capsys.readouterr().err
                assert "damaged" not in told
                assert "give a smaller number" in told
    assert ask("similar", "Paper Bridge", "-n", str(10**20)) == 2


def test_without_a_database_the_user_is_told_what_to_run(tmp_path: Path, capsys: Out) -> None:
    assert main(["similar", "x", "--home", str(tmp_path)]) == 2
    assert "run `make run`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["--like", "paper bridge"], "Like Paper Bridge.m3u8"),
        (
            ["--from", "paper bridge", "--to", "distant river"],
            "From Paper Bridge to Distant River.m3u8",
        ),
        (["--cluster", "meridian"], "Ambient, Slow Meridian.m3u8"),
        (["--surprise", "-o", "today.m3u8"], "today.m3u8"),
    ],
)
def test_a_playlist_lies_in_the_current_folder_under_its_own_name(
    ask, words, file, tmp_path: Path, capsys: Out
) -> None:
    assert ask("playlist", *words, "-n", "5") == 0
    assert [path.name for path in tmp_path.iterdir()] == [file]
    lines = (tmp_path / file).read_text(encoding="utf-8").splitlines()
    assert sum(Path(line).is_file() for line in lines) == 5
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 6
    assert shown[-1].endswith(file)


def test_a_playlist_can_go_to_another_program(ask, tmp_path: Path, capsys: Out) -> None:
    assert ask("playlist", "--like", "hollow antenna", "-n", "2", "-o", "-", "--relative") == 0
    told = capsys.readouterr()
    assert told.out.startswith("#EXTM3U\n")
    assert not any(tmp_path.iterdir())
    paths = [line for line in told.out.splitlines() if not line.startswith("#")]
    assert all((tmp_path / path).is_file() and not Path(path).is_absolute() for path in paths)
    assert "If you mean another" in told.err


def test_files_that_are_gone_are_named(ask, demo_home, capsys: Out) -> None:
    gone = demo_home[1][0]
    gone.unlink()
    try:
        assert ask("playlist", "--like", "Paper Bridge", "-n", "3") == 0
    finally:
        gone.touch()
    assert f"! not there, so left out: {gone}" in capsys.readouterr().out


def test_tags_and_names_cannot_steer_the_terminal(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    evil = "\x1b]0;owned\x07[red]\u202e\nPaper"
    rows = [
        {**synthetic.song(i), "title": f"{evil} {i}", "artist": evil, "path": f"{tmp_path}/{evil}"}
        for i in range(4)
    ]
    rows[3] |= {"track_id": synthetic.track_id(3), "path": f"{tmp_path}/{evil} gone"}
    synthetic.write_home(home, 4)
    later = synthetic.START + datetime.timedelta(days=1)
    synthetic.write_catalog(home, [row | {"path": f"{row['path']}{i}", "added_at": later}
                                   for i, row in enumerate(rows)])  # fmt: skip
    publish(home)
    for i in range(3):
        Path(f"{tmp_path}/{evil}{i}").touch()
    monkeypatch.chdir(tmp_path)
    for words in (
        ["similar", "paper"],
        ["similar", "paper", "--at", "3"],
        ["similar", "paper", "--at", "3:00"],
        ["similar", "\x1b[31m"],
        ["playlist", "--like", "paper"],
    ):
        main([*words, "--home", str(home.root)])
        told = capsys.readouterr()
        shown = told.out + told.err
        assert shown
        assert not set("\x1b\x07\u202e") & set(shown), words
        assert words[0] == "playlist" or words[1] != "paper" or "[red]" in shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("80", 80), ("1:20", 80), ("0:07.5", 7.5), ("1:00:05", 3605)]
)
def test_times_are_read_as_players_show_them(text: str, seconds: float) -> None:
    assert questions.seconds(text) == seconds
    assert questions.clock(questions.seconds(text)) == questions.clock(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:-5:0x", "nan", "inf", "1:nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        questions.seconds(text)
