"""What the database says of itself: its tables and views, with their comments.

Belongs here: reading that, for whoever shows it. Does not: the comments, which the schema has
(``schema.sql``).
"""

import duckdb

from fastdino.core.summary import Column, Relation
from fastdino.database.connection import count_rows

# What most people ask.
FIRST = "songs"


def relations(db: duckdb.DuckDBPyConnection, name: str) -> list[Relation]:
    """Every table and view of ``db``, which goes by ``name`` where it is open; songs first."""
    columns: dict[str, list[Column]] = {}
    for relation, column, kind, comment in db.execute(
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY table_name, column_index"
    ).fetchall():
        columns.setdefault(relation, []).append(Column(column, kind, comment or ""))
    found = db.execute(
        "SELECT view_name AS name, comment FROM duckdb_views() WHERE NOT internal "
        "UNION ALL SELECT table_name, comment FROM duckdb_tables() WHERE NOT internal "
        "ORDER BY name <> $first, name",
        {"first": FIRST},
    ).fetchall()
    return [
        Relation(
            f"{name}.main.{relation}", comment or "", count_rows(db, relation), columns[relation]
        )
        for relation, comment in found
    ]
