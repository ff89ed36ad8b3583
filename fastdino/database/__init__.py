"""The database: ``music.duckdb``, which people and the page query.

Belongs here: its tables, views and macros (``schema.sql``), filling and publishing it
(``publishing``), reading it (``connection``), what is answered from it on the command line
(``questions``, ``playlists``), and what is made of it for others: a folder of playlists
(``playlist_folder``), files for data tools (``export``). Does not: computing what is in it, or
showing it as a page.
"""

from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock
from fastdino.core.summary import Summary

__all__ = ["publish"]


def publish(home: Home) -> Summary:
    """Publish ``music.duckdb``; see ``fastdino.database.publishing``."""
    from fastdino.database import publishing

    with exclusive_lock(home.root, with_all_below=False):
        return publishing.publish(home)
