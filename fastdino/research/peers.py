"""Vectors that others made of the songs, read from a file, to be judged beside the arms.

Belongs here: the files that ``fastdino compare --vectors NAME=FILE`` takes, and everything that can
be wrong with one. Does not: judging them (``compare``).
"""

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastdino.core.errors import UserError
from fastdino.core.paths import to_path, to_text

FORMATS = (
    "a Parquet file has the columns 'path' or 'track_id' and 'vector' (lists of numbers), an npz "
    "file the arrays 'paths' or 'track_ids' and 'vectors' (songs x numbers)"
)

# What reading a damaged file may raise; a ZIP file that asks for a password is a RuntimeError.
DAMAGE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
    pa.ArrowException,
)  # fmt: skip


def read(file: Path, tracks: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> np.ndarray:
    """The vectors of some songs from a file.

    Songs are named by their track ids, or by paths, absolute or relative to the file's folder; a
    path of several songs stands for each of them, and of several rows of a song the first counts.
    Rows without a vector and rows of other songs are passed over.

    Args:
        file: Parquet with the columns ``path`` or ``track_id``, and ``vector`` or ``vec``; or npz
            with the arrays ``paths`` or ``track_ids``, and ``vectors``.
        tracks: track ids by path, as ``labels.tracks_of_files`` has them.
        wanted: track ids, each of which the file must have.

    Returns:
        float32 ``[len(wanted), dim]``.

    Raises:
        UserError: it cannot be read, is of another form, has vectors of several lengths or with
            numbers that are none, or lacks some of the songs.
    """
    names, rows, by_path = _content(file)
    given: dict[str, Any] = {}
    for name, row in zip(names, rows, strict=True):
        ids: Sequence[str] = (name,) if name else ()
        if name and by_path:
            ids = tracks.get(to_text(os.path.abspath(file.parent / to_path(name))), ())
        for track_id in ids:
            if row is not None:
                given.setdefault(track_id, row)
    missing = [track_id for track_id in wanted if track_id not in given]
    paths = {track_id: path for path, ids in tracks.items() for track_id in ids}
    if len(missing) == len(wanted):
        raise UserError(
            f"{file}: none of its {len(names)} rows is of a song compared on: name songs by path, "
            f"absolute or relative to {file.parent.absolute()}, or by track_id, as in the catalogue"
        )
    if missing:
        first = paths.get(missing[0], missing[0])
        raise UserError(
            f"{file}: has no vector of {len(missing)} of the {len(wanted)} songs compared on "
            f"({first}): all are judged on the same songs, so add these, too"
        )
    lengths = sorted({np.size(given[track_id]) for track_id in wanted})
    if len(lengths) > 1 or lengths[0] == 0:
        raise UserError(
            f"{file}: its vectors have {lengths[0]} to {lengths[-1]} numbers: give every song as "
            "many as any other, at least one"
        )
    with np.errstate(over="ignore"):
        vectors = np.array([given[track_id] for track_id in wanted], np.float64).astype(np.float32)
    if not (finite := np.isfinite(vectors).all(1)).all():
        first = wanted[int(finite.argmin())]
        raise UserError(
            f"{file}: {int((~finite).sum())} vectors hold numbers that are not finite "
            f"({paths.get(first, first)}): give each of them a number"
        )
    return vectors


def _content(file: Path) -> tuple[list[str | None], Iterable[Any], bool]:
    """Names and vectors, row by row, and whether the names are paths."""
    try:
        if file.suffix.lower() == ".npz":
            return _npz(file)
        return _parquet(file)
    except DAMAGE as error:
        # Arrow says of damage, too, that it is the system's.
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{file} cannot be read ({error.strerror}): check the name") from error
        raise UserError(f"{file} is no Parquet or npz file, or damaged: {FORMATS}") from error


def _parquet(file: Path) -> tuple[list[str | None], Iterable[Any], bool]:
    with file.open("rb") as opened:
        source = pq.ParquetFile(opened)
        there = source.schema_arrow.names
        key = _one_of(file, ("track_id", "path"), there)
        value = _one_of(file, ("vector", "vec"), there)
        table = source.read(columns=[key, value])
    kind = table[value].type
    lists = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    if not lists or not _is_number(kind.value_type):
        raise UserError(f"{file}: the column {value!r} holds no lists of numbers: {FORMATS}")
    names = table[key].cast(pa.string()).to_pylist()
    # A number that is missing in a list is none that is finite.
    rows = [
        None if row is None else [np.nan if each is None else each for each in row]
        for row in table[value].to_pylist()
    ]
    return names, rows, key == "path"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _npz(file: Path) -> tuple[list[str | None], Iterable[Any], bool]:
    with zipfile.ZipFile(file) as archive:
        there = [name.removesuffix(".npy") for name in archive.namelist()]
        key = _one_of(file, ("track_ids", "paths"), there)
        names = _array(archive, key)
        vectors = _array(archive, _one_of(file, ("vectors",), there))
    if (
        names.dtype.kind != "U"
        or vectors.dtype.kind not in "fiu"
        or (names.ndim, vectors.ndim) != (1, 2)
        or len(names) != len(vectors)
    ):
        raise UserError(
            f"{file}: {key!r} {names.dtype}{list(names.shape)} and 'vectors' "
            f"{vectors.dtype}{list(vectors.shape)} do not go together: {FORMATS}"
        )
    return names.tolist(), vectors, key == "paths"


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of an npz file, read as numbers or text: NumPy's own reader knows pickles, too."""
    with archive.open(f"{name}.npy") as member:
        old = np.lib.format.read_magic(member) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = header(member)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        return np.frombuffer(member.read(), dtype).reshape(shape, order="F" if by_column else "C")


def _one_of(file: Path, names: Sequence[str], there: Sequence[str]) -> str:
    found = next((name for name in names if name in there), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        raise UserError(f"{file}: has no {wanted}, but {', '.join(there) or 'nothing'}: {FORMATS}")
    return found
