"""A real file of every format that is read: one and a half seconds of a tone, over and over.

Belongs here: writing such files, with PyAV where it has an encoder. Where it has none, the frame
that an encoder made of the tone stands here as text, and is repeated; DSD, MPEG layer I and
Shorten are written by hand. Of Monkey's Audio and TAK there is neither.
"""

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

SECONDS = 1.6
UNWRITTEN = {".ape", ".tak"}

# Container, codec and samples a second; of films also the codec of their pictures.
ENCODED: dict[str, tuple[str, str, int, str | None]] = {
    ".3g2": ("3g2", "aac", 48_000, "mpeg4"),
    ".3gp": ("3gp", "libopencore_amrnb", 8_000, "mpeg4"),
    ".aac": ("adts", "aac", 48_000, None),
    ".ac3": ("ac3", "ac3", 48_000, None),
    ".aif": ("aiff", "pcm_s16be", 44_100, None),
    ".aifc": ("aiff", "pcm_s16le", 44_100, None),
    ".aiff": ("aiff", "pcm_s24be", 44_100, None),
    ".amr": ("amr", "libopencore_amrnb", 8_000, None),
    ".au": ("au", "pcm_s16be", 44_100, None),
    ".avi": ("avi", "libmp3lame", 44_100, "mpeg4"),
    ".caf": ("caf", "alac", 44_100, None),
    ".eac3": ("eac3", "eac3", 48_000, None),
    ".ec3": ("eac3", "eac3", 48_000, None),
    ".flac": ("flac", "flac", 44_100, None),
    ".flv": ("flv", "libmp3lame", 44_100, "flv"),
    ".m4a": ("ipod", "alac", 44_100, None),
    ".m4b": ("ipod", "aac", 44_100, None),
    ".m4r": ("ipod", "aac", 44_100, None),
    ".m4v": ("mp4", "aac", 48_000, "mpeg4"),
    ".mka": ("matroska", "libopus", 48_000, None),
    ".mkv": ("matroska", "ac3", 48_000, "mpeg4"),
    ".mov": ("mov", "alac", 48_000, "mpeg4"),
    ".mp2": ("mp2", "mp2", 44_100, None),
    ".mp3": ("mp3", "libmp3lame", 44_100, None),
    ".mp4": ("mp4", "aac", 48_000, "mpeg4"),
    ".mpga": ("mp3", "libmp3lame", 44_100, None),
    ".oga": ("oga", "flac", 44_100, None),
    ".ogg": ("ogg", "libopus", 48_000, None),
    ".ogv": ("ogv", "flac", 44_100, None),
    ".ogx": ("ogg", "flac", 44_100, None),
    ".opus": ("opus", "libopus", 48_000, None),
    ".ra": ("rm", "real_144", 8_000, None),
    ".rm": ("rm", "ac3", 44_100, "rv10"),
    ".snd": ("au", "pcm_mulaw", 8_000, None),
    ".tta": ("tta", "tta", 44_100, None),
    ".voc": ("voc", "pcm_s16le", 44_100, None),
    ".w64": ("w64", "pcm_s16le", 44_100, None),
    ".wav": ("wav", "adpcm_ima_wav", 44_100, None),
    ".wave": ("wav", "pcm_f32le", 44_100, None),
    ".weba": ("webm", "libopus", 48_000, None),
    ".webm": ("webm", "libopus", 48_000, "libvpx"),
    ".wma": ("asf", "wmav2", 44_100, None),
    ".wmv": ("asf", "wmav2", 44_100, "wmv2"),
    ".wv": ("wv", "wavpack", 44_100, None),
}  # fmt: skip


def encode(target: Path) -> None:
    """Write the tone as the suffix says."""
    form, codec, rate, pictures = ENCODED[target.suffix]
    t = np.arange(int(SECONDS * rate), dtype=np.float32) / rate
    wave = (0.3 * np.sin(2 * np.pi * 500 * t)).astype(np.float32)
    with av.open(str(target), "w", format=form) as container:
        film: Any = container.add_stream(pictures, rate=25) if pictures else None
        if film:
            film.width, film.height, film.pix_fmt = 176, 144, "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout="mono")
        if codec == "wmav2":
            sound.bit_rate = 64_000
        for number in range(int(SECONDS * 25) if film else 0):
            picture = np.full((144, 176, 3), 5 * number, np.uint8)
            for packet in film.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                container.mux(packet)
        frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*sound.encode(frame), *sound.encode(None)):
            container.mux(packet)
        for packet in film.encode(None) if film else ():
            container.mux(packet)


def dsd(rate: int, seconds: float = SECONDS) -> bytes:
    """One channel of one-bit samples, ``rate`` a second: high for a while, then low."""
    half = rate // 8 // 1_000
    return (b"\xee" * half + b"\x11" * half) * int(500 * seconds)


def dsf(target: Path, rate: int = 2_822_400) -> None:
    """Write DSD as Sony's DSF."""
    content = dsd(rate)
    samples = 8 * len(content)
    content += bytes(-len(content) % 4096)
    chunks = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, rate, 1, samples, 4096, 0)
    chunks += struct.pack("<4sQ", b"data", 12 + len(content)) + content
    target.write_bytes(struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(chunks), 0) + chunks)


def dff(target: Path, rate: int = 2_822_400) -> None:
    """Write DSD as Philips's DSDIFF."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">Q", len(content)) + content + bytes(len(content) % 2)

    properties = (
        b"SND "
        + chunk(b"FS  ", struct.pack(">I", rate))
        + chunk(b"CHNL", struct.pack(">H4s", 1, b"C000"))
        + chunk(b"CMPR", b"DSD \x0enot compressed\0")
    )
    inside = b"DSD " + chunk(b"FVER", b"\x01\x05\0\0") + chunk(b"PROP", properties)
    target.write_bytes(chunk(b"FRM8", inside + chunk(b"DSD ", dsd(rate))))


def layer_1(target: Path) -> None:
    """Write MPEG layer I: frames of 384 samples, of which the second of 32 bands has a sound."""
    bits = f"{0xFFFF14C0:032b}"  # one channel, 32 kbit/s at 48 kHz, no checksum
    bits += "0000" + "0001" + "0000" * 30  # two bits for each sample of that band
    bits += f"{9:06b}" + "0010" * 6
    frame = int(bits.ljust(256, "0"), 2).to_bytes(32, "big")
    target.write_bytes(frame * int(SECONDS * 48_000 / 384))


def repeated(text: str, times: int) -> Callable[[Path], None]:
    """A way to write a frame ``times`` times."""
    frame = zlib.decompress(base64.b85decode(text))

    def write(target: Path) -> None:
        target.write_bytes(frame * times)

    return write


MPC_HEADER = bytes.fromhex(
    "4d50434b53480e278c477c0884a72000051852470c01000000000000000045490751011e01"
)
MPC_FRAME = bytes.fromhex(
    "41505440037a8d3ab8824312fe2707c8bd04c70c478432cc42c07c6bf138d1a0e08463705e128586088c6c9990c9"
    "64deaa401a96b2625262280e15e62a0068dc41e48533f02033b05e00cebc0308ab4720487b30"
)


def musepack(target: Path) -> None:
    """Write Musepack SV8."""
    target.write_bytes(MPC_HEADER + MPC_FRAME * 62 + b"SE\x03")


def shorten(target: Path) -> None:
    """Write Shorten: a square wave, each of its blocks without any prediction."""
    bits: list[str] = []

    def number(value: int, low: int) -> None:
        # Rice's code: as many noughts as the upper bits say, a one, the lower bits.
        bits.append("0" * (value >> low) + "1" + (f"{value:0{low}b}"[-low:] if low else ""))

    def option(value: int) -> None:
        low = value.bit_length()
        number(low, 2)
        number(value, low)

    rate, block, steps = 8_000, 256, int(SECONDS * 8_000) // 256
    # Type of samples (16 bits, low byte first), channels, size of a block, and what is not used.
    for value in (5, 1, block, 0, 0, 0):
        option(value)
    size = 2 * block * steps
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
    head += struct.pack("<HHIIHH4sI", 1, 1, rate, 2 * rate, 2, 16, b"data", size)
    number(9, 2)  # these bytes come first
    number(len(head), 5)
    for byte in head:
        number(byte, 8)
    for _ in range(steps):
        number(0, 2)  # a block without prediction
        number(13, 3)  # lower bits of each sample, less one
        for at in range(block):
            number(16_000 if at % 16 < 8 else 2 * 8_000 - 1, 14)
    number(4, 2)  # the end
    text = "".join(bits)
    text += "0" * (-len(text) % 32)
    content = int(text, 2).to_bytes(len(text) // 8, "big")
    target.write_bytes(b"ajkg\2" + content + bytes(64))


def speex(target: Path) -> None:
    """Write Speex in Ogg, a packet a page."""
    header = b"Speex   1.2.1".ljust(28, b"\0")
    header += struct.pack("<13i", 1, 80, 8_000, 0, 4, 1, 2_150, 160, 0, 1, 0, 0, 0)
    frames = [bytes.fromhex("0844801c280f")] * int(SECONDS * 50)
    pages = [(2, 0, header), (0, 0, struct.pack("<I4sI", 4, b"test", 0))]
    pages += [(0, 160 * number, frame) for number, frame in enumerate(frames, 1)]
    pages[-1] = (4, *pages[-1][1:])
    target.write_bytes(b"".join(_page(n, *page) for n, page in enumerate(pages)))


def _page(number: int, flags: int, granule: int, packet: bytes) -> bytes:
    def page(checksum: int) -> bytes:
        head = struct.pack(
            "<4sBBQIIIBB", b"OggS", 0, flags, granule, 1, number, checksum, 1, len(packet)
        )
        return head + packet

    checksum = 0
    for byte in page(0):
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    return page(checksum)


WRITERS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(ENCODED, encode),
    ".dff": dff,
    ".dsf": dsf,
    ".dts": repeated(
        "c-pJ~*TDG4hW`T#1EU24<NM|W=KmiU92kJ0CF(|sq=&(jCdHnh8OIEJk|mZJFo40z>nsdd0o(1|t)ZdUV@t2c7GK-"
        ")b**i-f7E3d<4W+JuJVa~pEU2eTAx^6De_)v?vqKLYQ=M&Tb{d}yZt{H{GhA3?EilN03jY@D*",
        25,
    ),
    ".mlp": repeated(
        "c-mu#V~Y4ul)qb_pMi0EkOKn)Lr=XRYZx;FLqh|D^dD0N-;b}D8W;tD65@Lg07<6#zg-+F!v8;g!N4HdIrFoy@iVpb"
        "Gd|~M%$#p%Y?qW)bL7lR0iMjnGYc53lC>8&GB7Y#&)j|I?7e4s-;K+6&fa_G?z^=2#pVb>haU~B9A`D$GM$XQ1ZM^"
        "GTxv<1qHMBIaw$GR4+f4o2{ud(36>Kb<|?o#K48W)7^`gvK@<KC1|n@k5^Q*`?O?^UBEejdpFx&13xR?QY8;qIv~Z"
        "#15{4ZsHdrxTptqd@R!l$WZD)WLvjY9Ymf3^eb~0Eo7tq_z1S{ql0}!?c=$~$xU(nx976JN)EsF*H(-2Dn{qqV-#{"
        "h)w2722G0NbvVhX",
        120,
    ),
    ".mp1": layer_1,
    ".mpc": musepack,
    ".shn": shorten,
    ".spx": speex,
    ".thd": repeated(
        "c-mu#V~Y4ul)sCCp@DIG5CahO)C;nP0qKSY28Me^3cep-F*Ps>00qSN9srU|^MAWIR)qh5`htN$vUBEVVdH0N>1TY-"
        "&zL#i(AX|1t>(y?mjXPQiDwotSS4#OaAaU$uAaI3&e?m<^1d6F@0`8&%-wfs?~Bb5f(}0#SUJvWxMeySdkM}8=(*I"
        "AHbvQFq2yA0f*uSUa}sQr8WJogI?PpIQGCFRX)spX5P~NB9SlU;h9ubVT-(8lX+?s$B0qyHX%+$n7t}Z~k!ayU$t4"
        "UsR&20hx<GF`1+18U(A&-cD`o}yhb^-Qz3pVMVlJS!oe5UVGX@}R570l|GQXg|oh$<M4_g)s`llh51p4O{mW}}k+YR"
        ")#695l#lt}",
        120,
    ),
}


def write(target: Path) -> None:
    """Write the tone as the suffix says."""
    WRITERS[target.suffix](target)
