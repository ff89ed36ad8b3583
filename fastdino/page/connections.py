"""Connections that dawdle, and too many of them.

Belongs here: how long a client may take to ask and to listen, and how many connections an address
may have: what is decided before a request is there. Does not: requests (``access``).
"""

import asyncio
import collections
import functools
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastdino.page.access import counted_as

# To say what is wanted, from the first byte to the last. A player that is paused takes nothing of
# what is sent to it; it comes back for the rest.
ASKING_S = 10.0
STALLED_S = 900.0
FROM_ONE_ADDRESS = 64
IN_ALL = 512

_open: collections.Counter[str] = collections.Counter()


class Connection(H11Protocol):
    """A connection that is closed where its client takes too long."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._asking: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless this address has too many already."""
        super().connection_made(transport)
        _open[self._peer] += 1
        if _open[self._peer] > FROM_ONE_ADDRESS:
            transport.abort()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        for timer in (self._asking, self._stalled):
            if timer:
                timer.cancel()
        _open[self._peer] -= 1
        if not _open[self._peer]:
            del _open[self._peer]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in a part of a request, of which the rest has to follow soon."""
        if self._asking is None:
            self._ask()
        super().data_received(data)
        if self._asking and self.conn.their_state in (h11.DONE, h11.MUST_CLOSE):
            self._asking.cancel()
            self._asking = None

    def pause_writing(self) -> None:
        """The client takes nothing for now."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def _ask(self) -> None:
        self._asking = self.loop.call_later(ASKING_S, self.transport.abort)

    @functools.cached_property
    def _peer(self) -> str:
        return counted_as(self.client[0] if self.client else None)
