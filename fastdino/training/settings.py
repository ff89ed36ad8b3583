"""What a training run is made of, and the presets for the hardware people have.

Belongs here: every number that changes what is learned, or when. Does not: torch, or any of the
work.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# Raised with whatever lets the same numbers make other models: 2 asks FastDINO's positions for
# songs that are alike, and every stage, and adds to a vector how the bands move together; 3 divides
# directions by their spread within songs; 4 adds random features to it; 5 takes the learned ones
# from the first stage, and draws a song fifty times at most; 6 has no other stage; 7 asks each
# fourth position. Raised with whatever number of a preset changes, too: a model of a method before
# is not held against them.
METHOD = 7

# Times the time that a collection is trained for if nobody says: from there on its steps are made
# with the wider encoder, which takes two and a half times as long for each.
TIME_FOR_WIDER = 4


@dataclass(frozen=True)
class EncoderSettings:
    """The encoder's shape.

    Attributes:
        n_mels: mel bands of the input.
        widths: channels of each stage; the last is the width of the output.
        depths: blocks of each stage.
        strides: frames (first) or positions that are merged into one on entering each stage.
        kernel: width of the depthwise convolution in every block, odd.
        expansion: how many times wider the hidden layer of a block is.
    """

    n_mels: int = 80
    widths: tuple[int, ...] = (128,)
    depths: tuple[int, ...] = (2,)
    strides: tuple[int, ...] = (4,)
    kernel: int = 7
    expansion: int = 4

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "EncoderSettings":
        """The shape that was written to JSON."""
        shape: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
        }
        return cls(**shape)

    @property
    def dim(self) -> int:
        """Channels of the output."""
        return self.widths[-1]

    @property
    def stride(self) -> int:
        """Input frames from one output position to the next."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    def first(self, stages: int) -> "EncoderSettings":
        """The shape of so many of the first stages, as if there were no others."""
        return dataclasses.replace(
            self,
            widths=self.widths[:stages],
            depths=self.depths[:stages],
            strides=self.strides[:stages],
        )

    @property
    def receptive_field(self) -> int:
        """Input frames that one output position sees."""
        frames, step = 1, 1
        for depth, stride in zip(self.depths, self.strides, strict=True):
            frames += (stride - 1) * step
            step *= stride
            frames += depth * (self.kernel - 1) * step
        return frames

    def flops(self, n_frames: int, every: int = 1) -> float:
        """Floating-point operations of one forward pass over ``n_frames`` frames.

        Where each ``every``-th position is asked for, the last block's perceptron is left out at
        the others.
        """
        total, positions, before = 0.0, float(n_frames), self.n_mels
        for width, depth, stride in zip(self.widths, self.depths, self.strides, strict=True):
            positions /= stride
            total += 2 * positions * before * stride * width
            total += 2 * positions * depth * width * (self.kernel + 2 * self.expansion * width)
            before = width
        return total - 4 * (1 - 1 / every) * positions * self.expansion * self.dim**2

    def learning_flops(self, n_frames: int, every: int = 1) -> float:
        """Those of a forward and a backward pass over ``n_frames`` frames.

        Backward, each product makes two, of what came in and of its weights; but nothing is learned
        of the frames.
        """
        return 3 * self.flops(n_frames, every) - 2 * n_frames * self.n_mels * self.widths[0]


@dataclass(frozen=True)
class Collection:
    """How much there is to train on.

    Attributes:
        hours: of music.
        tracks: that it comes in.
    """

    hours: float
    tracks: int

    @classmethod
    def of(cls, index: "pa.Table", frames_per_s: float) -> "Collection":
        """All that an index of shards tells of, see ``spectrograms.shards.read_index``."""
        frames, tracks = sum(index["n_frames"].to_pylist()), set(index["track_id"].to_pylist())
        return cls(frames / frames_per_s / 3600, len(tracks))


@dataclass(frozen=True)
class TrainingSettings:
    """One training recipe.

    Attributes:
        preset: the name it goes by.
        encoder: the network's shape.
        wider: its shape where there is time for more, see ``with_time``; None: the same.
        dim: length of the finished vectors.
        songs: songs in a batch.
        crops: crops of each song in a batch.
        crop_s: seconds of a crop.
        optimizer: "muon" (matrices by Muon, the rest by AdamW) or "adamw" (all by AdamW).
        learning_rate: at its peak, after warm-up; it then falls along a cosine to zero.
        weight_decay: on matrices only.
        warmup: share of the run over which the learning rate rises.
        min_steps: steps for a small collection.
        passes: how often a larger one is heard at most, all of its crops put together ...
        draws: ... and how often each of its tracks is drawn for a batch. After that the question
            is answered, and going on only drives songs apart that sound alike.
        minutes: the run ends (and the learning rate has fallen) after so long at the latest;
            None: 5 minutes up to 125 hours of music, rising to 30 for 750 and more.
        seed: of everything random.
    """

    preset: str
    objective: str = "fastdino"
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    wider: EncoderSettings | None = None
    dim: int = 256
    songs: int = 32
    crops: int = 2
    crop_s: float = 5.0
    optimizer: str = "muon"
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    min_steps: int = 60
    passes: float = 10.0
    draws: float = 50.0
    minutes: float | None = None
    seed: int = 0

    def steps(self, on: Collection) -> int:
        """Steps that a collection is trained for, if time allows."""
        heard_s = self.songs * self.crops * self.crop_s
        enough = min(self.passes * 3600 * on.hours / heard_s, self.draws * on.tracks / self.songs)
        return max(self.min_steps, round(enough))

    def seconds(self, on: Collection) -> float:
        """Seconds that a collection is trained for at most."""
        return 60 * (self.minutes if self.minutes is not None else _minutes(on))

    def with_time(self, on: Collection) -> "TrainingSettings":
        """The recipe with the encoder that there is time for.

        In equal time a narrow one learns more, as it makes more steps; once a collection's steps
        are done, all that time can be put into is a wider one.
        """
        if self.wider and self.seconds(on) >= TIME_FOR_WIDER * 60 * _minutes(on):
            return dataclasses.replace(self, encoder=self.wider)
        return self

    def warm(self) -> "TrainingSettings":
        """The recipe for beginning with the weights of a model made by this one.

        With smaller steps, and a third of them: on 281 songs, a quarter of them new, the vectors
        were as good then as after all of a training from random weights, and ten nearest songs
        changed less. With steps of full size they changed as much as from random weights.
        """
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate / 3,
            passes=self.passes / 3,
            draws=self.draws / 3,
            min_steps=-(-self.min_steps // 3),
        )

    @property
    def recipe_id(self) -> str:
        """12 hex characters that stand for everything here, and for the method."""
        text = json.dumps({"method": METHOD, **self.as_json()}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values, the same after a trip through JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def _minutes(on: Collection) -> float:
    """How long a collection is trained for if nobody says."""
    return min(30.0, max(5.0, on.hours / 25))


PRESETS = {
    "cpu": TrainingSettings("cpu", wider=EncoderSettings(widths=(256,))),
    "gpu": TrainingSettings(
        "gpu",
        encoder=EncoderSettings(widths=(192,), depths=(3,)),
        dim=384,
        songs=256,
        min_steps=300,
    ),
    # For tests: learns little, in seconds.
    "tiny": TrainingSettings(
        "tiny",
        encoder=EncoderSettings(widths=(32,), depths=(1,)),
        dim=32,
        songs=8,
        crop_s=4.0,
        min_steps=20,
        passes=2,
    ),
}


def settings_for(preset: str, *, minutes: float | None = None, seed: int = 0) -> TrainingSettings:
    """The recipe that ``preset`` names; "auto" chooses by the device found."""
    if preset == "auto":
        from fastdino.training.device import best_device

        preset = "gpu" if best_device().type == "cuda" else "cpu"
    return dataclasses.replace(PRESETS[preset], minutes=minutes, seed=seed)
