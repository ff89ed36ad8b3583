"""Tags as they stand in a file: every value under every name, as text that is not yet judged.

Belongs here: finding the blocks of tags in a file and taking them apart. ID3v1, ID3v2, APEv2, MP4,
WMA and Matroska are read here, the comments of FLAC and Ogg by tinytag.
Does not: what a name stands for or which block is believed (``tags``), and text in wrong encodings
(``encodings``).

FFmpeg gives one value a name, reads no APEv2 in MP3 and no ID3v1 below an ID3v2. tinytag gives all,
but of ID3 it loses further genres, unsynchronised tags and sizes as iTunes wrote them, in MP4 and
WMA it takes the credit and the artists for one list, and it knows neither APEv2 nor Matroska: hence
the readers here. All are for strangers' files: nothing they hold raises, and no
more is read than ``LARGEST_BLOCK``, whatever sizes they claim.
"""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from fastdino.ingestion import encodings
from fastdino.ingestion.trailers import syncsafe

# Values by name, in the order of the file.
Block = dict[str, list[str]]

LARGEST_BLOCK = 16 << 20
# Of one block. Text is hardly ever longer; lyrics and pictures in base64 may be and are not wanted.
MOST_VALUES = 2_000
LONGEST_TEXT = 20_000
MOST_ELEMENTS = 100_000
# An ID3v1, and above it what an APEv2 ends with.
TAIL = 128 + 32
MATROSKA = b"\x1aE\xdf\xa3"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ID3_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
# Frames that are read although they do not begin with a T, or by other rules.
UFID, UFI = "UFID", "UFI"
USER_TEXT = ("TXXX", "TXX")


@dataclass(frozen=True)
class Blocks:
    """What a file holds, those to believe first.

    Attributes:
        by_tinytag: the format's own tags where tinytag reads them.
        own: the format's own tags where they are read here, ID3v2, APEv2.
        last: an ID3v1, which has no room for long names.
    """

    by_tinytag: Block = field(default_factory=dict)
    own: Sequence[Block] = ()
    last: Sequence[Block] = ()


def read(file: BinaryIO, *, with_tinytag: bool = True) -> Blocks:
    """The blocks of tags in ``file``; without those that tinytag reads if it had too much to do.

    Raises:
        OSError: the disk cannot read it.
    """
    size = file.seek(0, io.SEEK_END)
    head = _at(file, 0, 64)
    by_tinytag: Block = {}
    own: list[Block] = []
    # Some taggers put an ID3v2 before a FLAC.
    start = 10 + syncsafe(head[6:10]) if head.startswith(b"ID3") else 0
    if head.startswith(MATROSKA):
        own.append(_matroska(file, size))
    elif head.startswith(ASF):
        own.append(_asf(file))
    elif head[4:8] == b"ftyp":
        own.append(_mp4(file, size))
    elif with_tinytag and (_at(file, start, 4) if start else head[:4]) in (b"fLaC", b"OggS"):
        by_tinytag = _by_tinytag(file, start)
    # One look at the end: a file on a slow disk is asked as seldom as can be.
    tail = _at(file, max(0, size - TAIL), TAIL)
    is_v1 = tail[-128:].startswith(b"TAG") and len(tail) >= 128
    above = tail[:-128] if is_v1 else tail
    own += [id3v2(block) for block in _id3v2_blocks(file, head, size)]
    for end, before in {size: tail, size - 128 if is_v1 else size: above}.items():
        if before[-10:].startswith(b"3DI"):
            own.append(id3v2(_id3v2_at(file, end - 20 - syncsafe(before[-4:]))))
        if before[-32:].startswith(b"APETAGEX"):
            own.append(_ape(file, end, before[-32:]))
    return Blocks(by_tinytag, own, [id3v1(tail[-128:])] if is_v1 else [])


def _at(file: BinaryIO, start: int, length: int) -> bytes:
    """Bytes of the file from ``start`` on; fewer where it ends, none where it does not reach."""
    try:
        file.seek(start)
    except (OSError, OverflowError, ValueError):
        return b""  # No file reaches there. To seek is not to read: the disk has no say in it.
    return file.read(max(0, min(length, LARGEST_BLOCK)))


def _add(block: Block, name: str, text: str) -> None:
    if text and len(block) < MOST_VALUES and len(block.get(name, ())) < MOST_VALUES:
        block.setdefault(name, []).append(text[:LONGEST_TEXT])


# ---- FLAC and Ogg


class _Bounded(io.BufferedIOBase):
    """A file from ``start`` on, of which no more than ``LARGEST_BLOCK`` is read in all."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.file, self.start, self.left = file, start, LARGEST_BLOCK

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        self.left -= wanted
        return self.file.read(wanted)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        at = offset + self.start if whence == io.SEEK_SET else offset
        return self.file.seek(at, whence) - self.start

    def tell(self) -> int:
        return self.file.tell() - self.start


def _by_tinytag(file: BinaryIO, start: int) -> Block:
    from tinytag import TinyTag, TinyTagException

    file.seek(start)
    bounded = cast(BinaryIO, _Bounded(file, start))
    try:
        given = TinyTag.get(file_obj=bounded, duration=False, image=False).as_dict()
    except TinyTagException:
        return {}
    block: Block = {}
    for name, values in given.items():
        for value in values if isinstance(values, list) else ():
            # What is no UTF-8 has lost its bytes here; FFmpeg has kept them.
            if "\ufffd" not in value:
                _add(block, name, value)
    return block


# ---- ID3


def _id3v2_blocks(file: BinaryIO, head: bytes, size: int) -> Iterator[bytes]:
    """ID3v2 at the start, or in a chunk of WAV, AIFF and DSF."""
    if head.startswith(b"ID3"):
        yield _id3v2_at(file, 0)
    elif head.startswith((b"RIFF", b"RF64", b"FORM")):
        start = _id3v2_chunk(file, ">" if head.startswith(b"FORM") else "<", size)
        if start is not None:
            yield _id3v2_at(file, start)
    elif head.startswith(b"DSD ") and len(head) >= 28:
        start = int.from_bytes(head[20:28], "little")
        if 0 < start < size:
            yield _id3v2_at(file, start)


def _id3v2_chunk(file: BinaryIO, order: str, size: int) -> int | None:
    """Where the first chunk with an ID3v2 begins, in a file made of chunks."""
    at = 12
    for _ in range(1_000):
        header = _at(file, at, 8)
        if len(header) < 8 or at >= size:
            return None
        name, length = struct.unpack(f"{order}4sI", header)
        if name.lower() == b"id3 ":
            return at + 8
        at += 8 + length + length % 2
    return None


def _id3v2_at(file: BinaryIO, start: int) -> bytes:
    header = _at(file, start, 10)
    if len(header) < 10 or not header.startswith(b"ID3"):
        return b""
    return header + _at(file, start + 10, syncsafe(header[6:10]))


def id3v2(content: bytes) -> Block:
    """The text frames of an ID3v2.2, 2.3 or 2.4, user-defined ones by their description.

    Repeated frames are further values, as are those that a NUL parts. An identifier of a recording
    stands under ``UFID`` and its owner.
    """
    block: Block = {}
    if len(content) < 10 or content[3] not in (2, 3, 4):
        return block
    version, flags, body = content[3], content[5], content[10:]
    if flags & 0x80 and version < 4:
        body = _resynchronised(body)
    at = 0
    if flags & 0x40 and version > 2 and len(body) >= 4:
        at = syncsafe(body[:4]) if version == 4 else 4 + int.from_bytes(body[:4], "big")
    width = 3 if version == 2 else 4
    header = 2 * width + (0 if version == 2 else 2)
    while at + header < len(body):
        name = body[at : at + width]
        if not (name.isalnum() and name.isupper()):
            break
        length = _frame_length(body, at, version)
        frame = body[at + header : at + header + length]
        if name[:1] == b"T" or name in (b"UFID", b"UFI"):
            if version > 2:
                frame = _unpacked(frame, version, body[at + 9], unsynchronised=bool(flags & 0x80))
            _add_frame(block, name.decode("ascii"), frame)
        at += header + length
    return block


def _frame_length(body: bytes, at: int, version: int) -> int:
    if version == 2:
        return int.from_bytes(body[at + 3 : at + 6], "big")
    sizes = body[at + 4 : at + 8]
    plain = int.from_bytes(sizes, "big")
    if version == 3 or max(sizes, default=0) > 0x7F:
        return plain
    # iTunes wrote plain sizes where seven bits a byte are the rule: what follows the frame tells.
    proper = syncsafe(sizes)
    if plain == proper or _frame_follows(body, at + 10 + proper):
        return proper
    return plain if _frame_follows(body, at + 10 + plain) else proper


def _frame_follows(body: bytes, at: int) -> bool:
    """Whether a frame begins at ``at``, or the padding."""
    name, size = body[at : at + 4], int.from_bytes(body[at + 4 : at + 8], "big")
    return at == len(body) or not any(name) or (name.isalnum() and size < len(body))


def _resynchronised(content: bytes) -> bytes:
    return content.replace(b"\xff\x00", b"\xff")


def _unpacked(frame: bytes, version: int, flags: int, *, unsynchronised: bool) -> bytes:
    if version == 3:
        if flags & 0x40:  # encrypted
            return b""
        frame = frame[1:] if flags & 0x20 else frame
        return _inflated(frame[4:]) if flags & 0x80 else frame
    if flags & 0x04:  # encrypted
        return b""
    frame = frame[1:] if flags & 0x40 else frame
    frame = frame[4:] if flags & 0x01 else frame
    if flags & 0x02 or unsynchronised:
        frame = _resynchronised(frame)
    return _inflated(frame) if flags & 0x08 else frame


def _inflated(packed: bytes) -> bytes:
    # A small one has room for gigabytes.
    try:
        return zlib.decompressobj().decompress(packed, LONGEST_TEXT * 4)
    except zlib.error:
        return b""


def _add_frame(block: Block, name: str, frame: bytes) -> None:
    if name in (UFID, UFI):
        owner, _, identifier = frame.partition(b"\0")
        _add(block, f"{UFID}:{owner.decode('latin-1')}", identifier.decode("latin-1"))
        return
    if not frame or frame[0] >= len(ID3_ENCODINGS):
        return
    values = _texts(frame[1 : 1 + 4 * LONGEST_TEXT], ID3_ENCODINGS[frame[0]])
    if name in USER_TEXT:
        name = values.pop(0)
    for value in values[:MOST_VALUES]:
        _add(block, name, value)


def _texts(content: bytes, encoding: str) -> list[str]:
    """The texts that NULs part; each may begin with a byte order mark of its own."""
    if encoding == "utf-8":
        return [encodings.of_utf8(part) for part in content.split(b"\0")]
    if encoding == "utf-16":
        encoding = "utf-16-be" if content.startswith(b"\xfe\xff") else "utf-16-le"
    text = content.decode(encoding, "replace")
    return [part.strip("\ufeff\ufffe") for part in text.split("\0")]


def id3v1(content: bytes) -> Block:
    """The 128 bytes at the end of a file."""
    block: Block = {}
    fields = {"title": (3, 33), "artist": (33, 63), "album": (63, 93), "year": (93, 97)}
    for name, (start, end) in fields.items():
        _add(block, name, encodings.of_unknown(content[start:end].partition(b"\0")[0]))
    if content[125] == 0 and content[126]:
        _add(block, "track", str(content[126]))
    # In brackets a number that names no genre, as 255, is none, and no text either.
    _add(block, "genre", f"({content[127]})")
    return block


# ---- APEv2


def _ape(file: BinaryIO, end: int, footer: bytes) -> Block:
    """The APE tag that ends at ``end`` with these 32 bytes."""
    block: Block = {}
    _, length, count = struct.unpack_from("<III", footer, 8)
    content = _at(file, end - length, length - 32)
    at = 0
    for _ in range(min(count, MOST_VALUES)):
        name_end = content.find(b"\0", at + 8, at + 8 + 256)
        if name_end < 0:
            break
        length, flags = struct.unpack_from("<II", content, at)
        name = content[at + 8 : name_end].decode("ascii", "replace")
        value = content[name_end + 1 : name_end + 1 + length]
        at = name_end + 1 + length
        if not flags & 0b110:  # text, and neither a picture nor an address
            for part in value[: 4 * LONGEST_TEXT].split(b"\0"):
                _add(block, name, encodings.of_utf8(part))
    return block


# ---- MP4

MP4_NAMES = {
    b"\xa9nam": "title", b"\xa9ART": "artist", b"\xa9alb": "album", b"aART": "albumartist",
    b"\xa9gen": "genre", b"\xa9day": "date", b"trkn": "track", b"gnre": "genre",
}  # fmt: skip
OF_ITUNES, PICTURE = b"----", b"covr"
MP4_UTF8, MP4_UTF16, MP4_INTEGER = 1, 2, 21


def _mp4(file: BinaryIO, size: int) -> Block:
    """The items of an MP4; those of iTunes have names of their own."""
    block: Block = {}
    start, end = 0, size
    for wanted in (b"moov", b"udta", b"meta", b"ilst"):
        found = next((atom for atom in _atoms(file, start, end) if atom[0] == wanted), None)
        if found is None:
            return block
        _, start, end = found
        # Those of QuickTime have no version.
        if wanted == b"meta" and _at(file, start + 4, 4) != b"hdlr":
            start += 4
    for name, at, item_end in _atoms(file, start, end):
        if name != PICTURE:
            content = io.BytesIO(_at(file, at, item_end - at))
            called = "" if name == OF_ITUNES else MP4_NAMES.get(name, name.decode("latin-1"))
            for kind, first, last in _atoms(content, 0, item_end - at):
                inner = _at(content, first, last - first)
                if kind == b"name" and name == OF_ITUNES:
                    called = encodings.of_utf8(inner[4:256])
                elif kind == b"data" and called:
                    _add(block, called, _mp4_text(name, inner))
    return block


def _atoms(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Names of the atoms between ``start`` and ``end``, and where the content of each lies."""
    for _ in range(MOST_ELEMENTS):
        header = _at(file, start, 16)
        if start + 8 > end or len(header) < 8:
            return
        length, used = int.from_bytes(header[:4], "big"), 8
        if length == 1:
            length, used = int.from_bytes(header[8:], "big"), 16
        length = length or end - start
        if length < used:
            return
        yield header[4:8], start + used, min(start + length, end)
        start += length


def _mp4_text(name: bytes, data: bytes) -> str:
    kind, content = int.from_bytes(data[1:4], "big"), data[8 : 8 + 4 * LONGEST_TEXT]
    if name == b"trkn":
        return str(int.from_bytes(content[2:4], "big") or "")
    if name == b"gnre":
        # Counted from one; 0 is none.
        number = int.from_bytes(content[:2], "big")
        return f"({number - 1})" if number else ""
    if kind == MP4_UTF16:
        return content.decode("utf-16-be", "replace")
    if kind == MP4_INTEGER:
        return str(int.from_bytes(content[:8], "big", signed=True))
    # Some programs leave out what kind their own items are of.
    return encodings.of_utf8(content) if kind == MP4_UTF8 or name == OF_ITUNES else ""


# ---- WMA

CONTENT = bytes.fromhex("3326b2758e66cf11a6d900aa0062ce6c")
EXTENDED = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
METADATA = bytes.fromhex("eacbf8c5af5b77488467aa8c44fa4cca")
LIBRARY = bytes.fromhex("941c23449894d149a1411d134e457054")
EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
ASF_TEXT, ASF_NUMBERS = 0, (3, 4, 5)


def _asf(file: BinaryIO) -> Block:
    """The attributes of a WMA.

    Programs write the first value of a name into the first of these objects that has room for it,
    and further ones into the next, wherever in the file each of them lies.
    """
    block: Block = {}
    header = _at(file, 0, 30)
    objects: dict[bytes, list[bytes]] = {}
    _collect(_at(file, 30, int.from_bytes(header[16:24], "little") - 30), objects)
    for kind in (CONTENT, EXTENDED, METADATA, LIBRARY):
        for content in objects.get(kind, ()):
            # What is cut off has been read to there.
            with contextlib.suppress(struct.error):
                _add_attributes(block, kind, content)
    return block


def _collect(content: bytes, objects: dict[bytes, list[bytes]], *, deeper: bool = True) -> None:
    at = 0
    while at + 24 <= len(content):
        kind, length = struct.unpack_from("<16sQ", content, at)
        if length < 24:
            return
        within = content[at + 24 : at + length]
        if kind == EXTENSION and deeper:
            _collect(within[22:], objects, deeper=False)
        objects.setdefault(kind, []).append(within)
        at += length


def _add_attributes(block: Block, kind: bytes, content: bytes) -> None:
    if kind == CONTENT:
        at = 10
        for name, length in zip(
            ("Title", "Author"), struct.unpack_from("<HH", content), strict=True
        ):
            _add(block, name, _of_asf(content[at : at + length], ASF_TEXT))
            at += length
        return
    (count,) = struct.unpack_from("<H", content)
    at = 2
    for _ in range(count):
        if kind == EXTENDED:
            (called,) = struct.unpack_from("<H", content, at)
            of, length = struct.unpack_from("<HH", content, at + 2 + called)
            start, at = at + 2, at + 6 + called
        else:
            called, of, length = struct.unpack_from("<HHI", content, at + 4)
            start, at = at + 12, at + 12 + called
        name = _of_asf(content[start : start + called], ASF_TEXT)
        value = content[at : at + length]
        at += length
        _add(block, name, _of_asf(value[: 4 * LONGEST_TEXT], of))


def _of_asf(value: bytes, kind: int) -> str:
    if kind in ASF_NUMBERS:
        return str(int.from_bytes(value[:8], "little"))
    return value.decode("utf-16-le", "replace").rstrip("\0") if kind == ASF_TEXT else ""


# ---- Matroska

SEGMENT, TAGS, TAG, SIMPLE_TAG, TARGETS = 0x18538067, 0x1254C367, 0x7373, 0x67C8, 0x63C0
TARGET_TYPE, TAG_NAME, TAG_STRING = 0x68CA, 0x45A3, 0x4487
CONTAINERS = (SEGMENT, TAGS, TAG, SIMPLE_TAG, TARGETS)
OF_AN_ALBUM = 50


def _matroska(file: BinaryIO, size: int) -> Block:
    """The tags of a Matroska file; those that say they are the album's are called ``ALBUM/...``."""
    block: Block = {}
    at, name, of = 0, "", ""
    for _ in range(MOST_ELEMENTS):
        header = _at(file, at, 12)
        element, used = _vint(header, keep_marker=True)
        length, more = _vint(header[used:], keep_marker=False)
        if at >= size or not used or not more:
            break
        at += used + more
        if element in CONTAINERS:
            of = "" if element == TAG else of
            continue
        if element == TARGET_TYPE:
            level = int.from_bytes(_at(file, at, min(length, 8)), "big")
            of = "ALBUM/" if level >= OF_AN_ALBUM else ""
        elif element == TAG_NAME:
            name = encodings.of_utf8(_at(file, at, min(length, 256)).rstrip(b"\0"))
        elif element == TAG_STRING:
            text = _at(file, at, min(length, 4 * LONGEST_TEXT)).rstrip(b"\0")
            _add(block, of + name, encodings.of_utf8(text))
        at += length
    return block


def _vint(content: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """A number of EBML and how many bytes it takes; 0 of what is none."""
    if not content or not content[0]:
        return 0, 0
    width = 9 - content[0].bit_length()
    if len(content) < width:
        return 0, 0
    value = int.from_bytes(content[:width], "big")
    return (value if keep_marker else value & ((1 << 7 * width) - 1)), width
