"""What tags say, from real files of every format."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino import demo
from fastdino.ingestion import identify, tags
from fastdino.ingestion.identify import Identified
from tests import joined, tagging
from tests.tagging import text_frame

MBID = "b1a9c0e9-d987-4042-ae91-78d6a3267d69"
# A duet with two genres, that came out first long before this edition.
DUET = {
    "title": "Dust",
    "artist": "Ära; Øl",
    "artists": ["Ära", "Øl"],
    "album": "Rooms",
    "album_artist": "Ära",
    "genre": "Folk; Dub",
    "genres": ["Folk", "Dub"],
    "year": 2011,
    "original_year": 1975,
    "track_number": 3,
    "recording_mbid": MBID,
    "isrc": "GBAYE7500101",
}
VORBIS = [
    ("TITLE", "Dust"), ("ARTIST", "Ära"), ("ARTIST", "Øl"), ("ALBUM", "Rooms"),
    ("ALBUMARTIST", "Ära"), ("GENRE", "Folk"), ("GENRE", "Dub"), ("DATE", "2011-02-03"),
    ("ORIGINALDATE", "1975"), ("TRACKNUMBER", "3"), ("MUSICBRAINZ_TRACKID", MBID),
    ("ISRC", "GBAYE7500101"),
]  # fmt: skip
APE = [
    ("Title", "Dust"), ("Artist", "Ära\0Øl"), ("Album", "Rooms"), ("Album Artist", "Ära"),
    ("Genre", "Folk\0Dub"), ("Year", "2011"), ("ORIGINALYEAR", "1975"), ("Track", "3/9"),
    ("MUSICBRAINZ_TRACKID", MBID), ("ISRC", "GBAYE7500101"),
]  # fmt: skip
WMA = [
    ("WM/AlbumTitle", "Rooms"), ("Author", "Ära"), ("Author", "Øl"), ("WM/AlbumArtist", "Ära"),
    ("WM/Genre", "Folk"), ("WM/Genre", "Dub"), ("WM/Year", "2011"), ("Title", "Dust"),
    ("WM/OriginalReleaseYear", "1975"), ("WM/TrackNumber", "3"), ("MusicBrainz/Track Id", MBID),
    ("WM/ISRC", "GBAYE7500101"),
]  # fmt: skip
MP4 = [
    ("©nam", ["Dust"]), ("©ART", ["Ära", "Øl"]), ("©alb", ["Rooms"]), ("aART", ["Ära"]),
    ("©gen", ["Folk", "Dub"]), ("©day", ["2011-02-03"]), ("ORIGINALDATE", ["1975"]),
    ("trkn", ["\0\0\0\3\0\x09\0\0"]), ("MusicBrainz Track Id", [MBID]),
    ("ISRC", ["GBAYE7500101"]),
]  # fmt: skip
ID3 = [
    text_frame("TIT2", "Dust"), text_frame("TPE1", "Ära\0Øl"), text_frame("TALB", "Rooms"),
    text_frame("TPE2", "Ära"), text_frame("TCON", "Folk"), text_frame("TCON", "Dub"),
    text_frame("TDRC", "2011-02-03"), text_frame("TDOR", "1975"), text_frame("TRCK", "3/9"),
    ("UFID", b"http://musicbrainz.org\0" + MBID.encode()), text_frame("TSRC", "GB-AYE-75-00101"),
]  # fmt: skip
ID3_OLD = [
    text_frame("TIT2", "Dust", "utf-16"), text_frame("TPE1", "Ära\0Øl", "utf-16"),
    text_frame("TALB", "Rooms", "latin-1"), text_frame("TPE2", "Ära", "utf-16"),
    text_frame("TCON", "(80)Dub", "latin-1"), text_frame("TYER", "2011", "latin-1"),
    text_frame("TORY", "1975", "latin-1"), text_frame("TRCK", "3", "latin-1"),
    text_frame("TXXX", f"MusicBrainz Track Id\0{MBID}", "latin-1"),
    text_frame("TSRC", "GBAYE7500101", "latin-1"),
]  # fmt: skip
ID3_OLDEST = [
    text_frame("TT2", "Dust", "latin-1"), text_frame("TP1", "Ära\0Øl", "latin-1"),
    text_frame("TAL", "Rooms", "latin-1"), text_frame("TP2", "Ära", "latin-1"),
    text_frame("TCO", "Folk\0Dub", "latin-1"), text_frame("TYE", "2011", "latin-1"),
    text_frame("TOR", "1975", "latin-1"), text_frame("TRK", "3", "latin-1"),
    ("UFI", b"http://musicbrainz.org\0" + MBID.encode()),
    text_frame("TRC", "GBAYE7500101", "latin-1"),
]  # fmt: skip
MATROSKA = [
    (30, [("TITLE", "Dust"), ("ARTIST", "Ära"), ("ARTIST", "Øl"), ("GENRE", "Folk"),
          ("GENRE", "Dub"), ("PART_NUMBER", "3"), ("DATE_RELEASED", "2011"),
          ("ORIGINALDATE", "1975"), ("MUSICBRAINZ_TRACKID", MBID), ("ISRC", "GBAYE7500101")]),
    (50, [("TITLE", "Rooms"), ("ARTIST", "Ära")]),
]  # fmt: skip

FORMATS: dict[str, tuple[str, tuple[str, str] | None, Callable[[bytes], bytes]]] = {
    "flac": (".flac", None, lambda song: tagging.flac_tagged(song, VORBIS)),
    "flac below ID3v2": (
        ".flac", None,
        lambda song: tagging.id3v2([text_frame("TIT2", "Old"), text_frame("TPE1", "Older")])
        + tagging.flac_tagged(song, VORBIS),
    ),
    "opus": (".opus", None, lambda song: tagging.opus_tagged(song, VORBIS)),
    "mp4": (".m4a", None, lambda song: tagging.mp4_tagged(song, MP4)),
    "wma": (".wma", ("asf", "wmav2"), lambda song: tagging.wma_tagged(song, WMA)),
    "mka": (".mka", ("matroska", "flac"), lambda song: tagging.matroska_tagged(song, MATROSKA)),
    "mp3, ID3v2.4": (".mp3", None, lambda song: tagging.id3v2(ID3) + song),
    "mp3, ID3v2.3": (".mp3", None, lambda song: tagging.id3v2(ID3_OLD, 3) + song),
    "mp3, ID3v2.2": (".mp3", None, lambda song: tagging.id3v2(ID3_OLDEST, 2) + song),
    "mp3, unsynchronised": (".mp3", None, lambda s: tagging.id3v2(ID3_OLD, 3, flags=0x80) + s),
    "mp3, APEv2": (".mp3", None, lambda song: song + tagging.apev2(APE)),
    "mp3, APEv2 below ID3v1": (
        ".mp3", None, lambda song: song + tagging.apev2(APE) + tagging.id3v1(title="D", genre=17),
    ),
    "wv": (".wv", ("wv", "wavpack"), lambda song: song + tagging.apev2(APE)),
    "tta": (".tta", ("tta", "tta"), lambda song: song + tagging.apev2(APE)),
    "wav": (
        ".wav", None,
        lambda song: tagging.with_chunk(song, tagging.chunk(b"id3 ", tagging.id3v2(ID3))),
    ),
    "aiff": (
        ".aiff", ("aiff", "pcm_s16be"),
        lambda song: tagging.with_chunk(song, tagging.chunk(b"ID3 ", tagging.id3v2(ID3), ">"), ">"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    song = demo.plan(Path("x"), artists=1, songs_per_artist=6, seconds=2.0)[0]
    return demo.compose(song)


@pytest.fixture(scope="module")
def untagged(audio: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """The sound in a format, without tags."""
    made: dict[str, bytes] = {}

    def song(suffix: str, muxer: tuple[str, str] | None = None) -> bytes:
        if suffix not in made:
            path = tmp_path_factory.mktemp("untagged") / f"song{suffix}"
            with pytest.MonkeyPatch.context() as patched:
                if muxer:
                    patched.setitem(demo.FORMATS, suffix, demo.Format(*muxer, 44_100, 128_000))
                demo.encode(path, audio, demo.RATE, {})
            made[suffix] = path.read_bytes()
        return made[suffix]

    return song


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str, bytes], Identified]:
    """What is found in a file."""

    def look(suffix: str, content: bytes) -> Identified:
        path = tmp_path / f"song{suffix}"
        path.write_bytes(content)
        identified = identify.identify(str(path))
        assert identified.error is None
        return identified

    return look


def said(identified: Identified) -> dict[str, Any]:
    return {column: getattr(identified, column) for column in DUET}


@pytest.mark.parametrize("case", FORMATS)
def test_every_value_is_read_from_every_format_in_one_form(case: str, untagged, found) -> None:
    suffix, muxer, tagged = FORMATS[case]
    plain = untagged(suffix, muxer)
    identified = found(suffix, tagged(plain))
    assert said(identified) == DUET
    if "APEv2" not in case:
        assert identified.track_id == found(suffix, plain).track_id


def test_further_artists_may_stand_in_frames_of_their_own(untagged, found) -> None:
    frames = [text_frame("TPE1", name) for name in ("A", "B", "A", "C")]
    identified = found(".mp3", tagging.id3v2(frames) + untagged(".mp3"))
    assert (identified.artist, identified.artists) == ("A; B; C", ["A", "B", "C"])


@pytest.mark.parametrize("name", ["AC/DC", "Tyler; Creator", "Simon & Garfunkel", "10,000 Maniacs"])
def test_a_single_value_is_not_taken_apart(name: str, untagged, found) -> None:
    for version in (3, 4):
        mp3 = tagging.id3v2([text_frame("TPE1", name, "latin-1")], version) + untagged(".mp3")
        assert found(".mp3", mp3).artists == [name]
    flac = tagging.flac_tagged(untagged(".flac"), [("ARTIST", name)])
    assert (found(".flac", flac).artist, found(".flac", flac).artists) == (name, [name])


def test_a_credit_stays_as_it_is_worded_where_the_artists_are_listed_beside_it(
    untagged, found
) -> None:
    credit, each = "A feat. B", ["A", "B"]
    comments = [("ARTIST", credit), *(("ARTISTS", name) for name in each)]
    frames = [text_frame("TXXX", "ARTISTS\0A\0B"), text_frame("TPE1", credit)]
    for suffix, content in (
        (".flac", tagging.flac_tagged(untagged(".flac"), comments)),
        (".m4a", tagging.mp4_tagged(untagged(".m4a"), [("©ART", [credit]), ("ARTISTS", each)])),
        (".mp3", tagging.id3v2(frames) + untagged(".mp3")),
        (".mp3", untagged(".mp3") + tagging.apev2([("Artist", credit), ("Artists", "A\0B")])),
    ):
        identified = found(suffix, content)
        assert (identified.artist, identified.artists) == (credit, each)


def test_artists_beside_a_credit_of_several_do_not_shorten_it(untagged, found) -> None:
    each, listed = ["A", "B"], [("ARTISTS", "A"), ("ARTISTS", "B")]
    comments = [("ARTIST", "A"), ("ARTIST", "B"), *listed]
    attributes = [("Author", "A"), ("Author", "B"), *(("WM/ARTISTS", name) for name in each)]
    frames = [text_frame("TPE1", "A\0B"), text_frame("TXXX", "ARTISTS\0A\0B")]
    for suffix, muxer, tagged in (
        (".flac", None, lambda song: tagging.flac_tagged(song, comments)),
        (".m4a", None, lambda song: tagging.mp4_tagged(song, [("©ART", each), ("ARTISTS", each)])),
        (".wma", ("asf", "wmav2"), lambda song: tagging.wma_tagged(song, attributes)),
        (".mp3", None, lambda song: tagging.id3v2(frames) + song),
        (".mp3", None, lambda s: s + tagging.apev2([("Artist", "A\0B"), ("Artists", "A\0B")])),
    ):
        identified = found(suffix, tagged(untagged(suffix, muxer)))
        assert (identified.artist, identified.artists) == ("A; B", each)


def test_values_of_wma_come_in_the_order_they_were_written_in(untagged, found) -> None:
    song = untagged(".wma", ("asf", "wmav2"))
    tagged = tagging.wma_tagged_as_by_mutagen(
        song, [("Author", ["A", "B", "C"]), ("WM/Genre", ["X", "Y"])]
    )
    identified = found(".wma", tagged)
    assert identified.track_id == found(".wma", song).track_id
    assert (identified.artists, identified.genres) == (["A", "B", "C"], ["X", "Y"])


def test_what_is_invisible_is_no_value(untagged, found) -> None:
    names = "\0".join(["A", "\u200b", "\u2060\ufeff\u200d", "\u3164", "\ufe0f", "B"])
    frames = [text_frame("TPE1", names), text_frame("TIT2", "\u200b"), text_frame("TALB", "\u00ad")]
    identified = found(".mp3", tagging.id3v2(frames) + untagged(".mp3"))
    assert identified.artists == ["A", "B"]
    (settled,) = tags.settled([{"path": "/x", **tags.columns([{"tit2": ["\u200b"]}])}])
    assert settled["title"] is None
    (settled,) = tags.settled([{"path": "/x", **tags.columns([{"talb": ["\xad"]}])}])
    assert settled["album"] is None


def test_an_id3v1_fills_what_the_others_lack(untagged, found) -> None:
    old = tagging.id3v1(7, track=4, title="Dust", artist="Ära", album="Rooms", year="1999")
    only_genre = tagging.id3v2([text_frame("TCON", "Folk")])
    identified = found(".mp3", only_genre + untagged(".mp3") + old)
    assert identified == found(".mp3", only_genre + untagged(".mp3") + old)
    assert (identified.title, identified.artists, identified.genres) == ("Dust", ["Ära"], ["Folk"])
    assert (identified.album, identified.year, identified.track_number) == ("Rooms", 1999, 4)
    assert found(".mp3", untagged(".mp3") + old).genres == ["Hip-Hop"]
    # Cut off after 30 letters there, and whole above.
    name = "A name that has more letters than thirty"
    ape = tagging.apev2([("Artist", name)])
    identified = found(".mp3", untagged(".mp3") + ape + tagging.id3v1(artist=name, title="T"))
    assert (identified.artist, identified.title) == (name, "T")


def test_sizes_as_itunes_wrote_them_are_understood(untagged, found) -> None:
    frames = [text_frame("TIT2", "T" * 300), text_frame("TPE1", "A" * 150), text_frame("TALB", "B")]
    identified = found(".mp3", tagging.id3v2(frames, plain=True) + untagged(".mp3"))
    assert (identified.title, identified.artist, identified.album) == ("T" * 300, "A" * 150, "B")


@pytest.mark.parametrize(
    ("written", "genres"),
    [
        ("(17)", ["Rock"]), ("17", ["Rock"]), ("(51)(39)", ["Techno-Industrial", "Noise"]),
        ("RX", ["Remix"]), ("(CR)", ["Cover"]), ("(4)Eurodisco", ["Disco", "Eurodisco"]),
        ("(17)Rock", ["Rock"]), ("17\0" "20", ["Rock", "Alternative"]), ("((Odd)", ["(Odd)"]),
        ("(250)", None), ("191", ["Psybient"]), ("192", ["192"]), ("255", None),
        ("(255)", None), ("1999", ["1999"]),
        ("Rock/Pop", ["Rock/Pop"]),
        ("(Neo)Folk", ["(Neo)Folk"]), ("2 Tone", ["2 Tone"]),
    ],
)  # fmt: skip
def test_numbers_of_genres_become_names(written: str, genres, untagged, found) -> None:
    for version in (3, 4):
        frames = [text_frame("TCON", written, "latin-1")]
        identified = found(".mp3", tagging.id3v2(frames, version) + untagged(".mp3"))
        assert identified.genres == genres
        assert identified.genre == ("; ".join(genres) if genres else None)


def test_genres_are_called_as_before_by_ffmpeg(untagged) -> None:
    for number in range(0, 192, 7):
        tag = tagging.id3v2([text_frame("TCON", f"({number})", "latin-1")], 3)
        with av.open(io.BytesIO(tag + untagged(".mp3")), format="mp3") as container:
            said = container.metadata["genre"]
        if number != 133:  # a word that no one should have to read
            assert said == tags.GENRES[number]


def test_a_numbered_genre_of_mp4_is_the_right_one(untagged, found) -> None:
    for number in (0, 17, 67, 85):
        atoms = [("©nam", ["Dust"]), ("gnre", ["\0" + chr(number + 1)])]
        song = tagging.mp4_tagged(untagged(".m4a"), atoms)
        assert found(".m4a", song).genres == [tags.GENRES[number]]


@pytest.mark.parametrize(
    ("written", "isrc"),
    [
        ("GBAYE0601498", "GBAYE0601498"), ("gb-aye-06-01498", "GBAYE0601498"), ("none", None),
        ("ISRC GBAYE0601498", "GBAYE0601498"), ("GBAYE06014980", None), ("", None),
    ],
)  # fmt: skip
def test_an_isrc_is_one_by_its_form(written: str, isrc: str | None) -> None:
    assert tags.isrc(written) == isrc


def test_a_recording_of_musicbrainz_is_one_by_its_form() -> None:
    assert tags.recording_mbid(MBID.upper()) == MBID
    assert tags.recording_mbid(MBID[1:]) is None
    assert tags.recording_mbid(f"https://musicbrainz.org/recording/{MBID}") is None


def test_the_original_year_stands_in_where_there_is_no_other(untagged, found) -> None:
    flac = tagging.flac_tagged(untagged(".flac"), [("ORIGINALDATE", "1975-03-01")])
    assert (found(".flac", flac).year, found(".flac", flac).original_year) == (1975, 1975)
    flac = tagging.flac_tagged(untagged(".flac"), [("DATE", "2001")])
    assert (found(".flac", flac).year, found(".flac", flac).original_year) == (2001, None)


def test_utf8_that_is_declared_latin1_is_read_as_what_it_is(untagged, found) -> None:
    wrong = "Sígur Rós".encode().decode("latin-1")
    twice = wrong.encode().decode("latin-1")
    for text in (wrong, twice):
        mp3 = tagging.id3v2([text_frame("TPE1", text, "latin-1")], 3) + untagged(".mp3")
        assert found(".mp3", mp3).artist == "Sígur Rós"
        flac = tagging.flac_tagged(untagged(".flac"), [("ARTIST", text), ("TITLE", "Motörhead")])
        assert (found(".flac", flac).artist, found(".flac", flac).title) == (
            "Sígur Rós", "Motörhead",
        )  # fmt: skip
    old = tagging.id3v1(artist="Ярославль и Москва", encoding="utf-8")
    assert found(".mp3", untagged(".mp3") + old).artist == "Ярославль и Моск"


SIZES = [2**40, 2**56 - 1, 2**62, 2**63 + 5]


@pytest.mark.parametrize("case", FORMATS)
def test_damaged_tags_are_read_as_far_as_they_go(case: str, untagged, tmp_path: Path) -> None:
    suffix, muxer, tagged = FORMATS[case]
    whole = tagged(untagged(suffix, muxer))
    ends = [*range(min(1500, len(whole))), *range(max(0, len(whole) - 1500), len(whole))]
    # Where the sizes of some tags stand.
    near = range(whole.index(b"Rooms") - 32, whole.index(b"Rooms")) if b"Rooms" in whole else ends
    rng = np.random.default_rng(len(case))
    for number in range(300):
        content = bytearray(whole)
        if number % 2:
            for place in rng.choice(ends, 4):
                content[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, content[place] ^ 16])
            del content[rng.integers(len(whole) // 2, len(whole) + 1) :]
        else:
            place, size = int(rng.choice(near)), SIZES[rng.integers(len(SIZES))]
            # Of eight bytes, as Matroska says it, and as MP4 does.
            content[place : place + 8] = (2**56 | size % 2**56).to_bytes(8)
            if number % 4:
                content[place : place + 4] = bytes([0, 0, 0, 1])
                content[place + 8 : place + 16] = size.to_bytes(8)
        # On a disk no one can look farther than its largest file may reach.
        path = tmp_path / "song"
        path.write_bytes(content)
        with open(path, "rb") as file:
            tags.read(file, {})


@pytest.mark.parametrize("size", [2**40, 2**62, 2**63 + 9])
@pytest.mark.parametrize("name", [b"ilst", b"\xa9nam", b"data"])
def test_what_a_tag_of_mp4_says_of_its_size_spoils_no_song(
    size: int, name: bytes, untagged, found
) -> None:
    content = bytearray(tagging.mp4_tagged(untagged(".m4a"), MP4))
    at = content.index(name, content.index(b"ilst")) - 4
    content[at : at + 4] = bytes([0, 0, 0, 1])
    content[at + 8 : at + 16] = size.to_bytes(8)
    assert found(".m4a", bytes(content)).track_id == found(".m4a", untagged(".m4a")).track_id


@pytest.mark.parametrize(
    ("suffix", "muxer"), [(".webm", ("webm", "libopus")), (".mka", ("matroska", "libopus"))]
)
def test_a_live_recording_whose_clusters_do_not_say_how_large_they_are_is_a_song(
    suffix: str, muxer: tuple[str, str], found, tmp_path: Path
) -> None:
    path = joined.encode(
        tmp_path / f"whole{suffix}", *muxer, joined.tone(7, 300, rate=48_000), 48_000
    )
    whole = path.read_bytes()
    first, *clusters = re.split(rb"(?=\x1f\x43\xb6\x75)", whole)
    assert len(clusters) > 1
    live = first
    for cluster in clusters:
        of_size = 9 - cluster[4].bit_length()
        live += cluster[:4] + b"\x01" + b"\xff" * 7 + cluster[4 + of_size :]
    assert found(suffix, live).track_id == found(suffix, whole).track_id


def test_tags_that_claim_any_size_are_read_as_far_as_they_go(untagged, found) -> None:
    song = untagged(".mp3")
    lying = bytearray(tagging.id3v2([text_frame("TIT2", "Dust"), text_frame("TPE1", "A")]))
    lying[14:18] = b"\x7f\x7f\x7f\x7f"
    assert found(".mp3", bytes(lying) + song).track_id
    ape = bytearray(tagging.apev2([("Title", "Dust"), ("Artist", "A")]))
    for at, size in ((0, 2**32 - 1), (len(ape) - 20, 2**32 - 1), (len(ape) - 16, 2**31)):
        spoilt = bytearray(ape)
        spoilt[at : at + 4] = size.to_bytes(4, "little")
        assert found(".mp3", song + bytes(spoilt)).track_id


def test_pictures_are_not_read_and_cost_no_tag(untagged, found) -> None:
    comments = [tagging.picture_comment(20_000), *VORBIS]
    assert said(found(".opus", tagging.opus_tagged(untagged(".opus"), comments))) == DUET


def test_a_great_many_values_are_no_more_than_the_first_ones(untagged, found) -> None:
    comments = [("ARTIST", f"Artist {i}") for i in range(20_000)]
    identified = found(".flac", tagging.flac_tagged(untagged(".flac"), comments))
    assert identified.artist is not None
    assert len(identified.artist) <= tags.MAX_TEXT
    frames = [text_frame("TPE1", "\0".join(name for _, name in comments))]
    identified = found(".mp3", tagging.id3v2(frames) + untagged(".mp3"))
    assert identified.artists == [f"Artist {i}" for i in range(tags.MOST_VALUES)]


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("2004", 2004), ("2004-05-01", 2004), ("20040501", 2004), ("(1987)", 1987),
        ("1.5.1999", 1999), ("05/2011", 2011), ("", None), ("0", None), ("199", None),
        ("3024", None), ("99999", None), ("٢٠٠٤", None),
    ],
)  # fmt: skip
def test_years_are_found_in_dates(text: str, year: int | None) -> None:
    assert tags.year(text) == year


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("03", 3), ("3/12", 3), ("A1", None), ("", None), ("123456789", None), ("²", None)],
)
def test_track_numbers_are_found(text: str, number: int | None) -> None:
    assert tags.number(text) == number


NAMES = st.sampled_from(["title", "date", "track", "artist", "genre", "artists", "isrc"])


@given(st.lists(st.dictionaries(NAMES, st.lists(st.text())), max_size=3))
def test_no_tag_can_break_the_catalogue(blocks: list[dict[str, list[str]]]) -> None:
    (found,) = tags.settled([{"path": "/x", **tags.columns(blocks)}])
    texts = [found[column] for column in tags.TEXTS]
    for text in (*texts, *(found["artists"] or ()), *(found["genres"] or ())):
        assert text is None or 0 < len(text) <= tags.MAX_TEXT
        assert text is None or not set(text) & set("\0\n\r\t\x1b\x7f\x85\u2028")
    assert (found["artist"] is None) == (found["artists"] is None)
    assert (found["genre"] is None) == (found["genres"] is None)
    assert found["year"] is None or 1800 <= found["year"] < 2100
    assert found["track_number"] is None or 0 <= found["track_number"] < 10_000


def test_tags_are_one_clean_line() -> None:
    assert tags.clean(" a\0b\x1b[31m\n c\ud800 ") == "a b [31m c"
    assert tags.clean("👩‍🚀") == "👩‍🚀"
    assert len(tags.clean("x" * 10_000)) == tags.MAX_TEXT
