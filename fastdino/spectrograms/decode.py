"""From a music file, or a part of it, to mono samples, block by block.

Belongs here: the two decoders, and which is asked first. Does not: what becomes of the samples.
No block is longer than a few seconds, whatever the file's length.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdino.ingestion import ogg
from fastdino.ingestion.identify import OPEN_OPTIONS, opened_links

# To be raised when more can be decoded: what failed so far is then tried once more.
VERSION = 3
# Of all channels together. Half of it costs a tenth of the speed, twice as much gains nothing.
SAMPLES_PER_BLOCK = 1 << 18
# A damaged header can claim anything; at odd rates in the millions resampling eats all memory.
PLAUSIBLE_RATES = range(1_000, 1_000_001)
# Of the power of two channels that have nothing to do with each other their mean keeps half, of
# ordinary stereo more.
LEAST_LEFT = 0.01
# Of DSD, 64 to 1024 times that of a CD or of DAT: FFmpeg counts bytes of eight one-bit samples.
DSD_RATES = {64 * base // 8 << doubled for base in (44_100, 48_000) for doubled in range(5)}
# libsndfile is the faster one on these alone. On Opus it is the slower by half, and gives up on
# many a sound file.
LIBSNDFILE_FIRST = {".mp3", ".wav", ".aif", ".aiff"}
# What discs hold in place of samples. libsndfile takes it for such, and hears noise.
IN_DISGUISE = {"aac", "ac3", "dts", "eac3", "mlp", "truehd"}
# What FFmpeg calls formats in which seeking leads anywhere, with times that are of somewhere else.
ASTRAY = frozenset({"rm"})
# And those that do not say which sample a packet begins with: after seeking in them it guesses.
TIMELESS = ASTRAY | {"aac", "ac3", "asf", "eac3", "mp3", "mpc"}
# These tell it by the mean number of bytes a second, which is exact of plain samples alone.
BY_BYTES = frozenset({"w64", "wav"})
# Before the sample wanted: what a decoder needs to have heard for sounding as it does without.
RUN_UP_S = 1.0


Blocks = Generator[np.ndarray, None, None]


class DecodeError(Exception):
    """A file cannot be decoded, or not further than this; the message says why."""


@dataclass
class Sound:
    """A file being decoded.

    Attributes:
        rate: samples per second.
        header_s: seconds that the file promises, if it does.
        blocks: mono float32 samples ``[n]``, as they are decoded; iterating raises
            ``DecodeError`` where the decoder gives up.
        skipped: damaged packets left out so far.
        powers: sum of squares of each channel's samples so far, float ``[channels]``.
        mixed_power: the same of what was made of them.
    """

    rate: int
    header_s: float | None
    blocks: Blocks
    skipped: int = 0
    powers: np.ndarray | None = None
    mixed_power: float = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether channels are each other's opposite, and little is left of them together."""
        return self.powers is not None and bool(self.mixed_power < LEAST_LEFT * self.powers.mean())

    @property
    def loudest(self) -> int:
        """The channel of the greatest power."""
        return 0 if self.powers is None else int(self.powers.argmax())

    def mixed(self, channels: np.ndarray, mix: np.ndarray) -> np.ndarray:
        """Mono of ``channels``, float32 ``[n, channels]``, and their power added to the sums."""
        mono = channels @ mix
        powers = np.einsum("nc,nc->c", channels, channels)
        self.powers = powers + (0 if self.powers is None else self.powers)
        self.mixed_power += float(np.vdot(mono, mono))
        return mono


# A path, where to begin, and the one channel to take; None for the mean of all.
Decoder = Callable[[Path, float, int | None], Sound]


def decoders(path: Path, codec: str | None = None) -> tuple[tuple[str, Decoder], ...]:
    """The decoders to try on a file, by name, the faster one first.

    Args:
        path: the file.
        codec: of its sound, as the catalogue has it, where that is known.
    """
    if codec in IN_DISGUISE:
        return (("FFmpeg", with_ffmpeg),)
    both = (("libsndfile", with_libsndfile), ("FFmpeg", with_ffmpeg))
    return both if path.suffix.lower() in LIBSNDFILE_FIRST else both[::-1]


def cut(
    path: Path,
    decoder: Decoder,
    start_s: float = 0.0,
    end_s: float | None = None,
    channel: int | None = None,
) -> Sound:
    """The part of a file from ``start_s`` to ``end_s``, or to its end, as if it were all.

    Args:
        path: the file.
        decoder: one of ``decoders``.
        start_s: where the part begins.
        end_s: where it ends; None for the end of the file.
        channel: the one to take; None for the mean of all.

    Raises:
        DecodeError: the decoder does not read this file, or no more than what is before the part.
    """
    sound = decoder(path, start_s, channel)
    whole, promised_s = sound.blocks, sound.header_s
    if promised_s is not None or end_s is not None:
        ends = [at_s for at_s in (promised_s, end_s) if at_s is not None]
        sound.header_s = max(min(ends) - start_s, 0.0)
    if end_s is None:
        return sound
    left = round(end_s * sound.rate) - round(start_s * sound.rate)

    def blocks() -> Blocks:
        nonlocal left
        with contextlib.closing(whole):
            for block in whole:
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return

    sound.blocks = blocks()
    return sound


def with_libsndfile(path: Path, start_s: float = 0.0, channel: int | None = None) -> Sound:
    """Open with libsndfile, which stops at any damage.

    Args:
        path: the file.
        start_s: where to begin.
        channel: the one to take; None for the mean of all.

    Raises:
        DecodeError: it does not read this file, or cannot go there.
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

    if start_s:
        try:
            file.seek(round(start_s * file.samplerate))
        except (soundfile.LibsndfileError, OSError) as error:
            file.close()
            raise DecodeError(_reason(error)) from error

    def blocks() -> Blocks:
        mix = _mix(file.channels, channel)
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
                yield block[:, 0] if file.channels == 1 else sound.mixed(block, mix)

    _check(file.samplerate)
    # libsndfile says 2**63 - 1 where it does not know.
    header_s = file.frames / file.samplerate if 0 < file.frames < 2**62 else None
    sound = Sound(file.samplerate, header_s, blocks())
    return sound


def with_ffmpeg(path: Path, start_s: float = 0.0, channel: int | None = None) -> Sound:
    """Open with FFmpeg's libraries: reads nearly anything, packet by packet, skipping bad ones.

    Args:
        path: the file.
        start_s: where to begin. Where the format does not tell the time of a packet, all before it
            is decoded as well.
        channel: the one to take; None for the mean of all.

    Raises:
        DecodeError: there is no sound in it that could be decoded.
    """
    sound, at_s = _opened(path, max(start_s - RUN_UP_S, 0.0), channel)
    if at_s is None or at_s > start_s:
        sound.blocks.close()
        sound, at_s = _opened(path, 0.0, channel)
    if start_s:
        early = round(start_s * sound.rate) - round((at_s or 0.0) * sound.rate)
        sound.blocks = _without(early, sound.blocks)
    return sound


def _without(first: int, blocks: Blocks) -> Blocks:
    """The blocks without as many samples at their beginning."""
    with contextlib.closing(blocks):
        for block in blocks:
            if len(block) > first:
                yield block[first:]
            first = max(first - len(block), 0)


def _opened(path: Path, from_s: float, channel: int | None = None) -> tuple[Sound, float | None]:
    """Open with FFmpeg, not after ``from_s`` if the format allows, and else at the beginning.

    Returns:
        The sound, and where it begins; None if that cannot be told.
    """
    import av

    links: Iterator[tuple[av.container.InputContainer, int]] | None = None
    try:
        container = av.open(str(path), metadata_errors="replace", options=OPEN_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        links = _links(path)
        first_link = next(links, None)
        if first_link is None:
            raise DecodeError(_reason(error)) from error
        container, _ = first_link
    stream = container.streams.best("audio")
    if stream is None:
        container.close()
        raise DecodeError("no audio in it")
    sound = Sound(0, None, _nothing())
    if stream.duration and stream.time_base:
        sound.header_s = float(stream.duration * stream.time_base)
    elif container.duration:
        sound.header_s = container.duration / av.time_base
    sought = False
    begin_s = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    codec = stream.codec_context
    is_plain = codec is not None and codec.name.startswith("pcm_")
    timeless = TIMELESS if is_plain else TIMELESS | BY_BYTES
    if from_s and stream.time_base and not is_one_of(timeless, container):
        with contextlib.suppress(av.FFmpegError, OSError):
            container.seek(int((from_s + begin_s) / stream.time_base), stream=stream)
            sought = True

    def frames() -> Iterator[av.AudioFrame]:
        """Of the file; of one joined from several that are not alike, of a link after the other."""
        here, rest = container, links
        begin = reached = 0
        while True:
            failed: Exception | None = None
            packets = here.demux(here.streams.best("audio"))
            while failed is None:
                try:
                    packet = next(packets, None)
                except (av.FFmpegError, OSError) as error:
                    failed = error
                    break
                if packet is None:
                    break
                reached = begin + (packet.pos or 0)
                try:
                    decoded = packet.decode()
                except (av.FFmpegError, OSError, ValueError):
                    sound.skipped += 1
                    continue
                yield from decoded  # type: ignore[misc]
            if failed is None and rest is None:
                return
            rest = rest or _links(path)
            following = next((link for link in rest if link[1] > reached), None)
            if following is None:
                if failed is None:
                    return
                raise DecodeError(_reason(failed)) from failed
            here, begin = following

    def mono(frame: av.AudioFrame | None) -> np.ndarray:
        assert frame is not None
        samples = _samples(frame)
        return samples[:, 0] if samples.shape[1] == 1 else sound.mixed(samples, mix)

    decoded = frames()
    queue = av.AudioFifo()

    def blocks() -> Blocks:
        with container:
            broken: DecodeError | None = None
            try:
                for frame in itertools.chain(begun, decoded):
                    frame.pts = None  # The queue refuses gaps, which a damaged file has.
                    if _form(frame) == form:
                        queue.write(frame)
                    else:
                        # What is joined from several files may go on at another rate, or in mono.
                        if queue.samples:
                            yield mono(queue.read())
                        yield from map(mono, converter(_form(frame)).resample(frame))
                    if queue.samples >= enough:
                        yield mono(queue.read())
            except DecodeError as error:
                broken = error
            if queue.samples:
                yield mono(queue.read())
            if broken:
                raise broken

    @functools.cache
    def converter(form: tuple[object, ...]) -> av.AudioResampler:
        return av.AudioResampler(*usual)

    # Only a frame tells the true rate: HE-AAC's header announces half of it.
    try:
        first = next(decoded, None)
    except DecodeError:
        container.close()
        raise
    if first is None:
        container.close()
        if sought:
            return sound, None
        raise DecodeError("no audio in it that could be decoded")
    at_s: float | None = 0.0
    if sought:
        at_s = None if first.time is None else first.time - begin_s
    sound.rate = _check(first.sample_rate)
    usual = (first.format, first.layout, first.sample_rate)
    form, mix = _form(first), _mix(first.layout.nb_channels, channel)
    enough = SAMPLES_PER_BLOCK // first.layout.nb_channels
    begun = [first]
    sound.blocks = blocks()
    return sound, at_s


def is_one_of(formats: frozenset[str], container: "av.container.InputContainer") -> bool:  # type: ignore[name-defined]  # noqa: F821
    """Whether a file is in one of ``formats``."""
    return bool(formats & set(container.format.name.split(",")))


def _links(path: Path) -> "Iterator[tuple[av.container.InputContainer, int]]":  # type: ignore[name-defined]  # noqa: F821
    """The links of an Ogg file that was joined from several, looked for when the first is wanted.

    None of what the disk does not give: what decoding said of the file is told.
    """
    with contextlib.suppress(OSError):
        yield from opened_links(path, ogg.links(path))


def _nothing() -> Blocks:
    yield from ()


def _check(rate: int) -> int:
    if rate not in PLAUSIBLE_RATES and rate not in DSD_RATES:
        raise DecodeError(f"a sample rate of {rate} Hz is not plausible")
    return rate


def _mix(channels: int, channel: int | None) -> np.ndarray:
    """What each channel counts for in the mono sound, float32 ``[channels]``."""
    if channel is None:
        return np.full(channels, 1 / channels, np.float32)
    return np.eye(channels, dtype=np.float32)[min(channel, channels - 1)]


def _form(frame: "av.AudioFrame") -> tuple[object, ...]:  # type: ignore[name-defined]  # noqa: F821
    return frame.sample_rate, frame.layout.name, frame.format.name


def _samples(frame: "av.AudioFrame") -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    """float32 ``[n, channels]``, from -1 to 1."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if samples.dtype.kind not in "iu":
        return np.ascontiguousarray(samples, np.float32)
    half = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32) / half - (1 if samples.dtype.kind == "u" else 0)


def _reason(error: Exception) -> str:
    # Both libraries name the file, which is recorded beside the reason anyway:
    # "Error opening '<path>': <reason>" and "[Errno <n>] <reason>: '<path>'".
    text = getattr(error, "strerror", None) or str(error).rpartition("': ")[2]
    return text.strip() or type(error).__name__
