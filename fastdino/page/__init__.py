"""The page: the collection to look at and listen to, in a browser.

Belongs here: gathering what it shows from the published database (``page``), how it looks and
behaves (``web/``), serving it with sound (``server``, ``sound``). Does not: the answers it shows,
which are the database's.
"""

from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock
from fastdino.core.summary import Summary

__all__ = ["write_page"]


def write_page(home: Home) -> Summary:
    """Write the page; see ``fastdino.page.page``."""
    from fastdino.page import page

    with exclusive_lock(home.page.parent):
        return page.write_page(home)
