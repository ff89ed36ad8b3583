"""The report page: one HTML file with the map, to be opened from disk without a network.

Belongs here: gathering what the page shows from the published database, and writing it. Does not:
how the page looks and behaves, which is ``page.html``.

Titles, tags and file names are other people's text. They are embedded as JSON in which nothing can
end the script element, and the page shows them through ``textContent`` alone.
"""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from fastdino.home import Home
from fastdino.reports.database import connect, rows
from fastdino.reports.palette import color
from fastdino.storage import replacing
from fastdino.summary import Summary

# Artists and genres beyond these, by number of songs, are grey: more colours tell nothing apart.
COLORED = 14
FAILURES_SHOWN = 500


def run_page(home: Home) -> Summary:
    """Write ``reports/index.html``, unless it already shows what is published.

    Raises:
        UserError: nothing is published yet, or the database is damaged, or another program has it
            open to write.
    """
    import plotly

    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    with connect(home.database) as db:
        published = rows(db, "SELECT fingerprint FROM published")[0][0]
        text = f"{published}\n{plotly.__version__}\n{template}"
        fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        if page_fingerprint(home.page) == fingerprint:
            return Summary("page", "the page is up to date", False, paths={"page": home.page})
        shown = gather(db)
    with replacing(home.page) as part:
        part.write_text(render(template, shown, fingerprint), encoding="utf-8")
    counts = shown["counts"]
    size_mb = home.page.stat().st_size / 1e6
    return Summary(
        "page",
        f"{counts['on_map']} songs on the map, {len(shown['clusters'])} clusters, {size_mb:.1f} MB",
        True,
        counts={**counts, "size_mb": round(size_mb, 1)},
        paths={"page": home.page},
    )


def page_fingerprint(page: Path) -> str | None:
    """What a page was made from; None if there is none, or it is not one of ours."""
    try:
        with open(page, encoding="utf-8", errors="replace") as file:
            head = file.read(1_000)
    except FileNotFoundError:
        return None
    found = re.search(r'name="fastdino-fingerprint" content="([0-9a-f]+)"', head)
    return found[1] if found else None


def gather(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """All that the page shows, as plain values; songs by column to keep it small."""
    totals = rows(
        db,
        """
        SELECT count(*), count(DISTINCT artist), coalesce(sum(duration_s), 0) / 3600,
               count(x), (SELECT count(*) FROM failures)
        FROM songs
        """,
    )[0]
    counts = dict(zip(("songs", "artists", "hours", "on_map", "failures"), totals, strict=True))
    counts["hours"] = round(counts["hours"], 1)
    model_id, published_at = rows(db, "SELECT model_id, published_at::DATE FROM published")[0]
    songs = rows(
        db,
        """
        SELECT title, artist, album, genre, cluster_id, round(x, 3), round(y, 3)
        FROM songs WHERE x IS NOT NULL ORDER BY track_id
        """,
    )
    title, artist, album, genre, cluster, x, y = zip(*songs, strict=True) if songs else [()] * 7
    artists, genres = _by_size(artist), _by_size(genre)
    clusters = rows(
        db,
        """
        SELECT cluster_id, name, concat_ws(' · ', typical.title, typical.artist)
        FROM clusters SEMI JOIN (FROM maps WHERE is_current) USING (map_id)
        LEFT JOIN tracks AS typical ON typical.track_id = medoid_id
        ORDER BY size DESC, cluster_id
        """,
    )
    return {
        "counts": counts,
        "facts": _facts(counts, model_id, published_at),
        "palette": [color(i) for i in range(COLORED)],
        "accent": color(0),
        "artists": list(artists),
        "genres": list(genres),
        "songs": {
            "x": x,
            "y": y,
            "title": title,
            "album": album,
            "artist": [artists.get(a, -1) for a in artist],
            "genre": [genres.get(g, -1) for g in genre],
            "cluster": cluster,
        },
        "clusters": [
            {"id": number, "name": name, "typical": typical, "color": color(number)}
            for number, name, typical in clusters
        ],
        "failures": rows(
            db,
            f"SELECT path, stage, reason FROM failures ORDER BY path LIMIT {FAILURES_SHOWN}",
        ),
    }


def _facts(counts: dict[str, Any], model_id: str, published_at: Any) -> str:
    """The line under the headline."""
    artists, hours = counts["artists"], counts["hours"]
    parts = [
        f"{artists:,} artist{'s' * (artists != 1)}",
        f"{hours:,.0f} hours" if hours >= 10 else f"{hours:.1f} hours",
        f"model {model_id}",
        f"{published_at.day} {published_at:%B %Y}",
    ]
    if missing := counts["songs"] - counts["on_map"]:
        parts.append(f"{missing:,} not on the map yet")
    return " · ".join(parts)


def _by_size(values: tuple[str | None, ...]) -> dict[str, int]:
    """Number each value that is not null, the most frequent first."""
    sizes: dict[str, int] = {}
    for value in values:
        if value is not None:
            sizes[value] = sizes.get(value, 0) + 1
    ordered = sorted(sizes, key=lambda value: (-sizes[value], value))
    return {value: number for number, value in enumerate(ordered)}


def render(template: str, shown: dict[str, Any], fingerprint: str) -> str:
    """Fill the template: one pass over it, so that no tag is taken for a placeholder."""
    from plotly.offline import get_plotlyjs

    parts = {"fingerprint": fingerprint, "plotly": get_plotlyjs(), "data": script_safe(shown)}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def script_safe(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it looks like HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
