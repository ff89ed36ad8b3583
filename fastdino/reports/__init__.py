"""Draw the map, find clusters and neighbours, and write the page people look at."""

from fastdino.home import Home
from fastdino.storage import alone
from fastdino.summary import Summary


def run_map(home: Home) -> Summary:
    """Draw the map of the current model's songs; see ``fastdino.reports.map``."""
    from fastdino.reports import map

    with alone(home.root / "maps"):
        return map.run_map(home)


def run_page(home: Home) -> Summary:
    """Write the report page; see ``fastdino.reports.page``."""
    from fastdino.reports import page

    with alone(home.page.parent):
        return page.run_page(home)
