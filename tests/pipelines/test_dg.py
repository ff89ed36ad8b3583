"""Dagster's two commands, ``dg`` and ``dagster``, load the same definitions."""

import os
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest

from pipelines.definitions import defs

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, home: Path) -> str:
    # Without what would make it look for another environment than the one it is run in.
    known = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**known, "DAGSTER_HOME": str(home), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dagster's newer command, installed beside what is here."""
    folder = tmp_path_factory.mktemp("dg")
    venv.create(folder, with_pip=True)
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = folder.glob("lib/*/site-packages")
    (site / "shared.pth").write_text("\n".join(here))
    version = metadata.version("dagster")
    install = [folder / "bin/python", "-m", "pip", "install", "-q", f"dagster-dg-cli=={version}"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip(f"dagster-dg-cli {version} cannot be installed here")
    return folder / "bin/dg"


@pytest.mark.thorough
def test_dg_checks_and_lists_the_definitions(dg: Path, tmp_path: Path) -> None:
    assert "All definitions loaded successfully" in run(dg, "check", "defs", home=tmp_path)
    listed = run(dg, "list", "defs", "--json", home=tmp_path)
    for key in defs.resolve_asset_graph().toposorted_asset_keys:
        assert f'"{key.to_user_string()}"' in listed
    assert '"nightly_refresh"' in listed


def test_no_table_of_pyproject_hides_the_workspace_file() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert not {"dagster", "dg"} & tools.keys()


@pytest.mark.thorough
def test_dagster_goes_by_the_workspace_file_in_this_folder(tmp_path: Path) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    listed = run(dagster, "job", "list", home=tmp_path)
    assert "module pipelines.definitions" in listed
    assert "Job: refresh" in listed
