"""Tables in narrow terminals lose nothing."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from fastdino.core.terminal import print_table

ROWS = [
    ("model-of-a-long-name-20260101-120000", "夜に駆ける銀河鉄道の夜の向こう側", "123,456"),
    ("b", "[not markup", "7"),
]


def printed(cells: int) -> list[str]:
    table = Table("model", "what it is", title="Models")
    table.add_column("songs", justify="right", no_wrap=True)
    for name, what, songs in ROWS:
        table.add_row(name, what.replace("[", r"\["), songs)
    console = Console(file=io.StringIO(), width=cells, highlight=False)
    print_table(console, table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_where_there_is_room_a_table_is_a_table() -> None:
    assert any(all(cell in line for cell in ROWS[0]) for line in printed(120))


@pytest.mark.parametrize("cells", [80, 40])
def test_where_there_is_none_its_rows_stand_one_below_another_in_full(cells: int) -> None:
    lines = printed(cells)
    assert all(cell_len(line) <= cells for line in lines)
    text = "".join("".join(lines).split())
    for row in ROWS:
        for cell in row:
            assert "".join(cell.split()) in text, cell
