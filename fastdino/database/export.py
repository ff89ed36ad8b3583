"""The collection as one file for data tools: Parquet, NumPy's npz, safetensors, Embedding Atlas.

Belongs here: which columns and arrays each has, and writing them piece by piece, whatever the size
of the collection. Does not: what is in them, which is the database's.

Arrays of npz and safetensors have a row for every song that has a vector, in the order of the
``track_id``; neighbours are told as numbers of rows.
"""

import json
import shlex
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastdino import __version__
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace
from fastdino.core.text import one_line
from fastdino.database.connection import connect, rows, told_errors

# Rows that are in memory at a time, but for what DuckDB sorts.
ROWS = 8192
# For what DuckDB keeps in memory; beyond it, it writes to a temporary file.
MEMORY = "1GB"
# What a file says of where it comes from, so that no other is replaced.
MARK = "fastdino"
# Every row of an array of texts takes as much room as its longest.
LONGEST_TEXT = 500
# Of safetensors.
DTYPES = {"f4": "F32", "i4": "I32"}

SONGS = """
    SELECT songs.*, e.vec, n.neighbors, n.neighbor_similarities
    FROM songs LEFT JOIN current_embeddings AS e USING (track_id)
    LEFT JOIN (
        SELECT track_id, list(neighbor_id ORDER BY rank) AS neighbors,
               list(similarity ORDER BY rank) AS neighbor_similarities
        FROM current_neighbors GROUP BY track_id
    ) AS n USING (track_id)
    ORDER BY track_id
"""
ATLAS = """
    WITH shown AS (
        SELECT *, row_number() OVER (ORDER BY track_id) - 1 AS number FROM songs WHERE x IS NOT NULL
    ), near AS (
        SELECT n.track_id, list(shown.number ORDER BY rank) AS ids,
               list(1 - similarity ORDER BY rank) AS distances
        FROM current_neighbors AS n JOIN shown ON shown.track_id = n.neighbor_id
        GROUP BY n.track_id
    )
    SELECT
        concat_ws(' – ', title, artist) AS text, title, artist, album, genre,
        year, duration_s, coalesce(cluster, '(none)') AS cluster,
        added_at, x, y, struct_pack(ids := coalesce(ids, []), distances := coalesce(distances, []))
        AS neighbors, shown.track_id
    FROM shown LEFT JOIN near USING (track_id) ORDER BY number
"""
# What an array's expression may name.
HEARD = """
    WITH heard AS (
        SELECT track_id, vec, row_number() OVER (ORDER BY track_id) - 1 AS number
        FROM current_embeddings
    ), near AS (
        SELECT n.track_id, list(heard.number ORDER BY rank) AS numbers,
               list(similarity ORDER BY rank) AS similarities
        FROM current_neighbors AS n JOIN heard ON heard.track_id = n.neighbor_id
        GROUP BY n.track_id
    )
    SELECT {what} FROM heard JOIN songs USING (track_id) LEFT JOIN near USING (track_id)
"""


@dataclass(frozen=True)
class Array:
    """An array with a row for every song that has a vector.

    Attributes:
        name: what it is called.
        dtype: NumPy's name of what is in it.
        width: numbers in a row; None for one that is no list.
        what: the SQL expression of a row, never null.
    """

    name: str
    dtype: str
    width: int | None
    what: str


def main(home: Home, kind: str, target: Path | None) -> int:
    """Write the collection as a file and print where it is.

    Args:
        home: where results lie.
        kind: one of ``FORMATS``.
        target: the file; by default one of the usual name in the current folder.

    Returns:
        The exit code.

    Raises:
        UserError: there is nothing to write, or the file cannot be written or is no such file.
    """
    usual, write = FORMATS[kind]
    target = target or Path(usual)
    _check(kind, target)
    with connect(home.database) as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET memory_limit = $memory", {"memory": MEMORY})
        db.execute("SET temp_directory = $folder", {"folder": str(home.scratch / "duckdb")})
        try:
            with told_errors(), atomic_replace(target) as part:
                songs = write(db, part)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from error
        except pa.ArrowException as error:
            raise UserError(
                f"the database is damaged or of another version ({error}): run `fastdino verify "
                "--repair`, then `fastdino run`"
            ) from error
    print(one_line(f"{songs:,} songs, {target.stat().st_size / 1e6:,.1f} MB: {target}"))
    if kind == "atlas":
        print(f"To open it:\n  pip install embedding-atlas\n  {atlas_command(target)}")
    return 0


def atlas_command(target: Path) -> str:
    """What opens a file of the kind ``atlas``, fit to be copied into a shell."""
    columns = "--text text --x x --y y --neighbors neighbors"
    return f"embedding-atlas {shlex.quote(str(target))} {columns}"


def _check(kind: str, target: Path) -> None:
    """See that no file is replaced that was not made here."""
    try:
        if target.is_dir():
            raise UserError(f"{target} is a folder: name a file in it with -o")
        if target.exists() and not _is_export(kind, target):
            raise UserError(
                f"{target} is there and was not made by `fastdino export {kind}`: choose another "
                "name with -o"
            )
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error


def _is_export(kind: str, target: Path) -> bool:
    try:
        if kind == "npz":
            with zipfile.ZipFile(target) as archive:
                return archive.comment.startswith(MARK.encode())
        if kind == "safetensors":
            with open(target, "rb") as file:
                size = int.from_bytes(file.read(8), "little")
                return MARK in json.loads(file.read(min(size, 1_000_000))).get("__metadata__", {})
        described = pq.read_schema(target).metadata or {}
        return bool(described.get(MARK.encode(), b"").startswith(kind.encode()))
    except (zipfile.BadZipFile, ValueError, AttributeError, TypeError):
        return False


def _parquet(db: duckdb.DuckDBPyConnection, part: Path) -> int:
    return _write_parquet(db, SONGS, "parquet", part)


def _atlas(db: duckdb.DuckDBPyConnection, part: Path) -> int:
    if not rows(db, "SELECT 1 FROM songs WHERE x IS NOT NULL LIMIT 1"):
        raise UserError("there is no map to show yet: run `fastdino report`")
    return _write_parquet(db, ATLAS, "atlas", part)


def _write_parquet(db: duckdb.DuckDBPyConnection, query: str, kind: str, part: Path) -> int:
    reader = db.sql(query).to_arrow_reader(ROWS)
    schema = reader.schema.with_metadata({MARK: f"{kind} {__version__}"})
    songs = 0
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata), ROWS)
            songs += len(batch)
    return songs


def _npz(db: duckdb.DuckDBPyConnection, part: Path) -> int:
    """Write what ``numpy.load`` opens without allowing pickles."""
    songs = _heard(db)
    with zipfile.ZipFile(part, "w") as archive:
        archive.comment = f"{MARK} {__version__}".encode()
        for array in (*_texts(db), *_numbers(db)):
            described = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(array.dtype)),
                "fortran_order": False,
                "shape": _shape(array, songs),
            }
            # Not the time of writing: the same songs give the same bytes.
            entry = zipfile.ZipInfo(f"{array.name}.npy")
            # Numbers of vectors look random, and take as much room packed as not.
            is_text = np.dtype(array.dtype).kind == "U"
            entry.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, described)
                for piece in _pieces(db, array):
                    file.write(piece.tobytes())
    return songs


def _safetensors(db: duckdb.DuckDBPyConnection, part: Path) -> int:
    """Write the format by hand: its library wants all tensors in memory at once."""
    songs, arrays = _heard(db), _numbers(db)
    lines = HEARD.format(what=f"to_json(struct_pack({TAGS})) || chr(10) AS line, track_id")
    ((text_bytes,),) = rows(db, f"SELECT sum(strlen(line)) FROM ({lines})")
    header: dict[str, Any] = {"__metadata__": {MARK: __version__, "songs": "JSON, a line a song"}}
    end = 0
    for array in arrays:
        shape = _shape(array, songs)
        begin, end = end, end + int(np.prod(shape)) * np.dtype(array.dtype).itemsize
        dtype = DTYPES[array.dtype]
        header[array.name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    offsets = [end, end + int(text_bytes)]
    header["songs"] = {"dtype": "U8", "shape": [int(text_bytes)], "data_offsets": offsets}
    described = json.dumps(header).encode()
    # So that what follows lies where processors like it.
    described += b" " * (-len(described) % 8)
    with open(part, "wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for array in arrays:
            for piece in _pieces(db, array):
                file.write(piece.tobytes())
        for batch in db.sql(f"{lines} ORDER BY track_id").to_arrow_reader(ROWS):
            file.writelines(line.encode() for line in batch["line"].to_pylist())
    return songs


TAGS = ", ".join(
    f"{name} := {name}"
    for name in (
        "track_id", "title", "artist", "artists", "album", "album_artist", "genre", "genres",
        "year", "original_year", "track_number", "recording_mbid", "isrc", "duration_s", "path",
        "start_s", "end_s", "cluster", "added_at",
    )
)  # fmt: skip


def _heard(db: duckdb.DuckDBPyConnection) -> int:
    """How many songs have a vector."""
    ((songs,),) = rows(db, "SELECT count(*) FROM current_embeddings")
    if not songs:
        raise UserError("no song has a vector yet: run `fastdino embed`")
    return int(songs)


def _numbers(db: duckdb.DuckDBPyConnection) -> list[Array]:
    """What is known of songs in numbers."""
    ((dim, near),) = rows(
        db,
        "SELECT max(len(vec)), (SELECT max(rank) FROM current_neighbors) FROM current_embeddings",
    )
    near = near or 0
    nan = "'nan'::FLOAT"
    return [
        Array("vec", "f4", dim, "vec"),
        Array("xy", "f4", 2, f"[coalesce(x, {nan}), coalesce(y, {nan})]::FLOAT[2]"),
        Array("cluster_id", "i4", None, "coalesce(cluster_id, -1)"),
        Array(
            "neighbors", "i4", near, f"list_resize(coalesce(numbers, []), {near}, -1)::INTEGER[]"
        ),
        Array(
            "similarities",
            "f4",
            near,
            f"list_resize(coalesce(similarities, []), {near}, {nan})::FLOAT[]",
        ),
    ]


def _texts(db: duckdb.DuckDBPyConnection) -> list[Array]:
    """Tags, and numbers that only npz has an array for."""
    names = ("track_id", "title", "artist", "album", "genre", "cluster")
    texts = {name: f"left(coalesce({name}, ''), {LONGEST_TEXT})" for name in names}
    texts["path"] = "path"
    lengths = ", ".join(f"greatest(max(length({text})), 1)" for text in texts.values())
    (widths,) = rows(db, HEARD.format(what=lengths))
    return [
        *(
            Array(name, f"U{width}", None, text)
            for (name, text), width in zip(texts.items(), widths, strict=True)
        ),
        Array("year", "i4", None, "coalesce(year, 0)"),
        Array("duration_s", "f4", None, "coalesce(duration_s, 'nan'::FLOAT)::FLOAT"),
        Array("added_at", "M8[s]", None, "coalesce(epoch(added_at), 0)::BIGINT"),
    ]


def _shape(array: Array, songs: int) -> tuple[int, ...]:
    return (songs,) if array.width is None else (songs, array.width)


def _pieces(db: duckdb.DuckDBPyConnection, array: Array) -> Iterator[np.ndarray]:
    """An array's rows, in the order of the ``track_id``, some thousands at a time."""
    query = HEARD.format(what=f"{array.what} AS what, track_id") + "ORDER BY track_id"
    for batch in db.sql(query).to_arrow_reader(ROWS):
        column = batch["what"]
        if array.width is not None:
            yield column.flatten().to_numpy().astype(array.dtype).reshape(len(batch), array.width)
        else:
            yield np.array(column.to_pylist(), array.dtype)


# What each kind's file is usually called, and what writes it and tells how many songs are in it.
FORMATS: dict[str, tuple[str, Callable[[duckdb.DuckDBPyConnection, Path], int]]] = {
    "parquet": ("songs.parquet", _parquet),
    "npz": ("songs.npz", _npz),
    "safetensors": ("songs.safetensors", _safetensors),
    "atlas": ("atlas.parquet", _atlas),
}
