"""Checking what is known of a music server's songs.

Belongs here: whether it can be read. Does not: whether it is still so, which the server alone can
say.
"""

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.servers import matching
from fastdino.upkeep.verify.finding import Finding, Findings, reason


def check(home: Home, *, repair: bool) -> Findings:
    """Check the music server's ids; a repair deletes them if they are damaged."""
    if not home.server_ids.exists():
        return
    try:
        matching.read(home)
    except UserError as error:
        found = Finding(
            home.server_ids,
            reason(home.server_ids, error),
            "deleted; the next `fastdino match` or `fastdino run` asks the server again",
        )
        yield found.settled(home.server_ids.unlink, repair=repair)
