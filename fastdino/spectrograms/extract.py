"""One file to frames: what a worker process does.

Belongs here: choosing the decoder, running decode -> resample -> mel, judging the outcome.
Does not: processes, shards.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdino.errors import UserError
from fastdino.spectrograms.decode import DECODERS, DecodeError, Sound
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.workers import WorkerFailure

SHORTEST_S = 1.0


@dataclass(frozen=True)
class Task:
    """A file to make frames of, and the file that its uint8 frames are to be written to."""

    path: Path
    spool: Path
    settings: SpectrogramSettings


@dataclass(frozen=True)
class Extracted:
    """What came out of one file.

    Attributes:
        n_frames: frames in the spool.
        header_s: seconds that the file promises, if it does.
        decoded_s: seconds that could be decoded.
        salvaged: whether damage was met and left out.
        decoder: which of the decoders did it, 0 being the quickest.
    """

    n_frames: int
    header_s: float | None
    decoded_s: float
    salvaged: bool
    decoder: int

    @property
    def truncated(self) -> bool:
        """Whether clearly less was decoded than the header promises."""
        return is_short(self.decoded_s, self.header_s)


def is_short(decoded_s: float, header_s: float | None) -> bool:
    """Whether ``decoded_s`` falls short of the header by more than its usual inexactness."""
    return header_s is not None and decoded_s < header_s - max(1.0, 0.01 * header_s)


def in_worker(task: Task) -> Extracted | WorkerFailure:
    """``extract`` for a process of its own: one core each, as every core has such a process."""
    import torch

    torch.set_num_threads(1)
    return extract(task)


def extract(task: Task) -> Extracted | WorkerFailure:
    """Write the file's frames to the spool, uint8 ``[n_frames, n_mels]``.

    Decoders are tried in order until one gets to the end of what the header promises; else the
    one that got furthest is taken.

    Raises:
        UserError: the spool cannot be written.
    """
    best: Extracted | None = None
    reason = ""
    for number, decoder in enumerate(DECODERS):
        spool = task.spool.with_suffix(f".{number}")
        try:
            result, loudest = _attempt(task, decoder(task.path), spool, number)
        except DecodeError as error:
            reason = str(error)
            continue
        if result.n_frames and loudest == 0:
            return WorkerFailure("silent throughout")
        if best is None or result.decoded_s > best.decoded_s:
            best = result
            spool.replace(task.spool)
        if not (result.salvaged or result.truncated):
            break
    if best is None:
        return WorkerFailure(reason)
    if best.decoded_s < SHORTEST_S:
        return WorkerFailure(f"too short: {best.decoded_s:.2f} s of sound")
    return best


def _attempt(task: Task, sound: Sound, spool: Path, number: int) -> tuple[Extracted, int]:
    from fastdino.spectrograms.mel import LogMel, Resampler

    settings = task.settings
    resampler, log_mel = Resampler(sound.rate, settings.sample_rate), LogMel(settings)
    samples = n_frames = loudest = 0
    broken = False
    try:
        spooled = spool.open("wb")
    except OSError as error:
        raise UserError(f"cannot write {spool}: {error.strerror}") from error
    with spooled:

        def keep(frames: np.ndarray) -> None:
            nonlocal n_frames, loudest
            if len(frames):
                n_frames += len(frames)
                loudest = max(loudest, int(frames.max()))
                try:
                    spooled.write(frames)
                except OSError as error:
                    raise UserError(f"cannot write {spool}: {error.strerror}") from error

        try:
            for block in sound.blocks:
                samples += len(block)
                keep(log_mel.push(resampler.push(block)))
        except DecodeError:
            if not samples:
                raise
            broken = True
        keep(log_mel.push(resampler.finish()))
        keep(log_mel.finish())
    decoded_s = samples / sound.rate
    salvaged = broken or sound.skipped > 0
    return Extracted(n_frames, sound.header_s, decoded_s, salvaged, number), loudest
