"""Evaluating a model: embedding a sample of songs with it, and every metric of the result.

Belongs here: passing songs through a model, or through the plain mel statistics it is held
against, as they are and with their sound changed; and the metrics of what came out. Does not: the
metrics themselves (``metrics``), training, or where names come from (``labels``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastdino.core.progress import progress
from fastdino.core.storage import atomic_replace
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.training import metrics
from fastdino.training.labels import Labels
from fastdino.training.model import STRIDE, Moments, SongModel, position_spans, segment_bounds
from fastdino.training.projection import Projection
from fastdino.training.random_features import UNITS
from fastdino.training.sampler import CropSampler

FIGURES = (
    "artist_1nn",
    "artist_1nn_other_album",
    "artist_map",
    "artist_map_other_album",
    "label_knn",
    "hubness",
    "effective_rank",
    "target_entropy",
    "alignment",
    "uniformity",
    "gain_invariance",
    "eq_invariance",
    "level_tilt_share",
)
# Tracks that a projection is fitted on and a model judged on; more would not change either.
SAMPLE_TRACKS = 1000
SEED_OF_SAMPLE = 0
UNKNOWN = Labels(None, None, None)
# Segments of one song that are looked at.
SEGMENTS = 8
# Songs, and seconds from the middle of each, that are also heard with their sound changed.
CHANGED_SONGS, CHANGED_S = 200, 20.0
LOUDER_DB = 6.0
# Rising evenly from so much less in the lowest band to so much more in the highest.
TILT_DB = 6.0


class FeatureExtractor(Protocol):
    """What can turn a track into pooled features, and those into vectors."""

    @property
    def channels(self) -> int:
        """Of the features: so many means over time come first in what ``pool`` gives."""

    def fit_bands(self, tracks: Iterable[Tensor]) -> None:
        """See ``model.SongModel.fit_bands``."""

    def pool(
        self, pieces: Iterable[Tensor], frames_per_s: float
    ) -> tuple[Tensor, list[tuple[float, float]]]:
        """See ``model.SongModel.pool``."""

    def fit_projection(self, pooled: Tensor, songs: Tensor) -> None:
        """See ``model.SongModel.fit_projection``."""

    def vectors(self, pooled: Tensor) -> Tensor:
        """See ``model.SongModel.vectors``."""


class MelStatistics:
    """Mean and standard deviation of every mel band over time, in dB: what costs no training."""

    channels = SpectrogramSettings().n_mels

    def __init__(self, *, deviations: bool = True) -> None:
        self.deviations = deviations

    def fit_bands(self, tracks: Iterable[Tensor]) -> None:
        """Nothing to fit."""

    def pool(
        self, pieces: Iterable[Tensor], frames_per_s: float
    ) -> tuple[Tensor, list[tuple[float, float]]]:
        """See ``FeatureExtractor``."""
        frames = torch.cat(list(pieces))
        bounds = segment_bounds(len(frames), frames_per_s)
        stretches = [frames[a:b] for a, b in position_spans(len(frames), bounds, 1)]
        moments = [Moments.of(each) for each in (frames, *stretches)]
        spans = [(a / frames_per_s, b / frames_per_s) for a, b in bounds]
        return torch.stack([part.pooled for part in moments]), spans

    def fit_projection(self, pooled: Tensor, songs: Tensor) -> None:
        """Nothing to fit: the statistics are compared as they are."""

    def vectors(self, pooled: Tensor) -> Tensor:
        """The statistics themselves ``[n, 2 * n_mels]``, or the means alone ``[n, n_mels]``."""
        return pooled if self.deviations else pooled[:, : self.channels]


class NothingLearned(SongModel):
    """All of a model's vector that is not learned: random features, and the bands' timbre."""

    @property
    def channels(self) -> int:
        """Of the random features."""
        return UNITS

    @property
    def strides(self) -> list[int]:
        """See ``SongModel.strides``."""
        return [STRIDE]

    @property
    def parts(self) -> list[Projection]:
        """See ``SongModel.parts``."""
        return [part for part in super().parts if part is not self.learned]

    def of_positions(self, frames: Tensor) -> list[Tensor]:
        """See ``SongModel.of_positions``."""
        assert self.random
        return [self.random(self.encoder.standardise(frames))]


@dataclass(frozen=True)
class EvaluationVectors:
    """What a feature extractor made of some songs; of vectors from elsewhere little else is known.

    Attributes:
        track_ids: ``n`` ids.
        songs: ``[n, dim]``, their vectors.
        means: ``[n, width]``, their features' mean over time, before any projection.
        segments: ``[m, dim]``, vectors of parts of them.
        owners: ``[m]``, the row of the song that a segment is of.
        excerpts: ``[k, dim]``, vectors of the middle of the first ``k`` songs.
        louder: ``[k, dim]``, the same, louder.
        tilted: ``[k, dim]``, the same, brighter above and darker below.
        level_tilt: ``[n, 2]``, mean level in dB and its slope over the bands.
    """

    track_ids: list[str]
    songs: Tensor
    means: Tensor | None = None
    segments: Tensor | None = None
    owners: Tensor | None = None
    excerpts: Tensor | None = None
    louder: Tensor | None = None
    tilted: Tensor | None = None
    level_tilt: Tensor | None = None

    def save(self, path: Path) -> None:
        """Write everything into one safetensors file, atomically."""
        tensors = {k: v.contiguous() for k, v in vars(self).items() if isinstance(v, Tensor)}
        with atomic_replace(path) as part:
            save_file(tensors, part, metadata={"track_ids": "\n".join(self.track_ids)})

    @classmethod
    def load(cls, path: Path) -> "EvaluationVectors":
        """Read what ``save`` wrote."""
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(file.metadata()["track_ids"].split("\n"), **tensors)

    def only(self, wanted: Callable[[str], bool]) -> "EvaluationVectors":
        """What is said of some of the songs, by their ids, as if there were no others."""
        rows = [row for row, track_id in enumerate(self.track_ids) if wanted(track_id)]
        new_row = torch.full((len(self.track_ids),), -1)
        new_row[rows] = torch.arange(len(rows))
        segments, owners = self.segments, self.owners
        if segments is not None and owners is not None:
            owners = new_row[owners]
            segments, owners = segments[owners >= 0], owners[owners >= 0]

        def taken(tensor: Tensor | None) -> Tensor | None:
            # Of excerpts there are fewer than songs.
            return None if tensor is None else tensor[[row for row in rows if row < len(tensor)]]

        return EvaluationVectors(
            [self.track_ids[row] for row in rows],
            songs=self.songs[rows],
            means=taken(self.means),
            segments=segments,
            owners=owners,
            excerpts=taken(self.excerpts),
            louder=taken(self.louder),
            tilted=taken(self.tilted),
            level_tilt=taken(self.level_tilt),
        )


def evaluation_sample(sampler: CropSampler) -> list[tuple[str, Tensor]]:
    """What models are evaluated on: id and uint8 ``[frames, n_mels]`` of tracks in memory."""
    return list(sampler.tracks(SAMPLE_TRACKS, SEED_OF_SAMPLE))


def embed_sample(
    extractor: FeatureExtractor, tracks: Sequence[tuple[str, Tensor]], spec: SpectrogramSettings
) -> EvaluationVectors:
    """Pass tracks through ``extractor``, and fit its projection to their segments.

    Args:
        extractor: a model, or what it is compared with.
        tracks: at least one; id and uint8 ``[frames, n_mels]`` on the extractor's device.
        spec: the spectrograms' settings.
    """
    extractor.fit_bands(frames for _, frames in tracks)
    songs, segments, owners, factors = [], [], [], []
    changed: list[Tensor] = []
    with progress("Evaluating", len(tracks), "songs") as shown:
        for row, (_, frames) in enumerate(tracks):
            pooled, _ = extractor.pool(frames.split(shard_files.PIECE_FRAMES), spec.frames_per_s)
            songs.append(pooled[0])
            every = -(-(len(pooled) - 1) // SEGMENTS)
            segments.append(pooled[1::every])
            owners.append(torch.full((len(segments[-1]),), row))
            factors.append(_level_tilt(frames, spec))
            if row < CHANGED_SONGS:
                versions = _changed(frames, spec)
                pooled_versions = [extractor.pool([f], spec.frames_per_s)[0][0] for f in versions]
                changed.append(torch.stack(pooled_versions))
            shown.advance()
    extractor.fit_projection(torch.cat(segments), torch.cat(owners).to(segments[0].device))

    excerpts, louder, tilted = (extractor.vectors(each).cpu() for each in torch.stack(changed, 1))
    return EvaluationVectors(
        [track_id for track_id, _ in tracks],
        songs=extractor.vectors(torch.stack(songs)).cpu(),
        means=torch.stack(songs).cpu()[:, : extractor.channels],
        segments=extractor.vectors(torch.cat(segments)).cpu(),
        owners=torch.cat(owners),
        excerpts=excerpts,
        louder=louder,
        tilted=tilted,
        level_tilt=torch.stack(factors),
    )


def _level_tilt(frames: Tensor, spec: SpectrogramSettings) -> Tensor:
    level = frames.float().mean(0).cpu() * spec.step_db
    bands = torch.linspace(-1, 1, len(level))
    return torch.stack([level.mean(), (level * bands).mean() / bands.square().mean()])


def _changed(frames: Tensor, spec: SpectrogramSettings) -> tuple[Tensor, Tensor, Tensor]:
    """The middle of a song: as it is, louder, and with its spectrum tilted."""
    length = min(len(frames), round(CHANGED_S * spec.frames_per_s))
    begin = (len(frames) - length) // 2
    excerpt = frames[begin : begin + length]
    tilt = torch.linspace(-TILT_DB, TILT_DB, spec.n_mels, device=frames.device)

    def add(decibels: Tensor | float) -> Tensor:
        # Silence stays silence.
        moved = (excerpt.float() + decibels / spec.step_db).round().clamp(1, 255)
        return torch.where(excerpt > 0, moved, 0).to(torch.uint8)

    return excerpt, add(LOUDER_DB), add(tilt)


def song_outcomes(
    vectors: EvaluationVectors, labels: Mapping[str, Labels]
) -> dict[str, np.ndarray]:
    """What each song scored in the measures that are means over songs.

    Returns:
        By the name of the figure that is their mean: ``[n]``, NaN of songs that cannot be asked.
    """
    names = [labels.get(track_id, UNKNOWN) for track_id in vectors.track_ids]
    artists, albums = [name.artist for name in names], [name.album for name in names]
    songs = vectors.songs.numpy()
    return {
        "artist_1nn": metrics.artist_hits(songs, artists),
        "artist_1nn_other_album": metrics.artist_hits(songs, artists, albums),
        "artist_map": metrics.artist_precisions(songs, artists),
        "artist_map_other_album": metrics.artist_precisions(songs, artists, albums),
    }


def evaluate(
    vectors: EvaluationVectors,
    labels: Mapping[str, Labels],
    wanted: Callable[[str], bool] = lambda track_id: True,
) -> dict[str, float | None]:
    """How good vectors are, by every measure there is.

    Args:
        vectors: of some songs.
        labels: by track id; unlabelled songs are only ever wrong answers.
        wanted: which songs to ask, and to look at where nothing is asked. All songs can be the
            answer.

    Returns:
        A figure by name; None where it cannot be measured. For their meaning see ``metrics``.
    """
    asked = np.array([wanted(track_id) for track_id in vectors.track_ids], bool)
    names = [labels.get(track_id, UNKNOWN) for track_id in vectors.track_ids]
    artists, kinds = [name.artist for name in names], [name.label for name in names]
    every, own = vectors.songs.numpy(), vectors.only(wanted)
    songs = own.songs.numpy()
    scored = song_outcomes(vectors, labels)
    found: dict[str, float | None] = dict.fromkeys(FIGURES)
    found |= {name: metrics.mean_outcome(each, asked) for name, each in scored.items()}
    found["label_knn"] = metrics.label_knn(every, kinds, artists, asked=asked)
    found["hubness"] = metrics.hubness(every, of=asked)
    found["effective_rank"] = metrics.effective_rank(songs)
    found["uniformity"] = metrics.uniformity(songs)
    if own.means is not None:
        found["target_entropy"] = metrics.target_entropy(own.means.numpy())
    if own.segments is not None and own.owners is not None:
        found["alignment"] = metrics.alignment(own.segments.numpy(), own.owners.tolist())
    if own.excerpts is not None and own.louder is not None and own.tilted is not None:
        excerpts = own.excerpts.numpy()
        found["gain_invariance"] = metrics.invariance(excerpts, own.louder.numpy())
        found["eq_invariance"] = metrics.invariance(excerpts, own.tilted.numpy())
    if own.level_tilt is not None:
        found["level_tilt_share"] = metrics.explained_share(songs, own.level_tilt.numpy())
    return found
