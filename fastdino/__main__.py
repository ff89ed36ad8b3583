"""The command line: every stage without Dagster.

Belongs here: arguments, what is printed, exit codes. Does not: any of the work.
Exit codes: 0 done, 1 a bug (with traceback) or no one reads what is printed, 2 something the user
can mend, 3 ``verify`` found something wrong, 130 interrupted.
"""

import argparse
import dataclasses
import io
import logging
import os
import select
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdino import __version__, steps
from fastdino.core import environment, storage
from fastdino.core.environment import VARIABLES
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.home import Home, expanded
from fastdino.core.summary import Summary
from fastdino.core.terminal import print_table
from fastdino.core.text import OneLineFormatter, one_line, runnable
from fastdino.steps import COMMANDS

# What is asked of the database and the page, which are the home's own, goes on where there is no
# connection.
WITHOUT_STORE = ("demo", "export", "match", "playlist", "serve", "settings", "similar")
EPILOG = """\
The stages, in order: ingest -> spectrograms -> train -> embed -> report. Each does only what is
new since the last time, so every command is quick and safe to repeat.

  fastdino run ~/Music          all of it; ends with music.duckdb and a page to look at
  fastdino demo /tmp/songs      synthesise a small tagged library to try it on
  fastdino similar "a title"    what sounds like it?
  fastdino playlist --surprise  something to listen to

Everything is written under $FASTDINO_HOME (default: var). Music folders are only read.
"""


def parser() -> argparse.ArgumentParser:
    """The command line's arguments: a sub-command for every stage, and a few beside them."""
    main_parser = argparse.ArgumentParser(
        prog="fastdino",
        description="Turn a music collection into embeddings you can query, map and listen to.",
        epilog=EPILOG + _settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action="version", version=f"fastdino {__version__}")
    where = "where results lie (default: $FASTDINO_HOME, or ./var)"
    main_parser.add_argument("--home", help=where)
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    home = argparse.ArgumentParser(add_help=False)
    # What is given before the command stands unless it is given after it as well.
    home.add_argument("--home", default=argparse.SUPPRESS, help=where)
    music = argparse.ArgumentParser(add_help=False)
    _option(music, steps.Ingest, "music", positional=True, nargs="*")
    _option(music, steps.Ingest, "or_demo", action="store_true")
    _option(music, steps.Ingest, "rescan", action="store_true")
    retrying = argparse.ArgumentParser(add_help=False)
    _option(retrying, steps.Spectrograms, "retry", action="store_true")
    learning = argparse.ArgumentParser(add_help=False)
    _option(learning, steps.Train, "preset")
    _option(learning, steps.Train, "minutes", type=float)
    _option(learning, steps.Train, "seed", type=int)
    _option(learning, steps.Train, "afresh", action="store_true")
    _option(learning, steps.Train, "warm", action="store_true")
    _option(learning, steps.Train, "ranks", type=int)

    def command(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[*parents, home])

    command("run", "all stages, one after the other", music, retrying, learning)
    command("ingest", "find music files, identify recordings, read tags", music)
    command("spectrograms", "decode new recordings into spectrogram shards", retrying)
    command("train", "train an encoder on the shards", learning)
    command("embed", "embed tracks that have no vectors yet; publish music.duckdb")
    command("report", "draw the map, clusters and neighbours; write the page")
    command("models", "list the models; compare the candidate with the current one")
    promote = command("promote", "put another model to use; map, database and page follow")
    _option(promote, steps.Promote, "model_id", positional=True, nargs="?", metavar="model")
    forget = command("forget", "delete a model that is not in use, with its vectors and maps")
    _option(forget, steps.Forget, "model_id", positional=True, metavar="model")
    demo = command("demo", "synthesise a small tagged library to try things on")
    demo.add_argument("folder", help="where to put it")
    compare = command(
        "compare", "train FastDINO and its baselines on equal terms; draw quality over time"
    )
    _option(compare, steps.Compare, "preset")
    _option(compare, steps.Compare, "arms", nargs="+", metavar="ARM")
    _option(compare, steps.Compare, "minutes", nargs="*", type=float)
    _option(compare, steps.Compare, "seeds", type=int)
    _option(compare, steps.Compare, "labels", action="append", metavar="CSV")
    _option(compare, steps.Compare, "vectors", action="append", metavar="NAME=FILE")
    serve = command("serve", "play the songs on the page: serves it, to this computer alone")
    serve.add_argument("--port", type=int, default=8321, help="(default: 8321; 0: any free one)")
    serve.add_argument("--open", action="store_true", help="open it in the browser")
    serve.add_argument(
        "--host",
        action=_Once,
        metavar="ADDRESS",
        help="serve it to other devices, too, which need the link that is shown: an address or a "
        "name of this computer, 0.0.0.0 for all in IPv4, :: for IPv6 as well",
    )
    serve.add_argument(
        "--public-url",
        action=_Once,
        metavar="URL",
        help="by what others know it, behind a reverse proxy or under a name of your own",
    )
    only = serve.add_mutually_exclusive_group()
    only.add_argument("--show-link", action="store_true", help="show that link, and serve nothing")
    only.add_argument(
        "--new-token", action="store_true", help="make another link; that of before lets no one in"
    )
    verify = command("verify", "check that every file is what was written, and say how to mend it")
    verify.add_argument(
        "--repair",
        action="store_true",
        help="take out what is damaged or no longer needed; the next run computes what is missing",
    )
    similar = command("similar", "list the songs, or moments of songs, most like one")
    similar.add_argument("song", nargs="+", help="its title, roughly, and more if several have it")
    similar.add_argument(
        "--at",
        action=_Once,
        type=_moment,
        metavar="M:SS",
        help="ask for moments instead: where else does it sound like this moment of the song?",
    )
    similar.add_argument("-n", type=_number, default=10, help="how many (default: 10)")
    playlist = command("playlist", "write a playlist that music players open")
    of = playlist.add_mutually_exclusive_group(required=True)
    of.add_argument("--like", action=_Once, metavar="SONG", help="a song, and those most like it")
    of.add_argument(
        "--from", action=_Once, dest="first", metavar="SONG", help="lead from this song ..."
    )
    of.add_argument(
        "--cluster", action=_Once, metavar="NAME", help="the typical songs of a cluster on the map"
    )
    of.add_argument("--surprise", action="store_true", help="lead from somewhere to somewhere else")
    playlist.add_argument("--to", action=_Once, dest="last", metavar="SONG", help="... to this one")
    playlist.add_argument("-n", type=_number, default=20, help="how many songs (default: 20)")
    playlist.add_argument(
        "-o",
        action=_Once,
        dest="file",
        help="where to write it (default: here; - for the terminal)",
    )
    playlist.add_argument(
        "--relative",
        action="store_true",
        help="write paths relative to the playlist, to move it together with the music",
    )
    kept = command(
        "playlists", "bring a folder of playlists up to date, for players and music servers"
    )
    _option(kept, steps.Playlists, "folder", positional=True, nargs="?")
    _option(kept, steps.Playlists, "paths", metavar="HOW")
    _option(kept, steps.Playlists, "songs", type=int)
    _option(kept, steps.Playlists, "leave_out", action="append", metavar="FOLDER")
    command("match", "learn which songs a music server means by its ids, so that it can ask")
    export = command(
        "export", "write songs, vectors, map and neighbours as one file for data tools"
    )
    # Those of fastdino.database.export, which need not be loaded for a help.
    export.add_argument("format", choices=("parquet", "npz", "safetensors", "atlas"))
    export.add_argument(
        "-o", action=_Once, dest="file", help="where to write it (default: here, by a usual name)"
    )
    command(
        "compact", "drop what was computed of songs that left the collection; join small shards"
    )
    command("settings", "list the settings and what they are set to")
    bench = command("bench", "measure speed and memory, each beside what it is compared to")
    bench.add_argument(
        "part",
        nargs="*",
        help="spectrograms, training, embeddings (default: these three); or gpu: what a GPU does",
    )
    bench.add_argument(
        "--minutes",
        type=environment.minutes,
        default=10.0,
        help="when gpu ends at the latest (default: 10)",
    )
    bench.add_argument(
        "--incremental",
        type=_number,
        nargs="*",
        metavar="SONGS",
        help="measure instead what changes of a collection cost (default: of 1000, 5000, 15000)",
    )
    bench.add_argument(
        "--cluster",
        type=_number,
        nargs="*",
        metavar="SONGS",
        help="measure instead what driving a cluster costs, with made-up songs of which nothing is "
        "decoded (default: 10000, 100000)",
    )
    bench.add_argument(
        "--collection",
        type=_number,
        nargs="*",
        metavar="SONGS",
        help="measure instead what all after embedding costs, with made-up songs: map, database, "
        "page and questions (default: 15000, 100000)",
    )
    return main_parser


class _Once(argparse.Action):
    """What is asked for, which a second time would be dropped without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice: it takes one")
        setattr(namespace, self.dest, values)


def _option(
    parser: argparse.ArgumentParser,
    step: type[steps.Step],
    name: str,
    *,
    positional: bool = False,
    **how: Any,
) -> None:
    """Add an option of a step. What is not given is left to the step, which knows its default."""
    (field,) = (each for each in dataclasses.fields(step) if each.name == name)
    flag = name if positional else f"--{name.replace('_', '-')}"
    shown = field.metadata["means"]
    if variable := field.metadata.get("variable"):
        shown += f" (default: ${variable.name})"
    elif isinstance(field.default, tuple) and field.default:
        shown += f" (default: {' '.join(str(each) for each in field.default)})"
    elif type(field.default) is int:
        shown += f" (default: {field.default})"
    if choices := field.metadata["choices"]:
        how["choices"] = choices
    parser.add_argument(flag, default=argparse.SUPPRESS, help=shown.replace("%", "%%"), **how)


def _settings() -> str:
    """The settings from outside, for the end of the help."""
    room = max(len(each.name) for each in VARIABLES) + 2
    said = [
        textwrap.fill(
            f"{each.name:<{room}}{each.means} (default: {each.default})",
            width=78,
            initial_indent="  ",
            subsequent_indent=" " * (room + 2),
        )
        for each in VARIABLES
    ]
    return "\n".join(["\nSettings, as environment variables or as lines in a file .env:\n", *said])


def _number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _moment(text: str) -> float:
    from fastdino.database import questions

    try:
        return questions.seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 1:20") from None


def show(summary: Summary, seconds: float) -> None:
    """Print what a step did, for people."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    mark = ("✓", "green") if summary.did_work else ("·", "dim")
    told = f"{one_line(runnable(summary.headline))} ({seconds:.1f} s)"
    console.print(Text.assemble(mark, " ", (f"{summary.stage:<13}", "bold"), " ", told))
    for warning in summary.warnings:
        console.print(f"  ! {one_line(runnable(warning))}", style="yellow")


def show_tables(summary: Summary) -> None:
    """Print a step's tables, for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    for rows in summary.tables.values():
        if not rows:
            continue
        table = Table(box=box.SIMPLE)
        for name in rows[0]:
            # What may be copied from here, such as a name, is never cut short.
            text = any(isinstance(row[name], str) for row in rows)
            table.add_column(name, justify="left" if text else "right", no_wrap=True)
        for row in rows:
            table.add_row(*("–" if cell is None else one_line(str(cell)) for cell in row.values()))
        print_table(console, table)


def execute(options: argparse.Namespace) -> int:
    """Run one parsed command; returns the exit code."""
    home = Home(expanded(options.home).absolute()) if options.home else Home.from_environment()
    with readable_errors(home.root):
        return _execute(home, options)


def _execute(home: Home, options: argparse.Namespace) -> int:
    if options.command == "settings":
        for variable in VARIABLES:
            print(one_line(f"{variable.name}={environment.shown(variable)}"))
        return 0
    if options.command == "demo":
        from fastdino import demo

        demo.synthesise(expanded(options.folder))
        return 0
    if options.command not in WITHOUT_STORE:
        storage.mount(home.root)
    if options.command == "bench" and options.incremental is not None:
        from fastdino.bench import changes

        return changes.main(options.incremental)
    if options.command == "bench" and options.cluster is not None:
        from fastdino.bench import scale

        return scale.main(options.cluster)
    if options.command == "bench" and options.collection is not None:
        from fastdino.bench import afterwards

        return afterwards.main(options.collection)
    if options.command == "bench" and "gpu" in options.part:
        from fastdino.bench import gpu

        if len(options.part) > 1:
            raise UserError("gpu is measured on its own: run 'fastdino bench gpu'")
        return gpu.main(home, options.minutes)
    if options.command == "bench":
        from fastdino.bench import table

        return table.main(home, options.part)
    if options.command == "serve":
        from fastdino.page import server

        shared = {"port": options.port, "host": options.host, "public_url": options.public_url}
        if options.show_link or options.new_token:
            return server.show_link(home, **shared, new_token=options.new_token)
        if options.open and (options.host or options.public_url):
            raise UserError("--open is for this computer alone: open the link that is shown")
        return server.main(home, **shared, open_browser=options.open)
    if options.command == "verify":
        storage.take_in(home.root)
        from fastdino.upkeep import verify

        return verify.main(home, repair=options.repair)
    if options.command == "similar":
        from fastdino.database import questions

        return questions.similar(home, " ".join(options.song), at_s=options.at, n=options.n)
    if options.command == "playlist":
        from fastdino.database import questions

        if (options.first is None) != (options.last is None):
            raise UserError("--from SONG and --to SONG go together: give both")
        return questions.playlist(
            home,
            like=options.like,
            ends=(options.first, options.last) if options.first is not None else None,
            cluster=options.cluster,
            n=options.n,
            target=expanded(options.file) if options.file else None,
            relative=options.relative,
        )
    if options.command == "export":
        from fastdino.database import export

        return export.main(home, options.format, expanded(options.file) if options.file else None)
    if options.command != "train" and "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(
            f"torchrun is for 'fastdino train' alone: run 'fastdino {options.command}' without it"
        )
    # All of them before the first: what is wrong with the last one's options is told at once.
    chosen = [_step(kind, options) for kind in COMMANDS[options.command]]
    if isinstance(chosen[0], steps.Playlists) and not chosen[0].folder:
        raise UserError("no folder is named for the playlists: give one, or set FASTDINO_PLAYLISTS")
    if options.command == "match" and environment.SERVER.value() is None:
        raise UserError("no music server is named: set FASTDINO_SERVER; docs/servers.md tells more")
    storage.take_in(home.root)
    for step in chosen:
        start = time.monotonic()
        if outcome := steps.perform(step, home):
            show(outcome.summary, time.monotonic() - start)
        if outcome and step.name in ("models", "compare"):
            show_tables(outcome.summary)
    if options.command in ("run", "report"):
        print(_what_next(home, options.home))
    return 0


def _step(kind: type[steps.Step], options: argparse.Namespace) -> steps.Step:
    given = {f.name for f in dataclasses.fields(kind)} & vars(options).keys()
    return steps.made(kind.name, {name: getattr(options, name) for name in given})


def _what_next(home: Home, given: str | None) -> str:
    """Where the results lie, and commands that open them, fit to be copied into a shell."""
    python, database = shlex.quote(sys.executable), shlex.quote(str(home.database))
    installed = Path(sys.executable).with_name("duckdb")
    shell = shlex.quote(str(installed)) if installed.exists() else "duckdb"
    elsewhere = f" --home {shlex.quote(given)}" if given else ""
    lines = [
        f"\nThe map:      {home.page}\nThe database: {home.database}\n\nTry next:",
        f"  {python} -m fastdino serve --open{elsewhere}   # the map, with sound",
        f'  {shell} -readonly {database} "FROM songs LIMIT 5"',
    ]
    if not given:  # which Dagster would not know
        lines.append("  make ui          # the same pipeline in Dagster, scheduled")
    return "\n".join(lines)


def _is_unread() -> bool:
    """Whether what is printed goes to a program that reads no further, such as ``head``."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the console script and of ``python -m fastdino``."""
    printed = logging.StreamHandler()
    printed.setFormatter(OneLineFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[printed])
    # What a terminal cannot show, such as half a character in the name of a folder, ends no run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    options = parser().parse_args(argv)
    try:
        environment.load()
        code = execute(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _is_unread():
            raise
        # Else what is left would be tried again on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UserError as error:
        print(f"fastdino: {one_line(runnable(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastdino: interrupted; the next run goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
