"""The most similar songs of every song.

Belongs here: exact nearest neighbours by cosine similarity. Does not: where vectors come from or
what neighbours are used for.

All songs are compared at any size: on two cores a hundred thousand take a minute, and a million an
hour or so, once. What is added later is compared alone.
"""

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fastdino.core.progress import progress

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Each song's neighbours as ``nearest`` has them: indices and similarities.
Neighbors = tuple[np.ndarray, np.ndarray]
# Similarities held at a time: 64 MB of them, whatever the size of the collection.
BLOCK = 16_000_000
# From so many similarities on, PyTorch is worth starting: it is on all cores, or on a GPU.
MANY = 400_000_000
# There, songs of a block and what they are compared with at a time: 256 MB.
ROWS, COLUMNS = 1024, 65_536
# On a GPU this is what a block takes, with all that is made of it.
GPU_ROOM = 2 << 30
# Similarities of which first only the largest is looked at.
GROUP = 32


def nearest(vectors: np.ndarray, k: int, queries: np.ndarray | None = None) -> Neighbors:
    """The ``k`` rows of ``vectors`` most similar to each query, the most similar first.

    Args:
        vectors: unit vectors, float32 [n, dim].
        k: neighbours a query; at most n (n - 1 without ``queries``), or all are returned.
        queries: unit vectors, float32 [m, dim]; by default ``vectors`` themselves, each row then
            not being its own neighbour.

    Returns:
        Indices, int64 [m, k], and cosine similarities, float32 [m, k].
    """
    among_themselves = queries is None
    asked = vectors if queries is None else queries
    k = min(k, len(vectors) - among_themselves)
    indices = np.empty((len(asked), max(k, 0)), np.int64)
    similarities = np.empty((len(asked), max(k, 0)), np.float32)
    if k <= 0:
        return indices, similarities
    start_s = time.monotonic()
    compare = _compared if len(asked) * len(vectors) < MANY else _compared_by_torch
    start = 0
    with progress("Comparing songs", len(asked), "songs") as shown:
        for found, similar in compare(vectors, k, asked, among_themselves):
            stop = start + len(found)
            indices[start:stop], similarities[start:stop] = found, similar
            shown.advance(stop - start)
            start = stop
    if len(asked) >= 5_000:
        log.info("neighbours of %d songs in %.1f s", len(asked), time.monotonic() - start_s)
    return indices, np.clip(similarities, -1, 1)


def nearest_to(vectors: np.ndarray, k: int, asked: np.ndarray) -> Neighbors:
    """The rows of ``nearest(vectors, k)`` of those ``asked``, int [m]; all others if k is more."""
    found, similar = nearest(vectors, k + 1, vectors[asked])
    itself = found == asked[:, None]
    # One that is the same as more than k others may not be among its own nearest.
    itself[~itself.any(axis=1), -1] = True
    shape = (len(asked), found.shape[1] - 1)
    return found[~itself].reshape(shape), similar[~itself].reshape(shape)


def _compared(
    vectors: np.ndarray, k: int, asked: np.ndarray, among_themselves: bool
) -> Iterator[Neighbors]:
    """What ``nearest`` returns, some of those asked at a time."""
    rows = max(1, BLOCK // len(vectors))
    for start in range(0, len(asked), rows):
        block = asked[start : start + rows] @ vectors.T
        if among_themselves:
            own = np.arange(len(block))
            block[own, start + own] = -np.inf
        # Sorted in two steps: equal similarities then come in order of their index.
        top = np.sort(np.argpartition(-block, k - 1, axis=1)[:, :k], axis=1)
        found = np.take_along_axis(block, top, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        yield np.take_along_axis(top, order, axis=1), np.take_along_axis(found, order, axis=1)


def _compared_by_torch(
    vectors: np.ndarray, k: int, asked: np.ndarray, among_themselves: bool
) -> Iterator[Neighbors]:
    """The same of many songs, on a GPU where there is one; the first of equals at the end too."""
    import torch

    n, device = len(vectors), _device(vectors.nbytes + GPU_ROOM)
    songs = torch.from_numpy(vectors).to(device)
    room = torch.empty(ROWS * min(COLUMNS, n), device=device)
    for start in range(0, len(asked), ROWS):
        queries = torch.from_numpy(asked[start : start + ROWS]).to(device)
        m = len(queries)
        own = torch.arange(start, start + m, device=device)
        found = torch.full((m, k), -torch.inf, device=device)
        where = torch.full((m, k), n, device=device)
        for first in range(0, n, COLUMNS):
            others = songs[first : first + COLUMNS]
            block = room[: m * len(others)].view(m, len(others))
            torch.mm(queries, others.T, out=block)
            if among_themselves:
                here = (own >= first) & (own < first + len(others))
                block[here.nonzero()[:, 0], own[here] - first] = -torch.inf
            values, columns = _largest(block, k, found[:, -1:])
            found = torch.cat([found, values], dim=1)
            where = torch.cat([where, first + columns], dim=1)
            order = where.argsort(dim=1)
            found, where = found.gather(1, order), where.gather(1, order)
            order = found.argsort(dim=1, descending=True, stable=True)[:, :k]
            found, where = found.gather(1, order), where.gather(1, order)
        yield where.cpu().numpy(), found.cpu().numpy()


def _device(needed: int) -> "torch.device":
    """The GPU where there is one with so many bytes left: a training may have taken the rest."""
    import torch

    from fastdino.training.device import best_device

    device = best_device()
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] < needed:
        return torch.device("cpu")
    return device


def _largest(
    block: "torch.Tensor", k: int, least: "torch.Tensor"
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The largest values of each row, all that can be among its ``k`` largest with those before.

    They lie in the groups with the largest maxima: of a thirtieth of all values the order is then
    looked at.

    Args:
        block: [m, n].
        k: how many are wanted in all.
        least: the smallest that is good enough, [m, 1].

    Returns:
        Values and their columns, [m, at most k] each. Of equal ones at the end, the first.
    """
    import torch

    m, n = block.shape
    groups = n // GROUP
    maxima = block[:, : groups * GROUP].view(m, GROUP, groups).amax(dim=1)
    good = int((maxima >= least).sum(dim=1).max()) if groups else 0
    # One more than wanted: so it shows where others are equal to the last.
    chosen = maxima.topk(min(good, k + 1), dim=1).indices
    members = chosen[:, :, None] + groups * torch.arange(GROUP, device=block.device)
    rest = torch.arange(groups * GROUP, n, device=block.device).expand(m, -1)
    columns = torch.cat([members.flatten(1), rest], dim=1)
    values, order = block.gather(1, columns).topk(min(k + 1, columns.shape[1]), dim=1)
    columns = columns.gather(1, order)
    if values.shape[1] > k:
        last = values[:, k - 1 : k]
        tied = ((values[:, k:] == last) & (last >= least))[:, 0]
        values, columns = values[:, :k], columns[:, :k]
        if tied.any():
            above, equal = block[tied] > last[tied], block[tied] == last[tied]
            missing = k - above.sum(dim=1, keepdim=True)
            first = equal & (equal.cumsum(dim=1, dtype=torch.int32) <= missing)
            columns[tied] = (above | first).nonzero()[:, 1].view(-1, k)
            values = block.gather(1, columns)
    return values, columns


def update(
    vectors: np.ndarray, known: np.ndarray, before: np.ndarray, similarities_before: np.ndarray
) -> Neighbors:
    """``nearest(vectors, k)`` from what it was before a few songs came or left.

    Only new songs, and those that have lost a neighbour, are compared with all others.

    Args:
        vectors: unit vectors, float32 [n, dim].
        known: which songs were there before, bool [n].
        before: their neighbours then as indices into ``vectors``, int64 [n, k], k < n; -1 for one
            that has left.
        similarities_before: to those, float32 [n, k].

    Returns:
        Indices, int64 [n, k], and cosine similarities, float32 [n, k].
    """
    k = before.shape[1]
    asked = ~known | (before < 0).any(axis=1)
    if not k or asked.mean() > 0.5:
        return nearest(vectors, k)
    indices, similarities = before.copy(), similarities_before.copy()
    indices[asked], similarities[asked] = nearest_to(vectors, k, np.flatnonzero(asked))
    new = np.flatnonzero(~known)
    if len(new):
        others = np.flatnonzero(~asked)
        found, similar = nearest(vectors[new], k, vectors[others])
        nearer = similar[:, 0] >= similarities[others, -1]
        others, found, similar = others[nearer], new[found[nearer]], similar[nearer]
        found = np.concatenate([indices[others], found], axis=1)
        similar = np.concatenate([similarities[others], similar], axis=1)
        order = np.lexsort((found, -similar))[:, :k]
        indices[others] = np.take_along_axis(found, order, axis=1)
        similarities[others] = np.take_along_axis(similar, order, axis=1)
    return indices, similarities
