"""What the documentation shows works as printed."""

import ast
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import synthetic
from test_architecture import FLOORS

from fastdino import demo, reports
from fastdino.__main__ import main, parser
from fastdino.core.environment import VARIABLES
from fastdino.core.home import Home
from fastdino.database import publish

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, Any]]


def blocks(document: str, language: str) -> list[str]:
    """The document's examples in ``language``."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def cookbook() -> list[tuple[str, str]]:
    """Each recipe of ``docs/sql.md``: its name, and its query."""
    text = (ROOT / "docs/sql.md").read_text(encoding="utf-8").partition("## Cookbook")[2]
    recipes = text.partition("\n## From Python")[0]
    return re.findall(r"\*\*([^*]+)\*\*[^`]*(?:`[^`]+`[^`]*)*?```sql\n(.*?)```", recipes, re.DOTALL)


COOKBOOK = dict(cookbook())


@pytest.fixture
def db(demo_home: tuple[Home, list[Path]]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(demo_home[0].database), read_only=True) as connection:
        yield connection


def ask(db: duckdb.DuckDBPyConnection, query: str) -> Rows:
    answer = db.sql(query)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall()]


QUERIES = [(name, query) for name in ("docs/sql.md", "README.md") for query in blocks(name, "sql")]


@pytest.mark.parametrize(("document", "query"), QUERIES)
def test_every_query_answers_on_the_demo_library(db, document: str, query: str) -> None:
    rows = ask(db, query)
    assert rows
    for column in rows[0]:
        assert any(row[column] is not None for row in rows), column


def test_every_recipe_has_one_query_and_a_line_on_why() -> None:
    text = (ROOT / "docs/sql.md").read_text(encoding="utf-8").partition("## Cookbook")[2]
    recipes = text.partition("\n## From Python")[0]
    assert len(COOKBOOK) == recipes.count("```sql") == recipes.count("\n**") >= 15


def test_all_there_is_to_ask_is_in_the_reference(db) -> None:
    there = ask(
        db,
        "SELECT table_name AS name FROM duckdb_tables() "
        "UNION SELECT view_name FROM duckdb_views() WHERE NOT internal "
        "UNION SELECT function_name FROM duckdb_functions() WHERE NOT internal",
    )
    reference = (ROOT / "docs/sql.md").read_text(encoding="utf-8").partition("## Tables")[2]
    told = set(re.findall(r"`(\w+)[`(]", reference))
    assert {row["name"] for row in there} - told == {"in_turn", "cluster_of"}


def titles(rows: Rows) -> set[str]:
    return {row["title"] for row in rows}


# What the demo library must give, knowing how it is made (``demo_collection``).
EXPECTED: dict[str, Callable[[Rows], bool]] = {
    "Similar songs.": lambda rows: {row["artist"] for row in rows[:5]} == {"The Paper Orchard"},
    "A title you only half remember.": lambda rows: rows[0]["artist"] == "The Paper Orchard",
    "Like the average of many.": lambda rows: (
        rows[0]["artist"] == "Harbour of Glass" and len(rows) == 5
    ),
    "By someone else, of the same decade.": lambda rows: (
        len(rows) == 5
        and {row["year"] // 10 for row in rows} == {201}
        and "The Paper Orchard" not in {row["artist"] for row in rows}
    ),
    "What came in last, and its like.": lambda rows: (
        [row["is_new"] for row in rows].count(True) == 3 and rows[0]["is_new"]
    ),
    "Damaged, cut off, or too short to be a song.": lambda rows: (
        [row["reason"] for row in rows] == ["not audio", "ends after 30 of 60 s"]
    ),
    "Similar, but by others.": lambda rows: "The Paper Orchard" not in {r["artist"] for r in rows},
    "From one song to another.": lambda rows: (
        [rows[0]["artist"], rows[-1]["artist"]] == ["The Paper Orchard", "Voltage Garden"]
    ),
    "A chain.": lambda rows: len(titles(rows)) == 12,
    "A playlist.": lambda rows: len(titles(rows)) == 12 and rows[0]["title"] == "Paper Bridge",
    "Artists most like one.": lambda rows: rows[0]["artist"] == "Harbour of Glass",
    "Artists most alike.": lambda rows: len(rows) >= 5 and rows[0]["times"] > 20,
    "The most typical song of each artist,": lambda rows: len(rows) == 10,
    "Albums that are most of a piece.": lambda rows: all(row["songs"] == 3 for row in rows),
    "A genre's neighbours.": lambda rows: rows[0]["genre"] == "Jazz" and rows[0]["percent"] > 50,
    "What the clusters are made of.": lambda rows: sum(row["songs"] for row in rows) > 50,
    "Songs that bridge clusters.": lambda rows: rows[0]["clusters"] >= 3,
    "What is new near my favourites.": lambda rows: "Rust Cathedral" in {r["artist"] for r in rows},
    "Growth by month.": lambda rows: len(rows) == 18 and rows[-1]["songs"] == 60,
    "Coverage by genre.": lambda rows: (
        sum(row["songs"] for row in rows) == 60 and sum(row["with_vector"] for row in rows) == 59
    ),
    "Duplicates.": lambda rows: (
        [(row["title"], row["other_title"]) for row in rows]
        == [("Distant Notebook", "Hollow Antenna")]
    ),
    "One recording, several files.": lambda rows: titles(rows) == {"Paper Bridge"},
    "Songs nobody tagged whose neighbours agree on a genre.": lambda rows: (
        {(row["title"], row["genre"]) for row in rows}
        == {("Borrowed Orbit", "Folk"), ("Second Umbrella", "Jazz")}
    ),
    "Wrong genre?": lambda rows: (
        [(row["title"], row["genre"], row["those_near"]) for row in rows]
        == [("Paper Notebook", "Polka", "Electronic")]
    ),
    "What could not be used, and why.": lambda rows: len(rows) == 2,
    "What was not looked at, and why.": lambda rows: [row["found"] for row in rows] == [2, 1],
    "Model A against model B.": lambda rows: rows[0]["songs"] == 59 and 0 < rows[0]["overlap"] < 1,
    "Where they disagree.": lambda rows: all(row["shared_of_ten"] < 10 for row in rows),
    "How good is the model?": lambda rows: [row["is_current"] for row in rows].count(True) == 1,
}


@pytest.mark.parametrize("recipe", EXPECTED)
def test_a_recipe_finds_what_it_says(db, recipe: str) -> None:
    rows = ask(db, COOKBOOK[recipe])
    assert EXPECTED[recipe](rows), rows


@pytest.fixture(scope="module")
def odd_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Four kinds of songs by two artists each, tagged as people's songs are."""
    home = Home(tmp_path_factory.mktemp("odd") / "home")
    synthetic.write_home(home, 48, groups=4)
    songs = [
        synthetic.song(i, 4) | {"artist": f"{'AZ'[i // 4 % 2]} {i % 4}", "genres": None}
        for i in range(48)
    ]
    # Two recordings of one song, two of which nothing is known, and one in two files.
    songs[13] |= {"title": songs[5]["title"]}
    songs[17] |= {"title": "Track 01", "artist": None}
    songs[25] |= {"title": "Track 01", "artist": None}
    copy = songs[29] | {"path": "/music/copy.flac"}
    # Several artists, and several genres.
    for i in range(0, 48, 8):
        songs[i] |= {"artist": "The Paper Orchard"}
    guest = ["The Paper Orchard", "Mira"]
    songs[4] |= {"artist": "The Paper Orchard feat. Mira", "artists": guest}
    songs[8] |= {"genre": "Ambient; Drone", "genres": ["Ambient", "Drone"]}
    songs[9] |= {"genre": "Polka"}
    for i in range(2, 48, 8):
        songs[i] |= {"genre": "Folk; Blues", "genres": ["Folk", "Blues"]}
    songs[6] |= {"genre": None}
    for i in range(3, 48, 4):
        songs[i] |= {"genre": None, "title": "Untitled"}
    songs[7] |= {"genre": "Jazz; Soul", "genres": ["Jazz", "Soul"]}
    songs[15] |= {"genre": "Jazz"}
    for i in range(3, 48, 8):
        songs[i] |= {"artist": "Slow Meridian"}
    synthetic.write_catalog(home, [*songs, copy])
    reports.draw_map(home)
    publish(home)
    return home


# What holds although titles, artists and genres are not as they are in the demo library.
HOLDS: dict[str, Callable[[Rows], bool]] = {
    "One recording, several files.": lambda rows: [len(row["paths"]) for row in rows] == [2],
    "What is new near my favourites.": lambda rows: (
        len([row for row in rows if row["title"] == "Untitled"]) == 10
    ),
    "Artists most alike.": lambda rows: (
        not any("Orchard" in row["artist"] and "Orchard" in row["other"] for row in rows)
    ),
    "Found each other.": lambda rows: (
        not any("Orchard" in row["artist"] and "Orchard" in row["other_artist"] for row in rows)
    ),
    "Similar, but by others.": lambda rows: not any("Orchard" in row["artist"] for row in rows),
    "Wrong genre?": lambda rows: [row["genre"] for row in rows] == ["Polka"],
    "A genre's neighbours.": lambda rows: (
        [row["genre"] for row in rows] == ["(none)", "Jazz", "Soul"]
    ),
    "Songs nobody tagged whose neighbours agree on a genre.": lambda rows: (
        [(row["genre"], row["of_ten"]) for row in rows] == [("Folk", 10)]
    ),
}


@pytest.mark.parametrize("recipe", HOLDS)
def test_a_recipe_holds_where_titles_are_shared_and_tags_have_several_names(
    odd_home: Home, recipe: str
) -> None:
    with duckdb.connect(str(odd_home.database), read_only=True) as db:
        rows = ask(db, COOKBOOK[recipe])
    assert HOLDS[recipe](rows), rows


def test_artists_alike_are_counted_whoever_of_them_has_the_other_near(odd_home: Home) -> None:
    with duckdb.connect(str(odd_home.database), read_only=True) as db:
        rows = ask(db, COOKBOOK["Artists most alike."])
        near = ask(
            db,
            "SELECT a.artist, b.artist AS other FROM current_neighbors AS n "
            "JOIN songs AS a USING (track_id) JOIN songs AS b ON b.track_id = n.neighbor_id "
            "WHERE n.rank <= 10",
        )
    seen = Counter(frozenset(row.values()) for row in near)
    assert rows
    assert all(row["times"] == seen[frozenset((row["artist"], row["other"]))] for row in rows)


def test_the_duckdb_shell_that_is_installed_runs_the_cookbook(demo_home) -> None:
    shell = Path(sys.executable).with_name("duckdb")
    command = [shell, "-readonly", "-csv", "-bail", demo_home[0].database]
    queries = "\n".join(blocks("docs/sql.md", "sql"))
    done = subprocess.run(command, input=queries, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") > 200


@pytest.mark.parametrize("program", blocks("docs/sql.md", "python"))
def test_a_program_prints_what_it_asked_for(
    demo_home, program: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "var").symlink_to(demo_home[0].root)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("program.py")
    assert re.search(r"Paper|Folk|59", capsys.readouterr().out)


@pytest.fixture(scope="module")
def exports(demo_home: tuple[Home, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that the documentation has ``fastdino export`` write. Made once: only read it."""
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FASTDINO_HOME", str(demo_home[0].root))
        patched.setenv("HOME", str(folder))
        patched.chdir(folder)
        for words in command_lines(".venv/bin/fastdino"):
            if words[0] == "export":
                assert main(words) == 0
    return folder


@pytest.fixture
def exported(exports: Path, checkout: Path) -> Path:
    """The current folder, with those files."""
    return Path(shutil.copytree(exports, checkout, dirs_exist_ok=True))


@pytest.mark.parametrize("program", blocks("docs/export.md", "python"))
def test_a_program_opens_what_was_exported(exported: Path, program: str, monkeypatch, capsys):
    if "datasets" in program:
        pytest.importorskip("datasets", reason="needs datasets: pip install datasets")
    capsys.readouterr()
    (exported / "program.py").write_text(program, encoding="utf-8")
    runpy.run_path("program.py")
    assert re.search("Paper|Folk", capsys.readouterr().out)


def test_the_notebook_runs_from_the_first_cell_to_the_last(checkout: Path, monkeypatch) -> None:
    notebook = json.loads((ROOT / "docs/explore.ipynb").read_text(encoding="utf-8"))
    codes = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    shown = []
    for code in codes:
        # As Jupyter does: what the last line gives is shown.
        *lines, last = ast.parse(code).body
        assert isinstance(last, ast.Expr)
        exec(compile(ast.Module(lines, []), "cell", "exec"), names)
        shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    names["db"].close()
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    assert len(shown[1]) == 10
    assert shown[3]["artist"].n_unique() == 10
    assert len(shown[2].data) > 3  # clusters


DOWNLOADS = [query for query in blocks("docs/export.md", "sql") if "INSTALL" in query]


def test_own_tables_copies_and_lists_work_as_printed(checkout: Path) -> None:
    assert main(["playlist", "--cluster", "orchard", "-o", "orchard.m3u8"]) == 0
    shell = Path(sys.executable).with_name("duckdb")
    queries = [query for query in blocks("docs/export.md", "sql") if query not in DOWNLOADS]
    done = subprocess.run(
        [shell, "-csv", "-bail", "mine.duckdb"],
        input="\n".join(queries), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    like, unplayed = done.stdout.split("title,artist,")[1:]
    assert len(like.splitlines()) == 1 + 5
    assert "The Paper Orchard" not in like
    assert len(unplayed.splitlines()) >= 1 + 5
    with duckdb.connect() as copied:
        assert copied.execute("SELECT count(*) FROM 'vectors.parquet'").fetchall() == [(59,)]


@pytest.mark.thorough
@pytest.mark.parametrize("query", DOWNLOADS)
def test_what_needs_an_extension_works_where_it_can_be_had(checkout: Path, query: str) -> None:
    name = re.search(r"INSTALL (\w+)", query)[1]
    try:
        duckdb.execute(f"INSTALL {name}")
    except duckdb.Error as error:
        pytest.skip(f"DuckDB's extension {name} cannot be had here: {str(error).splitlines()[0]}")
    with duckdb.connect() as db:
        db.execute(blocks("docs/export.md", "sql")[0])
        answers = [db.execute(each).fetchall() for each in query.split(";") if each.strip()]
    assert answers[-1]


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
# What needs no songs to be decoded or learned from.
ASKING = {"similar", "playlist"}
# What would never end, train for half an hour, or needs a second model or a music server.
LEFT_OUT = {"serve", "compare", "bench", "promote", "forget", "match"}


def command_lines(program: str) -> list[list[str]]:
    """Every line of the documentation's shell examples that runs ``program``, without it."""
    lines = [
        line for name in DOCUMENTS for block in blocks(name, "sh") for line in block.split("\n")
    ]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == program]


FASTDINO = command_lines(".venv/bin/fastdino")


@pytest.mark.parametrize("words", FASTDINO, ids=" ".join)
def test_a_command_is_understood(words: list[str]) -> None:
    assert parser().parse_args(words).command == words[0]


def test_the_service_starts_what_there_is() -> None:
    (unit,) = blocks("docs/serving.md", "ini")
    words = re.search(r"^ExecStart=\S+/\.venv/bin/fastdino (.*)$", unit, re.MULTILINE)
    assert words
    assert parser().parse_args(shlex.split(words[1])).command == "serve"


@pytest.mark.parametrize("words", command_lines("make"), ids=" ".join)
def test_what_make_is_asked_for_it_can_make(words: list[str]) -> None:
    assert f"\n{words[0]}: " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def checkout(demo_home: tuple[Home, list[Path]], tmp_path: Path, monkeypatch) -> Path:
    """The current folder, with the demo library's results under ``var``."""
    (tmp_path / "var").symlink_to(demo_home[0].root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTDINO_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Music").mkdir()
    return tmp_path


@pytest.mark.parametrize("words", [line for line in FASTDINO if line[0] in ASKING], ids=" ".join)
def test_a_question_on_the_command_line_is_answered(checkout, words: list[str], capsys) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.count("\n") >= 5


def test_a_question_to_the_duckdb_shell_is_answered(checkout) -> None:
    shell = Path(sys.executable).with_name("duckdb")
    asked = [line for line in command_lines(".venv/bin/duckdb") if len(line) == 3]
    assert asked
    for words in asked:
        done = subprocess.run([shell, *words], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert "0 rows" not in done.stdout


def test_own_tables_beside_the_attached_music_work_as_printed(checkout) -> None:
    shell = Path(sys.executable).with_name("duckdb")
    queries = "\n".join(blocks("docs/faq.md", "sql"))
    for _ in range(2):  # the second time they are there
        done = subprocess.run(
            [shell, "-csv", "-bail", "mine.duckdb"],
            input=queries, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert "Paper Bridge,The Paper Orchard" in done.stdout
        assert len(done.stdout.splitlines()) == 2 + 1 + 5


def test_the_playlist_for_a_phone_leads_to_songs_beside_it(
    demo_home: tuple[Home, list[Path]], checkout, monkeypatch
) -> None:
    (words,) = (line for line in FASTDINO if "--relative" in line)
    (checkout / "Music").rmdir()
    (checkout / "Music").symlink_to(demo_home[0].root.parent / "music")
    playlist = checkout / "Music" / "bridge.m3u8"
    try:
        assert main(words) == 0
        lines = playlist.read_text(encoding="utf-8").splitlines()
    finally:
        playlist.unlink()
    paths = [Path(line) for line in lines if not line.startswith("#")]
    assert len(paths) == 10
    for path in paths:  # on whatever disk that folder is mounted
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert (checkout / "Music" / path).is_file()


@pytest.mark.thorough
def test_all_commands_run_one_after_the_other_as_printed(tmp_path: Path, monkeypatch) -> None:
    # Long enough for the moments that the documentation asks for.
    demo.synthesise(tmp_path / "Music", artists=4, songs_per_artist=3, seconds=15.0)
    for name, value in {"HOME": str(tmp_path), "FASTDINO_PRESET": "tiny"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FASTDINO_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert command_lines("make")[0] == ["run", "MUSIC=~/Music"]  # which runs this:
    (tmp_path / "Music" / "Playlists").mkdir()
    first = ["run", "--or-demo", str(tmp_path / "Music")]
    for words in [first, *FASTDINO]:
        # Several processes that train want a cluster.
        if words[0] not in LEFT_OUT and "--ranks" not in words:
            command = [sys.executable, "-m", "fastdino", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, (words, done.stderr)


def test_the_table_of_settings_is_what_can_be_set() -> None:
    lines = (ROOT / "docs/settings.md").read_text(encoding="utf-8").splitlines()
    told = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "| `" in line
    ]
    there = [[f"`{each.name}`", each.means, each.may_be, each.default] for each in VARIABLES]
    assert told == there


def test_settings_that_are_mentioned_can_be_set() -> None:
    known = {each.name for each in VARIABLES}
    for document in (*DOCUMENTS, "CHANGELOG.md", "Makefile"):
        text = (ROOT / document).read_text(encoding="utf-8")
        wrong = set(re.findall(r"\bFASTDINO_[A-Z_]+", text)) - known
        assert wrong <= {"FASTDINO_MINUTE"}, document  # told as the slip that it is


def test_the_architecture_s_way_down_is_the_one_that_is_held() -> None:
    (drawn,) = blocks("docs/architecture.md", "text")
    rooms = [re.findall(r"[\w./]+", line[:24]) for line in drawn.strip().splitlines()]
    names = {"__main__.py": "fastdino.__main__", "pipelines/": "pipelines", "assets/": "assets"}
    plain = [
        tuple(
            names.get(room, f"fastdino.{room.removesuffix('/').removesuffix('.py')}")
            for room in line
        )
        for line in rooms
    ]
    assert plain == list(FLOORS)


def test_files_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|sql))`", text):
        assert any((ROOT / base / name).exists() for base in ("", "fastdino")), name


def anchors(document: Path) -> set[str]:
    """What headings can be linked to by."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_within_the_documentation_lead_somewhere(document: str) -> None:
    source = ROOT / document
    for link in re.findall(r"\]\(([^)\s]+)\)", source.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = source.parent / path if path else source
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
