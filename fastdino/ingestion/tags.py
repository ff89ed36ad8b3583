"""What a file's tags say: from whatever names and blocks a format has to the catalogue's columns.

Belongs here: which block is believed, what names stand for, numbers, genres, and text in wrong
encodings, of one file and of the files of an album together. Does not: taking blocks apart
(``tag_blocks``), how encodings are told (``encodings``), or which recording it is (``identify``).

A tag with several values is a list (``artists``, ``genres``) and one text for people (``artist``,
``genre``): the values with "; " between them, whatever the format puts there. A single value is
never taken apart: AC/DC are one artist.
"""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from fastdino.core.text import is_visible, one_line
from fastdino.ingestion import encodings, tag_blocks
from fastdino.ingestion.tag_blocks import Block

MAX_TEXT = 500
MOST_VALUES = 50
BETWEEN = "; "
# FFmpeg puts these between the comments of FLAC and Ogg. Of so many tinytag would take seconds.
MOST_SEMICOLONS = 5_000

# Names as ``_plain`` has them, the first that has a value counts. Of ID3 the frames of 2.4, 2.3 and
# 2.2; of FFmpeg its own names.
NAMES = {
    "title": ("title", "tit2", "tt2"),
    "artist": ("artist", "tpe1", "tp1", "author", "performer"),
    "artists": ("artists",),
    "album": ("album", "talb", "tal", "albumtitle"),
    "album_artist": ("albumartist", "tpe2", "tp2"),
    "genre": ("genre", "tcon", "tco"),
    "year": ("date", "year", "tdrc", "tyer", "tye", "datereleased", "daterecorded"),
    "original_year": (
        "originaldate", "originalyear", "tdor", "tory", "tor", "originalreleasedate",
        "originalreleaseyear", "originalreleasetime",
    ),
    "track_number": ("track", "tracknumber", "trck", "trk", "partnumber"),
    "recording_mbid": (
        "ufidhttpmusicbrainzorg", "musicbrainztrackid", "musicbrainzrecordingid",
    ),
    "isrc": ("isrc", "tsrc", "trc"),
}  # fmt: skip
# Columns with text that may be in any code page, and their lists.
TEXTS = ("title", "artist", "album", "album_artist", "genre")
LISTS = ("artists", "genres")

# By their numbers in ID3v1, with those that Winamp added, spelt as FFmpeg does: maps of before have
# clusters that are called after these.
GENRES = tuple(
    """
    Blues|Classic Rock|Country|Dance|Disco|Funk|Grunge|Hip-Hop|Jazz|Metal|New Age|Oldies|Other|Pop|
    R&B|Rap|Reggae|Rock|Techno|Industrial|Alternative|Ska|Death Metal|Pranks|Soundtrack|
    Euro-Techno|Ambient|Trip-Hop|Vocal|Jazz+Funk|Fusion|Trance|Classical|Instrumental|Acid|House|
    Game|Sound Clip|Gospel|Noise|AlternRock|Bass|Soul|Punk|Space|Meditative|
    Instrumental Pop|Instrumental Rock|Ethnic|Gothic|Darkwave|Techno-Industrial|Electronic|
    Pop-Folk|Eurodance|Dream|Southern Rock|Comedy|Cult|Gangsta|Top 40|Christian Rap|Pop/Funk|
    Jungle|Native American|Cabaret|New Wave|Psychedelic|Rave|Showtunes|Trailer|Lo-Fi|Tribal|
    Acid Punk|Acid Jazz|Polka|Retro|Musical|Rock & Roll|Hard Rock|Folk|Folk-Rock|National Folk|
    Swing|Fast Fusion|Bebop|Latin|Revival|Celtic|Bluegrass|Avantgarde|Gothic Rock|
    Progressive Rock|Psychedelic Rock|Symphonic Rock|Slow Rock|Big Band|Chorus|Easy Listening|
    Acoustic|Humour|Speech|Chanson|Opera|Chamber Music|Sonata|Symphony|Booty Bass|Primus|
    Porn Groove|Satire|Slow Jam|Club|Tango|Samba|Folklore|Ballad|Power Ballad|Rhythmic Soul|
    Freestyle|Duet|Punk Rock|Drum Solo|A Cappella|Euro-House|Dance Hall|Goa|Drum & Bass|
    Club-House|Hardcore Techno|Terror|Indie|BritPop|Afro-Punk|Polsk Punk|Beat|Christian Gangsta Rap|
    Heavy Metal|Black Metal|Crossover|Contemporary Christian|Christian Rock|Merengue|Salsa|
    Thrash Metal|Anime|Jpop|Synthpop|Abstract|Art Rock|Baroque|Bhangra|Big Beat|Breakbeat|
    Chillout|Downtempo|Dub|EBM|Eclectic|Electro|Electroclash|Emo|Experimental|Garage|Global|IDM|
    Illbient|Industro-Goth|Jam Band|Krautrock|Leftfield|Lounge|Math Rock|New Romantic|Nu-Breakz|
    Post-Punk|Post-Rock|Psytrance|Shoegaze|Space Rock|Trop Rock|World Music|Neoclassical|
    Audiobook|Audio Theatre|Neue Deutsche Welle|Podcast|Indie Rock|G-Funk|Dubstep|Garage Rock|
    Psybient
    """.replace("\n", "").replace("|    ", "|").strip().split("|")
)  # fmt: skip
GENRE_SIGNS = {"RX": "Remix", "CR": "Cover"}
NO_GENRE = "255"

_MBID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ISRC = re.compile(r"[A-Z]{2}[A-Z0-9]{3}\d{7}", re.ASCII)
# Like ``one_line``, but what may be letters of another code page is left alone.
_ASCII_SPACE = re.compile(r"[\x00-\x20\x7f]+")


def read(file: BinaryIO, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The catalogue's tag columns of one file; None where missing.

    Args:
        file: the file.
        metadata: what FFmpeg says of it, with bytes that are no UTF-8 as lone surrogates. It fills
            what no block has, except that it counts above an ID3v1.

    Raises:
        OSError: the disk cannot read the file.
    """
    few = all(text.count(";") <= MOST_SEMICOLONS for text in metadata.values())
    blocks = tag_blocks.read(file, with_tinytag=few)
    ffmpeg = _named({name: [_decoded(text)] for name, text in metadata.items()})
    first = _reconciled(_named(blocks.by_tinytag), ffmpeg)
    return columns([first, *map(_named, blocks.own), ffmpeg, *map(_named, blocks.last)])


def _decoded(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return encodings.of_utf8(text.encode("utf-8", "surrogateescape"))
    return text


def _named(block: Block) -> Block:
    found: Block = {}
    for name, values in block.items():
        found.setdefault(_plain(name), []).extend(values)
    return found


@functools.lru_cache(10_000)
def _plain(name: str) -> str:
    """A name without what formats write differently, as ``WM/AlbumArtist`` and ``ALBUM_ARTIST``."""
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("wm/"))


def _reconciled(block: Block, ffmpeg: Block) -> Block:
    """What tinytag says, without what FFmpeg knows better.

    Where a file has both ARTIST ("A feat. B") and ARTISTS (A, B), tinytag takes all for one.
    """
    if "artists" not in ffmpeg:
        return block
    credit = next(iter(ffmpeg.get("artist", ())), "")
    if "artists" in block or credit not in block.get("artist", ()):
        return block
    single = {part.strip() for part in ffmpeg["artists"][0].split(";")}
    others = [name for name in block["artist"] if name != credit or credit in single]
    return {**block, "artist": [credit], "artists": others}


def columns(blocks: Sequence[Block]) -> dict[str, Any]:
    """The catalogue's tag columns from blocks with plain names, those to believe first."""

    def values(column: str) -> list[str]:
        for block in blocks:
            for name in NAMES[column]:
                if name in block and (found := _cleaned(block[name])):
                    return found
        return []

    found = {column: values(column) for column in NAMES}
    genres = list(dict.fromkeys(name for text in found["genre"] for name in genre_names(text)))
    artists = found["artists"] if len(found["artists"]) > 1 else found["artist"]
    original = next(filter(None, map(year, found["original_year"])), None)
    return {
        "title": _joined(found["title"][:1]),
        "artist": _joined(found["artist"] or artists),
        "artists": artists or None,
        "album": _joined(found["album"][:1]),
        "album_artist": _joined(found["album_artist"]),
        "genre": _joined(genres),
        "genres": genres or None,
        "year": next(filter(None, map(year, found["year"])), original),
        "original_year": original,
        "track_number": next(iter(map(number, found["track_number"])), None),
        "recording_mbid": next(filter(None, map(recording_mbid, found["recording_mbid"])), None),
        "isrc": next(filter(None, map(isrc, found["isrc"])), None),
    }


def _cleaned(values: Iterable[str]) -> list[str]:
    """The different values that are not empty, as they are shown."""
    return list(dict.fromkeys(filter(None, map(repaired, values))))[:MOST_VALUES]


def _joined(values: Sequence[str]) -> str | None:
    # Other spaces may be letters of another code page yet.
    return BETWEEN.join(values)[:MAX_TEXT].strip(" ") or None


def repaired(text: str) -> str:
    """``clean`` text without what can be mended in it by itself, see ``encodings``."""
    return clean(encodings.repaired(text[: 10 * MAX_TEXT]))


def in_page(text: str, page: str | None) -> str:
    """``repaired`` text as it is shown, where its album is in this code page, or in none."""
    return text if text.isascii() else _line(encodings.as_windows(encodings.in_page(text, page)))


def clean(text: str) -> str:
    """``text`` on one line: no control characters, no odd spaces, at most ``MAX_TEXT`` long.

    What looks like one may be a letter where the encoding is not decided yet: such a text loses
    only those of ASCII, and the others with ``in_page``.
    """
    # Of a text that is larger than any tag, as its start; a compressed one has room for gigabytes.
    text = text[: 10 * MAX_TEXT]
    if encodings.undecided(text):
        return _ASCII_SPACE.sub(" ", text).strip(" ")[:MAX_TEXT].strip(" ")
    return _line(text)


def _line(text: str) -> str:
    line = one_line(text)[:MAX_TEXT].strip()
    return line if is_visible(line) else ""


def genre_names(text: str) -> Iterator[str]:
    """The genres that one value stands for, numbers by their names.

    ``17``, ``(17)``, ``(51)(39)``, ``RX``; ``(4)Eurodisco`` is a genre with a finer one. A number
    that names none is a name itself, ``1999``, unless it is in brackets or says "none", 255.
    """
    rest = text
    while found := re.match(r"\((\d{1,3}|RX|CR)\)\s*", rest, re.ASCII):
        yield from _numbered(found[1])
        rest = rest[found.end() :]
    rest = rest.removeprefix("(") if rest.startswith("((") else rest
    if rest in GENRE_SIGNS or re.fullmatch(r"\d{1,3}", rest, re.ASCII):
        named = list(_numbered(rest))
        yield from named or ([] if rest == NO_GENRE else [rest])
    elif rest:
        yield rest


def _numbered(sign: str) -> Iterator[str]:
    if sign in GENRE_SIGNS:
        yield GENRE_SIGNS[sign]
    elif int(sign) < len(GENRES):
        yield GENRES[int(sign)]


def year(text: str | None) -> int | None:
    """The first plausible year: 2004 from ``2004-05-01``, ``20040501`` or ``(2004)``."""
    found = re.search(r"(?<!\d)(1[89]\d\d|20\d\d)", text or "", re.ASCII)
    return int(found[1]) if found else None


def number(text: str | None) -> int | None:
    """The leading number of ``text``: 3 from ``3/12`` or ``03``."""
    found = re.match(r"\d{1,4}(?!\d)", text or "", re.ASCII)
    return int(found[0]) if found else None


def recording_mbid(text: str) -> str | None:
    """``text`` as MusicBrainz writes its identifiers; None if it is none."""
    return text.lower() if _MBID.fullmatch(text.lower()) else None


def isrc(text: str) -> str | None:
    """``text`` as twelve characters, ``GBAYE0601498``; None if it is no ISRC."""
    plain = re.sub(r"[- ]", "", text).upper().removeprefix("ISRC")
    return plain if _ISRC.fullmatch(plain) else None


# ---- an album


def may_be_of_a_page(row: Mapping[str, Any]) -> bool:
    """Whether the tags of a file look like those of an album in a code page of before Unicode."""
    return encodings.is_dense(text for text in _texts(row) if encodings.undecided(text))


def settled(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Files as ``read`` left them, with ``path``, in the encodings that their albums are in.

    Files of one folder whose album is called the same belong together.
    """
    albums: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in rows:
        key = (os.path.dirname(row["path"]), row["album"])
        albums.setdefault(key, []).append(dict(row))
    for album in albums.values():
        page = encodings.code_page(text for row in album for text in _texts(row))
        for row in album:
            _settle(row, page)
    return [row for album in albums.values() for row in album]


def _texts(row: Mapping[str, Any]) -> Iterator[str]:
    for column in TEXTS:
        # What is joined of several is in their list.
        if row[column] and not any(BETWEEN.join(row[each] or ()) == row[column] for each in LISTS):
            yield row[column]
    for column in LISTS:
        yield from row[column] or ()


def _settle(row: dict[str, Any], page: str | None) -> None:
    def right(text: str) -> str:
        return in_page(text, page)

    for text, of in (("artist", "artists"), ("genre", "genres")):
        before = row[of] or ()
        row[of] = list(filter(None, map(right, before))) or None
        if row[text] is not None:
            joined = row[text] == _joined(before)
            row[text] = _joined(row[of] or ()) if joined else right(row[text]) or None
    for column in ("title", "album", "album_artist"):
        row[column] = (right(row[column]) or None) if row[column] else None
