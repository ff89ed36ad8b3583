"""A table is checked as thoroughly as it is read."""

import polars as pl
import pytest

from fastdino.core import tables

SCHEMA = pl.Schema({"track_id": pl.String(), "similarity": pl.Float32()})


@pytest.mark.parametrize("look", [tables.read, tables.check])
def test_damage_anywhere_in_a_tables_pages_is_found(tmp_path, look) -> None:
    path = tmp_path / "table.parquet"
    ids = [f"{i % 50:032x}" for i in range(3_000)]
    tables.write(path, pl.DataFrame({"track_id": ids, "similarity": range(3_000)}, SCHEMA))
    look(path, SCHEMA)
    sound = path.read_bytes()
    for place in range(100, len(sound) - 1_500, len(sound) // 12):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            look(path, SCHEMA)
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        look(path, SCHEMA)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        look(path, SCHEMA)
