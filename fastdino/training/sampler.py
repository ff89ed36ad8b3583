"""The crop sampler: random crops of random songs, from memory, whatever the collection's size.

Belongs here: which part of the shards is in memory, and drawing crops from it. Does not: what a
crop is used for.

All shards that fit a budget are resident, on the training device itself, and a batch is one
gather. A collection that does not fit is seen through a window: the shards in memory change one
at a time, read by a thread while training goes on. It is the same code: a window as wide as the
collection never moves.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from fastdino.spectrograms import shards as shard_files


@dataclass
class _Slot:
    """One shard's frames in memory and where its tracks begin.

    Attributes:
        frames: uint8 ``[n_frames, n_mels]`` on the training device.
        starts: int64 ``[n_tracks]``, first frame of each track.
        lengths: int64 ``[n_tracks]``, frames of each track.
        track_ids: ``n_tracks`` ids.
    """

    frames: Tensor
    starts: np.ndarray
    lengths: np.ndarray
    track_ids: list[str]


class CropSampler:
    """Draws batches of crops: some songs, and several crops of each.

    A batch is a function of the seed, the step and the shards in memory alone, so a resumed run
    draws what an undisturbed one would have drawn.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        device: torch.device,
        budget_bytes: int,
        seed: int,
        steps_per_shard: int = 50,
    ) -> None:
        """Load the first window.

        Args:
            shards: non-empty list of shard files.
            device: where frames are kept and crops come out.
            budget_bytes: memory for frames; at least one shard is held whatever it says.
            seed: of everything drawn.
            steps_per_shard: a window narrower than the collection moves on by a shard after
                so many steps.
        """
        if not shards:
            raise ValueError("no shards to sample from")
        self.device, self.seed, self.steps_per_shard = device, seed, steps_per_shard
        # A fixed random order: the window then holds a mixture, not the newest additions.
        order = np.random.default_rng(seed).permutation(len(shards))
        self._queue = [shards[i] for i in order]
        sizes = [_frame_bytes(path) for path in self._queue]
        self._width = 1
        while self._width < len(shards) and max_window(sizes, self._width + 1) <= budget_bytes:
            self._width += 1
        self._slots: dict[int, _Slot] = {}
        self._moved = 0
        self._loader: threading.Thread | None = None
        self._loaded: _Slot | None = None
        self._set_window(0)

    @classmethod
    def of(cls, folder: Path, device: torch.device, seed: int) -> "CropSampler":
        """A sampler of all shards in a folder, with as much memory as there is to spare."""
        shards = shard_files.list_shards(folder)
        return cls(shards, device=device, budget_bytes=frame_budget(device), seed=seed)

    @property
    def resident(self) -> bool:
        """Whether the whole collection is in memory."""
        return self._width == len(self._queue)

    def sample_frames(self, n_frames: int) -> Tensor:
        """Evenly spaced single frames of what is in memory, ``[about n_frames, n_mels]`` uint8."""
        total = sum(len(slot.frames) for slot in self._slots.values())
        every = max(1, total // n_frames)
        return torch.cat([slot.frames[::every] for slot in self._slots.values()])

    def tracks(self, n_tracks: int, seed: int) -> Iterator[tuple[str, Tensor]]:
        """At most ``n_tracks`` whole tracks of those in memory: id and uint8 ``[frames, n_mels]``.

        The choice depends on ``seed``, the order on the shards.
        """
        held = [(slot, row) for slot in self._slots.values() for row in range(len(slot.starts))]
        for index in sorted(np.random.default_rng(seed).permutation(len(held))[:n_tracks]):
            slot, row = held[index]
            start = slot.starts[row]
            yield slot.track_ids[row], slot.frames[start : start + slot.lengths[row]]

    def batch(self, step: int, n_songs: int, n_crops: int, n_frames: int) -> Tensor:
        """Draw the batch of step ``step``.

        Songs are drawn without replacement (while there are enough); a song's crops each lie in
        their own part of it, so that they overlap only where the song is short. A song shorter
        than a crop is repeated from its beginning.

        Returns:
            uint8 ``[n_songs, n_crops, n_frames, n_mels]``.
        """
        self._set_window(0 if self.resident else step // self.steps_per_shard)
        rng = np.random.default_rng([self.seed, step])
        slots = list(self._slots.values())
        ends = np.cumsum([len(slot.starts) for slot in slots])
        songs = rng.permutation(int(ends[-1]))[:n_songs]
        if len(songs) < n_songs:
            songs = np.concatenate([songs, rng.integers(ends[-1], size=n_songs - len(songs))])
        where = np.searchsorted(ends, songs, side="right")
        within = songs - np.concatenate([[0], ends[:-1]])[where]
        parts = (np.arange(n_crops) + rng.random((n_songs, n_crops))) / n_crops
        offsets = torch.arange(n_frames, device=self.device)
        crops: list[Tensor | None] = [None] * n_songs
        for number, slot in enumerate(slots):
            mine = np.flatnonzero(where == number)
            if not len(mine):
                continue
            starts, lengths = slot.starts[within[mine]], slot.lengths[within[mine]]
            room = np.maximum(lengths - n_frames, 0)
            begin = (parts[mine] * (room[:, None] + 1)).astype(np.int64)
            # A few numbers a crop go to the device; the indices of its frames are made there.
            places = np.stack(np.broadcast_arrays(begin, lengths[:, None], starts[:, None]))
            first, length, start = torch.from_numpy(places).to(self.device)[..., None]
            index = (first + offsets) % length + start
            for song, crop in zip(mine, slot.frames[index], strict=True):
                crops[song] = crop
        return torch.stack([crop for crop in crops if crop is not None])

    def _set_window(self, moved: int) -> None:
        """Hold shards ``moved .. moved + width`` of the endless queue."""
        wanted = range(moved, moved + self._width)
        for gone in [key for key in self._slots if key not in wanted]:
            del self._slots[gone]
        for key in wanted:
            if key not in self._slots:
                self._slots[key] = self._take(key)
        self._slots = {key: self._slots[key] for key in wanted}
        if not self.resident and (self._loader is None or self._moved != moved):
            self._moved = moved
            self._prefetch(moved + self._width)

    def _prefetch(self, key: int) -> None:
        def load() -> None:
            self._loaded = self._read(key)

        self._loading = key
        self._loader = threading.Thread(target=load, daemon=True)
        self._loader.start()

    def _take(self, key: int) -> _Slot:
        if self._loader is not None and self._loading == key:
            self._loader.join()
            slot, self._loaded = self._loaded, None
            if slot is not None:
                return slot
        return self._read(key)

    def _read(self, key: int) -> _Slot:
        path = self._queue[key % len(self._queue)]
        n_frames, n_mels = _shape(path)
        frames = torch.empty((n_frames, n_mels), dtype=torch.uint8, device=self.device)
        track_ids: list[str] = []
        starts: list[int] = []
        at = 0
        for piece in shard_files.iter_pieces(path):
            if not track_ids or piece.track_id != track_ids[-1]:
                track_ids.append(piece.track_id)
                starts.append(at)
            n = len(piece.frames)
            # Copied before it is handed to torch, which would warn of memory it may not write to.
            frames[at : at + n] = torch.from_numpy(piece.frames.copy())
            at += n
        bounds = np.array([*starts, at], dtype=np.int64)
        return _Slot(frames, bounds[:-1], np.diff(bounds), track_ids)


def frame_budget(device: torch.device) -> int:
    """Bytes of memory to give to frames: two thirds of what the GPU has free, a third of RAM."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free * 2 // 3
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 3


def max_window(sizes: Sequence[int], width: int) -> int:
    """The most bytes that ``width`` neighbours of an endless queue take, the next one included."""
    held = min(width + 1, len(sizes)) if width < len(sizes) else width
    doubled = [*sizes, *sizes]
    return max(sum(doubled[i : i + held]) for i in range(len(sizes)))


def _shape(path: Path) -> tuple[int, int]:
    table = pq.read_table(path, columns=["n_frames", "n_mels"], partitioning=None)
    return int(np.sum(table.column("n_frames"))), int(table.column("n_mels")[0].as_py())


def _frame_bytes(path: Path) -> int:
    n_frames, n_mels = _shape(path)
    return n_frames * n_mels
