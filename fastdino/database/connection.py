"""Reading the published database.

Belongs here: opening it, reading and counting rows, and what a person is told if that fails. Does
not: the questions.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from fastdino.core.errors import MENDED_BY, UserError, disk_trouble


def connect(database: Path) -> duckdb.DuckDBPyConnection:
    """Open the published database; what it holds stays as it is until it is closed.

    Raises:
        UserError: nothing is published yet, the file is damaged, or another program has it open to
            write.
    """
    if not database.exists():
        raise UserError(
            f"there is no {database} yet: run `make run`, or `fastdino run FOLDER` with that of "
            "your music"
        )
    try:
        return duckdb.connect(str(database), read_only=True)
    except duckdb.Error as error:
        raise UserError(
            f"cannot open {database}: close programs that have it open for writing, or run "
            f"`fastdino report` to make it anew ({error})"
        ) from error


def rows(
    db: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """All rows of the answer; ``values`` are those of the query's ``$names``.

    Raises:
        UserError: what a macro says of what it is given, or a number is too large; there is too
            little memory; the disk refuses; or the database is damaged, or of another version.
    """
    with told_errors():
        return db.execute(query, values).fetchall()


def frame(db: duckdb.DuckDBPyConnection, query: str, **tables: pl.DataFrame) -> pl.DataFrame:
    """The answer by column, for many rows; ``tables`` are there by their names as well.

    Raises:
        UserError: as ``rows``.
    """
    with told_errors():
        for name, table in tables.items():
            db.register(name, table)
        return db.sql(query).pl()


def count_rows(db: duckdb.DuckDBPyConnection, table: str) -> int:
    """Rows of a table, a view or a query in brackets; raises what DuckDB does."""
    ((count,),) = db.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(count)


@contextlib.contextmanager
def told_errors() -> Iterator[None]:
    """Tell what DuckDB raises in the ``with`` block as a ``UserError``, by what is to blame.

    Raises:
        UserError: as ``rows``.
    """
    try:
        yield
    except duckdb.Error as error:
        raise UserError(_told(error)) from error


def _told(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.InvalidInputException):
        return str(error).removeprefix("Invalid Input Error: ")
    if isinstance(error, duckdb.DataError):
        said = str(error).splitlines()[0]
        return f"the database cannot reckon with that ({said}): give a smaller number"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "there is too little memory for that: close other programs, or ask for less at once"
    if trouble := disk_trouble(error, Path()):
        return f"the database: {trouble.strerror}; {MENDED_BY[trouble.errno or 0]}"
    return (
        f"the database is damaged or of another version ({error}): run `fastdino verify --repair`, "
        "then `fastdino run`"
    )
