"""What one file holds: which recording, with which tags.

Belongs here: opening untrusted files with PyAV, hashing their audio packets, and doing so in
processes that can be killed. Does not: what tags say (``tags``), decoding, or anything about the
collection.

A recording is known by its encoded audio: the packets are hashed as one stream of bytes, without
decoding, so a file can be moved, renamed and retagged and stays the same track.
"""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastdino.core import cluster
from fastdino.core.cluster import Work
from fastdino.core.failures import FORMAT, MACHINE
from fastdino.core.paths import to_path
from fastdino.core.workers import WorkerFailure, WorkerPool
from fastdino.ingestion import cue, flac_sheet, ogg, tags, trailers

# Left to itself FFmpeg believes content over names: a playlist called x.mp3 would make it open
# whatever files or addresses the playlist names. So only containers of sound, or of films with it,
# and only from disk.
OPEN_OPTIONS = {
    "format_whitelist": "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,"
    "mlp,mov,mp3,mpc,mpc8,ogg,rm,shn,tak,truehd,tta,voc,w64,wav,wv",
    "protocol_whitelist": "file",
}
# To be raised when more, or other things, are read of a file: all that could be opened are then
# opened once more.
VERSION = 2
# To be raised when more files can be opened: those that could not be are then tried once more. It
# is 3 at least: at first what failed had VERSION's number, too.
FAILED_VERSION = 4
# Files whose row says so are opened again although they have not changed: a permission or a cable
# can be mended without touching the file.
CANNOT_READ = "cannot be read"
NO_AUDIO = "holds no audio, whatever its name says"

READ_BYTES = 1 << 20
LARGEST_SHEET = 1 << 20
BATCH = 16  # files a worker takes at once
# Of a cluster: files that a computer takes at once, and cores that it has for them.
PIECE, CORES = 512, 4
# A damaged file can claim any length: this is less than even silence takes.
LEAST_BYTES_PER_S = 100
LONGEST_PACKET_S = 60
PATIENCE_S = 20.0  # for one file, beside what reading it at a megabyte a second takes

# Files, as (path, size), that one worker identifies in one go.
Batch = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Identified:
    """What a file holds. Either ``track_id`` or ``error`` is set; the rest is best effort.

    Its texts may be in an encoding that only the whole album tells: see ``tags.settled``.

    Attributes:
        track_id: 32 hex characters, the hash of the audio packets.
        error: why the file cannot be used, for people.
        error_kind: what is to blame, see ``fastdino.core.failures``; None for the file itself.
        duration_s: as far as the packets reach, so of a cut file what is left of it; None where
            their times cannot be true.
        codec: FFmpeg's name of the codec, such as ``mp3``, ``flac``, ``vorbis``, ``aac``; of what
            only libsndfile opens that one's.
        own_sheet: the text of a CUE sheet within the file, see ``sheets``.
    """

    track_id: str | None = None
    error: str | None = None
    error_kind: str | None = None
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
    own_sheet: str | None = None


def identify(path: str) -> Identified:
    """Demux the file at ``path``, as the catalogue has it, once. Never raises for what it holds."""
    import av

    path = to_path(path)
    try:
        with av.open(path, metadata_errors="surrogateescape", options=OPEN_OPTIONS) as container:
            return _read(path, [container])
    except (av.FFmpegError, OSError, ValueError):
        pass
    # FFmpeg opens one at a time of several that were joined and are not alike.
    with contextlib.suppress(av.FFmpegError, OSError, ValueError):
        if len(links := ogg.links(path)) > 1:
            return _read(path, (container for container, _ in opened_links(path, links)))
    with contextlib.suppress(OSError):
        if found := _read_by_libsndfile(path):
            return found
    if error := unreadable(path):
        return Identified(error=error, error_kind=MACHINE)
    return Identified(error="damaged, or not an audio file: its header cannot be understood")


def opened_links(path: str | Path, links: Sequence[tuple[int, int]]) -> Iterator[tuple[Any, int]]:
    """The containers of a chain's ``links``, see ``ogg``, and the byte where each begins.

    Each is open until the next is asked for; what cannot be opened is passed over.

    Raises:
        OSError: the file cannot be opened any more.
    """
    import av

    for begin, end in links:
        with (
            ogg.Part(path, begin, end) as part,
            contextlib.suppress(av.FFmpegError, OSError, ValueError),
            av.open(part, metadata_errors="surrogateescape", options=OPEN_OPTIONS) as container,
        ):
            yield container, begin


def unreadable(path: str) -> str | None:
    """Why a file cannot be read to its end, if it cannot.

    FFmpeg calls much of the damage that it meets by names of a disk's or a person's doing, such as
    "Operation not permitted". Whether it is one of those, reading the file tells.
    """
    try:
        with open(path, "rb") as file:
            while file.read(READ_BYTES):
                pass
    except OSError as error:
        return f"{CANNOT_READ}: {error.strerror}"
    return None


def _read(path: str, containers: Iterable[Any]) -> Identified:
    """What a file holds, of which ``containers`` are the parts one after the other."""
    found: Identified | None = None
    packets: _Packets | None = None
    for container in containers:
        stream = container.streams.best("audio")
        if stream is None:
            continue
        if packets is None:
            codec = stream.codec_context
            if codec is None:
                return Identified(error="holds audio of an unknown kind", error_kind=FORMAT)
            # Ogg keeps tags with the stream, the others with the container.
            metadata = {**stream.metadata, **container.metadata}
            with open(path, "rb") as file:
                end = trailers.sound_end(file, codec.codec.canonical_name)
                said = tags.read(file, metadata)
            packets = _Packets(path, codec.codec.canonical_name, end)
            found = Identified(
                codec=codec.codec.canonical_name,
                sample_rate=codec.sample_rate or None,
                channels=codec.channels or None,
                own_sheet=own_sheet(metadata)
                or (flac_sheet.read(path) if container.format.name == "flac" else None),
                **said,
            )
        packets.add(container, stream)
    if found is None or packets is None or not packets.size:
        return Identified(error=NO_AUDIO)
    return replace(found, track_id=packets.digest(), duration_s=packets.duration_s)


def _read_by_libsndfile(path: str) -> Identified | None:
    """What a file holds that FFmpeg does not open; None if libsndfile does not either.

    Ogg with its headers twice, say, or WAV with an empty list of tags: editors of tags leave such.
    As packets cannot be told apart, a recording is known by the whole file: with other tags it is
    another.
    """
    import soundfile

    try:
        sound = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError:
        return None
    with sound:
        # It takes nearly anything for MPEG; of that FFmpeg opens all there is.
        if sound.format in ("MP3", "MPEG") or sound.subtype.startswith("MPEG"):
            return None
        if not sound.frames:
            return Identified(error=NO_AUDIO)
        about = {
            "codec": sound.subtype.lower(),
            "sample_rate": sound.samplerate,
            "channels": sound.channels,
        }
        seconds = sound.frames / sound.samplerate
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        said = tags.read(file, {})
        file.seek(0)
        while content := file.read(READ_BYTES):
            digest.update(content)
        duration_s = _credible(seconds, file.tell())
    return Identified(digest.hexdigest(), duration_s=duration_s, **about, **said)


class _Packets:
    """The encoded sound of a file as one stream of bytes, and how long it lasts."""

    def __init__(self, path: str, codec: str, end: int) -> None:
        self.path, self.codec, self.end = path, codec, end
        self.size = 0
        self.seconds: float | None = None
        self._hash = hashlib.blake2b(digest_size=16)
        self._last: Any = None

    def add(self, container: Any, stream: Any) -> None:
        """Read all packets of a stream, up to where it is damaged."""
        import av

        end, update = self.end, self._hash.update
        open_ended = trailers.ends_with_the_file(self.codec, container.format.name)
        size, last = self.size, self._last
        # Where what was joined from several files begins anew, so do its times.
        elapsed, second = 0, int(1 / stream.time_base)
        first = timed = None
        at = 0
        try:
            # A song has ten thousand packets: what is asked of each is most of what a song costs.
            for packet in container.demux(stream):
                length = packet.size
                if not length or (open_ended and (packet.pos or 0) >= end):
                    continue
                if last is not None:
                    update(last)
                last = packet
                size += length
                pts = packet.pts
                if pts is None:
                    continue
                if first is None:
                    first = pts
                elif pts + second < at:
                    elapsed += at + _lasts(timed, second) - first
                    first = pts
                at, timed = pts, packet
        except av.InvalidDataError:
            pass  # Damaged from here on. What came before is the track.
        except av.FFmpegError:
            # So it is where FFmpeg calls it by another name. But of several files that were joined
            # the next one may be sound, and what is a disk's reading the file tells.
            if len(ogg.links(self.path)) > 1 or unreadable(self.path):
                raise
        self.size, self._last = size, last
        if first is not None:
            elapsed += at + _lasts(timed, second) - first
            self.seconds = (self.seconds or 0) + float(elapsed * stream.time_base)

    def digest(self) -> str:
        """32 hex characters, the hash of all packets."""
        last, whole = self._last, self._hash.copy()
        behind = 0 if last.pos is None else max(0, last.pos + last.size - self.end)
        whole.update(trailers.of_last_packet(self.codec, bytes(last), behind))
        return whole.hexdigest()

    @property
    def duration_s(self) -> float | None:
        """How long they last; None if that cannot be true."""
        return None if self.seconds is None else _credible(self.seconds, self.size)


def _credible(seconds: float, size: int) -> float | None:
    """``seconds``, unless sound of ``size`` bytes would end before it starts, or in a year."""
    return seconds if 0 <= seconds <= size / LEAST_BYTES_PER_S else None


def _lasts(packet: Any, second: int) -> int:
    """How long a packet lasts; nothing if a damaged time of ending has it last for days."""
    lasts = packet.duration or 0
    return lasts if 0 <= lasts < LONGEST_PACKET_S * second else 0


def own_sheet(metadata: Mapping[str, str]) -> str | None:
    """The CUE sheet among what FFmpeg read of a file, bytes that are not UTF-8 as surrogates."""
    found = next((text for name, text in metadata.items() if name.lower() == "cuesheet"), "")
    if not found.strip() or len(found) > LARGEST_SHEET:
        return None
    return cue.decode(found.encode("utf-8", "surrogateescape"))


def identify_batch(batch: Batch) -> list[Identified]:
    """Identify every file of ``batch``."""
    return [identify(path) for path, _ in batch]


def _limit_s(batch: Batch) -> float:
    """Time after which a worker is stopped: ample even for a slow network drive."""
    return sum(PATIENCE_S + size / 1e6 for _, size in batch)


class Identifier(Work[Sequence[tuple[str, int]], tuple[str, Identified]]):
    """Identifies files in worker processes; holds those from one lot to the next."""

    def __init__(self, cores: int | None) -> None:
        self._pool: WorkerPool[Batch, list[Identified]] = WorkerPool(
            identify_batch, timeout_s=_limit_s, workers=cores
        )

    def __call__(
        self, pieces: Iterable[Sequence[tuple[str, int]]]
    ) -> Iterator[tuple[str, Identified]]:
        """Identify ``(path, size)`` files, many a piece; results come in any order.

        Where a file takes its worker down or hangs, the others of its batch are tried again one
        by one, and that file alone is given an error.
        """
        files = itertools.chain.from_iterable(pieces)
        batches: Iterator[Batch] = iter(lambda: tuple(itertools.islice(files, BATCH)), ())
        again: list[Batch] = []
        while True:
            for batch, result in self._pool.map(batches):
                if not isinstance(result, WorkerFailure):
                    for (path, _), identified in zip(batch, result, strict=True):
                        yield path, identified
                elif len(batch) == 1:
                    yield batch[0][0], Identified(error=result.reason, error_kind=result.kind)
                else:
                    again += [(file,) for file in batch]
            if not again:
                return
            batches, again = iter(again), []

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        self._pool.__exit__(*error)


def identify_files(
    files: Sequence[tuple[str, int]], folders: Iterable[str] = ()
) -> Iterator[tuple[str, Identified]]:
    """Identify ``(path, size)`` files, on the cluster if there is one; see ``Identifier``.

    All of its computers have to see the music ``folders``.
    """
    pieces = [files[i : i + PIECE] for i in range(0, len(files), PIECE)]
    sees = [Path(to_path(folder)) for folder in folders]
    told = set()
    for path, identified in cluster.everywhere(Identifier, pieces, cores=CORES, sees=sees):
        if path not in told:  # otherwise a computer that was lost had done it, too
            told.add(path)
            yield path, identified
