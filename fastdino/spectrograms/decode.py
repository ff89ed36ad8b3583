"""From a music file to mono samples, block by block.

Belongs here: the two decoders, and which is asked first. Does not: what becomes of the samples.
No block is longer than a few seconds, whatever the file's length.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdino.ingestion.identify import OPEN_OPTIONS

# Of all channels together. Half of it costs a tenth of the speed, twice as much gains nothing.
SAMPLES_PER_BLOCK = 1 << 18
# A damaged header can claim anything; at odd rates in the millions resampling eats all memory.
PLAUSIBLE_RATES = range(1_000, 1_000_001)
# Of DSD, 64 to 1024 times that of a CD or of DAT: FFmpeg counts bytes of eight one-bit samples.
DSD_RATES = {64 * base // 8 << doubled for base in (44_100, 48_000) for doubled in range(5)}
# libsndfile is the faster one on these alone. On Opus it is the slower by half, and gives up on
# many a sound file.
LIBSNDFILE_FIRST = {".mp3", ".wav", ".aif", ".aiff"}


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


Decoder = Callable[[Path], Sound]


def decoders(path: Path) -> tuple[tuple[str, Decoder], ...]:
    """The decoders to try on a file, by name, the faster one first."""
    both = (("libsndfile", with_libsndfile), ("FFmpeg", with_ffmpeg))
    return both if path.suffix.lower() in LIBSNDFILE_FIRST else both[::-1]


def with_libsndfile(path: Path) -> Sound:
    """Open with libsndfile, which stops at any damage.

    Raises:
        DecodeError: it does not read this file.
    """
    import soundfile

    class Forwards(soundfile.SoundFile):
        # After each read of a file that it may seek in, soundfile seeks to where it already is,
        # which costs a fifth of the time of decoding an MP3.
        def seekable(self) -> bool:
            return False

    try:
        file = Forwards(os.fsencode(path))  # as text it would have to be UTF-8
    except (soundfile.LibsndfileError, OSError) as error:
        raise DecodeError(_reason(error)) from error

    def blocks() -> Iterator[np.ndarray]:
        mix = np.full(file.channels, 1 / file.channels, np.float32)
        with file:
            while True:
                try:
                    block = file.read(
                        SAMPLES_PER_BLOCK // file.channels, dtype="float32", always_2d=True
                    )
                except (soundfile.LibsndfileError, OSError) as error:
                    raise DecodeError(_reason(error)) from error
                if not len(block):
                    return
                yield block[:, 0] if file.channels == 1 else block @ mix

    _check(file.samplerate)
    # libsndfile says 2**63 - 1 where it does not know.
    header_s = file.frames / file.samplerate if 0 < file.frames < 2**62 else None
    return Sound(file.samplerate, header_s, blocks())


def with_ffmpeg(path: Path) -> Sound:
    """Open with FFmpeg's libraries: reads nearly anything, packet by packet, skipping bad ones.

    Raises:
        DecodeError: there is no sound in it that could be decoded.
    """
    import av

    try:
        container = av.open(str(path), metadata_errors="replace", options=OPEN_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(_reason(error)) from error
    stream = container.streams.best("audio")
    if stream is None:
        container.close()
        raise DecodeError("no audio in it")
    sound = Sound(0, None, iter(()))
    if stream.duration and stream.time_base:
        sound.header_s = float(stream.duration * stream.time_base)
    elif container.duration:
        sound.header_s = container.duration / av.time_base

    def frames() -> Iterator[av.AudioFrame]:
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
            yield from decoded  # type: ignore[misc]

    decoded = frames()
    queue = av.AudioFifo()

    def enqueue(frame: av.AudioFrame) -> None:
        frame.pts = None  # The queue refuses gaps, which a damaged file has.
        try:
            queue.write(frame)
        except ValueError as error:
            raise DecodeError("its format changes half-way") from error

    def blocks() -> Iterator[np.ndarray]:
        with container:
            broken: DecodeError | None = None
            try:
                for frame in decoded:
                    enqueue(frame)
                    if queue.samples >= enough:
                        yield _mono(queue.read())
            except DecodeError as error:
                broken = error
            if queue.samples:
                yield _mono(queue.read())
            if broken:
                raise broken

    # Only a frame tells the true rate: HE-AAC's header announces half of it.
    try:
        first = next(decoded, None)
    except DecodeError:
        container.close()
        raise
    if first is None:
        container.close()
        raise DecodeError("no audio in it that could be decoded")
    sound.rate = _check(first.sample_rate)
    enough = SAMPLES_PER_BLOCK // first.layout.nb_channels
    enqueue(first)
    sound.blocks = blocks()
    return sound


def _check(rate: int) -> int:
    if rate not in PLAUSIBLE_RATES and rate not in DSD_RATES:
        raise DecodeError(f"a sample rate of {rate} Hz is not plausible")
    return rate


def _mono(frame: "av.AudioFrame") -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mono = samples.mean(0, dtype=np.float32)
    if samples.dtype.kind in "iu":
        half = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
        mono = mono / half - (1 if samples.dtype.kind == "u" else 0)
    return mono


def _reason(error: Exception) -> str:
    # Both libraries name the file, which is recorded beside the reason anyway:
    # "Error opening '<path>': <reason>" and "[Errno <n>] <reason>: '<path>'".
    text = getattr(error, "strerror", None) or str(error).rpartition("': ")[2]
    return text.strip() or type(error).__name__
