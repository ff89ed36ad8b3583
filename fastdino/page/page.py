"""The report page: one HTML file with the map, which needs no network, and plays when served.

Belongs here: gathering what the page shows from the published database, and writing it. Does not:
how the page looks and behaves, which is in ``web/``; serving it (``server``).

Titles, tags and file names are other people's text. They are embedded as JSON in which nothing can
end the script element, and the page shows them through ``textContent`` alone.
"""

import base64
import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.paths import shown
from fastdino.core.storage import atomic_replace
from fastdino.core.summary import Summary
from fastdino.core.text import counted
from fastdino.database.connection import connect, frame, rows
from fastdino.page.script import bundle
from fastdino.reports.palette import color, ramp

# A browser holds no more songs than these in a second or two; of more, the page shows a sample.
SHOWN = 200_000
# Artists and genres beyond these, by number of songs, are grey: more colours tell nothing apart.
COLORED = 14
FAILURES_SHOWN = 500
# Sorts a path as people do, disc 2 before disc 10: every number has ten digits there.
IN_ORDER = r"""
    regexp_replace(regexp_replace(path, '([0-9]+)', '000000000\1', 'g'),
                   '[0-9]*([0-9]{10})', '\1', 'g')
"""
FILES = re.compile(rb'(<script[^<>]* id="files"[^<>]*>)(.*?)(</script>)', re.S)
NO_FILES: dict[str, list[Any]] = {"folders": [], "folder": [], "file": [], "failures": []}
# The end of the page: a hash of all before it.
SEAL = b"\n<!-- sealed %b -->\n"
SOUND = "`make report`, or `fastdino serve`"


def write_page(home: Home) -> Summary:
    """Write ``reports/index.html``, unless it already shows what is published.

    Raises:
        UserError: nothing is published yet, or the database is damaged, or another program has it
            open to write.
    """
    import plotly

    parts = web_parts()
    with connect(home.database) as db:
        published = rows(db, "SELECT fingerprint FROM published")[0][0]
        text = "\n".join([published, plotly.__version__, *parts.values()])
        fingerprint = _hash(text.encode()).decode()
        if page_fingerprint(home.page) == fingerprint:
            return Summary("page", "the page is up to date", False, paths={"page": home.page})
        shown = gather(db)
    counts, n_clusters = shown["data"]["counts"], len(shown["data"]["clusters"])
    with atomic_replace(home.page) as part:
        part.write_bytes(sealed(render(data=shown, fingerprint=fingerprint, **parts)))
    size_mb = home.page.stat().st_size / 1e6
    sampled = f" ({counts['shown']} of them shown)" if counts["shown"] < counts["on_map"] else ""
    return Summary(
        "page",
        f"{counts['on_map']} songs on the map{sampled}, {n_clusters} clusters, {size_mb:.1f} MB",
        True,
        counts={**counts, "size_mb": round(size_mb, 1), "opens with sound by": SOUND},
        paths={"page": home.page},
    )


def without_paths(page: bytes) -> bytes:
    """A page for other devices: as it was written, but for where files lie and what is wrong there.

    Raises:
        UserError: it was written by another version.
    """
    found = FILES.search(page)
    if not found:
        raise UserError("the page is of another version: run `fastdino report`")
    return page[: found.start(2)] + script_safe(NO_FILES) + page[found.end(2) :]


def web_parts() -> dict[str, str]:
    """The page without what it shows: its ``template``, ``style`` and ``script``."""

    web = resources.files(__package__).joinpath("web")
    text = {file.name: file.read_text(encoding="utf-8") for file in web.iterdir() if file.is_file()}
    modules = {name.removesuffix(".js"): text[name] for name in text if name.endswith(".js")}
    return {
        "template": text["page.html"],
        "style": text["style.css"],
        "script": bundle(modules),
    }


def page_fingerprint(page: Path) -> str | None:
    """What a page was made from; None if there is none, or it is not as it was written."""
    try:
        content = page.read_bytes()
    except FileNotFoundError:
        return None
    written = content[: -len(SEAL % _hash(b""))]
    if content != written + SEAL % _hash(written):
        return None
    found = re.search(rb'name="fastdino-fingerprint" content="([0-9a-f]+)"', written)
    return found[1].decode() if found else None


def sealed(page: bytes) -> bytes:
    """A page as it is written: with what tells ``page_fingerprint`` that it is whole."""
    return page + SEAL % _hash(page)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def gather(db: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """All that the page shows, as plain values; songs by column to keep it small.

    Returns:
        ``data``; and apart from it, as they are not read before someone asks for them, ``files``,
        which other devices are not told, and ``neighbors``.
    """
    totals = rows(
        db,
        """
        SELECT count(*), coalesce(len(list_distinct(flatten(list(artists)))), 0),
               coalesce(sum(duration_s), 0) / 3600, count(x), (SELECT count(*) FROM failures)
        FROM songs
        """,
    )[0]
    counts = dict(zip(("songs", "artists", "hours", "on_map", "failures"), totals, strict=True))
    counts["hours"] = round(counts["hours"], 1)
    published_at = rows(db, "SELECT published_at::DATE FROM published")[0][0]
    # A sample is the same each time, and has the typical song of every cluster. Songs come as they
    # lie, so that whatever list of them is in the order of its albums. A number that is there twice
    # is of another disc, which names of files tell if anything does.
    songs = frame(
        db,
        f"""
        SELECT songs.track_id, songs.path, songs.title, songs.artist, songs.artists, songs.album,
               songs.album_artist, songs.genres, songs.year,
               coalesce(tracks.added_at::DATE::VARCHAR, '') AS day,
               TRY_CAST(round(songs.duration_s) AS INTEGER) AS seconds, songs.start_s, songs.end_s,
               cluster_id, round(x, 3) AS x, round(y, 3) AS y,
               CASE WHEN count(songs.track_number) OVER album
                   = count(DISTINCT songs.track_number) OVER album THEN songs.track_number
               END AS number
        FROM (
            SELECT *, {IN_ORDER} AS place FROM songs WHERE x IS NOT NULL
            ORDER BY track_id IN (SELECT medoid_id FROM current_clusters) DESC, md5(track_id)
            LIMIT {SHOWN}
        ) AS songs JOIN tracks USING (track_id)
        WINDOW album AS (PARTITION BY parse_dirpath(songs.path, 'forward_slash'), songs.album)
        ORDER BY parse_dirpath(place, 'forward_slash'), songs.album, number, place, songs.path,
                 songs.start_s, songs.track_id
        """,
    )
    counts["shown"] = len(songs)
    column = {name: songs[name].to_list() for name in songs.columns if name != "path"}
    folder, file = zip(*map(os.path.split, songs["path"]), strict=True) if len(songs) else ((), ())
    by, kinds, day = column["artists"], column["genres"], column["day"]
    artists, genres = (_by_size(itertools.chain.from_iterable(lists)) for lists in (by, kinds))
    # As the tags of an album's songs are read (``ingestion.tags.settled``), but for those that name
    # whose it is: they may lie in a folder a disc.
    of = [
        None if album is None else (album, by_whom or where)
        for album, by_whom, where in zip(
            column["album"], column["album_artist"], folder, strict=True
        )
    ]
    albums, folders = _by_size(of), _by_size(folder)
    days = {name: number for number, name in enumerate(sorted(set(day), reverse=True))}
    row_of = {name: row for row, name in enumerate(column["track_id"])}
    clusters = rows(
        db,
        "SELECT cluster_id, name, medoid_id FROM current_clusters ORDER BY size DESC, cluster_id",
    )
    data = {
        "counts": counts,
        "facts": _facts(counts, published_at),
        "palette": [color(i) for i in range(COLORED)],
        "ramp": ramp(12),
        "artists": list(artists),
        "genres": list(genres),
        "albums": [name for name, _ in albums],
        "days": list(days),
        "songs": {
            "id": column["track_id"],
            "title": column["title"],
            "artists": [[artists[a] for a in several] for several in by],
            # Only where it is worded in another way than by its artists, as in "A feat. B".
            "credit": [
                None if "; ".join(several) == (text or "") else text
                for text, several in zip(column["artist"], by, strict=True)
            ],
            "album": [albums.get(album, -1) for album in of],
            "genres": [[genres[g] for g in several] for several in kinds],
            "year": column["year"],
            "day": [days[d] for d in day],
            "seconds": column["seconds"],
            # Of a song in a file of several, its place there: for playlists. Of most there is none.
            "place": {
                row: [round(start, 3), end and round(end, 3)]
                for row, (start, end) in enumerate(
                    zip(column["start_s"], column["end_s"], strict=True)
                )
                if start is not None
            },
            "cluster": column["cluster_id"],
            "x": column["x"],
            "y": column["y"],
        },
        "clusters": [
            {"id": number, "name": name, "typical": row_of.get(typical, -1), "color": color(number)}
            for number, name, typical in clusters
        ],
        "growth": rows(
            db,
            "SELECT added_at::DATE::VARCHAR, count(*) FROM tracks WHERE added_at IS NOT NULL "
            "GROUP BY ALL ORDER BY ALL",
        ),
        "models": rows(
            db,
            """
            SELECT model_id, created_at::DATE::VARCHAR, is_current, trained_tracks,
                   (metrics ->> 'artist_1nn')::DOUBLE, (metrics ->> 'artist_1nn_mel')::DOUBLE
            FROM models ORDER BY created_at, model_id
            """,
        ),
    }
    files = {
        "folders": list(folders),
        "folder": [folders[f] for f in folder],
        "file": file,
        "failures": [
            (shown(path), stage, reason)
            for path, stage, reason in rows(
                db,
                f"SELECT path, stage, reason FROM failures ORDER BY path LIMIT {FAILURES_SHOWN}",
            )
        ],
    }
    return {"data": data, "files": files, "neighbors": _neighbors(db, songs["track_id"])}


def _neighbors(db: duckdb.DuckDBPyConnection, track_ids: pl.Series) -> dict[str, Any]:
    """The nearest songs of every song by their rows, the nearest first.

    ``rows`` is base64 of little-endian uint32 ``[n, k]``, ``n`` where there is none;
    ``similarities`` of uint8 ``[n, k]``, 255 for the same. As JSON they would be most of the page.
    """
    n = len(track_ids)
    numbered = pl.DataFrame({"track_id": track_ids, "row": np.arange(n, dtype=np.uint32)})
    found = frame(
        db,
        """
        SELECT mine.row, other.row AS near, similarity
        FROM current_neighbors AS pair
        JOIN numbered AS mine ON pair.track_id = mine.track_id
        JOIN numbered AS other ON pair.neighbor_id = other.track_id
        ORDER BY mine.row, rank
        """,
        numbered=numbered,
    )
    row = found["row"].to_numpy()
    times = np.bincount(row, minlength=n)
    k = int(times.max(initial=0))
    place = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    nearest, similarities = np.full((n, k), n, "<u4"), np.zeros((n, k), np.uint8)
    nearest[row, place] = found["near"].to_numpy()
    similarities[row, place] = np.rint(
        255 * found["similarity"].to_numpy().astype(float).clip(0, 1)
    )
    return {"k": k, "rows": _base64(nearest), "similarities": _base64(similarities)}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _facts(counts: dict[str, Any], published_at: Any) -> str:
    """The line under the headline."""
    artists, hours = counts["artists"], counts["hours"]
    parts = [
        counted(artists, "artist"),
        f"{hours:,.0f} hours" if hours >= 10 else f"{hours:.1f} hours",
        f"{published_at.day} {published_at:%B %Y}",
    ]
    if missing := counts["songs"] - counts["on_map"]:
        parts.append(f"{missing:,} not on the map yet")
    if counts["shown"] < counts["on_map"]:
        parts.append(f"a sample of {counts['shown']:,} is on this page")
    return " · ".join(parts)


def _by_size(values: Iterable[Any]) -> dict[Any, int]:
    """Number each value that is not null, the most frequent first."""
    sizes = Counter(value for value in values if value is not None)
    ordered = sorted(sizes, key=lambda value: (-sizes[value], value))
    return {value: number for number, value in enumerate(ordered)}


def render(template: str, data: Mapping[str, Any], fingerprint: str, **parts: str) -> bytes:
    """Fill ``template``: one pass over it, so that no tag is taken for a placeholder.

    Args:
        template: has ``{{name}}`` where something is to stand.
        data: what is to stand there as JSON.
        fingerprint: of all this, for ``page_fingerprint``.
        parts: what is to stand there as it is.
    """
    from plotly.offline import get_plotlyjs

    parts |= {"fingerprint": fingerprint, "plotly": get_plotlyjs()}
    # As bytes, of which a letter takes one: in a text with one odd letter each takes four.
    pieces = re.split(r"\{\{(\w+)\}\}", template)
    return b"".join(
        piece.encode()
        if not number % 2
        else script_safe(data[piece])
        if piece in data
        else parts[piece].encode()
        for number, piece in enumerate(pieces)
    )


def script_safe(value: Any) -> bytes:
    """JSON that can stand in a script element: nothing in it looks like HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character.encode(), b"\\u%04x" % ord(character))
    return text
