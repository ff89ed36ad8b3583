"""The command line's ``compare``."""

from pathlib import Path

import pytest

from fastdino.__main__ import main, parser


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
