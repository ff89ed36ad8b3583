"""The table of measurements."""

import pytest

from fastdino.bench import table
from fastdino.bench.table import Row
from fastdino.core.errors import UserError
from fastdino.core.home import Home


def test_a_row_is_compared_where_there_is_something_to_compare_with() -> None:
    assert Row("speed", 20.0, "x", "the plain way", 10.0).ratio == 2.0
    assert Row("speed", 20.0, "x").ratio is None


def test_an_unknown_part_is_named_with_those_there_are(home: Home) -> None:
    with pytest.raises(UserError, match=r"'sound'.*spectrograms"):
        table.main(home, ["sound"])
