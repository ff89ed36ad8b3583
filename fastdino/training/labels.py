"""What is known of the songs: artist, album and label, from tags and from CSV files.

Belongs here: reading them, for judging. Does not: training, which uses none of it, or the
measures (``evaluation``). Done without polars: where only training runs it is not installed.
"""

import csv
import dataclasses
import io
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.core.errors import UserError
from fastdino.core.paths import to_path, to_text

log = logging.getLogger(__name__)

REQUIRED = ("path", "label", "artist")


@dataclass(frozen=True)
class Labels:
    """What is known of one song; None where nothing is.

    Attributes:
        artist: who plays; of several the first, as being the same artist is all or nothing here.
        album: the album's title.
        label: what songs are told apart by, such as the genre; of several genres the first.
    """

    artist: str | None
    album: str | None
    label: str | None


def read(catalog: Path, csv_files: Sequence[Path] = ()) -> dict[str, Labels]:
    """Artist, album and label of every track of the catalogue.

    They are the tags (the label: the genre), of a track's first file that names an artist, or else
    of the first. CSV files in UTF-8 override them, the last one first. They have the columns
    ``path``, ``label``, ``artist`` and, if wanted, ``album``; others are ignored. A path is
    absolute or relative to the CSV file's folder, and an empty cell leaves the tag as it is. Rows
    that name no song of the catalogue are counted in the log.

    Args:
        catalog: Parquet, as described in ``fastdino.ingestion.catalog``.
        csv_files: overrides.

    Returns:
        Labels by track id. Empty where there is no catalogue, as on a computer that only trains.

    Raises:
        UserError: a file cannot be read or lacks a column, or a CSV file names no song of the
            catalogue. The message names file and line.
    """
    tracks, labels = _tags(catalog) if catalog.exists() else ({}, {})
    for file in csv_files:
        named, strangers = 0, []
        for line, row in _rows(file):
            named_here = tracks.get(to_text(os.path.abspath(file.parent / to_path(row["path"]))))
            if named_here is None:
                strangers.append(f"line {line}: {row['path']}")
                continue
            named += 1
            columns = ("artist", "album", "label")
            given = {name: row[name].strip() for name in columns if row.get(name, "").strip()}
            for track_id in named_here:
                labels[track_id] = dataclasses.replace(labels[track_id], **given)
        if strangers and not named:
            raise UserError(
                f"{file}: none of its {len(strangers)} paths is a song of {catalog} "
                f"({strangers[0]}): paths are taken relative to {file.parent.absolute()}; correct "
                "them, or run 'fastdino ingest' on that music first"
            )
        if strangers:
            log.warning(
                "%s: %d of %d rows name no song of the catalogue (%s)",
                file,
                len(strangers),
                named + len(strangers),
                strangers[0],
            )
    return labels


def tracks_of_files(catalog: Path) -> dict[str, list[str]]:
    """Track ids by path, as the catalogue has it: several of an album in one file.

    Raises:
        UserError: the catalogue cannot be read.
    """
    return _tags(catalog)[0] if catalog.exists() else {}


def _tags(catalog: Path) -> tuple[dict[str, list[str]], dict[str, Labels]]:
    """Track ids by path, several of an album in one file, and what the tags say by track id."""
    columns = ["path", "track_id", "artist", "album", "genre", "added_at"]
    try:
        # Catalogues of older versions have no lists, and know of no file that holds several songs.
        there = set(pq.read_schema(catalog).names)
        lists = [name for name in ("artists", "genres", "cue") if name in there]
        files = pq.read_table(
            catalog, columns=columns + lists, partitioning=None, page_checksum_verification=True
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{catalog} is damaged or of another version: delete it and run 'fastdino ingest'"
        ) from error
    files = files.filter(pc.is_valid(files["track_id"]))
    # The first file that names an artist speaks for a track, everywhere in the pipeline.
    files = files.sort_by([("added_at", "ascending"), ("path", "ascending")])
    tracks: dict[str, list[str]] = {}
    labels: dict[str, Labels] = {}
    for row in files.to_pylist():
        # What a CUE sheet does not tell of a song is that of the file, as in ``catalog.songs``.
        artist = next(iter(row.get("artists") or ()), row["artist"])
        genre = next(iter(row.get("genres") or ()), row["genre"])
        for song in row.get("cue") or [{"track_id": row["track_id"]}]:
            track_id = song["track_id"]
            said = Labels(
                song.get("artist") or artist,
                song.get("album") or row["album"],
                song.get("genre") or genre,
            )
            tracks.setdefault(row["path"], []).append(track_id)
            known = labels.setdefault(track_id, said)
            if known.artist is None and said.artist is not None:
                labels[track_id] = said
    return tracks, labels


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, each with the number of the line it ends on."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check the name") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {line}: is not UTF-8: save the file as UTF-8") from error
    # What a short row lacks are empty cells.
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    try:
        missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(
                f"{file}, line 1: there is no column {' or '.join(missing)}: name the columns "
                f"{','.join(REQUIRED)} there, with commas between them"
            )
        for row in reader:
            if None in row:
                raise UserError(
                    f"{file}, line {reader.line_num}: has more cells than line 1 has columns: "
                    "put cells that hold a comma in quotes"
                )
            yield reader.line_num, row
    except csv.Error as error:
        # Of the last row that was sound: a quote left open takes in all that follows it.
        line = reader.line_num + 1
        raise UserError(f"{file}, line {line}: {error}: check the quotes") from error
