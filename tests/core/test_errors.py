"""A disk that is full, read-only, forbidden or broken: one line, exit code 2, and nothing lost."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import synthetic
from published import rows

from assets import child
from fastdino import __version__
from fastdino.__main__ import main
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.home import Home
from fastdino.database import publish

Disk = Callable[[str], Path]


@pytest.fixture(scope="module")
def two_songs(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for path in sorted(library.rglob("*.mp3"))[:2]:
        shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_a_disk_refuses_is_told_with_the_file_and_what_to_do(number: int) -> None:
    said = os.strerror(number)
    raised = {
        OSError(number, said, "/home/shards/x"): "/home/shards/x",
        # As pyarrow does it, without the file, and as other libraries do.
        OSError(number, said): "/home",
        duckdb.IOException(f"Could not write: {said}"): "/home",
    }
    for error, named in raised.items():
        told = rf"^{named}: {said}; .*the next run goes on"
        with pytest.raises(UserError, match=told), readable_errors(Path("/home")):
            raise error


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        ValueError(os.strerror(errno.ENOSPC)),
        duckdb.CatalogException("no such table"),
    ],
)
def test_what_may_be_a_bug_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, readable_errors(Path("/home")):
        raise error
    assert raised.value is error


def test_a_full_disk_ends_with_2_and_once_there_is_room_it_goes_on(
    disk: Disk, two_songs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(disk("size=4k") / "home")
    assert main(["ingest", str(two_songs), "--home", str(home.root)]) == 2
    told = capsys.readouterr().err
    assert f"fastdino: {home.catalog}: No space left on device; free some space" in told
    disk("size=1m")
    assert main(["ingest", str(two_songs), "--home", str(home.root)]) == 0


def test_a_read_only_disk_ends_with_2_also_in_dagsters_child(
    disk: Disk, two_songs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = disk("size=1m,ro")
    assert main(["ingest", str(two_songs), "--home", str(home)]) == 2
    told = f"{home}/catalog: Read-only file system; make its disk writable"
    assert f"fastdino: {told}" in capsys.readouterr().err
    with pytest.raises(UserError, match=told):
        child.run(
            {
                "version": __version__,
                "home": str(home),
                "steps": [["ingest", {"music": [str(two_songs)]}]],
            }
        )


def test_a_home_that_is_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["ingest", str(tmp_path), "--home", str(tmp_path / "file")]) == 2
    assert f"{tmp_path / 'file'}/catalog: Not a directory; choose" in capsys.readouterr().err


def test_a_disk_that_fills_while_publishing_leaves_readers_the_old_database(disk: Disk) -> None:
    home = Home(disk("size=64m") / "home")
    synthetic.write_home(home, 20)
    publish(home)
    synthetic.write_home(home, 40)
    filler = home.root / "filler"
    free = shutil.disk_usage(home.root).free
    filler.write_bytes(bytes(free - 100_000))
    with pytest.raises(OSError, match="No space left") as raised:
        publish(home)
    assert raised.value.filename == str(home.database)
    assert rows(home, "SELECT count(*) FROM songs") == [(20,)]
    filler.unlink()
    publish(home)
    assert rows(home, "SELECT count(*) FROM songs") == [(40,)]


def fastdino(home: Path, *arguments: str, under: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and standard error of the command line in a process of its own."""
    command = [*under, sys.executable, "-m", "fastdino", *arguments, "--home", str(home)]
    environment = {**os.environ, "FASTDINO_PRESET": "tiny"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def finished(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("finished") / "home"
    assert fastdino(home, "run", str(library))[0] == 0
    return home


# What the finished run takes of it; the page and its copy in the making are the last 10 MB.
@pytest.mark.thorough
@pytest.mark.parametrize("size", ["8k", "64k", "300k", "600k", "900k", "2m", "4m", "8m"])
def test_a_disk_that_is_full_in_any_stage_costs_no_more_than_freeing_space(
    size: str, disk: Disk, library: Path
) -> None:
    home = disk(f"size={size}") / "home"
    code, told = fastdino(home, "run", str(library))
    assert code == 2
    last = told.splitlines()[-1]
    assert last.startswith(f"fastdino: {home}")
    assert "No space left on device; free some space" in last
    assert "Traceback" not in told
    assert not list(home.rglob("*.part"))
    disk("size=64m")
    assert fastdino(home, "run", str(library))[0] == 0
    assert fastdino(home, "verify")[0] == 0


STAGES = ("ingest", "spectrograms", "train", "embed", "report", "verify")


@pytest.mark.thorough
@pytest.mark.parametrize("stage", STAGES)
def test_a_home_that_may_not_be_read_or_written_stays_as_it_is_whatever_is_run(
    stage: str, finished: Path, library: Path, disk: Disk, tmp_path: Path
) -> None:
    arguments = (stage, str(library)) if stage == "ingest" else (stage,)
    # Root may read and write everything, unless it gives that up.
    under = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") * (os.geteuid() == 0)
    for files, folders in ((0o200, 0o755), (0o444, 0o555)):
        home = Path(shutil.copytree(finished, tmp_path / f"{files:o}"))
        for path in [home, *home.rglob("*")]:
            path.chmod(folders if path.is_dir() else files)
        code, told = fastdino(home, *arguments, under=under)
        assert code == 2, told
        assert "Traceback" not in told
        assert told.splitlines()[-1].startswith(f"fastdino: {home}")
        assert same(home, finished)
    disk_home = Path(shutil.copytree(finished, disk("size=64m") / "home"))
    disk("ro")
    code, told = fastdino(disk_home, *arguments)
    assert (code, "Traceback" in told) == (2, False)


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    for path in [one, *one.rglob("*")]:
        path.chmod(0o755)
    return subprocess.run(["diff", "-r", one, other], capture_output=True).returncode == 0
