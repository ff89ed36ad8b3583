"""One song to frames: what a worker process does.

Belongs here: choosing the decoder, running decode -> resample -> mel, judging the outcome.
Does not: processes, shards.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from fastdino.core.errors import readable_errors
from fastdino.core.failures import CHANGED, MACHINE, MISSING
from fastdino.core.workers import WorkerFailure
from fastdino.ingestion.identify import CANNOT_READ, unreadable
from fastdino.spectrograms.decode import DecodeError, Sound, cut, decoders
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import is_short

SHORTEST_S = 1.0
# A few bytes can stand for a minute of hum, and a file of some megabytes for years of it.
LONGEST_S = 24 * 3600.0
SPOOL_BUFFER = 1 << 20
# The times of a file may be told in whole seconds, or in every second one.
COARSE_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue knows of a file, by which it is still the same one.

    Attributes:
        size: in bytes.
        mtime_ns: when it was written.
        ctime_ns: when it, or its name, was changed. None where that is not known, or where times
            may be told otherwise than to ingest: then they are compared as far as all tell them.
    """

    size: int
    mtime_ns: int
    ctime_ns: int | None = None

    def is_of(self, now: os.stat_result) -> bool:
        """Whether the file that this is ``now`` told of is that one."""
        if self.ctime_ns is None:
            is_near = abs(now.st_mtime_ns - self.mtime_ns) < COARSE_NS
            return now.st_size == self.size and is_near
        times = now.st_mtime_ns, now.st_ctime_ns
        return (now.st_size, *times) == (self.size, self.mtime_ns, self.ctime_ns)


@dataclass(frozen=True)
class Task:
    """A file, or the part of one between ``start_s`` and ``end_s``, to make frames of.

    Attributes:
        path: the file.
        spool: the file that its uint8 frames are to be written to.
        settings: of the frames.
        start_s: where the song begins in a file that holds several.
        end_s: where it ends; None for the end of the file.
        packets_s: seconds that its packets last, where that is known.
        known: what the file has to be, where that matters.
        codec: of its sound, where that is known.
    """

    path: Path
    spool: Path
    settings: SpectrogramSettings
    start_s: float = 0.0
    end_s: float | None = None
    packets_s: float | None = None
    known: Known | None = None
    codec: str | None = None


@dataclass(frozen=True)
class Extracted:
    """What came out of one song.

    Attributes:
        n_frames: frames in the spool.
        header_s: seconds of it that the file promises, if it does.
        decoded_s: seconds that could be decoded.
        salvaged: whether damage was met and left out.
        attempts: decoders that were tried.
        packets_s: seconds that the file's packets last, where that is known.
    """

    n_frames: int
    header_s: float | None
    decoded_s: float
    salvaged: bool
    attempts: int
    packets_s: float | None = None

    @property
    def sound(self) -> bool:
        """Whether all that the file promises, and all that it holds, was decoded."""
        # A header is of the first of several files that were joined.
        promised = (self.header_s, self.packets_s)
        return not (self.salvaged or any(is_short(self.decoded_s, each) for each in promised))


class TooLong(Exception):
    """A file goes on for longer than ``LONGEST_S``."""


def in_worker(task: Task) -> Extracted | WorkerFailure:
    """``extract`` for a process of its own: one core each, as every core has such a process."""
    import torch

    torch.set_num_threads(1)
    return extract(task)


def extract(task: Task) -> Extracted | WorkerFailure:
    """Write the file's frames to the spool, uint8 ``[n_frames, n_mels]``.

    Decoders are tried in turn until one gets all that the file promises; else the one that got
    furthest is taken. Nothing is of a file that is not there, or not what it has to be, before or
    after that.

    Raises:
        UserError: the spool cannot be written.
    """
    if hindrance := _hindrance(task):
        return hindrance
    result = _extract(task)
    return _hindrance(task) or result


def _hindrance(task: Task) -> WorkerFailure | None:
    """Why nothing can be told of the song at the moment, if nothing can."""
    try:
        now = os.stat(task.path)
    except OSError as error:
        return WorkerFailure(f"{CANNOT_READ}: {error.strerror}", MISSING)
    if not os.access(task.path, os.R_OK):
        return WorkerFailure(f"{CANNOT_READ}: {os.strerror(errno.EACCES)}", MISSING)
    if task.known and not task.known.is_of(now):
        return WorkerFailure("changed since ingest", CHANGED)
    return None


def _extract(task: Task) -> Extracted | WorkerFailure:
    # By whether all of it was decoded, whether anything is to be heard, and how long it is.
    tried: list[tuple[tuple[bool, bool, float], Extracted]] = []
    reasons: dict[str, str] = {}
    for attempt, (name, decoder) in enumerate(decoders(task.path, task.codec), start=1):
        try:
            part = (task.path, decoder, task.start_s, task.end_s)
            sound = cut(*part)
            result, loudest = _attempt(task, sound, attempt)
            if sound.cancelled:  # one channel is the opposite of another: the loudest one, then
                alone = cut(*part, channel=sound.loudest)
                result, loudest = _attempt(task, alone, attempt)
        except DecodeError as error:
            reasons[name] = str(error)
            continue
        except TooLong:
            return WorkerFailure(f"longer than {LONGEST_S / 3600:.0f} hours")
        tried.append(((result.sound, loudest > 0, result.decoded_s), result))
        if result.sound:
            break
    (is_sound, is_heard, _), best = max(
        tried, key=itemgetter(0), default=((False, False, 0.0), None)
    )
    if not is_sound and (why := unreadable(str(task.path))):
        # Half of a song whose disk fails is no song: all of it may be read another day.
        return WorkerFailure(why, MACHINE)
    if best is None:
        return WorkerFailure("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
    if best.decoded_s < SHORTEST_S:
        return WorkerFailure(f"too short: {best.decoded_s:.2f} s of sound")
    if not is_heard:
        return WorkerFailure("silent throughout")
    _spool(task, best.attempts).replace(task.spool)
    return best


def _spool(task: Task, attempt: int) -> Path:
    return task.spool.with_suffix(f".{attempt}")


def _attempt(task: Task, sound: Sound, attempt: int) -> tuple[Extracted, int]:
    """Decode a file to this attempt's spool; returns what came out and the loudest level in it."""
    from fastdino.spectrograms.mel import LogMel, Resampler

    resampler = Resampler(sound.rate, task.settings.sample_rate)
    log_mel = LogMel(task.settings)
    samples = 0
    broken = False

    def frames() -> Iterator[np.ndarray]:
        nonlocal samples, broken
        try:
            for block in sound.blocks:
                samples += len(block)
                if samples > LONGEST_S * sound.rate:
                    raise TooLong
                yield log_mel.push(resampler.push(block))
        except DecodeError:
            if not samples:
                raise
            broken = True
        yield log_mel.push(resampler.finish())
        yield log_mel.finish()

    n_frames, loudest, spool = 0, 0, _spool(task, attempt)
    # No song can be decoded where its frames cannot be written: this is no failure of it.
    with readable_errors(spool.parent), spool.open("wb", buffering=SPOOL_BUFFER) as spooled:
        for block in frames():
            spooled.write(block.data)
            n_frames += len(block)
            loudest = max(loudest, int(block.max(initial=0)))
    salvaged = broken or sound.skipped > 0
    decoded_s = samples / sound.rate
    return (
        Extracted(n_frames, sound.header_s, decoded_s, salvaged, attempt, task.packets_s),
        loudest,
    )
