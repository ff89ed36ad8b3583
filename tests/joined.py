"""Files as programs and people make them by joining others, or by putting tags behind the sound."""

import struct
from pathlib import Path

import numpy as np

from fastdino import demo


def tone(seconds: float, hertz: float, *, rate: int = demo.RATE, channels: int = 2) -> np.ndarray:
    """A tone that swells and fades, float32 ``[channels, n]``."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * hertz * t) * (0.6 + 0.4 * np.sin(3 * t))
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def encode(path: Path, container: str, codec: str, sound: np.ndarray, rate: int) -> Path:
    """Write ``sound``, float32 ``[channels, n]``, in any format that PyAV has an encoder of."""
    import av

    layout = "stereo" if len(sound) == 2 else "mono"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2"})
        context = stream.codec_context
        kind = context.codec.audio_formats[0].name if context.codec.audio_formats else "s16"
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        queue = av.AudioFifo()
        for part in av.AudioResampler(kind, layout, rate).resample(frame):
            part.pts = None
            queue.write(part)
        size = context.frame_size or 4096
        for part in [*queue.read_many(size), queue.read()]:
            if part is not None:
                file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


def id3v1(title: str = "Song", genre: int = 17) -> bytes:
    """A tag of 128 bytes, as old programs put behind the sound."""
    fields = (title.encode().ljust(30, b"\0"), bytes(30), bytes(30), b"2001", bytes(30))
    return b"TAG" + b"".join(fields) + bytes([genre])


def apev2(**values: str) -> bytes:
    """A tag with header and footer."""
    items = b"".join(
        struct.pack("<II", len(text.encode()), 0) + name.encode() + b"\0" + text.encode()
        for name, text in values.items()
    )

    def end(flags: int) -> bytes:
        return (
            b"APETAGEX" + struct.pack("<IIII", 2000, len(items) + 32, len(values), flags) + bytes(8)
        )

    return end(0xA0000000) + items + end(0x80000000)


def lyrics3(words: str = "la la la") -> bytes:
    """A block of the second version; it stands before an ID3v1 tag."""
    body = b"LYRICSBEGIN" + b"IND0000210" + b"LYR%05d" % len(words) + words.encode()
    return body + b"%06d" % len(body) + b"LYRICS200"


def id3v2(*, footer: bool, title: bytes = b"Hello", padding: int = 0) -> bytes:
    """A tag as it stands in front of the sound, or, with a footer, behind it."""

    def size(n: int) -> bytes:
        return bytes([n >> 21 & 127, n >> 14 & 127, n >> 7 & 127, n & 127])

    frame = b"TIT2" + size(len(title) + 1) + b"\0\0\x03" + title + bytes(padding)
    rest = b"\x04\0" + (b"\x10" if footer else b"\0") + size(len(frame))
    return b"ID3" + rest + frame + (b"3DI" + rest if footer else b"")


BEHIND = {
    "ID3v1": id3v1(),
    "APEv2": apev2(Artist="Foo", Title="Bar"),
    "APEv2, ID3v1": apev2(Artist="Foo") + id3v1(),
    "Lyrics3, ID3v1": lyrics3() + id3v1(),
    "ID3v2.4 with a footer": id3v2(footer=True),
    "ID3v2 without": id3v2(footer=False),
    "a zero": b"\0",
    "many zeros": bytes(5_000),
    "zeros, ID3v1": bytes(300) + id3v1(),
    "ID3v1, zeros": id3v1() + bytes(300),
    "ID3v1 twice": 2 * id3v1(),
    "a large tag": apev2(Cover="x" * 200_000),
    "a tag with a picture": apev2(Cover="\xff\xfb\x90\x64" * 20_000),
    "APEv2, zeros": apev2(Artist="Foo") + bytes(500),
    "ID3v1 that ends in zeros, zeros": id3v1(genre=0) + bytes(500),
    "padded ID3v2, zeros": id3v2(footer=False, padding=200) + bytes(500),
    "zeros, APEv2, zeros, ID3v1": bytes(90) + apev2(Artist="Foo") + bytes(90) + id3v1(),
    "ID3v2 that speaks of ID3": id3v2(footer=False, title=b"My ID3 title"),
}
