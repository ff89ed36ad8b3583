"""How good vectors are: figures that need no listening.

Belongs here: measures over vectors and labels, used alike by training, checks, benchmarks and
comparisons. Does not: making the vectors, or reading labels (``labels``).

Wherever vectors are compared with each other they are first centred and brought to unit length:
that is how songs are searched for, and without it a representation whose vectors all share a large
common part, such as plain mel statistics, would look as if everything were alike. A name that is
None or empty is unknown, and equal to no other. Measures that ask songs can be told which to ask;
all songs can be the answer in any case, as they would be to a user. What each song scored, by which
two ways of making vectors are compared song by song, has functions of its own.
"""

from collections.abc import Iterator, Sequence

import numpy as np

# Similarities held at a time, 32 MB of them, whatever the size of the collection.
BLOCK = 4_000_000


def effective_rank(vectors: np.ndarray) -> float:
    """RankMe (Garrido et al., 2023): e to the entropy of the singular values, centred.

    Near 1 when all vectors lie on a line, as after a collapse; at most
    ``min(n - 1, dim)``.
    """
    singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    share = singular / max(singular.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def centred_unit(vectors: np.ndarray) -> np.ndarray:
    """``[n, dim]`` moved to zero mean, each row then of unit length."""
    if not len(vectors):
        return vectors.astype(np.float64)
    return _unit(vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64))


def mean_outcome(outcomes: np.ndarray, asked: np.ndarray | None = None) -> float | None:
    """Mean of what songs scored, ``[n]``, over those that could be asked and are; None of none.

    Args:
        outcomes: ``[n]``, NaN where a song could not be asked.
        asked: bool ``[n]``, which songs to ask; None: all.
    """
    told = ~np.isnan(outcomes) if asked is None else ~np.isnan(outcomes) & asked
    return float(outcomes[told].mean()) if told.any() else None


def artist_hits(
    vectors: np.ndarray,
    artists: Sequence[str | None],
    albums: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Of each song, whether its nearest other song is by the same artist; the mean is "1-NN".

    Only songs whose artist has another song that can be found are asked about; all songs can be
    the answer. Songs of one album share a studio and a mix, and are found by that. With ``albums``
    given, only the artist's songs on another album can be found: asked are songs whose own album is
    known and whose artist has a song on another known one; the artist's other songs, on the same
    album or on none that is known, which may be the same, are left out and count neither way.

    Args:
        vectors: ``[n, dim]``.
        artists: ``n`` names.
        albums: ``n`` titles. Two artists' albums of the same title are two albums, so that
            tags such as "Greatest Hits" do not take wrong answers away.

    Returns:
        ``[n]``: 1 if it is, 0 if not, NaN of a song that cannot be asked.
    """
    found = np.full(len(artists), np.nan)
    for rows, similarity, right in _answers(vectors, artists, albums):
        nearest = similarity.argmax(1)
        hit = np.take_along_axis(right, nearest[:, None], 1)[:, 0]
        found[rows] = np.where(right.any(1), hit, np.nan)
    return found


def artist_precisions(
    vectors: np.ndarray,
    artists: Sequence[str | None],
    albums: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Of each song, the average precision of its artist's songs when all other songs are ranked.

    Where ``artist_hits`` hangs on one neighbour a song, this weighs the places of all the artist's
    songs, and so its mean, "mAP", varies far less from run to run; by chance it is about the
    artists' mean share of the songs. Who is asked and what is left out is as in ``artist_hits``.
    Songs equally similar share the last of their places.

    Args:
        vectors: ``[n, dim]``.
        artists: ``n`` names.
        albums: ``n`` titles.

    Returns:
        ``[n]``, 0 to 1, NaN of a song that cannot be asked.
    """
    found = np.full(len(artists), np.nan)
    for rows, similarity, right in _answers(vectors, artists, albums):
        for row, (theirs, everyone) in enumerate(zip(right, similarity, strict=True), rows.start):
            if theirs.any():
                wanted, ranked = np.sort(everyone[theirs]), np.sort(everyone)
                hits = len(wanted) - np.searchsorted(wanted, wanted)
                places = len(ranked) - np.searchsorted(ranked, wanted)
                found[row] = (hits / places).mean()
    return found


def hubness(vectors: np.ndarray, k: int = 10, of: np.ndarray | None = None) -> float | None:
    """Skewness of how often a song is among another's ``k`` nearest (Radovanovic et al., 2010).

    0 if all are found about equally often; the greater, the more of the lists are filled by a few
    songs that are everybody's neighbour, and the more songs nobody is ever led to.

    Args:
        vectors: ``[n, dim]``.
        k: songs in a list.
        of: bool ``[n]``, the songs to look at, in the lists of all songs; None: all.

    Returns:
        None of fewer than two songs, or where each other song is in every list.
    """
    n = len(vectors)
    if n < k + 2:
        return None
    found = np.zeros(n)
    for _, similarity in _similarities(centred_unit(vectors)):
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        found += np.bincount(nearest.ravel(), minlength=n)
    if of is not None:
        found = found[of]
    if len(found) < 2:
        return None
    apart = found - found.mean()
    spread = np.sqrt((apart**2).mean())
    return float((apart**3).mean() / spread**3) if spread > 0 else 0.0


def label_knn(
    vectors: np.ndarray,
    labels: Sequence[str | None],
    artists: Sequence[str | None],
    k: int = 10,
    temperature: float = 0.07,
    asked: np.ndarray | None = None,
) -> float | None:
    """Share of songs whose label is told by the nearest labelled songs of other artists.

    The ``k`` nearest vote with weight ``exp(similarity / temperature)``. Songs by the asking
    song's own artist are left out: with them, finding the genre would be finding the artist. A
    song of an unknown artist is taken to be by an artist of its own. Asked are the labelled songs
    whose label occurs with another artist.

    Args:
        vectors: ``[n, dim]``; those without a label only help to find the centre.
        labels: ``n`` labels, such as genres.
        artists: ``n`` names.
        k: songs that vote.
        temperature: the smaller, the more the nearest of them count.
        asked: bool ``[n]``, which songs to ask; None: all.

    Returns:
        0 to 1, or None if nobody can be asked.
    """
    labelled = np.array([bool(label) for label in labels], bool)
    kinds, label = np.unique(_codes(labels)[labelled], return_inverse=True)
    artist = _codes(artists)[labelled]
    ask = np.ones(len(label), bool) if asked is None else asked[labelled]
    right = total = 0
    for rows, similarity in _similarities(centred_unit(vectors)[labelled]):
        similarity[artist[rows, None] == artist] = -np.inf
        possible = ((label[rows, None] == label) & (similarity > -np.inf)).any(1) & ask[rows]
        if not possible.any():
            continue
        similarity, truth = similarity[possible], label[rows][possible]
        nearest = np.argpartition(-similarity, min(k, len(label)) - 1, axis=1)[:, :k]
        found = np.take_along_axis(similarity, nearest, axis=1)
        # Only the ratio of weights counts: relative to the nearest one, none overflows.
        weights = np.exp((found - found.max(1, keepdims=True)) / temperature)
        votes = np.zeros((len(truth), len(kinds)))
        np.add.at(votes, (np.arange(len(truth))[:, None], label[nearest]), weights)
        right += int((votes.argmax(1) == truth).sum())
        total += len(truth)
    return right / total if total else None


def target_entropy(means: np.ndarray, temperature: float = 0.04) -> float:
    """Entropy of the published method's mean target, as a share of ``log(dim)``, 0 to 1.

    Healthy are targets that are even together: it is near 1. With a collapse into a few clusters it
    falls, down to ``log(clusters) / log(dim)``; where all songs are alike it is 1, too. Targets so
    sharp that each is one channel cannot reach more than ``log(n) / log(dim)``: judge it on many
    more songs than channels.

    Args:
        means: ``[n, dim]``, at least two channels: what the encoder gives a song, averaged over
            time, neither centred nor normalised.
        temperature: of the softmax that makes targets of them.
    """
    logits = (means.astype(np.float64) - means.mean(0, dtype=np.float64)) / temperature
    targets = np.exp(logits - logits.max(1, keepdims=True))
    targets /= targets.sum(1, keepdims=True)
    mean = targets.mean(0)
    return float(-(mean * np.log(np.maximum(mean, 1e-300))).sum() / np.log(len(mean)))


def alignment(segments: np.ndarray, owners: Sequence[str] | Sequence[int]) -> float | None:
    """Mean squared distance of different segments of the same song (Wang & Isola, 2020).

    0 if all of a song sounds alike, 2 if its segments are no closer than any two. Every song of
    two segments or more counts the same, however long.

    Args:
        segments: ``[m, dim]``.
        owners: ``m`` track ids or numbers.

    Returns:
        0 to 4, or None if no song has two segments.
    """
    unit = centred_unit(segments)
    _, song, counts = np.unique(np.asarray(owners), return_inverse=True, return_counts=True)
    squares = np.bincount(song, (unit**2).sum(1))
    sums = np.zeros((len(counts), unit.shape[1]))
    np.add.at(sums, song, unit)
    # The squared distances of all pairs add up to this: no pair need be looked at.
    several = counts > 1
    total = 2 * (counts * squares - (sums**2).sum(1))[several]
    pairs = (counts * (counts - 1))[several]
    return float((total / pairs).mean()) if several.any() else None


def uniformity(vectors: np.ndarray, t: float = 2.0) -> float | None:
    """How evenly vectors fill the sphere: ``log mean exp(-t d^2)`` over pairs (Wang & Isola).

    0 if all are in one point, as after a collapse; about ``-2 t`` if spread evenly over many
    dimensions.

    Args:
        vectors: ``[n, dim]``.
        t: how much near pairs count.

    Returns:
        At most 0, or None for fewer than two vectors.
    """
    n = len(vectors)
    if n < 2:
        return None
    unit = centred_unit(vectors)
    # Not taken to be 1: centring leaves nothing of vectors that are all the same.
    squares = (unit**2).sum(1)
    total = 0.0
    for rows, similarity in _similarities(unit):
        total += np.exp(-t * (squares[rows, None] + squares - 2 * similarity)).sum()
    return float(np.log(total / (n * (n - 1))))


def invariance(vectors: np.ndarray, changed: np.ndarray) -> float | None:
    """Mean cosine between each song and a changed version of it, such as a louder one.

    Both are centred by the unchanged songs' mean: a shift that all changed songs share counts
    against them, as it would in a search.

    Args:
        vectors: ``[n, dim]``.
        changed: ``[n, dim]``, in the same order.

    Returns:
        1 if the change makes no difference, 0 if it leaves nothing of the song; None of no songs.
    """
    if not len(vectors):
        return None
    centre = vectors.mean(0, dtype=np.float64)
    return float((_unit(vectors - centre) * _unit(changed - centre)).sum(1).mean())


def explained_share(vectors: np.ndarray, factors: np.ndarray) -> float | None:
    """Share of the vectors' variance that a linear regression on ``factors`` explains.

    High when vectors say little more than, for instance, how loud and how bright a song is.
    Adjusted for the number of factors (adjusted R²), so that factors of pure noise give about 0,
    and by chance a little less.

    Args:
        vectors: ``[n, dim]``.
        factors: ``[n, f]``, in any unit.

    Returns:
        At most 1, or None if there are not two songs more than independent factors, or the
        vectors are all the same.
    """
    unit = centred_unit(vectors)
    design = np.column_stack([np.ones(len(factors)), factors.astype(np.float64)])
    design /= np.maximum(np.linalg.norm(design, axis=0), 1e-12)
    weights, _, rank, _ = np.linalg.lstsq(design, unit, rcond=1e-9)
    free = len(unit) - int(rank)
    if free < 1:
        return None
    total = ((unit - unit.mean(0)) ** 2).sum()
    if total < 1e-6:
        return None
    left = ((unit - design @ weights) ** 2).sum()
    return float(1 - (left / free) / (total / (len(unit) - 1)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _codes(names: Sequence[str | None]) -> np.ndarray:
    """A number for each name; the same number for the same name, and never for an unknown one."""
    known: dict[str, int] = {}
    codes = [known.setdefault(name, i) if name else i for i, name in enumerate(names)]
    return np.array(codes, np.int64)


def _answers(
    vectors: np.ndarray, artists: Sequence[str | None], albums: Sequence[str | None] | None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """As ``_similarities``, with what is right: bool ``[rows, n]``, by the asking song's artist.

    What is left out is as similar as the song itself: minus infinity.
    """
    artist, album = _codes(artists), _codes(albums or [])
    known = np.array([bool(title) for title in albums or []], bool)
    for rows, similarity in _similarities(centred_unit(vectors)):
        right = artist[rows, None] == artist
        if albums is not None:
            elsewhere = known[rows, None] & known & (album[rows, None] != album)
            similarity[right & ~elsewhere] = -np.inf
        yield rows, similarity, right & (similarity > -np.inf)


def _similarities(unit: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Similarities of a block of songs to all songs, ``[rows, n]``, and which songs they are.

    A song's similarity to itself is minus infinity. The block may be written to.
    """
    step = max(1, BLOCK // max(1, len(unit)))
    for start in range(0, len(unit), step):
        rows = slice(start, min(start + step, len(unit)))
        block = unit[rows] @ unit.T
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -np.inf
        yield rows, block
