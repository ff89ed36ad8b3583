"""Names of files as text that can be stored, and back.

Belongs here: the escape by which a name in any bytes becomes text of valid Unicode, and how it is
shown to people. Does not: opening files; control characters and the like (``core.text``).

For the system a name is bytes; Python holds those that are not UTF-8 as lone surrogates, which no
Parquet file, database or page can hold. Stored, such a byte is a character of a private-use plane
that no one's names have. Where one has it nevertheless, its own bytes are written in that way, so
that every name has a text of its own and comes back exactly. All other names stay as they are.
"""

import os
import re

# Of a byte that is not UTF-8, which is 0x80 or more.
_FIRST = 0x10FE00
_ESCAPED = re.compile(f"[{chr(_FIRST + 0x80)}-{chr(_FIRST + 0xFF)}]")
_UNDECODED = re.compile("[\udc80-\udcff]")
# How people are shown such a character of a stored path.
SHOWN = {chr(_FIRST + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
_AS_SHOWN = str.maketrans(
    SHOWN | {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
)


def to_text(path: str | os.PathLike[str]) -> str:
    """A path of the system as text to be stored."""
    if isinstance(path, str) and path.isascii():  # as most are
        return path
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    literal = _ESCAPED.sub(lambda found: _escaped(found[0].encode()), text)
    return _UNDECODED.sub(lambda found: chr(ord(found[0]) - 0xDC00 + _FIRST), literal)


def to_path(text: str) -> str:
    """The path of the system that ``to_text`` made ``text`` of."""
    undecoded = _ESCAPED.sub(lambda found: chr(ord(found[0]) - _FIRST + 0xDC00), text)
    return os.fsdecode(undecoded.encode("utf-8", "surrogateescape"))


def shown(text: str) -> str:
    r"""``text`` with bytes that are not UTF-8 written as ``\xff``, stored or not."""
    return text.translate(_AS_SHOWN)


def _escaped(content: bytes) -> str:
    return "".join(chr(_FIRST + byte) for byte in content)
