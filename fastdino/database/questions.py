"""Questions asked on the command line: ``similar`` and ``playlist``.

Belongs here: which song or cluster a person means by a few words, and what is printed. Does not:
the answers, which are the database's macros and ``playlists``.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.terminal import ENDLESS
from fastdino.core.text import one_line
from fastdino.database import playlists
from fastdino.database.connection import connect, rows

# Matches whose score is within this of the best are as good as it.
CLOSE = 0.05
# The score from which on all of the words are in a song's names, as find_song says.
ALL_OF_THEM = 1.0
OTHERS_SHOWN = 5
STDOUT = Path("-")
# The columns of names, in the order in which they are of use, and cells after each.
NAMES = ("Title", "Artist", "Album")
GAP = 2
# Cells of an album below which it says too little.
LEAST = 8
# What every song that is meant has some word like. Shorter ones, such as "the", may be left out.
TELLING = 4


@dataclass(frozen=True)
class Match:
    """A song that a person may mean."""

    track_id: str
    title: str
    artist: str | None
    album: str | None
    score: float

    def __str__(self) -> str:
        return _named(self.title, self.artist, self.album)


def find(db: duckdb.DuckDBPyConnection, words: str) -> list[Match]:
    """The songs that ``words``, a ``track_id`` or part of a name, may mean, the best one first.

    More than one only if they are as good as the first.

    Raises:
        UserError: no song is like that.
    """
    columns = "track_id, title, artist, album"
    by_id = f"SELECT {columns}, 2 FROM tracks WHERE track_id = $words"
    by_name = f"SELECT {columns}, score FROM find_song($words)"
    values = {"words": words}
    found = [Match(*row) for row in rows(db, by_id, values) or rows(db, by_name, values)]
    if not found:
        raise UserError(
            f"no title, artist or album is like “{one_line(words)}”: try fewer words of it, or "
            "look into the table songs"
        )
    unmatched = [_unmatched(db, match, words) for match in found]
    meant = [match for match, missed in zip(found, unmatched, strict=True) if not missed]
    if not meant:
        raise UserError(
            f"no song has all of “{one_line(words)}” in its title, artist and album: leave out "
            f"“{one_line(' '.join(unmatched[0]))}” for {found[0]}"
        )
    return [match for match in meant if match.score > meant[0].score - CLOSE]


def _unmatched(db: duckdb.DuckDBPyConnection, match: Match, words: str) -> list[str]:
    """Of the longer words those that nothing in the song's names is like."""
    if match.score >= ALL_OF_THEM:
        return []
    query = r"""
        WITH said AS (
            SELECT string_split_regex(lower(strip_accents($words)), '[^\p{L}\p{N}]+') AS words,
                   lower(strip_accents($names)) AS names
        )
        SELECT word FROM (SELECT unnest(words) AS word, names FROM said)
        WHERE length(word) >= $telling AND NOT contains(names, word)
            AND coalesce(list_max([
                jaro_winkler_similarity(word, name)
                FOR name IN string_split_regex(names, '[^\p{L}\p{N}]+')
            ]), 0) < 0.8
    """
    names = " ".join(filter(None, (match.title, match.artist, match.album)))
    values = {"words": words, "names": names, "telling": TELLING}
    return [word for (word,) in rows(db, query, values)]


def find_cluster(db: duckdb.DuckDBPyConnection, words: str) -> str:
    """Name of the one cluster on the current map that ``words`` are the name of, or part of it.

    Raises:
        UserError: none is, or several are.
    """
    query = "SELECT name FROM current_clusters ORDER BY size DESC, name"
    names = [name for (name,) in rows(db, query)]
    wanted = words.casefold()
    # Maps of old may have names that differ in their case only.
    found = [name for name in names if name == words]
    found = found or [name for name in names if name.casefold() == wanted]
    found = found or [name for name in names if wanted in name.casefold()]
    if len(found) != 1:
        many = "several clusters have" if found else "no cluster has"
        shown = "; ".join(one_line(name) for name in found or names) or "there are none yet"
        raise UserError(f"{many} “{one_line(words)}” in the name. Name one of: {shown}")
    return str(found[0])


def similar(home: Home, words: str, *, at_s: float | None = None, n: int = 10) -> int:
    """Print the songs most like one, or, with ``at_s``, the moments most like one of it.

    Returns:
        The exit code.

    Raises:
        UserError: there is no such song or moment, or its sound is not known.
    """
    with connect(home.database) as db:
        song, *others = find(db, words)
        _expect_sound(db, song)
        if at_s is None:
            query = """
                SELECT title, artist, album, NULL, similarity FROM similar_to($song, $n)
            """
            found = rows(db, query, {"song": song.track_id, "n": n})
        else:
            _look_for(db, song, at_s)
            query = """
                SELECT m.title, m.artist, tracks.album, from_s, m.similarity
                FROM similar_segments($song, $at_s, $n) AS m JOIN tracks USING (track_id)
                ORDER BY m.similarity DESC, track_id
            """
            found = rows(db, query, {"song": song.track_id, "at_s": at_s, "n": n})
        if not found:
            raise UserError(f"{song} is the only song whose sound is known yet")
    console = _console()
    moment = "" if at_s is None else f", around {clock(at_s)}"
    console.print(Text.assemble(("Like ", "dim"), (str(song), "bold"), moment))
    _offer(console, others)
    figures = ["Similarity"] if at_s is None else ["From", "Similarity"]
    names = {
        heading: [Text(one_line(row[number] or "")) for row in found]
        for number, heading in enumerate(NAMES)
    }
    natural = {
        heading: max(cell_len(heading), *(text.cell_len for text in column))
        for heading, column in names.items()
    }
    room = console.width - len(str(len(found))) - GAP - sum(cell_len(f) + GAP for f in figures)
    widths = _fitted(natural, room)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column("", justify="right", style="dim", no_wrap=True)
    for heading, width in widths.items():
        table.add_column(heading, no_wrap=True, overflow="ellipsis", width=width)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    for number, (*_, from_s, similarity) in enumerate(found, 1):
        begin = [] if at_s is None else [clock(from_s)]
        shown = [names[heading][number - 1] for heading in widths]
        table.add_row(str(number), *shown, *begin, f"{similarity:.2f}")
    console.print(table)
    return 0


def _fitted(natural: dict[str, int], room: int) -> dict[str, int]:
    """How many cells each column of names gets; the album has what the others leave, or none."""
    widths = {}
    wanted = sum(natural[heading] + GAP for heading in NAMES[:2])
    if room - wanted - GAP >= min(natural["Album"], LEAST):
        widths["Album"] = min(natural["Album"], room - wanted - GAP)
    room -= sum(width + GAP for width in widths.values())
    # The shorter of the two keeps its own up to a half, the longer has the rest.
    room -= 2 * GAP
    artist = max(min(natural["Artist"], max(room // 2, room - natural["Title"])), 1)
    return {"Title": max(min(natural["Title"], room - artist), 1), "Artist": artist, **widths}


def _look_for(db: duckdb.DuckDBPyConnection, song: Match, at_s: float) -> None:
    query = "SELECT max(end_s) FROM current_segments WHERE track_id = $song"
    end_s = rows(db, query, {"song": song.track_id})[0][0]
    if end_s is not None and at_s > end_s:
        raise UserError(f"{song} ends at {clock(end_s)}: give an earlier --at")


def _expect_sound(db: duckdb.DuckDBPyConnection, song: Match) -> None:
    values = {"song": song.track_id}
    if rows(db, "SELECT 1 FROM current_embeddings WHERE track_id = $song", values):
        return
    query = "SELECT reason FROM failures WHERE track_id = $song AND stage = 'spectrograms'"
    if failed := rows(db, query, values):
        raise UserError(f"the sound of {song} is not known: {one_line(failed[0][0])}")
    raise UserError(f"the sound of {song} is not known yet: run `fastdino run`")


def playlist(
    home: Home,
    *,
    like: str | None = None,
    ends: tuple[str, str] | None = None,
    cluster: str | None = None,
    n: int = playlists.LENGTH,
    target: Path | None = None,
    relative: bool = False,
) -> int:
    """Write a playlist: like a song, between two, of a cluster, or else a surprise.

    Args:
        home: where results lie.
        like: a song.
        ends: two songs.
        cluster: a cluster's name.
        n: how many songs, at most.
        target: where to write it, ``-`` for standard output; by default in the current folder,
            under its own name.
        relative: whether paths are relative to the playlist's folder.

    Returns:
        The exit code.

    Raises:
        UserError: there is no such song or cluster, or the playlist cannot be written.
    """
    console = _console(stderr=target == STDOUT)
    with connect(home.database) as db:

        def meant(words: str) -> str:
            song, *others = find(db, words)
            _expect_sound(db, song)
            _offer(console, others, f"{song} it is. ")
            return song.track_id

        if like is not None:
            made = playlists.like(db, meant(like), n)
        elif ends is not None:
            made = playlists.between(db, meant(ends[0]), meant(ends[1]), n)
        elif cluster is not None:
            made = playlists.cluster(db, find_cluster(db, cluster), n)
        else:
            made = playlists.surprise(db, n)
    for path in made.missing:
        console.print(f"! not there, so left out: {one_line(str(path))}", style="yellow")
    if target == STDOUT:
        text = playlists.m3u8(made, Path.cwd() if relative else None)
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(text))
        return 0
    target = target or Path(playlists.file_name(made))
    replaced = " (in place of the one that was there)" if os.path.exists(target) else ""
    playlists.write(made, target, relative=relative)
    outside = playlists.outside(made, target.parent) if relative else 0
    if outside:
        console.print(
            f"! {outside} of the songs do not lie under {one_line(str(target.parent))}, and are "
            "not found where only that is copied to: write it into the music folder with -o",
            style="yellow",
        )
    minutes = sum(song.duration_s or 0 for song in made.songs) / 60
    for number, song in enumerate(made.songs, 1):
        console.print(f"{number:>3}  {_named(song.title, song.artist)}")
    console.print(
        f"{len(made.songs)} songs, {minutes:.0f} minutes: {one_line(str(target))}{replaced}"
    )
    return 0


def clock(seconds: float) -> str:
    """``80`` as ``1:20``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds(text: str) -> float:
    """``1:20`` as ``80``; plain seconds, and hours before the minutes, are understood as well.

    Raises:
        ValueError: it is no time.
    """
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    if not 0 <= total < float("inf"):
        raise ValueError(f"{text} is no time in a song")
    return total


def _named(*names: str | None) -> str:
    return " · ".join(one_line(name) for name in names if name)


def _offer(console: Console, others: Sequence[Match], first: str = "") -> None:
    if others:
        more = f"; {len(others) - OTHERS_SHOWN} more" if len(others) > OTHERS_SHOWN else ""
        shown = "; ".join(str(match) for match in others[:OTHERS_SHOWN])
        console.print(
            f"{first}If you mean another, say more of its name: {shown}{more}", style="dim"
        )


def _console(*, stderr: bool = False) -> Console:
    # What is not a terminal has no width: nothing is cut off there.
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else ENDLESS
    return Console(
        stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True
    )
