"""A demo library: made-up songs by made-up artists, so the pipeline can be tried on any machine.

Belongs here: the artists, a small synthesiser and the encoders for the six formats. Does not:
anything the pipeline itself needs; to the pipeline the demo library is a folder like any other.

An artist is a fixed band (instruments, drums, room, mix) with habits (scale, tempo, rhythm). A song
is that band playing something of its own: another key, other chords, another melody. So artists
can be told apart by ear, and their songs resemble one another without being copies.
"""

import functools
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdino.core.errors import UserError
from fastdino.core.progress import progress
from fastdino.core.storage import atomic_replace
from fastdino.core.workers import WorkerFailure, WorkerPool

log = logging.getLogger(__name__)

Audio = NDArray[np.float32]

RATE = 32_000
STEPS = 16  # of a bar: sixteenth notes
SEED = 20_240_229


# Instruments. Each renders one note: frequency in Hz, length in samples -> samples around [-1, 1].


@dataclass(frozen=True)
class Additive:
    """A sum of partials: organs, flutes, bells, pads.

    Attributes:
        partials: how many, at most.
        tilt: partial ``k`` has amplitude ``k ** -tilt``.
        odd: only odd partials, hollow as a clarinet.
        stretch: inharmonicity, bell-like when large.
        attack_s, decay_s: of the envelope; higher partials die sooner.
        vibrato: depth as a part of the frequency, at 5.5 Hz.
    """

    partials: int = 8
    tilt: float = 1.0
    odd: bool = False
    stretch: float = 0.0
    attack_s: float = 0.01
    decay_s: float = 1.0
    vibrato: float = 0.0

    def render(self, frequency: float, length: int) -> Audio:
        """One note."""
        t = np.arange(length, dtype=np.float32) / RATE
        phase = 2 * np.pi * frequency * t
        if self.vibrato:
            phase += self.vibrato * frequency / 5.5 * np.sin(2 * np.pi * 5.5 * t)
        out = np.zeros(length, np.float32)
        for k in range(1, 2 * self.partials + 1, 2) if self.odd else range(1, self.partials + 1):
            ratio = k * np.sqrt(1 + self.stretch * k * k)
            if ratio * frequency < 0.45 * RATE:
                fade = np.exp(-t * (1 + 0.15 * (k - 1)) / self.decay_s)
                out += np.float32(k**-self.tilt) * fade * np.sin(np.float32(ratio) * phase)
        return _enveloped(out, self.attack_s)


@dataclass(frozen=True)
class FrequencyModulation:
    """One sine bending another: electric pianos, brass, metal.

    Attributes:
        ratio: the modulator's frequency over the note's.
        index: how far it bends, so how bright the note is.
        index_decay_s: how soon the brightness goes.
        attack_s, decay_s: of the envelope.
    """

    ratio: float = 1.0
    index: float = 3.0
    index_decay_s: float = 0.3
    attack_s: float = 0.005
    decay_s: float = 0.8

    def render(self, frequency: float, length: int) -> Audio:
        """One note."""
        t = np.arange(length, dtype=np.float32) / RATE
        bend = self.index * np.exp(-t / self.index_decay_s)
        phase = 2 * np.pi * frequency * t
        out = np.sin(phase + bend * np.sin(np.float32(self.ratio) * phase))
        return _enveloped(out * np.exp(-t / self.decay_s), self.attack_s)


@dataclass(frozen=True)
class Plucked:
    """A plucked string: a burst of noise that goes round a loop and is smoothed on the way.

    Attributes:
        brightness: of the pluck, 0 to 1.
        ring: what is left of the sound after one round, a little under 1.
    """

    brightness: float = 0.5
    ring: float = 0.996

    def render(self, frequency: float, length: int) -> Audio:
        """One note."""
        period = max(2, round(RATE / frequency))
        rng = np.random.default_rng(period)
        loop: NDArray[Any] = rng.uniform(-1, 1, period).astype(np.float32)
        dull = (loop + np.roll(loop, 1) + np.roll(loop, 2) + np.roll(loop, 3)) / 2
        loop = self.brightness * loop + (1 - self.brightness) * dull
        loop -= loop.mean()
        rounds = np.empty((-(-length // period), period), np.float32)
        for one in rounds:
            one[:] = loop
            loop = np.float32(self.ring / 2) * (loop + np.roll(loop, 1))
        return _enveloped(rounds.reshape(-1)[:length], 0.002)


Instrument = Additive | FrequencyModulation | Plucked


def _enveloped(sound: Audio, attack_s: float) -> Audio:
    """Fade in over the attack and out at the end, so that no note clicks."""
    rise = min(len(sound), max(2, int(attack_s * RATE)))
    fall = min(len(sound), int(0.02 * RATE))
    sound = sound.astype(np.float32)
    sound[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
    sound[-fall:] *= np.linspace(1, 0, fall, dtype=np.float32)
    return sound


@functools.lru_cache(maxsize=512)
def _note(instrument: Instrument, pitch: int, length: int) -> Audio:
    return instrument.render(440.0 * 2 ** ((pitch - 69) / 12), length)


@dataclass(frozen=True)
class Kit:
    """Percussion made of noise and falling sines.

    Attributes:
        kick, snare, hat: a bar of sixteenths each; ``x`` is a stroke, ``o`` a soft one.
        kick_hz, snare_hz, hat_hz: pitch of the kick and the bands' middles of the noises.
        decay: 1 is ordinary, less is drier.
    """

    kick: str
    snare: str
    hat: str
    kick_hz: float = 50.0
    snare_hz: float = 1800.0
    hat_hz: float = 8000.0
    decay: float = 1.0

    def strokes(self) -> list[tuple[str, Audio]]:
        """Each pattern with its sound."""
        t = np.arange(int(0.4 * RATE), dtype=np.float32) / RATE
        fall = self.kick_hz * (t - 0.08 * np.exp(-t / 0.03))
        kick = np.sin(2 * np.pi * fall) * np.exp(-t / (0.12 * self.decay))
        snare = _band_noise(self.snare_hz, 1.2, len(t)) * np.exp(-t / (0.07 * self.decay))
        snare += 0.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.05)
        hat = _band_noise(self.hat_hz, 0.7, len(t)) * np.exp(-t / (0.025 * self.decay))
        sounds = (0.9 * kick, 0.5 * snare, 0.22 * hat)
        return [
            (pattern, _enveloped(sound, 0.001))
            for pattern, sound in zip((self.kick, self.snare, self.hat), sounds, strict=True)
        ]


def _band_noise(middle_hz: float, octaves: float, length: int) -> Audio:
    """Noise around ``middle_hz``, about ``octaves`` wide, with peaks near 1."""
    noise = np.random.default_rng(round(middle_hz)).standard_normal(length)
    frequencies = np.fft.rfftfreq(length, 1 / RATE) + 1.0
    shape = np.exp(-0.5 * (np.log2(frequencies / middle_hz) / octaves) ** 2)
    sound = np.fft.irfft(np.fft.rfft(noise) * shape, length)
    return (sound / np.abs(sound).max()).astype(np.float32)


# Artists.


@dataclass(frozen=True)
class Artist:
    """A band and its habits.

    Attributes:
        tempo: beats a minute; each song strays a little.
        scale: semitones above the key note.
        lead, chords, bass: instruments.
        kit: percussion, or none.
        rhythm: the bar of sixteenths on which chords are struck.
        busy: chance that the lead plays on a step of its own grid.
        grid: sixteenths between the lead's steps.
        octave: of the lead, 5 is the one above middle C.
        swing: how late every second sixteenth is, as a part of one.
        tilt_db: of the equaliser, per octave away from 1 kHz.
        peak: Hz and dB of its one bell.
        room_s, wet: length and share of the reverberation.
        width: 0 is mono, 1 is wide.
        drive: 1 is clean, more saturates.
    """

    name: str
    genre: str
    tempo: float
    scale: tuple[int, ...]
    lead: Instrument
    chords: Instrument
    bass: Instrument
    kit: Kit | None
    rhythm: str
    busy: float = 0.5
    grid: int = 2
    octave: int = 5
    swing: float = 0.0
    tilt_db: float = 0.0
    peak: tuple[float, float] = (1000.0, 0.0)
    room_s: float = 0.4
    wet: float = 0.15
    width: float = 0.5
    drive: float = 1.0


MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
DORIAN = (0, 2, 3, 5, 7, 9, 10)
PHRYGIAN = (0, 1, 3, 5, 7, 8, 10)
PENTATONIC = (0, 2, 4, 7, 9)
BLUES = (0, 3, 5, 6, 7, 10)
WHOLE_TONE = (0, 2, 4, 6, 8, 10)

ARTISTS = (
    Artist(
        "The Paper Orchard", "Folk", 96, MAJOR,
        lead=Additive(5, 1.8, attack_s=0.06, decay_s=3.0, vibrato=0.006),
        chords=Plucked(0.6, 0.997), bass=Plucked(0.2, 0.998), kit=None, rhythm="x.x.xxx.x.x.xxx.",
        tilt_db=-0.5, room_s=0.5, wet=0.12, width=0.6,
    ),
    Artist(
        "Lantern & Wren", "Folk", 126, DORIAN,
        lead=Plucked(0.9, 0.994), chords=Additive(6, 1.1, odd=True, attack_s=0.05, decay_s=4.0),
        bass=Additive(3, 1.5, decay_s=0.7),
        kit=Kit("x.....x...x.....", "....o.......o..o", "x.xxx.xxx.xxx.xx", 70, 900, 5000, 0.6),
        rhythm="x...........x...", busy=0.8, octave=5, tilt_db=1.0, peak=(2500, 4), room_s=0.3,
        wet=0.1, width=0.3,
    ),
    Artist(
        "Night Bus Theory", "Electronic", 124, MINOR,
        lead=FrequencyModulation(2.0, 4.0, 0.1, decay_s=0.25),
        chords=Additive(14, 0.9, attack_s=0.02, decay_s=0.5),
        bass=FrequencyModulation(0.5, 5.0, 0.15, decay_s=0.4),
        kit=Kit("x...x...x...x...", "....x.......x...", "..x...x...x...xx", 48, 2200, 9000, 1.0),
        rhythm="..x...x...x...x.", busy=0.6, grid=1, tilt_db=0.5, peak=(80, 5), room_s=0.6, wet=0.2,
        width=0.9, drive=2.0,
    ),
    Artist(
        "Voltage Garden", "Electronic", 172, PHRYGIAN,
        lead=FrequencyModulation(3.5, 2.5, 0.4, decay_s=0.5),
        chords=Additive(10, 0.6, odd=True, attack_s=0.3, decay_s=5.0),
        bass=Additive(12, 0.7, decay_s=0.6),
        kit=Kit("x.........x.....", "....x..o.o..x..o", "x.x.x.x.x.x.x.x.", 55, 3000, 10000, 0.7),
        rhythm="x...............", busy=0.35, grid=2, octave=6, tilt_db=1.5, peak=(6000, 3),
        room_s=1.2, wet=0.3, width=1.0, drive=1.5,
    ),
    Artist(
        "Marta Quill Trio", "Jazz", 148, DORIAN,
        lead=FrequencyModulation(1.0, 1.6, 0.5, attack_s=0.03, decay_s=1.5),
        chords=FrequencyModulation(14.0, 0.7, 0.15, decay_s=1.2), bass=Plucked(0.1, 0.996),
        kit=Kit("o.......o.......", "......o.......o.", "x...x.xxx...x.xx", 60, 1500, 6500, 2.0),
        rhythm="...x..x.......x.", busy=0.65, grid=2, swing=0.6, tilt_db=-1.5, peak=(400, 3),
        room_s=0.7, wet=0.2, width=0.5,
    ),
    Artist(
        "Blue Stairwell", "Jazz", 78, BLUES,
        lead=Additive(9, 0.9, odd=True, attack_s=0.05, decay_s=2.5, vibrato=0.01),
        chords=Additive(5, 0.8, attack_s=0.01, decay_s=2.0),
        bass=FrequencyModulation(1.0, 1.0, 0.2, decay_s=0.9),
        kit=Kit("x.......o.......", "....o.......o...", "x..xx..xx..xx..x", 65, 1200, 5500, 2.5),
        rhythm="x.....x.....x...", busy=0.45, octave=4, swing=0.5, tilt_db=-3.0, peak=(250, 4),
        room_s=1.5, wet=0.25, width=0.4,
    ),
    Artist(
        "Slow Meridian", "Ambient", 62, PENTATONIC,
        lead=Additive(7, 1.3, stretch=0.003, attack_s=0.005, decay_s=2.5),
        chords=Additive(9, 1.2, attack_s=0.9, decay_s=9.0, vibrato=0.003),
        bass=Additive(2, 1.0, attack_s=0.5, decay_s=8.0), kit=None, rhythm="x...............",
        busy=0.3, grid=4, octave=6, tilt_db=-2.0, room_s=3.5, wet=0.55, width=1.0,
    ),
    Artist(
        "Harbour of Glass", "Ambient", 70, WHOLE_TONE,
        lead=FrequencyModulation(2.76, 2.0, 1.0, decay_s=2.5),
        chords=FrequencyModulation(1.005, 1.2, 3.0, attack_s=0.6, decay_s=7.0),
        bass=Additive(4, 2.0, attack_s=0.3, decay_s=6.0), kit=None, rhythm="x.......x.......",
        busy=0.4, grid=4, octave=5, tilt_db=0.0, peak=(3500, 5), room_s=2.5, wet=0.45, width=0.9,
    ),
    Artist(
        "Brass Anthem Co.", "Rock", 138, PENTATONIC,
        lead=Additive(16, 0.5, attack_s=0.01, decay_s=1.8, vibrato=0.008),
        chords=Additive(20, 0.45, decay_s=0.9), bass=Additive(10, 0.8, decay_s=0.6),
        kit=Kit("x.....x.x.......", "....x.......x...", "x.x.x.x.x.x.x.x.", 60, 2000, 7000, 1.5),
        rhythm="x.xxx.x.x.xxx.x.", busy=0.5, octave=5, tilt_db=1.0, peak=(1800, 6), room_s=0.4,
        wet=0.1, width=0.8, drive=4.0,
    ),
    Artist(
        "Rust Cathedral", "Rock", 88, MINOR,
        lead=FrequencyModulation(0.5, 6.0, 1.5, decay_s=2.0),
        chords=Additive(18, 0.55, attack_s=0.02, decay_s=2.5),
        bass=FrequencyModulation(1.0, 4.0, 0.6, decay_s=1.0),
        kit=Kit("x..x..x...x.....", "........x.......", "x...x...x...x...", 42, 1300, 4500, 2.0),
        rhythm="x.....x.........", busy=0.3, octave=4, tilt_db=-1.0, peak=(120, 6), room_s=1.8,
        wet=0.3, width=0.6, drive=5.0,
    ),
)  # fmt: skip


# Songs.


@dataclass(frozen=True)
class Song:
    """One song to make: who plays it, what it is called, which file it becomes."""

    artist: Artist
    number: int  # among the artist's songs, from 0; also the seed
    seconds: float
    title: str
    album: str
    year: int
    track: int
    path: Path


def compose(song: Song) -> Audio:
    """Play ``song``: samples ``[2, n]`` in [-1, 1] at ``RATE``."""
    artist = song.artist
    rng = np.random.default_rng([SEED, ARTISTS.index(artist), song.number])
    tempo = artist.tempo * rng.normal(1, 0.03)
    step = RATE * 15 / tempo
    bars = max(1, int(np.ceil(song.seconds * RATE / (step * STEPS))))
    length = max(int(bars * step * STEPS), int(song.seconds * RATE)) + int(0.3 * RATE)
    key = int(rng.integers(-5, 7))
    progression = [0, *rng.choice([1, 2, 3, 4, 5], 3)]

    def at(bar: int, sixteenth: int) -> int:
        late = artist.swing if sixteenth % 2 else 0.0
        return int((bar * STEPS + sixteenth + late) * step)

    def pitch(octave: int, degree: int) -> int:
        octaves, rest = divmod(degree, len(artist.scale))
        return 12 * (octave + octaves) + key + artist.scale[rest]

    def play(track: Audio, start: int, sound: Audio, loudness: float) -> None:
        end = min(len(track), start + len(sound))
        if end > start:
            track[start:end] += np.float32(loudness) * sound[: end - start]

    chords, lead, bass, drums = (np.zeros(length, np.float32) for _ in range(4))
    strokes = artist.kit.strokes() if artist.kit else []
    degree = int(rng.integers(0, 5))
    # A song opens without the band and has a quieter bar now and then, as songs do.
    opening, pause = bars // 8, int(rng.integers(5, 9))
    for bar in range(bars):
        root = progression[bar % 4]
        full = bar >= opening and bar % pause != pause - 1
        struck = [i for i, mark in enumerate(artist.rhythm) if mark == "x"]
        for i, nxt in zip(struck, [*struck[1:], STEPS], strict=True):
            for third in (0, 2, 4):
                note = _note(artist.chords, pitch(4, root + third), int((nxt - i) * step * 1.1))
                play(chords, at(bar, i), note, rng.uniform(0.8, 1.0))
        for i in range(0, STEPS, 8 if len(struck) < 4 else 4):
            play(bass, at(bar, i), _note(artist.bass, pitch(2, root), int(step * 4)), 1.0)
        if not full:
            continue
        for i in range(0, STEPS, artist.grid):
            if rng.random() < artist.busy:
                degree = int(np.clip(degree + rng.integers(-2, 3), -2, 8))
                held = int(artist.grid * rng.integers(1, 4) * step)
                play(lead, at(bar, i), _note(artist.lead, pitch(artist.octave, degree), held), 0.8)
        for pattern, sound in strokes:
            for i, mark in enumerate(pattern):
                if mark != ".":
                    play(
                        drums, at(bar, i), sound, rng.uniform(0.85, 1) * (1 if mark == "x" else 0.4)
                    )
    return _mixed(artist, [(chords, 0.35, -0.7), (lead, 0.5, 0.5), (bass, 0.6, 0), (drums, 0.9, 0)])


def _mixed(artist: Artist, tracks: Sequence[tuple[Audio, float, float]]) -> Audio:
    """Place tracks (samples, level, side) in the room, equalise, saturate: samples ``[2, n]``."""
    length = len(tracks[0][0])
    dry = np.zeros((2, length), np.float32)
    for track, level, side in tracks:
        loudest = np.abs(track).max() or 1.0
        pan = np.array([[1 - side * artist.width], [1 + side * artist.width]], np.float32)
        dry += level / loudest * pan * track
    room = max(1, int(artist.room_s * RATE))
    size = 1 << (length + room - 1).bit_length()
    rng = np.random.default_rng([SEED, ARTISTS.index(artist)])
    echo = rng.standard_normal((2, room)) * np.exp(-6.9 * np.arange(room) / room)
    echo[1] = artist.width * echo[1] + (1 - artist.width) * echo[0]
    echo *= artist.wet / np.sqrt((echo**2).sum(axis=1, keepdims=True))
    echo[:, 0] += 1 - artist.wet
    frequencies = np.fft.rfftfreq(size, 1 / RATE) + 20.0
    peak_hz, peak_db = artist.peak
    shape_db = artist.tilt_db * np.log2(frequencies / 1000)
    shape_db += peak_db * np.exp(-0.5 * (np.log2(frequencies / peak_hz) / 0.7) ** 2)
    filters = np.fft.rfft(echo.astype(np.float32), size) * (10 ** (shape_db / 20)).astype(
        np.float32
    )
    wet = np.fft.irfft(np.fft.rfft(dry, size) * filters, size)[:, :length]
    wet = np.tanh(artist.drive * wet / np.abs(wet).max()) / np.tanh(artist.drive)
    wet[:, -int(0.3 * RATE) :] *= np.linspace(1, 0, int(0.3 * RATE))
    return (0.9 * wet).astype(np.float32)


# Files.


@dataclass(frozen=True)
class Format:
    """How a file of one suffix is written: container, codec, its sample rate and settings."""

    container: str
    codec: str
    rate: int = RATE
    bit_rate: int | None = None
    options: tuple[tuple[str, str], ...] = ()


FORMATS = {
    ".mp3": Format("mp3", "libmp3lame", bit_rate=160_000),
    ".flac": Format("flac", "flac"),
    ".ogg": Format("ogg", "vorbis", bit_rate=160_000, options=(("strict", "experimental"),)),
    ".opus": Format("ogg", "libopus", rate=48_000, bit_rate=96_000),
    ".m4a": Format("ipod", "aac", bit_rate=160_000),
    ".wav": Format("wav", "pcm_s16le"),
}


def encode(target: Path, audio: Audio, rate: int, tags: dict[str, str]) -> None:
    """Write ``audio`` (``[channels, n]`` in [-1, 1], one or two channels) as its suffix says."""
    import av

    how = FORMATS[target.suffix]
    layout = "mono" if len(audio) == 1 else "stereo"
    # Without the flag Ogg streams get random serial numbers, so no two runs would agree.
    options = {"fflags": "bitexact"}
    with (
        atomic_replace(target) as part,
        av.open(str(part), "w", format=how.container, options=options) as container,
    ):
        stream: Any = container.add_stream(
            how.codec, rate=how.rate, layout=layout, options=dict(how.options)
        )
        if how.bit_rate:
            stream.bit_rate = how.bit_rate
        # Ogg keeps tags with the stream, everything else with the container.
        container.metadata.update(tags)
        stream.metadata.update(tags)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio), "fltp", layout)
        frame.sample_rate = rate
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def make(song: Song) -> None:
    """Play and encode one song."""
    tags = {
        "title": song.title,
        "artist": song.artist.name,
        "album": song.album,
        "album_artist": song.artist.name,
        "genre": song.artist.genre,
        "date": str(song.year),
        "track": str(song.track),
    }
    encode(song.path, compose(song), RATE, tags)


QUALITIES = (
    "Amber", "Borrowed", "Crooked", "Distant", "Electric", "Faded", "Gentle", "Hollow", "Idle",
    "Jagged", "Little", "Midnight", "Northern", "Open", "Paper", "Quiet", "Restless", "Second",
    "Tidal", "Unwritten", "Velvet", "Winter",
)  # fmt: skip
THINGS = (
    "Antenna", "Bridge", "Compass", "Doorway", "Engine", "Ferry", "Geometry", "Harbour", "Island",
    "Junction", "Kite", "Ladder", "Mirror", "Notebook", "Orbit", "Parade", "River", "Signal",
    "Telegraph", "Umbrella", "Valley", "Window",
)  # fmt: skip


def plan(folder: Path, artists: int, songs_per_artist: int, seconds: float) -> list[Song]:
    """The songs of a library: two albums an artist, formats in turn."""
    suffixes = list(FORMATS)
    songs: list[Song] = []
    for number, artist in enumerate(ARTISTS[:artists]):
        rng = np.random.default_rng([SEED, number])
        firsts = rng.permutation(QUALITIES)
        seconds_of = rng.permutation(THINGS)
        names = [f"{a} {b}" for a, b in zip(firsts, seconds_of, strict=True)]
        year = int(rng.integers(1994, 2020))
        on_first = (songs_per_artist + 1) // 2
        for i in range(songs_per_artist):
            on_second = i >= on_first
            album = names[-2 if on_second else -1]
            track = i - on_first + 1 if on_second else i + 1
            suffix = suffixes[len(songs) % len(suffixes)]
            songs.append(
                Song(
                    artist=artist, number=i, seconds=seconds, title=names[i], album=album,
                    year=year + 3 * on_second, track=track,
                    path=folder / artist.name / album / f"{track:02} {names[i]}{suffix}",
                )
            )  # fmt: skip
    return songs


def synthesise(
    folder: Path, *, artists: int = len(ARTISTS), songs_per_artist: int = 6, seconds: float = 30.0
) -> None:
    """Make the demo library in ``folder``; files that are there already are left alone.

    Beside the songs lie an exact copy of one under another name and a damaged file, an M4A whose
    download broke off, because every real collection has some of both.

    Args:
        folder: made if missing.
        artists: how many of ``ARTISTS``.
        songs_per_artist: at most 20; with six songs in all there is one in every format.
        seconds: how long a song is, at least.

    Raises:
        UserError: the library cannot be written there, or would come among files of others.
    """
    folder = folder.absolute()
    songs = plan(folder, artists, songs_per_artist, seconds)
    missing = [song for song in songs if not song.path.exists()]
    copy, damaged = folder / "Unsorted" / "copy.mp3", folder / "Unsorted" / "broken download.m4a"
    try:
        ours = {copy.parent.name, *(song.artist.name for song in songs)}
        # What was added to a demo library since is welcome there.
        if missing == songs and folder.is_dir() and not ours.issuperset(os.listdir(folder)):
            raise UserError(f"{folder} is not empty: give the demo library a folder of its own")
        for song in missing:
            song.path.parent.mkdir(parents=True, exist_ok=True)
        if missing:
            with (
                progress("Demo library", len(missing), "songs") as shown,
                WorkerPool(make, timeout_s=lambda _: 300.0) as pool,
            ):
                for song, result in pool.map(missing):
                    if isinstance(result, WorkerFailure):
                        raise UserError(f"cannot make {song.path}: {result.reason}")
                    shown.advance()
        copy.parent.mkdir(exist_ok=True)
        if not copy.exists():
            shutil.copyfile(songs[0].path, copy)
        if not damaged.exists():
            content = next(s.path for s in songs if s.path.suffix == ".m4a").read_bytes()
            damaged.write_bytes(content[: len(content) // 2])
    except OSError as error:
        raise UserError(f"cannot write the demo library to {folder}: {error}") from error
    made = f"{len(missing)} songs made" if missing else "complete already"
    log.info("Demo library: %s (%d songs, %s)", folder, len(songs), made)
