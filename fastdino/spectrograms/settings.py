"""What a spectrogram is made of.

Belongs here: every number that changes the frames, and the name such a set of numbers gets.
Does not: how fast or in how many pieces the work is done.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

# Raised when code changes make other frames from the same settings.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SpectrogramSettings:
    """How sound becomes frames: log10 power in mel bands, quantised over a fixed range.

    The floor is fixed, never relative to a song's own loudest moment: a floor that differs from
    song to song is a constant a network could tell songs apart by.

    Attributes:
        sample_rate: Hz that everything is resampled to, mono.
        n_fft: samples of one Hann window.
        hop: samples from one frame to the next; frame ``k`` is centred on samples
            ``[k * hop, (k + 1) * hop)``.
        n_mels: mel bands (Slaney's scale, triangles of height 1) from 0 Hz to half the sample
            rate.
        min_db: what quantises to 0; a full-scale sine is near 0 dB.
        step_db: dB from one of the 256 levels to the next.
    """

    sample_rate: int = 16_000
    n_fft: int = 400
    hop: int = 160
    n_mels: int = 80
    min_db: float = -100.0
    step_db: float = 0.4

    @property
    def frames_per_s(self) -> float:
        """Frames in one second of sound."""
        return self.sample_rate / self.hop

    @property
    def spec_id(self) -> str:
        """12 hex characters that stand for these settings and the format's version."""
        text = json.dumps({"format": FORMAT_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
