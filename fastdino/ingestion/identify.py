"""What one file holds: which recording, with which tags.

Belongs here: opening untrusted files with PyAV, hashing their audio packets, and doing so in
processes that can be killed. Does not: what tags say (``tags``), decoding, or anything about the
collection.

A recording is known by its encoded audio: the packets are hashed as one stream of bytes, without
decoding, so a file can be moved, renamed and retagged and stays the same track.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastdino.core.workers import WorkerFailure, map_in_workers
from fastdino.ingestion import tags

# Left to itself FFmpeg believes content over names: a playlist called x.mp3 would make it open
# whatever files or addresses the playlist names. So only plain audio containers, only from disk.
OPEN_OPTIONS = {
    "format_whitelist": "aac,ac3,aiff,ape,asf,au,caf,dsf,eac3,flac,matroska,mov,mp3,mpc,mpc8,ogg,"
    "tak,tta,w64,wav,wv",
    "protocol_whitelist": "file",
}
# To be raised when more, or other things, are read of a file: all files are then opened once more.
VERSION = 2
# Files whose row says so are opened again although they have not changed: a permission or a cable
# can be mended without touching the file.
CANNOT_READ = "cannot be read"
NO_AUDIO = "holds no audio, whatever its name says"

READ_BYTES = 1 << 20
BATCH = 16  # files a worker takes at once
# A damaged file can claim any length: this is less than even silence takes.
LEAST_BYTES_PER_S = 100
PATIENCE_S = 20.0  # for one file, beside what reading it at a megabyte a second takes


@dataclass(frozen=True)
class Identified:
    """What a file holds. Either ``track_id`` or ``error`` is set; the rest is best effort.

    Its texts may be in an encoding that only the whole album tells: see ``tags.settled``.

    Attributes:
        track_id: 32 hex characters, the hash of the audio packets.
        error: why the file cannot be used, for people.
        duration_s: as far as the packets reach, so of a cut file what is left of it; None where
            their times cannot be true.
        codec: FFmpeg's name of the codec, such as ``mp3``, ``flac``, ``vorbis``, ``aac``.
    """

    track_id: str | None = None
    error: str | None = None
    title: str | None = None
    artist: str | None = None
    artists: list[str] | None = None
    album: str | None = None
    album_artist: str | None = None
    genre: str | None = None
    genres: list[str] | None = None
    year: int | None = None
    original_year: int | None = None
    track_number: int | None = None
    recording_mbid: str | None = None
    isrc: str | None = None
    duration_s: float | None = None
    codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None


def identify(path: str) -> Identified:
    """Demux the file at ``path`` once. Never raises for what the file holds."""
    import av

    try:
        with av.open(path, metadata_errors="surrogateescape", options=OPEN_OPTIONS) as container:
            stream = container.streams.best("audio")
            if stream is None:
                return Identified(error=NO_AUDIO)
            with open(path, "rb") as file:
                return _read(container, stream, file)
    except (av.FFmpegError, OSError, ValueError):
        return Identified(error=_why_unopened(path))


def _why_unopened(path: str) -> str:
    # FFmpeg calls much of the damage that it meets by names of a disk's or a person's doing, such
    # as "Operation not permitted". Whether it is one of those, reading the file tells.
    try:
        with open(path, "rb") as file:
            while file.read(READ_BYTES):
                pass
    except OSError as error:
        return f"{CANNOT_READ}: {error.strerror}"
    return "damaged, or not an audio file: its header cannot be understood"


def _read(container: Any, stream: Any, file: BinaryIO) -> Identified:
    import av

    digest = hashlib.blake2b(digest_size=16)
    size = 0
    first = end = None
    try:
        for packet in container.demux(stream):
            digest.update(packet)
            size += packet.size
            if packet.pts is not None:
                first = packet.pts if first is None else first
                end = packet.pts + (packet.duration or 0)
    except av.InvalidDataError:
        pass  # Damaged from here on. What came before is the track.
    if not size:
        return Identified(error=NO_AUDIO)
    codec = stream.codec_context
    if codec is None:
        return Identified(error="holds audio of an unknown kind")
    duration_s = None
    if first is not None and end is not None:
        duration_s = float((end - first) * stream.time_base)
        # Damaged times can make it end before it starts, or in a hundred years.
        if not 0 <= duration_s <= size / LEAST_BYTES_PER_S:
            duration_s = None
    return Identified(
        track_id=digest.hexdigest(),
        duration_s=duration_s,
        codec=codec.codec.canonical_name,
        sample_rate=codec.sample_rate or None,
        channels=codec.channels or None,
        # Ogg keeps tags with the stream, the others with the container.
        **tags.read(file, {**stream.metadata, **container.metadata}),
    )


@dataclass(frozen=True)
class Batch:
    """Files, as (path, size), that one worker identifies in one go."""

    files: tuple[tuple[str, int], ...]

    @property
    def limit_s(self) -> float:
        """Time after which the worker is stopped: ample even for a slow network drive."""
        return sum(PATIENCE_S + size / 1e6 for _, size in self.files)


def identify_batch(batch: Batch) -> list[Identified]:
    """Identify every file of ``batch``."""
    return [identify(path) for path, _ in batch.files]


def identify_files(files: Sequence[tuple[str, int]]) -> Iterator[tuple[str, Identified]]:
    """Identify ``(path, size)`` files in worker processes; results come in any order.

    Where a file takes its worker down or hangs, the others of its batch are tried again one by
    one, and that file alone is given an error.
    """
    batches = [Batch(tuple(files[i : i + BATCH])) for i in range(0, len(files), BATCH)]
    while batches:
        again: list[Batch] = []
        found = map_in_workers(identify_batch, batches, timeout_s=lambda batch: batch.limit_s)
        for batch, result in found:
            if not isinstance(result, WorkerFailure):
                for (path, _), identified in zip(batch.files, result, strict=True):
                    yield path, identified
            elif len(batch.files) == 1:
                yield batch.files[0][0], Identified(error=result.reason)
            else:
                again += [Batch((file,)) for file in batch.files]
        batches = again
