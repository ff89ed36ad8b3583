"""What a published database answers."""

import duckdb

from fastdino.core.home import Home


def rows(home: Home, query: str, *values: object) -> list[tuple]:
    with duckdb.connect(str(home.database), read_only=True) as db:
        return db.execute(query, values).fetchall()
