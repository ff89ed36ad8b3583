"""How the vectors of moments, of which there are some dozen a song, are kept in the database.

Belongs here: what becomes of each vector, from itself alone, so that it is the same whichever songs
it is published with. Does not: the full vectors, which stay in Parquet (``embeddings.vectors``);
searching by a sketch, which is the macro ``similar_segments``.

A sketch says for some hundred planes on which side of each a vector lies. The more alike two
vectors are, the fewer bits differ (Charikar, 2002), and the less so by chance the nearer to right
angles the planes stand to each other (Ji et al., 2012). Those here are the rows of a Hadamard
matrix, some of whose columns are left out: sides are found by adding whole numbers, which gives the
same on every computer.
"""

import numpy as np
import pyarrow as pa

from fastdino.embeddings import vectors

# One part in so many of a number; more coarsely, moments that are alike change places.
STEPS = 1000
# Of 64 bits, in a sketch: with half as many, four times as many moments have to be looked at.
WORDS = 8
BITS = 64 * WORDS


def schema(dim: int) -> pa.Schema:
    """Columns of moments as the database keeps them."""
    words = pa.struct([(f"w{number}", pa.int64()) for number in range(1, WORDS + 1)])
    return vectors.schema(dim).append(pa.field("sketch", words, nullable=False))


def kept(table: pa.Table) -> pa.Table:
    """What is kept of moments, given as ``read_vectors`` gives them.

    Their ``vec`` is in thousandths, and of each there is a sketch. DuckDB's compression of floats
    finds whole numbers that were multiplied by a power of ten, and keeps them in a quarter of the
    room. The product has to be this one, bit by bit.
    """
    dim = table.schema.field("vec").type.list_size
    numbers = table["vec"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
    steps = np.round(numbers * np.float32(STEPS))
    rounded = (steps * np.float32(1 / STEPS)).ravel()
    columns = {
        **{name: table[name] for name in table.schema.names},
        "vec": pa.FixedSizeListArray.from_arrays(pa.array(rounded), dim),
        "sketch": pa.StructArray.from_arrays(
            list(_sketches(steps)), fields=list(schema(dim).field("sketch").type)
        ),
    }
    return pa.table(columns).cast(schema(dim))


def _sketches(steps: np.ndarray) -> np.ndarray:
    """int64 [WORDS, n] of whole numbers [n, dim]: a bit for the sign of each of BITS sums."""
    n, dim = steps.shape
    size = max(BITS, 1 << (dim - 1).bit_length())
    # Which columns are not left out; this generator is one that NumPy promises never to change.
    chosen = np.random.RandomState(0).permutation(size)[:dim]
    sketches = np.empty((n, WORDS), np.int64)
    # So few at a time that all stays in the processor's cache.
    for first in range(0, n, 256):
        some = steps[first : first + 256]
        # A vector of unit length has no sum beyond STEPS times the root of its numbers.
        sums = np.zeros((size, len(some)), np.int16 if dim <= 1024 else np.int32)
        sums[chosen] = some.T
        half = 1
        while half < size:
            one, other = sums.reshape(size // half // 2, 2, half, len(some)).swapaxes(0, 1)
            one[:], other[:] = one + other, one - other
            half *= 2
        bits = np.packbits(sums[:BITS] > 0, axis=0)
        sketches[first : first + 256] = np.ascontiguousarray(bits.T).view(np.int64)
    return np.ascontiguousarray(sketches.T)
