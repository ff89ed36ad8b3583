"""CUE sheets: the text that says where in one file the tracks of an album begin.

Belongs here: reading such a text, and where its tracks begin and end in a file. Does not: which
file a sheet is of, what becomes of its tracks (``sheets``).

People and programs write them in many ways. What is beside the point is passed over, so that a
sheet is refused only where it cannot be told where its tracks begin.
"""

import codecs
import itertools
import math
import re
from dataclasses import dataclass, field

from fastdino.ingestion import encodings

FRAMES_PER_S = 75  # sheets tell times in the sectors of a CD
MOST_TRACKS = 999
TIME = re.compile(r"(\d{1,2})\s+(\d{1,5}):([0-5]?\d):([0-6]?\d|7[0-4])\s*", re.ASCII)


class SheetError(ValueError):
    """A sheet cannot be used; the message says why."""


@dataclass
class Tags:
    """What a sheet says of a track, or of all of them; None where it is silent."""

    title: str | None = None
    performer: str | None = None
    genre: str | None = None
    date: str | None = None
    isrc: str | None = None


@dataclass
class Track:
    """A track as it stands in the sheet.

    Attributes:
        number: as the sheet counts.
        is_audio: whether it is sound, and not the data of a computer.
        tags: its own.
        start: where its ``INDEX 01`` is, in 1/75 s; None if it has none that can be read.
    """

    number: int
    is_audio: bool
    tags: Tags = field(default_factory=Tags)
    start: int | None = None


@dataclass
class Part:
    """What a sheet says of one file.

    Attributes:
        name: of the file, without folders; None if the sheet names none.
        tracks: those that begin in it, in the sheet's order.
    """

    name: str | None
    tracks: list[Track] = field(default_factory=list)

    @property
    def audio(self) -> list[Track]:
        """Those of them that are sound."""
        return [track for track in self.tracks if track.is_audio]


@dataclass
class Sheet:
    """A sheet: what it says of all tracks, and its parts, of which each has a track."""

    tags: Tags
    parts: list[Part]


@dataclass(frozen=True)
class Cut:
    """Where a track lies in its file.

    Attributes:
        track: the track.
        start: in 1/75 s.
        end: where the next one begins; None for the end of the file.
    """

    track: Track
    start: int
    end: int | None


def encoding(content: bytes) -> str:
    """In what a sheet is written: UTF-8, UTF-16 if it says so, or else an old code page."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What stands in quotes is a sheet's album; the rest is commands.
        page = encodings.code_page(re.findall(r'"([^"\n]*)"', content.decode("latin-1")))
        return page or "cp1252"
    return "utf-8-sig"


def decode(content: bytes) -> str:
    """The text of a sheet's bytes."""
    return content.decode(encoding(content), "replace")


def parse(text: str) -> Sheet:
    """Read a sheet.

    Raises:
        SheetError: it is no sheet.
    """
    if "\0" in text:
        raise SheetError("it is not text")
    of_all = Tags()
    parts = [Part(None)]
    placed: list[tuple[Track, Part]] = []
    for line in re.split(r"[\r\n]+", text.lstrip("\ufeff")):
        command, rest = [*line.split(None, 1), "", ""][:2]
        command, rest = command.upper(), rest.strip()
        track = placed[-1][0] if placed else None
        tags = track.tags if track else of_all
        if command == "FILE":
            parts.append(Part(_file_name(rest)))
        elif command == "TRACK":
            if found := re.match(r"(\d{1,4})\s*(\w*)", rest, re.ASCII):
                is_audio = found[2].upper() in ("AUDIO", "")
                placed.append((Track(int(found[1]), is_audio), parts[-1]))
        elif command == "INDEX":
            found = TIME.fullmatch(rest)
            if track and found and int(found[1]) == 1 and track.start is None:
                track.start = FRAMES_PER_S * (60 * int(found[2]) + int(found[3])) + int(found[4])
                # Of a CD in a file a track, the pause before a track, and with it the line that
                # begins the track, is in the file before.
                placed[-1] = (track, parts[-1])
        elif command == "TITLE":
            tags.title = tags.title or _unquoted(rest)
        elif command == "PERFORMER":
            tags.performer = tags.performer or _unquoted(rest)
        elif command == "ISRC":
            tags.isrc = tags.isrc or _unquoted(rest)
        elif command == "REM":
            name, value = [*rest.split(None, 1), "", ""][:2]
            if name.upper() == "GENRE":
                tags.genre = tags.genre or _unquoted(value)
            elif name.upper() == "DATE":
                tags.date = tags.date or _unquoted(value)
        if len(placed) > MOST_TRACKS:
            raise SheetError(f"it has more than {MOST_TRACKS} tracks")
    for track, part in placed:
        part.tracks.append(track)
    if not placed:
        raise SheetError("there are no tracks in it")
    return Sheet(of_all, [part for part in parts if part.tracks])


def cuts(part: Part, duration_s: float | None) -> list[Cut]:
    """Where the tracks of a part lie in its file; none if it has fewer than two of sound.

    Args:
        part: of a sheet.
        duration_s: the file's length, if it is known.

    Raises:
        SheetError: they cannot lie there.
    """
    audio = part.audio
    if len(audio) < 2:
        return []
    starts = [_start(track) for track in audio]
    in_order = zip(audio, starts, strict=True)
    for (one, before), (other, after) in itertools.pairwise(in_order):
        if after <= before:
            raise SheetError(
                f"track {other.number} begins at {clock(after)}, not after track {one.number} at "
                f"{clock(before)}"
            )
    if duration_s is not None and starts[-1] >= duration_s * FRAMES_PER_S:
        raise SheetError(
            f"track {audio[-1].number} begins at {clock(starts[-1])}, and the file ends at "
            f"{clock(int(duration_s * FRAMES_PER_S))}"
        )
    found: list[Cut] = []
    end: int | None = None
    for index, track in reversed(list(enumerate(part.tracks))):
        if track.is_audio:
            found.append(Cut(track, _start(track), end))
            end = track.start
        elif track.start is not None:
            # What is no sound is often not in the file, such as the films behind a CD's songs.
            before = sum(each.is_audio for each in part.tracks[:index])
            least = starts[before - 1] if before else 0
            most = end if end is not None else (duration_s or math.inf) * FRAMES_PER_S
            if least < track.start < most:
                end = track.start
    return found[::-1]


def _start(track: Track) -> int:
    if track.start is None:
        raise SheetError(f"where track {track.number} begins cannot be read (INDEX 01)")
    return track.start


def clock(frames: int) -> str:
    """1/75 s as minutes and seconds."""
    minutes, seconds = divmod(frames // FRAMES_PER_S, 60)
    return f"{minutes}:{seconds:02}"


def _unquoted(text: str) -> str | None:
    # Some names have quotes of their own in them, some sheets lack the closing one.
    if text.startswith('"'):
        text = text[1:].removesuffix('"') if text.endswith('"') else text[1:].partition('"')[0]
    return text.strip() or None


def _file_name(text: str) -> str | None:
    name = text
    if text.startswith('"'):
        name = text[1:].rpartition('"')[0] or text[1:]
    elif found := re.fullmatch(r"(.*\.\w+)\s+\w+", text):
        name = found[1]  # without its kind, such as WAVE
    return re.split(r"[/\\]", name)[-1].strip() or None
