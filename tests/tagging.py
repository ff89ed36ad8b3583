"""Tags written into music files byte by byte, as programs do that people tag them with.

Belongs here: blocks of tags of every format, with several values, old encodings and other things
that FFmpeg does not write. Does not: making the sound (``fastdino.demo``), or what tags should say.
"""

import base64
import struct
from collections.abc import Iterable, Sequence

Pairs = Sequence[tuple[str, str]]


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def text_frame(name: str, text: str, encoding: str = "utf-8") -> tuple[str, bytes]:
    """A frame of ID3v2.3 or 2.4; NULs in ``text`` part values."""
    number = {"latin-1": 0, "utf-16": 1, "utf-16-be": 2, "utf-8": 3}.get(encoding, 0)
    if encoding == "utf-16":
        content = b"\0\0".join(part.encode(encoding) for part in text.split("\0"))
    else:
        content = text.encode(encoding)
    return name, bytes([number]) + content


def id3v2(
    frames: Iterable[tuple[str, bytes]], version: int = 4, *, flags: int = 0, plain: bool = False
) -> bytes:
    """An ID3v2, with 100 bytes of padding; ``plain`` sizes are those that iTunes wrote into 2.4."""
    body = b""
    for name, content in frames:
        size = len(content)
        if version == 2:
            body += name.encode() + size.to_bytes(3, "big") + content
        else:
            proper = synchsafe(size) if version == 4 and not plain else size.to_bytes(4, "big")
            body += name.encode() + proper + b"\0\0" + content
    if flags & 0x80:
        body = body.replace(b"\xff", b"\xff\0")
    body += bytes(100)
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(len(body)) + body


def id3v1(genre: int = 255, *, track: int = 0, encoding: str = "latin-1", **texts: str) -> bytes:
    fields = [
        texts.get(name, "").encode(encoding)[:width].ljust(width, b"\0")
        for name, width in (("title", 30), ("artist", 30), ("album", 30), ("year", 4))
    ]
    return b"TAG" + b"".join(fields) + bytes(28) + bytes([0, track, genre])


def apev2(items: Pairs) -> bytes:
    body = b"".join(
        struct.pack("<II", len(value.encode()), 0) + name.encode() + b"\0" + value.encode()
        for name, value in items
    )
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, len(body) + 32, len(items), 0) + bytes(8)
    return body + footer


def vorbis_comment(comments: Pairs) -> bytes:
    lines = [f"{name}={value}".encode() for name, value in comments]
    content = struct.pack("<I", 4) + b"test" + struct.pack("<I", len(lines))
    return content + b"".join(struct.pack("<I", len(line)) + line for line in lines)


def flac_tagged(song: bytes, comments: Pairs) -> bytes:
    """A FLAC with these comments in place of its own."""
    blocks, at, is_last = [], 4, False
    while not is_last:
        is_last = bool(song[at] & 0x80)
        size = int.from_bytes(song[at + 1 : at + 4], "big")
        if song[at] & 0x7F != 4:
            blocks.append((song[at] & 0x7F, song[at + 4 : at + 4 + size]))
        at += 4 + size
    blocks.append((4, vorbis_comment(comments)))
    head = b"".join(
        bytes([kind | (0x80 if number == len(blocks) - 1 else 0)])
        + len(content).to_bytes(3, "big")
        + content
        for number, (kind, content) in enumerate(blocks)
    )
    return b"fLaC" + head + song[at:]


def ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def opus_tagged(song: bytes, comments: Pairs) -> bytes:
    """An Opus file with these comments, which are a page of their own, in place of its own."""
    first = song.index(b"OggS", 4)
    second = song.index(b"OggS", first + 4)
    packet = b"OpusTags" + vorbis_comment(comments)
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    page = bytearray(song[first : first + 26] + bytes([len(lacing)]) + lacing + packet)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_checksum(bytes(page)))
    return song[:first] + bytes(page) + song[second:]


def atom(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def mp4_tagged(song: bytes, items: Iterable[tuple[str, Sequence[str]]]) -> bytes:
    """An MP4 whose index comes last, with these tags in place of its own.

    Names of four characters are atoms; longer ones stand in one of iTunes' own.
    """
    listed = b""
    for name, values in items:
        data = b"".join(atom(b"data", struct.pack(">II", 1, 0) + v.encode()) for v in values)
        if len(name) == 4:
            listed += atom(name.encode("latin-1"), data)
        else:
            mean = atom(b"mean", bytes(4) + b"com.apple.iTunes")
            listed += atom(b"----", mean + atom(b"name", bytes(4) + name.encode()) + data)
    handler = atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    meta = atom(b"meta", bytes(4) + handler + atom(b"ilst", listed))
    start = song.rindex(b"moov") - 4
    children, at = b"", start + 8
    while at < len(song):
        size = int.from_bytes(song[at : at + 4], "big")
        if song[at + 4 : at + 8] != b"udta":
            children += song[at : at + size]
        at += size
    return song[:start] + atom(b"moov", children + atom(b"udta", meta))


def wma_tagged(song: bytes, attributes: Pairs) -> bytes:
    """A WMA file with these attributes beside its own."""
    listed = b""
    for name, value in attributes:
        called, said = (f"{text}\0".encode("utf-16-le") for text in (name, value))
        listed += struct.pack("<H", len(called)) + called
        listed += struct.pack("<HH", 0, len(said)) + said
    listed = struct.pack("<H", len(attributes)) + listed
    name = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
    added = name + struct.pack("<Q", len(listed) + 24) + listed
    size, count = struct.unpack_from("<QI", song, 16)
    head = song[:16] + struct.pack("<QI", size + len(added), count + 1) + song[28:30]
    return head + added + song[30:]


def wma_tagged_as_by_mutagen(song: bytes, attributes: Iterable[tuple[str, Sequence[str]]]) -> bytes:
    """A WMA file whose further values lie in a library of metadata that comes before the others."""
    firsts = [(name, values[0]) for name, values in attributes if name != "Author"]
    authors = [values for name, values in attributes if name == "Author"]
    listed = [(name, v) for name, values in attributes for v in values[1:]]
    if authors and len(authors[0]) > 1:
        # The first has a place of its own, the second is one of the extended ones.
        firsts.append(("Author", authors[0][1]))
        listed.remove(("Author", authors[0][1]))
    library = struct.pack("<H", len(listed))
    for name, value in listed:
        called, said = (f"{text}\0".encode("utf-16-le") for text in (name, value))
        library += struct.pack("<HHHHI", 0, 0, len(called), 0, len(said)) + called + said
    inner = bytes.fromhex("941c23449894d149a1411d134e457054")
    inner += struct.pack("<Q", len(library) + 24) + library
    extension = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
    extension += (
        struct.pack("<Q", len(inner) + 46) + bytes(18) + struct.pack("<I", len(inner)) + inner
    )
    said = "".join(f"{values[0]}\0" for values in authors).encode("utf-16-le")
    content = bytes.fromhex("3326b2758e66cf11a6d900aa0062ce6c")
    content += struct.pack("<Q", len(said) + 34) + struct.pack("<5H", 0, len(said), 0, 0, 0) + said
    song = wma_tagged(song, firsts)
    size, count = struct.unpack_from("<QI", song, 16)
    head = song[:16] + struct.pack("<QI", size + len(extension + content), count + 2) + song[28:30]
    return head + extension + song[30:size] + content + song[size:]


def element(number: int, content: bytes) -> bytes:
    name = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def matroska_tagged(song: bytes, tags: Iterable[tuple[int, Pairs]]) -> bytes:
    """A Matroska file with further tags, each for a target: 30 for the track, 50 for the album."""
    added = b""
    for target, pairs in tags:
        simple = b"".join(
            element(0x67C8, element(0x45A3, name.encode()) + element(0x4487, value.encode()))
            for name, value in pairs
        )
        added += element(0x7373, element(0x63C0, element(0x68CA, bytes([target]))) + simple)
    added = element(0x1254C367, added)
    at = song.index(b"\x18\x53\x80\x67") + 4
    size = int.from_bytes(song[at + 1 : at + 8], "big")
    return song[: at + 1] + (size + len(added)).to_bytes(7, "big") + song[at + 8 :] + added


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}4sI", name, len(content)) + content + bytes(len(content) % 2)


def with_chunk(song: bytes, added: bytes, order: str = "<") -> bytes:
    """A WAV or, in the other ``order``, an AIFF with a further chunk at its end."""
    (size,) = struct.unpack_from(f"{order}I", song, 4)
    return song[:4] + struct.pack(f"{order}I", size + len(added)) + song[8:] + added


def picture_comment(size: int) -> tuple[str, str]:
    """A comment with a picture of ``size`` bytes, as Opus files have."""
    content = (
        struct.pack(">II", 3, 9)
        + b"image/png"
        + bytes(4)
        + struct.pack(">IIIII", 1, 1, 24, 0, size)
    )
    return "METADATA_BLOCK_PICTURE", base64.b64encode(content + bytes(size)).decode()
