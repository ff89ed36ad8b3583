"""Ogg files that were joined from several: a chain of links, each a file of its own.

Belongs here: where links begin, and a part of a file as a file. Does not: opening or decoding them.

FFmpeg goes on with the next link as long as it is like the first. Where its rate or its channels
are others, it gives up; opened by itself, the link is sound.
"""

import io
from pathlib import Path

PAGE = b"OggS"
HEADER_BYTES = 27
FIRST_PAGE = 0x02  # the flag of a stream's first page
READ_BYTES = 1 << 20


def links(path: str | Path) -> list[tuple[int, int]]:
    """First byte of each link and the one after its last; none of what is not Ogg.

    Pages are found by their mark, so damage between them does no harm.
    """
    begins = []
    page_before_was_first = False
    with open(path, "rb") as file:
        size, base, held = file.seek(0, 2), 0, b""
        file.seek(0)
        if file.read(len(PAGE)) != PAGE:
            return []
        file.seek(0)
        while block := file.read(READ_BYTES):
            held += block
            at = held.find(PAGE)
            while 0 <= at <= len(held) - HEADER_BYTES:
                # First pages stand together: those of all streams of a link.
                is_first = held[at + 4] == 0 and held[at + 5] & FIRST_PAGE != 0
                if is_first and not page_before_was_first:
                    begins.append(base + at)
                page_before_was_first = is_first
                at = held.find(PAGE, at + len(PAGE))
            kept = held[-HEADER_BYTES:]
            base += len(held) - len(kept)
            held = kept
    return list(zip(begins, [*begins[1:], size], strict=True))


class Part(io.RawIOBase):
    """The bytes from ``begin`` to ``end`` of a file, as a file to read."""

    def __init__(self, path: str | Path, begin: int, end: int) -> None:
        self.name = str(path)
        self._file, self._begin, self._length = open(path, "rb"), begin, end - begin  # noqa: SIM115
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = max(0, offset + (0, self._at, self._length)[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        left = max(0, self._length - self._at)
        self._file.seek(self._begin + self._at)
        content = self._file.read(left if size < 0 else min(size, left))
        self._at += len(content)
        return content

    def close(self) -> None:
        """As of any file."""
        self._file.close()
        super().close()
