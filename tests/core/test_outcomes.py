import json
import math
from pathlib import Path

import pytest

from fastdino.core import outcomes
from fastdino.core.home import Home
from fastdino.core.outcomes import Outcome
from fastdino.core.summary import Column, Relation, Summary

DONE = Summary(
    "map",
    "3 songs",
    True,
    counts={"songs": 3, "share": 0.5, "codec": None},
    tables={"songs": [{"title": "\udce9 <b>"}]},
    plots={"map": b"\x89PNG"},
    paths={"map": Path("/x")},
    warnings=["do this"],
    relations=[Relation("a.b", "rows", 3, [Column("c", "INT", "what")])],
)


def test_what_a_step_did_is_read_as_it_was_kept(home: Home) -> None:
    outcomes.keep(home, "map", Outcome(DONE, 1.0, 1.5))
    assert outcomes.last(home, ["map"]) == [Outcome(DONE, 1.0, 1.5)]


def test_when_a_step_began_is_told_and_of_an_older_version_when_it_ended(home: Home) -> None:
    assert outcomes.began_s(home, "map") == math.inf
    outcomes.keep(home, "map", Outcome(DONE, 1.0, 1.5))
    assert outcomes.began_s(home, "map") == 1.0
    file = home.outcomes / "map.json"
    plain = json.loads(file.read_text())
    del plain["began_s"]
    file.write_text(json.dumps(plain))
    assert outcomes.began_s(home, "map") == 1.5


def test_what_a_killed_run_was_keeping_is_deleted_by_the_next(home: Home) -> None:
    outcomes.keep(home, "map", Outcome(DONE, 1.0, 1.5))
    half = home.outcomes / ".publish.json.0123abcd.part"
    half.write_text("{")
    outcomes.keep(home, "map", Outcome(DONE, 2.0, 2.5))
    assert not half.exists()


def test_of_steps_that_go_together_one_of_another_time_is_left_out(home: Home) -> None:
    for step, ended_s in (("embed", 2.0), ("candidate", 1.0), ("map", 3.0)):
        outcomes.keep(home, step, Outcome(Summary(step, step, True), 0.5, ended_s))
    last = outcomes.last(home, ["embed", "candidate", "map", "never"])
    assert [outcome.summary.stage for outcome in last] == ["embed", "map"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ended_s": 1, "summary": {"x": 1}}'])
def test_what_is_damaged_is_passed_over(home: Home, text: str) -> None:
    outcomes.keep(home, "map", Outcome(DONE, 0.5, 1.0))
    (home.outcomes / "map.json").write_text(text)
    assert outcomes.last(home, ["map"]) == []


def test_a_version_is_of_the_files_and_of_nothing_else(tmp_path: Path) -> None:
    files = [(tmp_path, "*.parquet")]
    assert outcomes.version(files) is None
    (tmp_path / "a.parquet").write_bytes(b"1")
    first = outcomes.version(files)
    assert first
    (tmp_path / "a.log").write_bytes(b"1")
    assert outcomes.version(files) == first
    (tmp_path / "b.parquet").write_bytes(b"1")
    assert outcomes.version(files) != first
