"""An album in one file, and sheets of it, for tests."""

from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 44_100
FRAME = RATE // 75
# Where its three songs begin, in 1/75 s, and the pitch of each. The last ends at 12 s.
STARTS = (0, 4 * 75 + 11, 8 * 75)
PITCHES = (220.0, 440.0, 880.0)
END = 12 * 75
SHEET = """\ufeffREM GENRE "Chamber Pop"
REM DATE 1997
PERFORMER "The Sheet"
TITLE "Three Tones"
FILE "album.flac" WAVE
  TRACK 01 AUDIO
    TITLE "Low"
    INDEX 01 00:00:00
  TRACK 02 AUDIO
    TITLE "Middle"
    PERFORMER "A Guest"
    INDEX 00 00:03:50
    INDEX 01 00:04:11
  TRACK 03 AUDIO
    TITLE "High"
    INDEX 01 00:08:00
"""


def sound(seed: int = 0, begin: int = 0, end: int = END) -> np.ndarray:
    """The album, or a part of it in 1/75 s: a tone a song, over noise; float32 [2, n]."""
    t = np.arange(END * FRAME) / RATE
    song = np.searchsorted(np.array(STARTS) * FRAME, np.arange(END * FRAME), "right") - 1
    tone = 0.3 * np.sin(2 * np.pi * np.array(PITCHES)[song] * t)
    noise = np.random.default_rng(seed).normal(0, 0.02, len(t))
    return np.stack([tone, tone + noise]).astype(np.float32)[:, begin * FRAME : end * FRAME]


def write(
    target: Path, tags: dict[str, str] | None = None, seed: int = 0, begin: int = 0, end: int = END
) -> Path:
    """Write the album, or a part of it, as FLAC, WAV, WavPack or MP3."""
    codec = {".flac": "flac", ".wav": "pcm_s16le", ".wv": "wavpack", ".mp3": "libmp3lame"}
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(target), "w", target.suffix[1:]) as container:
        stream: Any = container.add_stream(codec[target.suffix], rate=RATE, layout="stereo")
        container.metadata.update(tags or {})
        kind = stream.codec.audio_formats[0]
        fitting = av.AudioResampler(kind, "stereo", RATE, frame_size=stream.frame_size or 4096)
        samples = np.ascontiguousarray(sound(seed, begin, end))
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        for ready in [*fitting.resample(frame), *fitting.resample(None)]:
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return target
