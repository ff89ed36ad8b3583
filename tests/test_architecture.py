"""What may import what, and what loading may cost."""

import ast
import functools
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A package may import itself and what stands before it.
LAYERS = ("fastdino", "assets", "pipelines")
HEAVY = ("torch", "torchaudio", "sklearn", "openTSNE", "plotly", "matplotlib", "av", "soundfile")


@functools.cache
def nodes(file: Path) -> list[ast.AST]:
    """Everything that the source in ``file`` is made of."""
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def imported_packages(file: Path) -> set[str]:
    """Top-level packages that ``file`` imports, inside functions too."""
    found = set()
    for node in nodes(file):
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


# Reading a file with one of these can run what is in the file, or a shell what is in its name.
DANGEROUS_MODULES = {"dill", "joblib", "marshal", "pickle", "shelve", "yaml"}
DANGEROUS_CALLS = {
    "eval", "exec", "np.load", "numpy.load", "os.popen", "os.system", "pl.DataFrame.deserialize",
    "torch.hub.load", "torch.jit.load", "torch.load",
}  # fmt: skip
DANGEROUS_OPTIONS = {"allow_pickle", "shell"}


def sources() -> list[Path]:
    return [file for layer in LAYERS for file in (ROOT / layer).rglob("*.py")]


def test_nothing_that_is_read_can_run_as_a_program() -> None:
    found = []
    for file in sources():
        if modules := imported_packages(file) & DANGEROUS_MODULES:
            found.append((file.name, *modules))
        for node in nodes(file):
            if isinstance(node, ast.Call):
                names = {ast.unparse(node.func)} | {str(each.arg) for each in node.keywords}
                if wrong := names & (DANGEROUS_CALLS | DANGEROUS_OPTIONS):
                    found.append((file.name, *wrong))
    assert not found


def test_nothing_listens_to_other_computers() -> None:
    for file in sources():
        constants = {node.value for node in nodes(file) if isinstance(node, ast.Constant)}
        assert not constants & {"0.0.0.0", "::"}, file
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    started = [line for line in recipes if line.startswith("\t") and "dagster dev" in line]
    assert started
    assert all(" -h 127.0.0.1 " in line for line in started)
