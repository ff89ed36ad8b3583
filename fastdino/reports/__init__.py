"""Reports: where songs lie among each other.

Belongs here: the map (``layout``, ``map``, ``map_files``), clusters and their names, each song's
nearest neighbours, pictures of the map, and two models side by side. Does not: vectors, or the
database and the page that show all this.
"""

from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock
from fastdino.core.summary import Summary

__all__ = ["draw_map"]


def draw_map(home: Home) -> Summary:
    """Draw the map of the current model's songs; see ``fastdino.reports.map``."""
    from fastdino.reports import map

    with exclusive_lock(home.root / "maps"):
        return map.draw_map(home)
