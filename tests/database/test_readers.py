"""Who reads the database while it is published again and again sees one publishing or another."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import synthetic

from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish, publishing
from fastdino.database.publishing import published_fingerprint

# Opens, asks in single queries, closes, over and over; writes a line of JSON an opening.
READER = """
import duckdb, json, os, pathlib, sys, time
database, end, pause_s = sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3])
os.nice(5)  # a hundred of them leave no core to who publishes
asked = [
    "SELECT fingerprint FROM published", "SELECT DISTINCT album FROM songs",
    "SELECT count(*) FROM tracks", "SELECT count(*) FROM current_embeddings",
    "SELECT count(*) FROM map_points", "SELECT n_tracks FROM maps",
    "SELECT count(*) FROM cluster_members SEMI JOIN tracks USING (track_id)",
    "SELECT songs FROM map_history ORDER BY created_at DESC LIMIT 1",
    "SELECT 1 + count(*) FROM similar_to('Paper Bridge', k := 1000)",
    "SELECT count(*) / 2 FROM segments", "SELECT fingerprint FROM published",
]
last = False
while not last:
    last = end.exists()
    with duckdb.connect(database, read_only=True, config={"threads": 1}) as db:
        print(json.dumps([db.execute(query).fetchall() for query in asked]), flush=True)
    time.sleep(pause_s)
"""


@pytest.mark.parametrize(
    ("readers", "publishings"), [(2, 3), pytest.param(100, 20, marks=pytest.mark.thorough)]
)
def test_readers_of_other_processes_see_no_error_and_nothing_mixed(
    home: Home, tmp_path: Path, readers: int, publishings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In so few songs much changes each time; the file of before is to be written in all the same.
    monkeypatch.setattr(publishing, "WORN", 1e9)
    expected = {}

    def publish_again(number: int) -> None:
        n = 28 + number % 3  # so few come and go that the map is not laid out anew
        songs = [{**synthetic.song(i), "album": f"Publishing {number}"} for i in range(n)]
        synthetic.write_catalog(home, songs)
        reports.draw_map(home)
        assert publish(home).did_work
        fingerprint = [[published_fingerprint(home.database)]]
        counts = [[[n]]] * 7
        expected[number] = [fingerprint, [[f"Publishing {number}"]], *counts, [[n]], fingerprint]

    synthetic.write_home(home, 30)
    publish_again(0)
    end = tmp_path / "end"
    # A file: what python is given by -c DuckDB takes for typed, and draws its progress among it.
    script = tmp_path / "reader.py"
    script.write_text(READER)
    outputs = [tmp_path / f"{i}.jsonl" for i in range(readers)]
    processes = []
    for output in outputs:
        with output.open("w") as file:
            command = [
                sys.executable,
                str(script),
                str(home.database),
                str(end),
                str(readers / 40),
            ]
            processes.append(subprocess.Popen(command, stdout=file))
    try:
        while not all(output.stat().st_size for output in outputs):
            assert not any(process.poll() for process in processes)
            time.sleep(0.05)
        for number in range(1, publishings + 1):
            publish_again(number)
    finally:
        end.touch()
        codes = [process.wait(timeout=300) for process in processes]
    assert codes == [0] * readers
    seen = [json.loads(line) for output in outputs for line in output.read_text().splitlines()]
    assert [state for state in seen if state not in expected.values()] == []
    numbers = {next(n for n in expected if expected[n] == state) for state in seen}
    print(f"{len(seen)} openings of {readers} readers saw {len(numbers)} publishings")
    assert len(numbers) >= 2
    assert publishings in numbers
