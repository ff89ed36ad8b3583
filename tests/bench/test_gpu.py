"""What a GPU does is measured where there is little but torch, and in time whatever happens."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import strange_process
from song_shards import songs, write_songs
from test_architecture import NOT_THERE

from fastdino.__main__ import main
from fastdino.bench import gpu, gpu_parts, gpu_tables
from fastdino.bench.gpu_tables import PARTS
from fastdino.core.home import Home
from fastdino.core.storage import read_json
from fastdino.steps import Ingest, Spectrograms
from fastdino.training.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")


def names(home: Home, part: str, *, measured: bool = True) -> list[str]:
    figures = read_json(home.bench / "gpu.json")["figures"]
    return [f["name"] for f in figures if f["part"] == part and bool(f["values"]) == measured]


@pytest.mark.thorough
def test_it_runs_where_there_is_little_but_torch_as_the_documentation_says(
    tmp_path: Path,
) -> None:
    here, there, hidden = (tmp_path / name for name in ("here", "there", "hidden"))
    shutil.copytree(ROOT / "fastdino", here / "fastdino")
    write_songs(Home(here / "var"), songs())
    for folder in (here / "var/catalog", here / "var/models", there, hidden):
        folder.mkdir()
    for name in (*NOT_THERE, "torchaudio"):
        (hidden / f"{name}.py").write_text("raise ImportError('not on this machine')")
    packing, running = re.findall(r"```sh\n(.*?)```", DOCUMENTATION, re.DOTALL)
    subprocess.run(["bash", "-ec", packing], cwd=here, check=True)
    for archive in here.glob("*.tar.gz"):
        archive.rename(there / archive.name)
    lines = running.splitlines()
    assert "venv" in lines[0]
    assert "pip install" in lines[1]
    unpacking = "\n".join(lines[2:])
    # Too short a time for a compiler.
    unpacking = unpacking.replace(".venv/bin/python", sys.executable) + " --minutes 1.7"
    done = subprocess.run(
        ["bash", "-ec", unpacking],
        cwd=there,
        env=os.environ
        | {"PYTHONPATH": str(hidden), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    home = Home(there / "var")
    assert done.returncode == 0, done.stderr
    log = (home.bench / "gpu.log").read_text()
    assert "Traceback" not in log, log
    assert names(home, "presets") == ["tiny, 8 songs, eager"]
    assert names(home, "presets", measured=False) == ["tiny, 8 songs, compiled"]
    assert names(home, "real shards")[0].endswith("all in memory, eager")
    assert names(home, "objectives") == [f"{name}, 8 songs, eager" for name in OBJECTIVES]
    assert len(names(home, "batch sizes")) == 2
    assert names(home, "kernels") == ["tiny, eager"]
    assert "quality: time to quality (no artists are known: " in done.stdout
    assert "gpu, H100 SXM" in done.stdout
    table, _, written = done.stdout.partition("not measured: ")
    assert all(len(line) <= 80 for line in table.splitlines())
    assert str(home.bench / "gpu.md") in written
    markdown = (home.bench / "gpu.md").read_text()
    assert "| tiny, 8 songs, eager | " in markdown
    assert "- device: CPU" in markdown


def test_it_is_measured_on_its_own(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu", "training", "--home", str(home.root)]) == 2
    assert "on its own" in capsys.readouterr().err


def test_what_a_step_is_on_paper_stands_in_the_documentation() -> None:
    for row in gpu_tables.paper().rows:
        assert f"| {' | '.join(row)} |" in DOCUMENTATION


def test_every_part_has_its_time() -> None:
    assert list(gpu_parts.MEASURES) == list(PARTS)
    told = re.findall(r"^\| ([a-zA-Z ]+) \| [^-]", DOCUMENTATION, re.MULTILINE)
    assert told == ["Part", *PARTS]


@pytest.mark.thorough
def test_a_part_that_hangs_or_is_lost_is_a_line_and_the_next_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "_serve", strange_process.serve)
    monkeypatch.setattr(gpu, "PARTS", {"peaks": 60, "hangs": 0, "lost": 60, "last": 60})
    monkeypatch.setattr(gpu, "GRACE_S", 2)
    assert gpu.main(home, 10) == 0
    lost = ["this far", "what is left of it"]
    found = [names(home, part, measured=False) for part in gpu.PARTS]
    assert found == [["this far"], lost, lost, ["this far"]]
    printed = capsys.readouterr().out
    assert "device: a strange one" in printed
    assert "lost: what is left of it (its process ended, see gpu.log)" in printed
    assert "hangs: what is left of it (its time was up)" in printed
    child = int((home.root / "child").read_text())
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_without_time_nothing_is_measured_and_that_is_said(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "gpu", "--home", str(home.root), "--minutes", "0.1"]) == 0
    printed = capsys.readouterr().out
    for part in PARTS:
        assert f"{part} (no time)" in printed
    assert "A step on paper" in (home.bench / "gpu.md").read_text()


@pytest.mark.thorough
def test_everything_is_measured_on_a_home_with_artists(home: Home, library: Path) -> None:
    Ingest(music=(str(library),)).run(home)
    Spectrograms().run(home)
    assert gpu.main(home, 10) == 0
    assert names(home, "presets") == ["tiny, 8 songs, eager", "tiny, 8 songs, compiled"]
    assert names(home, "quality")[0] == "preset cpu, trained here"
    assert len(names(home, "quality")) == 1 + len(gpu_parts.LOOKS)
    assert names(home, "kernels") == ["tiny, eager", "tiny, compiled"]
    for part in PARTS:
        assert all("CUDA graphs" in name for name in names(home, part, measured=False))
