"""Settings from outside, each wrong in every way that people get them wrong."""

import os
from pathlib import Path

import pytest

from fastdino.core import environment
from fastdino.core.environment import (
    EXCLUDE,
    HOME,
    JOBS,
    MINUTES,
    MUSIC,
    PLAYLISTS,
    PLAYLISTS_EXCLUDE,
    PLAYLISTS_PATHS,
    PLAYLISTS_SONGS,
    PRESET,
    QUIET_MINUTES,
    SERVER,
    SERVER_PASSWORD,
    SERVER_PATHS,
    STORE,
    STORE_CACHE_GB,
    VARIABLES,
)
from fastdino.core.errors import UserError
from fastdino.training.settings import PRESETS


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ, *(each.name for each in VARIABLES)]:
        if name.startswith("FASTDINO_"):
            # Set first: what a test reads from a file is taken back as well.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_what_is_not_set_or_empty_is_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (None, "", "  "):
        for variable in VARIABLES:
            if text is not None:
                monkeypatch.setenv(variable.name, text)
            assert variable.value() == variable.unset
    environment.check()


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        (MUSIC, "/a:/b", ("/a:/b",)),
        (HOME, "/x", Path("/x")),
        (HOME, "~/x", Path.home() / "x"),
        (EXCLUDE, " */Podcasts/* : *.instrumental.mp3:", ("*/Podcasts/*", "*.instrumental.mp3")),
        (PLAYLISTS, "~/Music/Playlists", "~/Music/Playlists"),
        (PLAYLISTS_PATHS, "relative", "relative"),
        (PLAYLISTS_PATHS, "~/Music=/music:/a=b=/c", "~/Music=/music:/a=b=/c"),
        (PLAYLISTS_SONGS, "30", 30),
        (PLAYLISTS_EXCLUDE, "/a:*/b/*", ("/a", "*/b/*")),
        (SERVER, "http://127.0.0.1:4533", "http://127.0.0.1:4533"),
        (SERVER, "https://music.example.org/jelly/", "https://music.example.org/jelly"),
        (SERVER, "http://[::1]:8096", "http://[::1]:8096"),
        (SERVER_PASSWORD, "a b:c=d@e", "a b:c=d@e"),
        (SERVER_PATHS, "/home/me/Music=/music:~/b=/b", "/home/me/Music=/music:~/b=/b"),
        (PRESET, "tiny", "tiny"),
        (MINUTES, " 2.5 ", 2.5),
        (QUIET_MINUTES, "0", 0.0),
        (QUIET_MINUTES, "10", 10.0),
        (STORE, "s3://music", "s3://music"),
        (STORE, " s3://music/of.mine/2026/ ", "s3://music/of.mine/2026"),
        (STORE_CACHE_GB, "0.5", 0.5),
        (JOBS, "http://10.0.0.1:8265", "http://10.0.0.1:8265"),
    ],
)
def test_what_is_set_is_taken(
    variable: environment.Variable, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable.name, text)
    assert variable.value() == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("FASTDINO_MINUTES", text) for text in ("1,5", "ten", "-1", "0", "nan", "inf")),
        *(("FASTDINO_QUIET_MINUTES", text) for text in ("two", "-1", "nan")),
        *(("FASTDINO_PRESET", text) for text in ("CPU", "huge", "cpu gpu")),
        *(("FASTDINO_STORE", text) for text in ("music", "s3://", "s3://M", "s3://m/../x")),
        ("FASTDINO_STORE", "https://127.0.0.1/music"),
        ("FASTDINO_STORE_CACHE_GB", "0"),
        *(("FASTDINO_PLAYLISTS_SONGS", text) for text in ("0", "-1", "1.5", "all")),
        *(("FASTDINO_PLAYLISTS_PATHS", text) for text in ("here", "/a", "a=/b", "/a=b", "/a=/b:")),
        *(("FASTDINO_SERVER", text) for text in ("music", "127.0.0.1:4533", "http://", "ftp://a")),
        *(("FASTDINO_SERVER", f"http://a{end}") for end in (":99999", "/?u=x", "/#x", " b", "\nb")),
        *(("FASTDINO_SERVER_PATHS", text) for text in ("absolute", "/a", "a=/b", "/a=b")),
        ("FASTDINO_HOME", "~nobody-of-that-name/x"),
        *(("RAY_API_SERVER_ADDRESS", text) for text in ("auto", "10.0.0.1:8265", "ray://a:1")),
    ],
)
def test_what_it_cannot_be_is_told_with_the_name_and_what_it_may_be(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    (variable,) = (each for each in VARIABLES if each.name == name)
    with pytest.raises(UserError) as told:
        environment.check()
    assert str(told.value) == f"{name} is {text!r}: set {variable.may_be}"


def test_the_nearest_file_counts_and_what_is_set_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".env").write_text("FASTDINO_PRESET=gpu\n")
    (tmp_path / "a" / ".env").write_bytes(
        b"\xef\xbb\xbfFASTDINO_PRESET=tiny\r\nFASTDINO_MINUTES=3\r\n"
    )
    monkeypatch.chdir(inner)
    monkeypatch.setenv("FASTDINO_MINUTES", "7")
    environment.load()
    assert (PRESET.value(), MINUTES.value()) == ("tiny", 7.0)


def test_a_file_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(
        "FASTDINO_PRESET=tiny\nFASTDINO_MUSIC=/Müsik\n".encode("latin-1")
    )
    with pytest.raises(UserError, match=r"/\.env is not UTF-8 text \(line 2\): save it as UTF-8"):
        environment.load()


def test_a_name_there_is_not_is_told_with_the_one_that_may_be_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FASTDINO_MINUTE", "3")
    environment.check()
    assert "there is no setting FASTDINO_MINUTE; did you mean FASTDINO_MINUTES?" in caplog.text


def test_a_server_s_password_is_neither_shown_nor_told_to_other_computers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTDINO_SERVER", "http://127.0.0.1:4533")
    monkeypatch.setenv("FASTDINO_SERVER_PASSWORD", "correct horse")
    assert environment.shown(SERVER) == "http://127.0.0.1:4533"
    assert environment.shown(SERVER_PASSWORD) == "(set)"
    told = environment.told()
    assert told["FASTDINO_SERVER"] == "http://127.0.0.1:4533"
    assert "correct horse" not in told.values()
    monkeypatch.setenv("FASTDINO_SERVER", "http://ann:horse@127.0.0.1:4533")
    with pytest.raises(UserError, match="has credentials in it") as said:
        environment.check()
    assert "horse" not in str(said.value)
    monkeypatch.setenv("FASTDINO_SERVER_PASSWORD", "")
    assert environment.shown(SERVER_PASSWORD) == ""


def test_the_presets_that_can_be_named_are_those_there_are() -> None:
    assert set(environment.PRESETS) == {"auto", *PRESETS}
