"""What stands in CUE sheets, however they are written."""

import itertools

import pytest
from cue_album import SHEET
from hypothesis import given
from hypothesis import strategies as st

from fastdino.ingestion import cue
from fastdino.ingestion.cue import SheetError


def sheet_of(*lines: str) -> cue.Sheet:
    return cue.parse("\n".join(lines))


def test_a_sheet_says_what_its_tracks_are_called_and_where_they_begin() -> None:
    sheet = cue.parse(SHEET)
    assert sheet.tags == cue.Tags("Three Tones", "The Sheet", "Chamber Pop", "1997")
    (part,) = sheet.parts
    assert part.name == "album.flac"
    assert [(t.number, t.tags.title, t.tags.performer, t.start) for t in part.tracks] == [
        (1, "Low", None, 0), (2, "Middle", "A Guest", 4 * 75 + 11), (3, "High", None, 600),
    ]  # fmt: skip


def test_a_track_begins_after_its_pause_and_the_one_before_ends_there() -> None:
    found = cue.cuts(cue.parse(SHEET).parts[0], 12.0)
    assert [(cut.start, cut.end) for cut in found] == [(0, 311), (311, 600), (600, None)]


@pytest.mark.parametrize(
    "written",
    [
        SHEET.replace("\n", "\r\n"),
        SHEET.replace("\n", "\r"),
        SHEET.lower().replace("the sheet", "The Sheet"),
        SHEET.replace("  ", "\t\t").replace("TITLE ", "TITLE\t"),
        SHEET.replace('"', "").replace("\ufeff", ""),
        SHEET.replace("TRACK 0", "TRACK ").replace("INDEX 0", "INDEX "),
        "REM COMMENT \"x\"\nCATALOG 0123456789012\n;\n\n" + SHEET + "\nNONSENSE 1 2 3\nREM\nTITLE",
    ],
)  # fmt: skip
def test_it_may_be_written_in_any_way(written: str) -> None:
    sheet = cue.parse(written)
    assert sheet.tags.performer == "The Sheet"
    assert [track.start for track in sheet.parts[0].tracks] == [0, 311, 600]


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ('"A "B" C"', 'A "B" C'),
        ('"Open', "Open"),
        ("Plain words", "Plain words"),
        ('"Closed" // and more', "Closed"),
        ('""', None),
    ],
)
def test_quotes_are_taken_as_they_are_meant(written: str, title: str | None) -> None:
    lines = (f"TITLE {written}", "TRACK 01 AUDIO", "INDEX 01 00:00:00")
    assert sheet_of(*lines).tags.title == title


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"a b.flac" WAVE', "a b.flac"),
        ("a b.flac WAVE", "a b.flac"),
        ("a.flac", "a.flac"),
        (r'"C:\Rips\Album\a.wav" WAVE', "a.wav"),
        ('"CD1/a "b".wav" WAVE', 'a "b".wav'),
        ("", None),
    ],
)
def test_a_file_goes_by_its_name_alone(written: str, name: str | None) -> None:
    lines = (f"FILE {written}", "TRACK 01 AUDIO", "INDEX 01 00:00:00")
    assert sheet_of(*lines).parts[0].name == name


def test_where_each_track_is_a_file_a_track_is_in_the_file_that_it_begins_in() -> None:
    sheet = sheet_of(
        'FILE "1.wav" WAVE', "TRACK 01 AUDIO", "INDEX 01 00:00:00",
        "TRACK 02 AUDIO", "INDEX 00 03:00:00",
        'FILE "2.wav" WAVE', "INDEX 01 00:00:00",
    )  # fmt: skip
    told = [(part.name, [track.number for track in part.tracks]) for part in sheet.parts]
    assert told == [("1.wav", [1]), ("2.wav", [2])]


def test_data_on_the_disc_is_no_song_and_ends_the_one_before() -> None:
    sheet = sheet_of(
        "TRACK 01 AUDIO", "INDEX 01 00:00:00", "TRACK 02 AUDIO", "INDEX 01 00:02:00",
        "TRACK 03 MODE1/2352", "INDEX 01 00:04:00",
    )  # fmt: skip
    found = cue.cuts(sheet.parts[0], None)
    assert [(cut.start, cut.end) for cut in found] == [(0, 150), (150, 300)]


@pytest.mark.parametrize(
    "data",
    [
        ["INDEX 01 00:32:00"],  # an enhanced CD: it lies behind the songs, on the disc
        ["INDEX 01 00:30:00"],
        ["INDEX 00 00:20:00"],  # begins nowhere
        ["INDEX 01 00:01:00"],  # amid the songs before it
        [],
    ],
)
def test_data_that_is_not_in_the_file_is_no_reason_to_refuse_the_songs(data: list[str]) -> None:
    sheet = sheet_of(
        "TRACK 01 AUDIO", "INDEX 01 00:00:00", "TRACK 02 AUDIO", "INDEX 01 00:10:00",
        "TRACK 03 MODE1/2352", *data,
    )  # fmt: skip
    found = cue.cuts(sheet.parts[0], 30.0)
    assert [(cut.start, cut.end) for cut in found] == [(0, 750), (750, None)]


def test_data_before_and_amid_the_songs_leaves_them_where_they_are() -> None:
    sheet = sheet_of(
        "TRACK 01 MODE1/2352", "INDEX 01 00:00:00", "TRACK 02 AUDIO", "INDEX 01 00:02:00",
        "TRACK 03 MODE2/2336", "INDEX 01 00:04:00", "TRACK 04 AUDIO", "INDEX 01 00:06:00",
    )  # fmt: skip
    found = cue.cuts(sheet.parts[0], 30.0)
    assert [(cut.start, cut.end) for cut in found] == [(150, 300), (450, None)]


def test_the_code_of_each_recording_is_its_own() -> None:
    sheet = sheet_of(
        "TRACK 01 AUDIO", "ISRC GBAYE0601498", "INDEX 01 00:00:00",
        'TRACK 02 AUDIO', 'ISRC "GB-AYE-06-01499"', "INDEX 01 00:06:00",
    )  # fmt: skip
    told = [track.tags.isrc for track in sheet.parts[0].tracks]
    assert told == ["GBAYE0601498", "GB-AYE-06-01499"]


def test_one_track_is_nothing_to_cut() -> None:
    assert cue.cuts(sheet_of("TRACK 01 AUDIO", "INDEX 01 00:00:00").parts[0], 1.0) == []


@pytest.mark.parametrize(
    ("second", "length", "told"),
    [
        ("INDEX 01 00:20:00", 10.0, "track 2 begins at 0:20, and the file ends at 0:10"),
        ("INDEX 01 00:02:00", None, "track 2 begins at 0:02, not after track 1 at 0:05"),
        ("INDEX 01 00:05:00", None, "track 2 begins at 0:05, not after track 1 at 0:05"),
        ("INDEX 00 00:06:00", None, "where track 2 begins cannot be read"),
        ("INDEX 01 00:61:00", None, "where track 2 begins cannot be read"),
        ("INDEX 01 00:06:75", None, "where track 2 begins cannot be read"),
    ],
)
def test_times_that_cannot_be_are_named(second: str, length: float | None, told: str) -> None:
    sheet = sheet_of("TRACK 01 AUDIO", "INDEX 01 00:05:00", "TRACK 02 AUDIO", second)
    with pytest.raises(SheetError) as raised:
        cue.cuts(sheet.parts[0], length)
    assert told in str(raised.value)


@pytest.mark.parametrize("text", ["", "Dear diary", "\0\0TRACK 01 AUDIO\n", "TRACK\n" * 5])
def test_what_is_no_sheet_is_refused(text: str) -> None:
    with pytest.raises(SheetError):
        cue.parse(text)


def test_a_thousand_tracks_are_refused() -> None:
    with pytest.raises(SheetError, match="more than 999"):
        cue.parse("TRACK 01 AUDIO\n" * 1000)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_bytes_are_text_in_the_encodings_that_sheets_have(encoding: str) -> None:
    assert cue.decode("TITLE “Björk”".encode(encoding)) == "TITLE “Björk”"


lines = st.sampled_from([*SHEET.splitlines(), 'FILE "x', "TRACK 7", "INDEX 1 9:9:9", "rem date"])
noise = st.lists(st.one_of(lines, st.text(max_size=12))).map("\n".join)


@given(st.one_of(noise, st.text(), st.binary().map(cue.decode)), st.none() | st.floats(0, 100))
def test_whatever_is_in_it_songs_follow_each_other_or_there_is_a_reason(
    text: str, length: float | None
) -> None:
    try:
        sheet = cue.parse(text)
    except SheetError:
        return
    assert sheet.parts
    for part in sheet.parts:
        assert part.tracks
        try:
            found = cue.cuts(part, length)
        except SheetError:
            continue
        assert len(found) != 1 or len(part.tracks) > 1
        for one, after in itertools.pairwise(found):
            assert one.end is not None
            assert one.start < one.end <= after.start
        assert length is None or all(cut.start < 75 * length for cut in found)


names = st.text(st.characters(exclude_characters='"\r\n\ufeff', exclude_categories=["Cc", "Cs"]),
                min_size=1).map(str.strip).filter(bool)  # fmt: skip


@given(st.lists(st.tuples(names, st.integers(1, 10**6)), min_size=2, max_size=99))
def test_what_is_written_is_read(tracks: list[tuple[str, int]]) -> None:
    text, at, starts = 'FILE "a.flac" WAVE\n', 0, []
    for number, (title, length) in enumerate(tracks, 1):
        minutes, frames = divmod(at, 60 * 75)
        text += f'TRACK {number:02} AUDIO\nTITLE "{title}"\n'
        text += f"INDEX 01 {minutes:02}:{frames // 75:02}:{frames % 75:02}\n"
        starts.append(at)
        at += length
    if starts[-1] >= 10**5 * 60 * 75:
        return
    found = cue.cuts(cue.parse(text).parts[0], None)
    assert [cut.track.tags.title for cut in found] == [title for title, _ in tracks]
    assert [cut.start for cut in found] == starts
    assert [cut.end for cut in found] == [*starts[1:], None]


def test_a_sheet_in_an_old_code_page_is_read_in_it() -> None:
    titles = ["Группа крови", "Закрой за мной дверь, я ухожу", "Война", "Спокойная ночь"]
    lines = ['PERFORMER "Кино"', 'TITLE "Группа крови"', 'FILE "a.flac" WAVE']
    for number, title in enumerate(titles, 1):
        lines += [f"TRACK {number:02} AUDIO", f'TITLE "{title}"', f"INDEX 01 {number:02}:00:00"]
    text = "\r\n".join(lines)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1251"):
        assert cue.decode(text.encode(encoding)) == text
    latin = 'PERFORMER "Motörhead"\nTITLE "Café del Mar"'
    assert cue.decode(latin.encode("cp1252")) == latin
