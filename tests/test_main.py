"""The command line: ``compare``, and what is printed to be copied."""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastdino.__main__ import main, parser, show, show_tables
from fastdino.core.environment import VARIABLES
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.steps import COMMANDS


def test_lists_are_separated_by_spaces_and_several_files_can_be_given() -> None:
    line = ["compare", "--arms", "dino", "published", "--minutes", "0.5", "2", "--labels", "a.csv"]
    more = ["--labels", "b.csv", "--vectors", "bliss=b.npz", "--vectors", "other=o.parquet"]
    options = parser().parse_args([*line, *more])
    assert options.arms == ["dino", "published"]
    assert options.minutes == [0.5, 2.0]
    assert options.labels == ["a.csv", "b.csv"]
    assert options.vectors == ["bliss=b.npz", "other=o.parquet"]


def test_no_budget_at_all_can_be_asked_for() -> None:
    assert parser().parse_args(["compare", "--minutes"]).minutes == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_step_can_be_given_and_its_default_stands_in_the_step_alone(
    command: str,
) -> None:
    needed = ["some-model"] if command == "forget" else []
    options = vars(parser().parse_args([command, *needed]))
    (of_command,) = (
        action.choices[command] for action in parser()._actions if action.dest == "command"
    )
    there = {action.dest for action in of_command._actions}
    for step in COMMANDS[command]:
        # What follows a promotion or a report is given no options of its own.
        names = {field.name for field in dataclasses.fields(step)}
        # Nor are the playlists at the end of a run, which go by their settings.
        assert not names & there if command != step.name == "playlists" else names <= there
        assert not names & options.keys() - {"model_id" if needed else ""}


@pytest.mark.parametrize("option", ["--incremental", "--cluster", "--collection"])
@pytest.mark.parametrize("songs", ["0", "-5", "many"])
def test_a_number_of_songs_that_is_none_is_told_by_its_option(
    option: str, songs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["bench", option, songs])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {option}: " in said
    assert f"{songs} is less than 1" in said or f"'{songs}' is no whole number" in said


def test_help_is_shown_whatever_is_set_and_lists_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTDINO_MINUTES", "1,5")
    monkeypatch.setenv("FASTDINO_PRESET", "CPU")
    for line in (["--help"], ["train", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(line)
        assert end.value.code == 0
    printed = capsys.readouterr().out
    assert {variable.name for variable in VARIABLES} <= set(printed.split())


@pytest.mark.parametrize("command", ["run", "report", "similar x", "bench", "verify"])
def test_what_is_set_wrongly_ends_every_command_before_it_does_anything(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTDINO_PRESET", "CPU")
    assert main([*command.split(), "--home", str(tmp_path / "home")]) == 2
    out, err = capfd.readouterr()
    expected = "fastdino: FASTDINO_PRESET is 'CPU': set one of auto, cpu, gpu, tiny\n"
    assert (out, err) == ("", expected)
    assert not list(tmp_path.iterdir())


def test_an_option_that_cannot_be_ends_a_run_before_its_first_step(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(library), "--minutes", "-1", "--home", str(tmp_path / "home")]) == 2
    assert "above 0" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_comparing_before_there_are_spectrograms_ends_with_2_and_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--home", str(tmp_path)]) == 2
    assert "fastdino spectrograms" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a?b", "a?access_mode=x", "a\\b"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_home_in_which_no_database_can_be_written_is_told_before_anything_is_done(
    name: str, linked: bool, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / name
    if linked:
        home.mkdir()
        (tmp_path / "link").symlink_to(home)
        home = tmp_path / "link"
    assert main(["run", str(library), "--home", str(home)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{name}, whose name has a {'?' if '?' in name else chr(92)} in it" in err
    assert not list(tmp_path.rglob("*/*"))


@pytest.mark.parametrize(
    "words", ["playlist --surprise -o -", "playlist --surprise", "similar Paper Bridge", "settings"]
)
def test_who_reads_no_further_ends_a_command_without_a_word(
    words: str, demo_home: tuple[Home, list[Path]], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    home = str(demo_home[0].root)
    command = [sys.executable, "-m", "fastdino", "--home", home, *words.split()]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_another_pipe_that_breaks_is_a_bug_with_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def breaks(options: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("fastdino.__main__.execute", breaks)
    with capfd.disabled(), pytest.raises(BrokenPipeError):
        main(["settings"])


@pytest.mark.parametrize("columns", ["200", "20"])
@pytest.mark.parametrize("name", [":x:", "a\\", "[bold]b[/bold]\\", "[/]"])
def test_names_are_printed_as_they_are(
    name: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    rows = [{name: name, "file": name}, {name: "x", "file": "y"}]
    summary = Summary("playlists", name, True, warnings=[name], tables={"t": rows})
    show(summary, 1.0)
    show_tables(summary)
    told = capsys.readouterr().out.splitlines()
    assert f"{name} (1.0 s)" in told[0]
    assert told[1] == f"  ! {name}"
    table = "".join("".join(told[2:]).split())
    assert table.count(name) >= 3
    assert name + "\\" not in table


@pytest.mark.parametrize(
    "words",
    [
        ["playlist", "--surprise", "-o", "{name}.m3u8"],
        ["export", "parquet", "-o", "{name}"],
        ["demo", "{name}"],
        ["similar", "x", "--home", "{name}"],
    ],
)
def test_a_name_that_no_file_system_takes_is_one_line(
    words: list[str],
    demo_home: tuple[Home, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTDINO_HOME", str(demo_home[0].root))
    name = "x" * 300
    assert main([word.format(name=name) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert name in told
    assert "File name too long" in told


@pytest.mark.parametrize(
    "name", ["my music's results", "100%25 [a-z]* #1; {x} ~ $HOME & co.", "ä ö"]
)
def test_the_commands_that_are_printed_at_the_end_open_the_home_that_was_named(
    name: str,
    demo_home: tuple[Home, list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = tmp_path / name
    shutil.copytree(demo_home[0].root, named)
    (named / "music.duckdb").unlink()  # so that it is made here
    assert main(["report", "--home", str(named)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    (serve,) = (shlex.split(line, comments=True) for line in lines if " serve " in line)
    assert parser().parse_args(serve[3:]).home == str(named)
    (query,) = (line for line in lines if "-readonly" in line)
    answer = subprocess.run(query, shell=True, capture_output=True, text=True, check=True)
    assert "title" in answer.stdout
