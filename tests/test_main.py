"""The command line: ``compare``, and what is printed to be copied."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fastdino.__main__ import main, parser
from fastdino.core.home import Home


def test_lists_are_separated_by_spaces_and_several_label_files_can_be_given() -> None:
    line = ["compare", "--arms", "dino", "published", "--minutes", "0.5", "2", "--labels", "a.csv"]
    options = parser().parse_args([*line, "--labels", "b.csv"])
    assert options.arms == ["dino", "published"]
    assert options.minutes == [0.5, 2.0]
    assert options.labels == ["a.csv", "b.csv"]


def test_no_budget_at_all_can_be_asked_for() -> None:
    assert parser().parse_args(["compare", "--minutes"]).minutes == []


def test_comparing_before_there_are_spectrograms_ends_with_2_and_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--home", str(tmp_path)]) == 2
    assert "fastdino spectrograms" in capsys.readouterr().err


def test_the_commands_that_are_printed_at_the_end_open_the_home_that_was_named(
    demo_home: tuple[Home, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = tmp_path / "my music's results"
    shutil.copytree(demo_home[0].root, named)
    assert main(["report", "--home", str(named)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    (serve,) = (shlex.split(line, comments=True) for line in lines if "serve" in line)
    assert parser().parse_args(serve[3:]).home == named
    (query,) = (line for line in lines if "-readonly" in line)
    answer = subprocess.run(query, shell=True, capture_output=True, text=True, check=True)
    assert "title" in answer.stdout
