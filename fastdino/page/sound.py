"""Songs as every browser can play them: WAV, decoded as it goes.

For the formats that browsers do not know, and for songs that are a part of a file.

Belongs here: decoding from any second on, and answering for a range of bytes. Does not: which file
is played; files that the browser plays itself, which are sent as they are.

Samples of a WAV file lie where their time says, so a range of bytes is a range of seconds: nothing
has to be decoded before it is heard, or kept.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from starlette.responses import Response, StreamingResponse

from fastdino.ingestion.identify import OPEN_OPTIONS

RATE = 44_100
FRAME_BYTES = 4  # two channels of 16 bits
HEADER_BYTES = 44
# Sizes in the header have 32 bits: six and a half hours.
MAX_FRAMES = (2**32 - 1 - HEADER_BYTES) // FRAME_BYTES


class SoundError(Exception):
    """A file cannot be played; the message says why."""


def response(
    path: Path, wanted: str | None, start_s: float = 0.0, duration_s: float | None = None
) -> Response:
    """The answer to a request for a song as WAV.

    Args:
        path: the file.
        wanted: the request's ``Range``, if it has one.
        start_s: where the song begins in the file.
        duration_s: how long it is, where that is known; else the file is asked.

    Raises:
        SoundError: there is no sound in it, or none knows how much.
    """
    total = HEADER_BYTES + n_frames(path, start_s, duration_s) * FRAME_BYTES
    start, stop = byte_range(wanted, total)
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    return StreamingResponse(
        wav(path, total, start, stop, round(start_s * RATE)),
        206 if wanted else 200,
        headers,
        media_type="audio/wav",
    )


def n_frames(path: Path, start_s: float = 0.0, duration_s: float | None = None) -> int:
    """Length in samples of one channel at ``RATE``: as it is known, or else as the file states it.

    Raises:
        SoundError: it does not, or cannot be opened, or ends before the part begins.
    """
    import av

    try:
        with av.open(str(path), metadata_errors="replace", options=OPEN_OPTIONS) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise SoundError("there is no sound in it")
            if stream.duration and stream.time_base:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = (container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SoundError(str(error)) from error
    if duration_s is None:
        if seconds <= 0:
            raise SoundError("it does not say how long it is")
        duration_s = seconds - start_s
        if duration_s <= 0:
            raise SoundError("it ends before this song begins")
    return min(round(duration_s * RATE), MAX_FRAMES)


def byte_range(wanted: str | None, total: int) -> tuple[int, int]:
    """First byte, and the one after the last, of a ``Range`` header; all for what is not one."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if not found or int(found[1]) >= total:
        return 0, total
    return int(found[1]), min(int(found[2] or total - 1), total - 1) + 1


def wav(path: Path, total: int, start: int, stop: int, skipped: int = 0) -> Iterator[bytes]:
    """Bytes ``start`` to ``stop`` of the WAV file of ``total`` bytes that ``path`` decodes to.

    Its first ``skipped`` samples of a channel are left out, as if the file began after them.
    Silence stands where the file ends early or cannot be decoded.
    """
    if start < HEADER_BYTES:
        yield _header(total)[start : min(stop, HEADER_BYTES)]
    at = max(start, HEADER_BYTES)
    first, skip = divmod(at - HEADER_BYTES, FRAME_BYTES)
    for block in _blocks(path, skipped + first):
        if at >= stop:
            return
        part = block[skip : skip + stop - at]
        skip = max(skip - len(block), 0)
        at += len(part)
        yield part
    while at < stop:
        silence = bytes(min(stop - at, 1 << 16))
        at += len(silence)
        yield silence


def _header(total: int) -> bytes:
    data = total - HEADER_BYTES
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", total - 8, b"WAVE", b"fmt ", 16, 1, FRAME_BYTES // 2),
        *(RATE, RATE * FRAME_BYTES, FRAME_BYTES, 16, b"data", data),
    )


def _blocks(path: Path, first: int) -> Iterator[bytes]:
    """Interleaved 16-bit stereo from sample ``first`` on, until the end or a fault."""
    import av

    try:
        with av.open(str(path), metadata_errors="replace", options=OPEN_OPTIONS) as container:
            stream = container.streams.best("audio")
            if stream is None or stream.time_base is None:
                return
            resampler = av.AudioResampler("s16", "stereo", RATE)
            begin = float((stream.start_time or 0) * stream.time_base)
            if first:
                # Seeking lands at or before what is wanted.
                to_s = first / RATE + begin
                container.seek(int(to_s / stream.time_base), stream=stream)
            skip: int | None = None
            for frame in container.decode(stream):
                assert isinstance(frame, av.AudioFrame)
                if skip is None:
                    at_s = begin if frame.time is None else frame.time
                    skip = max(first - round((at_s - begin) * RATE), 0) if first else 0
                frame.pts = None  # The resampler refuses gaps, which a damaged file has.
                for ready in resampler.resample(frame):
                    samples = bytes(ready.planes[0])[: ready.samples * FRAME_BYTES]
                    yield samples[skip * FRAME_BYTES :]
                    skip = max(skip - ready.samples, 0)
    except (av.FFmpegError, OSError, ValueError):
        return
