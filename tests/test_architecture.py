"""What may import what, and what loading may cost."""

import ast
import functools
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = ("fastdino", "assets", "pipelines")
# The rooms from top to bottom: a module may import its own room, and those on floors below it.
FLOORS = (
    ("pipelines",),
    ("assets", "fastdino.__main__"),
    ("fastdino.bench",),
    ("fastdino.steps",),
    ("fastdino.research", "fastdino.demo"),
    ("fastdino.page",),
    ("fastdino.upkeep",),
    ("fastdino.servers",),
    ("fastdino.database",),
    ("fastdino.reports",),
    ("fastdino.embeddings",),
    ("fastdino.training",),
    ("fastdino.spectrograms",),
    ("fastdino.ingestion",),
    ("fastdino.core",),
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
# What needs to run where there is a GPU and little else, and what that little is.
ENCODER_SIDE = (
    "fastdino.spectrograms.extract", "fastdino.spectrograms.shards", "fastdino.training.loop",
    "fastdino.training.evaluation", "fastdino.training.model", "fastdino.training.stage",
    "fastdino.embeddings.encode", "fastdino.bench.training", "fastdino.bench.gpu",
    "fastdino.bench.gpu_parts",
)  # fmt: skip
NOT_THERE = (
    "av", "charset_normalizer", "dagster", "dotenv", "duckdb", "matplotlib", "openTSNE", "plotly",
    "polars", "sklearn", "soundfile", "tinytag",
)  # fmt: skip
HEAVY = (
    "torch", "torchaudio", "sklearn", "openTSNE", "plotly", "matplotlib", "av", "soundfile", "ray",
    "dagster_ray",
)  # fmt: skip


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


def room_of(module: str) -> str | None:
    """The room that a module is in; None for other people's, and for ``fastdino`` itself."""
    return next((room for room in FLOOR_OF if f"{module}.".startswith(f"{room}.")), None)


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_rooms(file: Path) -> set[str]:
    """Rooms that ``file`` imports from, inside functions too."""
    names = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{file}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {room for name in names if (room := room_of(name))}


def test_imports_run_down_the_house_and_never_up() -> None:
    wrong = []
    for file in sources():
        room = room_of(module_of(file))
        if room is None:
            assert file == ROOT / "fastdino" / "__init__.py", f"{file} is in no room"
            continue
        others = imported_rooms(file) - {room}
        wrong += [
            f"{file.relative_to(ROOT)} imports {other}"
            for other in sorted(others)
            if FLOOR_OF[other] <= FLOOR_OF[room]
        ]
    assert not wrong


def test_an_import_up_the_house_is_seen_in_whatever_form(tmp_path: Path) -> None:
    lines = (
        "import fastdino.page.server",
        "from fastdino.page.server import main",
        "from fastdino import page",
        "def f():\n    from fastdino.page import server as s",
    )
    for number, line in enumerate(lines):
        file = tmp_path / f"{number}.py"
        file.write_text(line)
        assert imported_rooms(file) == {"fastdino.page"}


def test_nothing_lies_loose_beside_the_rooms() -> None:
    loose = {file.stem for file in (ROOT / "fastdino").glob("*.py")}
    assert loose == {"__init__", "__main__", "demo", "steps"}


def test_every_room_says_what_belongs_there_and_what_does_not() -> None:
    for room in FLOOR_OF:
        folder = ROOT.joinpath(*room.split("."))
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        assert "Belongs here:" in said, file
        assert "Does not:" in said, file


def test_the_encoder_s_side_runs_where_there_is_little_but_torch() -> None:
    hidden = "\n".join(f"sys.modules[{name!r}] = None" for name in NOT_THERE)
    imports = "\n".join(f"import {module}" for module in ENCODER_SIDE)
    command = [sys.executable, "-c", f"import sys\n{hidden}\n{imports}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
