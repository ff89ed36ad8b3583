"""Tables in a terminal of whatever width.

Belongs here: how a table is shown where it is too wide. Does not: what is in it, or other people's
text (``text``).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# No table is wider, and what is not a terminal has no width: nothing is cut there.
ENDLESS = 100_000


def print_table(console: "Console", table: "Table") -> None:
    """Print ``table``; where it is too wide, its rows one below another, a line a cell.

    Nothing of it is ever cut off. Wide characters count as the two cells that they take.
    """
    from rich.measure import Measurement
    from rich.text import Text

    unbound = console.options.update(max_width=ENDLESS)
    if Measurement.get(console, unbound, table).maximum <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title)
    named = [console.render_str(str(column.header)) for column in table.columns]
    widest = max(name.cell_len for name in named)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        console.print()
        for name, cell in zip(named, row, strict=True):
            begin = Text(" " * (widest - name.cell_len))
            console.print(Text.assemble(begin, name, "  ", console.render_str(str(cell))))
