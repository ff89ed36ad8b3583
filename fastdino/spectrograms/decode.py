"""From a music file to mono samples, block by block.

Belongs here: the two decoders and what is done when they disagree with a file. Does not: what
becomes of the samples. No block is larger than a few seconds, whatever the file's length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLES_PER_BLOCK = 1 << 17


class DecodeError(Exception):
    """A file cannot be decoded, or not further than this; the message says why."""


@dataclass
class Sound:
    """A file being decoded.

    Attributes:
        rate: samples per second.
        header_s: seconds that the file promises, if it does.
        blocks: mono float32 samples ``[n]`` (the mean of the channels), as they are decoded;
            iterating raises ``DecodeError`` where the decoder gives up.
        skipped: damaged packets left out so far.
    """

    rate: int
    header_s: float | None
    blocks: Iterator[np.ndarray]
    skipped: int = 0


def open_quickly(path: Path) -> Sound:
    """Open with libsndfile: the fastest by far for what it reads, stopped by any damage.

    Raises:
        DecodeError: it does not read this file.
    """
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DecodeError(_reason(error)) from error

    def blocks() -> Iterator[np.ndarray]:
        # The buffer's size counts samples of all channels.
        size = max(1, SAMPLES_PER_BLOCK // file.channels)
        mix = np.full(file.channels, 1 / file.channels, np.float32)
        with file:
            while True:
                try:
                    block = file.read(size, dtype="float32", always_2d=True)
                except (soundfile.LibsndfileError, OSError) as error:
                    raise DecodeError(_reason(error)) from error
                if not len(block):
                    return
                yield block[:, 0] if file.channels == 1 else block @ mix

    header_s = file.frames / file.samplerate if 0 < file.frames < 2**62 else None
    return Sound(file.samplerate, header_s, blocks())


def open_patiently(path: Path) -> Sound:
    """Open with FFmpeg's libraries: reads nearly anything, packet by packet, skipping bad ones.

    Raises:
        DecodeError: there is no sound in it that could be decoded.
    """
    import av

    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(_reason(error)) from error
    if not container.streams.audio:
        container.close()
        raise DecodeError("no audio in it")
    stream = container.streams.audio[0]

    def frames() -> Iterator[av.AudioFrame]:
        with container:
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except (av.FFmpegError, OSError) as error:
                    raise DecodeError(_reason(error)) from error
                if packet is None:
                    return
                try:
                    decoded = packet.decode()
                except (av.FFmpegError, OSError, ValueError):
                    sound.skipped += 1
                    continue
                yield from decoded

    sound = Sound(stream.rate or 0, None, iter(()))
    if stream.duration and stream.time_base:
        sound.header_s = float(stream.duration * stream.time_base)
    elif container.duration:
        sound.header_s = container.duration / av.time_base
    # Only the first frame tells the true rate: HE-AAC announces half of it.
    decoded = frames()
    first = next(decoded, None)
    if first is None:
        raise DecodeError("no audio in it that could be decoded")
    sound.rate = first.sample_rate

    def blocks() -> Iterator[np.ndarray]:
        waiting, count = [_mono(first)], first.samples
        for frame in decoded:
            if frame.sample_rate != sound.rate:
                raise DecodeError("its sample rate changes half-way")
            waiting.append(_mono(frame))
            count += frame.samples
            if count >= SAMPLES_PER_BLOCK:
                yield np.concatenate(waiting)
                waiting, count = [], 0
        if waiting:
            yield np.concatenate(waiting)

    sound.blocks = blocks()
    return sound


DECODERS: tuple[Callable[[Path], Sound], ...] = (open_quickly, open_patiently)


def _mono(frame: "av.AudioFrame") -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind in "iu":
        half = 2.0 ** (8 * samples.dtype.itemsize - 1)
        offset = half if samples.dtype.kind == "u" else 0.0
        samples = (samples.astype(np.float32) - offset) / half
    return samples.mean(0, dtype=np.float32)


def _reason(error: Exception) -> str:
    # libsndfile's messages begin with "Error opening '<path>': "; the path is recorded anyway.
    return str(error).rpartition("': ")[2].strip() or type(error).__name__
