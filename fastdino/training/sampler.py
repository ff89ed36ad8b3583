"""The crop sampler: random crops of random songs, from memory, whatever the collection's size.

Belongs here: which part of the shards is in memory, and drawing crops from it. Does not: what a
crop is used for.

Frames lie in one tensor on the training device itself, and a batch is one gather from it. A
collection that does not fit is seen through a window: the tensor then has a place for every shard
of the window and one for the next, which a thread reads while training goes on. It is the same
code: a window as wide as the collection never moves.

Several ranks that each hold the whole collection draw the batch that one would draw, and each
takes its slice. Where it does not fit, they share it out instead: every rank has a window of its
own over its own shards, and draws its part of the songs from there.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastdino.core.machine import available_memory
from fastdino.spectrograms import shards as shard_files
from fastdino.training import ranks

# Of a GPU's memory: what a step of the largest recipe takes, whatever the size of the collection.
STEP_BYTES = 10 * 10**9


@dataclass
class _Slot:
    """One shard in memory.

    Attributes:
        first: where its frames begin in the sampler's tensor.
        n_frames: how many it has.
        starts: int64 ``[n_tracks]``, first frame of each track in the sampler's tensor.
        lengths: int64 ``[n_tracks]``, frames of each track.
        track_ids: ``n_tracks`` ids.
    """

    first: int
    n_frames: int
    starts: np.ndarray
    lengths: np.ndarray
    track_ids: list[str]


class CropSampler:
    """Draws batches of crops: some songs, and several crops of each.

    A batch is a function of the seed, the step and the shards in memory alone, so a resumed run
    draws what an undisturbed one would have drawn. Ranks that share out a collection have each
    their own shards in memory, and it depends on their number which: on another number a run goes
    on with other batches, of the same songs in the end.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        device: torch.device,
        budget_bytes: int,
        seed: int,
        steps_per_shard: int = 50,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Load the first window.

        Args:
            shards: non-empty list of shard files.
            device: where frames are kept and crops come out.
            budget_bytes: memory for frames, the same on every rank; at least one shard is held
                whatever it says.
            seed: of everything drawn.
            steps_per_shard: a window narrower than the collection moves on by a shard after
                so many steps.
            rank: which share of each batch to draw ...
            world: ... of how many. If the collection does not fit in memory, a rank goes through
                every ``world``-th shard only; where there are fewer, some have one in common.
        """
        if not shards:
            raise ValueError("no shards to sample from")
        self.device, self.seed, self.steps_per_shard = device, seed, steps_per_shard
        self.rank, self.world = rank, world
        # A fixed random order: the window then holds a mixture, not the newest additions.
        order = np.random.default_rng(seed).permutation(len(shards))
        self._queue = [shards[i] for i in order]
        self._lengths, n_mels = _shapes(self._queue)
        self._shared_out = world > 1 and sum(self._lengths) > budget_bytes // n_mels
        if self._shared_out:
            own = slice(rank % len(shards), None, world)
            self._queue, self._lengths = self._queue[own], self._lengths[own]
        self._width = window(self._lengths, budget_bytes // n_mels)
        capacity = places(self._lengths, self._width)
        self._frames = torch.empty((capacity, n_mels), dtype=torch.uint8, device=device)
        self._slots: dict[int, _Slot] = {}
        self._moved = 0
        self._loader: threading.Thread | None = None
        self._loaded: _Slot | None = None
        self._set_window(0)

    @classmethod
    def of(cls, folder: Path, device: torch.device, seed: int) -> "CropSampler":
        """A sampler of all shards in a folder, with as much memory as there is to spare."""
        shards = shard_files.list_shards(folder)
        budget = int(ranks.least(frame_budget(device)))
        rank, world = ranks.rank(), ranks.world()
        return cls(shards, device=device, budget_bytes=budget, seed=seed, rank=rank, world=world)

    @property
    def resident(self) -> bool:
        """Whether all that is ever drawn from is in memory."""
        return self._width == len(self._queue)

    def sample_frames(self, n_frames: int) -> Tensor:
        """Evenly spaced single frames of the first shards that memory holds.

        Returns:
            uint8 ``[about n_frames, n_mels]``.
        """
        self._set_window(0)  # and not those that a run has got to
        total = sum(slot.n_frames for slot in self._slots.values())
        every = max(1, total // n_frames)
        return torch.cat(
            [
                self._frames[slot.first : slot.first + slot.n_frames : every]
                for slot in self._slots.values()
            ]
        )

    def tracks(self, n_tracks: int, seed: int) -> Iterator[tuple[str, Tensor]]:
        """At most ``n_tracks`` whole tracks of the first shards that memory holds.

        The choice depends on ``seed`` and on those songs; not on how they lie there, which the
        sampler's own seed decides.

        Returns:
            Of each, its id and uint8 ``[frames, n_mels]``.
        """
        self._set_window(0)
        held = [(slot, row) for slot in self._slots.values() for row in range(len(slot.starts))]
        held.sort(key=lambda each: each[0].track_ids[each[1]])
        for index in sorted(np.random.default_rng(seed).permutation(len(held))[:n_tracks]):
            slot, row = held[index]
            start = slot.starts[row]
            yield slot.track_ids[row], self._frames[start : start + slot.lengths[row]]

    def batch(self, step: int, n_songs: int, n_crops: int, n_frames: int) -> Tensor:
        """Draw the batch of step ``step``, or this rank's share of it.

        Songs are drawn without replacement (while there are enough); a song's crops each lie in
        their own part of it, so that they overlap only where the song is short. A song shorter
        than a crop is repeated from its beginning.

        Args:
            step: of the run.
            n_songs: in the whole batch, a multiple of the ranks.
            n_crops: of each song.
            n_frames: of each crop.

        Returns:
            uint8 ``[n_songs // world, n_crops, n_frames, n_mels]``.
        """
        self._set_window(0 if self.resident else step // self.steps_per_shard)
        share = n_songs // self.world
        own = slice(self.rank * share, (self.rank + 1) * share)
        source = [self.seed, step]
        if self._shared_out:
            n_songs, own = share, slice(share)
            source.append(self.rank)
        rng = np.random.default_rng(source)
        starts = np.concatenate([slot.starts for slot in self._slots.values()])
        lengths = np.concatenate([slot.lengths for slot in self._slots.values()])
        songs = rng.permutation(len(starts))[:n_songs]
        if len(songs) < n_songs:
            songs = np.concatenate([songs, rng.integers(len(starts), size=n_songs - len(songs))])
        parts = (np.arange(n_crops) + rng.random((n_songs, n_crops))) / n_crops
        songs, parts = songs[own], parts[own]
        starts, lengths = starts[songs, None], lengths[songs, None]
        room = np.maximum(lengths - n_frames, 0)
        begin = (parts * (room + 1)).astype(np.int64)
        # A few numbers a crop go to the device; the indices of its frames are made there.
        drawn = torch.from_numpy(np.stack(np.broadcast_arrays(begin, lengths, starts)))
        if self.device.type == "cuda":
            # From pinned memory the host need not wait until the device has taken them.
            drawn = drawn.pin_memory().to(self.device, non_blocking=True)
        first, length, start = drawn[..., None]
        offsets = torch.arange(n_frames, device=self.device)
        return self._frames[(first + offsets) % length + start]

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
        if self._loader is not None:
            # Also when it reads another shard: that may lie where this one is to be.
            self._loader.join()
            slot, self._loaded = self._loaded, None
            if slot is not None and self._loading == key:
                return slot
        return self._read(key)

    def _place(self, key: int) -> int:
        """Where the frames of the queue's shard ``key`` begin."""
        if self.resident:
            return sum(self._lengths[:key])
        return key % (self._width + 1) * max(self._lengths)

    def _read(self, key: int) -> _Slot:
        track_ids: list[str] = []
        starts: list[int] = []
        number = key % len(self._queue)
        first = at = self._place(key)
        for piece in shard_files.iter_pieces(self._queue[number]):
            n = len(piece.frames)
            # Songs may be written to the shard meanwhile: there is no place for those.
            if at + n > first + self._lengths[number]:
                break
            if not track_ids or piece.track_id != track_ids[-1]:
                track_ids.append(piece.track_id)
                starts.append(at)
            # Copied before it is handed to torch, which would warn of memory it may not write to.
            self._frames[at : at + n] = torch.from_numpy(piece.frames.copy())
            at += n
        bounds = np.array([*starts, at], dtype=np.int64)
        return _Slot(first, at - first, bounds[:-1], np.diff(bounds), track_ids)


def frame_budget(device: torch.device) -> int:
    """Bytes of memory to give to frames: a third of RAM, or of what a GPU has free two thirds, as
    long as that leaves ``STEP_BYTES``; a quarter if it has little. Ranks share a machine's RAM.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch holds back and does not use is free, too.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return min(free * 2 // 3, max(free - STEP_BYTES, free // 4))
    return available_memory() // 3 // ranks.on_this_machine()


def window(lengths: Sequence[int], budget: int) -> int:
    """How many shards, of so many frames each, ``budget`` frames hold at once; at least one."""
    if sum(lengths) <= budget:
        return len(lengths)
    return max(1, min(len(lengths) - 1, budget // max(lengths) - 1))


def places(lengths: Sequence[int], width: int) -> int:
    """Frames that a window takes: all, or ``width`` and the next one, each as the longest shard."""
    return sum(lengths) if width == len(lengths) else (width + 1) * max(lengths)


def _shapes(shards: Sequence[Path]) -> tuple[list[int], int]:
    """Frames of each shard, and the bands of all; none is opened whose index is kept."""
    frames: dict[Path, int] = {}
    for folder in {path.parent for path in shards}:
        index = shard_files.read_index(folder)
        sums = index.group_by("shard").aggregate([("n_frames", "sum")]).to_pylist()
        frames |= {folder / row["shard"]: row["n_frames_sum"] for row in sums}
    return [frames[path] for path in shards], int(index["n_mels"][0].as_py())
