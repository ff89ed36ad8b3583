"""What may import what, and what loading may cost."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A package may import itself and what stands before it.
LAYERS = ("fastdino", "assets", "pipelines")
HEAVY = ("torch", "torchaudio", "sklearn", "openTSNE", "plotly", "matplotlib", "av", "soundfile")


def imported_packages(file: Path) -> set[str]:
    """Top-level packages that ``file`` imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def modules_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after ``statement``."""
    code = f"{statement}\nimport sys\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    wrong = {
        str(file.relative_to(ROOT)): packages & above
        for file in (ROOT / layer).rglob("*.py")
        if (packages := imported_packages(file)) & above
    }
    assert not wrong


def test_the_stages_know_nothing_of_dagster() -> None:
    for file in (ROOT / "fastdino").rglob("*.py"):
        assert not imported_packages(file) & {"dagster", "dagster_pipes"}, file


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    loaded = modules_after("import pipelines.definitions")
    assert "dagster" in loaded
    assert not loaded & set(HEAVY)


def test_a_child_starts_without_dagster_and_without_anything_heavy() -> None:
    loaded = modules_after("import assets.child")
    assert "dagster_pipes" in loaded
    assert not loaded & {"dagster", "polars", *HEAVY}


def test_nothing_in_pyproject_hides_the_workspace_file() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert not {"dagster", "dg"} & set(tools)


def test_constraints_hold_exact_versions_and_no_addresses() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or ("==" in line and "://" not in line and "@" not in line)
