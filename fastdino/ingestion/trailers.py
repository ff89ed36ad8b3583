"""What stands behind the sound at the end of a file: tags, and zeros.

Belongs here: finding where the sound ends, so that a tag or padding behind it does not make another
recording. Does not: what such tags say, or tags in front of the sound, which FFmpeg leaves out.

FFmpeg takes the rest of a FLAC, AC-3, DTS or AU file for part of its last packet, and what follows
the last frame of an MP3 for one more frame. Other formats say how long their sound is.
"""

import struct
from collections.abc import Callable
from typing import BinaryIO

# Longer than any tag but those with pictures, which say how long they are.
TAIL_BYTES = 1 << 15
LYRICS_BYTES = 5_100  # at most, of those that do not say


def sound_end(file: BinaryIO, codec: str) -> int:
    """The byte after the sound: the end of the file without tags and zeros behind it.

    A frame may itself end in zeros, so the sound may end a little later. Where zeros are silence,
    as in PCM, they are left.
    """
    zeros = not codec.startswith("pcm_")
    size = end = file.seek(0, 2)
    while True:
        start = max(0, end - TAIL_BYTES)
        file.seek(start)
        tail = file.read(end - start)
        if len(tail) < end - start:  # the file has become shorter
            return size
        # A tag may end in zeros of its own: it ends somewhere within those that are there.
        least = len(tail.rstrip(b"\0"))
        found = (tag(tail, least) for tag in _TAGS)
        # One that claims to be all of the file, or more, has no say.
        begins = next((n for n in found if n is not None and start + n > 0), None)
        if begins is None and zeros:
            begins = least
        if begins is None or start + begins >= end:
            return end
        end = start + begins


def ends_with_the_file(codec: str, container: str) -> bool:
    """Whether FFmpeg takes all up to the end of a file for packets of this codec."""
    return codec in ("mp1", "mp2", "mp3") or codec.startswith("pcm_") or container == "aac"


def of_last_packet(codec: str, packet: bytes, behind: int) -> bytes:
    """The last packet of a file without what FFmpeg has taken into it.

    Args:
        codec: FFmpeg's name of it.
        packet: its bytes.
        behind: how many of them are tags and zeros, or look it, as ``sound_end`` says.
    """
    if not behind:
        return packet
    if codec == "flac":
        return _flac_frame(packet, len(packet) - behind)
    length = _frame_bytes(codec, packet)
    if length is not None:
        return packet[:length]
    return packet[: len(packet) - behind] if codec.startswith("pcm_") else packet


def _id3v1(tail: bytes, least: int) -> int | None:
    begin = tail.rfind(b"TAG", max(0, least - 128))
    if begin < 0 or not least <= begin + 128 <= len(tail):
        return None
    if tail[begin - 3 : begin + 5] == b"APETAGEX":
        return None
    return begin - (227 if tail[begin - 227 : begin - 223] == b"TAG+" else 0)


def _apev2(tail: bytes, least: int) -> int | None:
    footer = tail.rfind(b"APETAGEX", max(0, least - 32))
    if footer < 0 or not least <= footer + 32 <= len(tail):
        return None
    _, size, _, flags = struct.unpack("<IIII", tail[footer + 8 : footer + 24])
    return int(footer + 32 - size - (32 if flags >> 31 else 0))


def _lyrics3(tail: bytes, least: int) -> int | None:
    if tail[least - 9 : least] == b"LYRICS200" and tail[least - 15 : least - 9].isdigit():
        return least - int(tail[least - 15 : least - 9]) - 15
    if tail[least - 9 : least] == b"LYRICSEND":
        begin = tail.rfind(b"LYRICSBEGIN", max(0, least - LYRICS_BYTES - 20))
        return begin if begin >= 0 else None
    return None


def _id3v2_with_footer(tail: bytes, least: int) -> int | None:
    footer = tail.rfind(b"3DI", max(0, least - 10))
    if footer < 0 or not least <= footer + 10 <= len(tail):
        return None
    return footer - syncsafe(tail[footer + 6 : footer + 10]) - 10


def _id3v2(tail: bytes, least: int) -> int | None:
    begin = tail.find(b"ID3")
    while 0 <= begin <= len(tail) - 10:
        length = syncsafe(tail[begin + 6 : begin + 10]) + 10
        if tail[begin + 3] in (2, 3, 4) and least <= begin + length <= len(tail):
            return begin
        begin = tail.find(b"ID3", begin + 3)
    return None


# Where a tag begins that ends with ``tail``, or with some of the zeros that ``tail`` ends in, those
# from ``least`` on.
_TAGS: tuple[Callable[[bytes, int], int | None], ...] = (
    _id3v1, _apev2, _lyrics3, _id3v2_with_footer, _id3v2,
)  # fmt: skip


def syncsafe(four: bytes) -> int:
    """A length as ID3v2 writes it: seven bits a byte, so that none looks like MPEG sound."""
    number = 0
    for byte in four:
        number = number << 7 | (byte & 0x7F)
    return number


def _flac_frame(packet: bytes, least: int) -> bytes:
    """A frame ends in a checksum over itself, which may have zeros at its end.

    Whether the first of several zeros is the checksum's cannot be told: none of them is taken.
    """
    least = max(least, 0)
    check = _crc16(packet[:least])
    for length in range(least, min(least + 2, len(packet)) + 1):
        if check == 0:
            return packet[:length]
        check = _crc16(packet[length : length + 1], check)
    return packet


def _crc16_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
        table.append(value)
    return table


_CRC16 = _crc16_table()


def _crc16(data: bytes, value: int = 0) -> int:
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _CRC16[value >> 8 ^ byte]
    return value


# Thousands of bits a second of AC-3, by half of its frame size code.
_AC3_RATES = (
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
)  # fmt: skip


def _frame_bytes(codec: str, packet: bytes) -> int | None:
    """Length of a frame as its header says it, for codecs whose headers do."""
    if codec == "ac3" and len(packet) > 4 and packet[4] & 0x3F < 2 * len(_AC3_RATES):
        rate, odd = _AC3_RATES[(packet[4] & 0x3F) >> 1], packet[4] & 1
        words = (2 * rate, rate * 96_000 // 44_100 + odd, 3 * rate)
        return 2 * words[packet[4] >> 6] if packet[4] >> 6 < 3 else None
    if codec == "eac3" and len(packet) > 3:
        return 2 * (((packet[2] & 7) << 8 | packet[3]) + 1)
    if codec == "dts" and packet[:4] == b"\x7f\xfe\x80\x01" and len(packet) > 7:
        return ((packet[5] & 3) << 12 | packet[6] << 4 | packet[7] >> 4) + 1
    return None
