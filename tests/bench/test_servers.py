"""The measurement of music servers' questions asks them, and all are answered."""

import pytest
import synthetic

from fastdino.bench import servers
from fastdino.core.home import Home
from fastdino.database import publish


def test_every_question_is_answered_and_has_its_rows(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "REPEATS", 3)
    synthetic.write_home(home, 12)
    publish(home)
    rows = list(servers.rows(home))
    assert [row.measure.partition(",")[0] for row in rows] == [
        "music server's first question", *["similar_tracks"] * 2, *["find_path"] * 2,
    ]  # fmt: skip
    assert all(row.unit == "ms" and row.ours > 0 for row in rows)
