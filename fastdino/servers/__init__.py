"""A music server that asks: which of its songs are which of ours, and what is like them.

Belongs here: asking Navidrome, Jellyfin or another for its songs (``listing``), telling which ones
are here (``matching``), and those with their vectors, in memory (``collection``). Does not: the
questions that servers ask over HTTP (``fastdino.page.for_servers``).
"""

from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock
from fastdino.core.summary import Summary

__all__ = ["match"]


def match(home: Home) -> Summary | None:
    """Learn a server's ids; see ``fastdino.servers.matching``. None if no server is named."""
    from fastdino.servers import listing, matching

    server = listing.configured()
    if server is None:
        return None
    with exclusive_lock(home.server_ids.parent):
        return matching.run(home, server)
