"""How the vectors of moments, of which there are some dozen a song, are kept in the database.

Belongs here: what becomes of each vector, from itself alone, so that it is the same whichever songs
it is published with. Does not: the full vectors, which stay in Parquet (``embeddings.vectors``).
"""

import numpy as np
import pyarrow as pa

# One part in so many of a number; more coarsely, moments that are alike change places.
STEPS = 1000


def rounded(table: pa.Table) -> pa.Table:
    """``table`` with its ``vec`` in thousandths, which DuckDB keeps in a quarter of the room.

    Its compression of floats finds whole numbers that were multiplied by a power of ten, and the
    product has to be this one, bit by bit.
    """
    column = table.schema.get_field_index("vec")
    kind = table.schema.field(column).type
    numbers = table["vec"].combine_chunks().flatten().to_numpy()
    numbers = np.round(numbers * np.float32(STEPS)) * np.float32(1 / STEPS)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), kind.list_size)
    return table.set_column(column, table.schema.field(column), vectors)
