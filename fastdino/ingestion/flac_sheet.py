"""The CUE sheet that FLAC files may hold in a block of their own, without any names.

Belongs here: reading that block, as the text that it was made from. Does not: sheets among the
tags, what becomes of a sheet (``sheets``).
"""

import struct
from pathlib import Path

from fastdino.ingestion.cue import FRAMES_PER_S
from fastdino.ingestion.trailers import syncsafe

STREAMINFO, CUESHEET = 0, 5
# A catalogue number, the length of the pause before the first track, what is reserved.
BEFORE_TRACKS = 128 + 8 + 259
TRACK = struct.Struct(">QB12sB13xB")  # offset, number, code, flags, number of indexes
INDEX = struct.Struct(">QB3x")  # offset from the track's, number
IS_DATA = 0x80
LAST_OF_A_CD = 99


def read(path: str | Path) -> str | None:
    """The text of a FLAC file's CUE sheet; None if it has none, or one that is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        # Some taggers put an ID3v2 before it.
        if (head := file.read(10)).startswith(b"ID3"):
            file.seek(10 + syncsafe(head[6:]))
        else:
            file.seek(0)
        if file.read(4) != b"fLaC":
            return None
        rate = is_last = 0
        while not is_last and len(header := file.read(4)) == 4:
            is_last, kind, size = header[0] >> 7, header[0] & 0x7F, int.from_bytes(header[1:])
            if kind == STREAMINFO:
                rate = int.from_bytes(file.read(size)[10:13]) >> 4
            elif kind == CUESHEET:
                try:
                    return _text(file.read(size), rate)
                except (struct.error, IndexError, ZeroDivisionError):
                    return None
            else:
                file.seek(size, 1)
    return None


def _text(block: bytes, rate: int) -> str:
    lines = []
    at = BEFORE_TRACKS + 1
    for _ in range(block[BEFORE_TRACKS]):
        offset, number, code, flags, indexes = TRACK.unpack_from(block, at)
        at += TRACK.size
        places = [INDEX.unpack_from(block, at + i * INDEX.size) for i in range(indexes)]
        at += indexes * INDEX.size
        if number > LAST_OF_A_CD:
            continue  # Where the last one ends.
        lines.append(f"TRACK {number:02} {'DATA' if flags & IS_DATA else 'AUDIO'}")
        if isrc := code.rstrip(b"\0").decode("ascii", "replace"):
            lines.append(f"ISRC {isrc}")
        for begin, index in places:
            seconds, frames = divmod(round((offset + begin) * FRAMES_PER_S / rate), FRAMES_PER_S)
            lines.append(f"INDEX {index:02} {seconds // 60:02}:{seconds % 60:02}:{frames:02}")
    return "\n".join(lines)
