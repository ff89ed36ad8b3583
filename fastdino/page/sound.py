"""Songs as every browser can play them: WAV, decoded as it goes.

For the formats that browsers do not know, and for songs that are a part of a file.

Belongs here: decoding from any second on, and answering for a range of bytes. Does not: which file
is played; files that the browser plays itself, which are sent as they are.

Samples of a WAV file lie where their time says, so a range of bytes is a range of seconds: nothing
has to be decoded before it is heard, or kept.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from fastdino.ingestion.identify import OPEN_OPTIONS
from fastdino.spectrograms.decode import ASTRAY, is_one_of

RATE = 44_100
FRAME_BYTES = 4  # two channels of 16 bits
HEADER_BYTES = 44
# Sizes in the header have 32 bits: six and a half hours.
MAX_FRAMES = (2**32 - 1 - HEADER_BYTES) // FRAME_BYTES


class SoundError(Exception):
    """A file cannot be played; the message says why."""


class RangeError(Exception):
    """A request's ``Range`` cannot be answered.

    Attributes:
        status: of the answer: 400 if it is none, 416 if it is beyond the end.
    """

    def __init__(self, status: int) -> None:
        super().__init__("no such range of bytes")
        self.status = status


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
    try:
        part = byte_range(wanted, total)
    except RangeError as error:
        beyond = {"Content-Range": f"bytes */{total}"} if error.status == 416 else None
        return PlainTextResponse(str(error), error.status, beyond)
    start, stop = part or (0, total)
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    return StreamingResponse(
        wav(path, total, start, stop, round(start_s * RATE)),
        206 if part else 200,
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


def byte_range(wanted: str | None, total: int) -> tuple[int, int] | None:
    """First byte, and the one after the last, that a ``Range`` header asks for.

    As Starlette answers for files, so that a song is the same to a player either way; but of
    several ranges none is picked out.

    Returns:
        None if all of it is to be sent: nothing is asked for, or several ranges.

    Raises:
        RangeError: it cannot be answered.
    """
    if wanted is None:
        return None
    unit, _, asked = wanted.partition("=")
    if unit.strip().lower() != "bytes":
        raise RangeError(400)
    ranges = []
    for each in asked.split(","):
        found = re.fullmatch(r"\s*(\d{0,20})\s*-\s*(\d{0,20})\s*", each, re.ASCII)
        if found and found[1]:
            last = min(int(found[2]), total - 1) if found[2] else total - 1
            ranges.append((int(found[1]), last + 1))
        elif found and found[2]:  # so many of the last
            ranges.append((max(total - int(found[2]), 0), total))
    if not ranges:
        raise RangeError(400)
    if any(start >= total for start, _ in ranges):
        raise RangeError(416)
    if any(start >= stop for start, stop in ranges):
        raise RangeError(400)
    return ranges[0] if len(ranges) == 1 else None


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
        frames = _frames(path, first / RATE)
        begun = next(frames, None)
        if first and (begun is None or begun[1] is None):
            # It cannot be sought in, or does not say where that led: all before it is decoded.
            frames = _frames(path, 0.0)
            begun = next(frames, None)
        if begun is None:
            return
        skip = max(first - round((begun[1] or 0.0) * RATE), 0)
        resampler = av.AudioResampler("s16", "stereo", RATE)
        for frame, _ in itertools.chain([begun], frames):
            frame.pts = None  # The resampler refuses gaps, which a damaged file has.
            for ready in resampler.resample(frame):
                samples = bytes(ready.planes[0])[: ready.samples * FRAME_BYTES]
                yield samples[skip * FRAME_BYTES :]
                skip = max(skip - ready.samples, 0)
    except (av.FFmpegError, OSError, ValueError):
        return


def _frames(path: Path, from_s: float) -> "Iterator[tuple[av.AudioFrame, float | None]]":  # type: ignore[name-defined]  # noqa: F821
    """Decoded frames from ``from_s`` or a little before, and the second of each, if it is known.

    None at all where the file cannot be sought in.
    """
    import av

    with av.open(str(path), metadata_errors="replace", options=OPEN_OPTIONS) as container:
        stream = container.streams.best("audio")
        if stream is None or stream.time_base is None:
            return
        begin_s = float((stream.start_time or 0) * stream.time_base)
        if from_s:
            if is_one_of(ASTRAY, container):
                return
            try:
                container.seek(int((from_s + begin_s) / stream.time_base), stream=stream)
            except (av.FFmpegError, OSError):
                return
        for frame in container.decode(stream):
            assert isinstance(frame, av.AudioFrame)
            at_s = None if frame.time is None else frame.time - begin_s
            yield frame, at_s if from_s else 0.0
