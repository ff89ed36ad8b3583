import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino import demo, ingestion
from fastdino.core.home import Home
from fastdino.ingestion import catalog, encodings, identify
from fastdino.ingestion import tags as tags_of
from tests import tagging
from tests.tagging import text_frame

ALBUMS = [
    ("cp1251", ["Кино", "Группа крови", "Звезда по имени Солнце", "Пачка сигарет"]),
    ("cp1251", ["Кино", "Звезда"]),
    ("cp1251", ["ДДТ", "Осень", "Родина", "Актриса весна", "Live in Москва 1993"]),
    ("cp1251", ["Океан Ельзи", "Обійми", "Не йди", "Я їду додому"]),
    ("koi8_r", ["Кино", "Группа крови", "Звезда по имени Солнце"]),
    ("cp866", ["Кино", "Группа крови", "Звезда по имени Солнце"]),
    ("cp1253", ["Μίκης Θεοδωράκης", "Το Γελαστό Παιδί", "Άσπρη μέρα", "Ζορμπάς"]),
    ("cp1255", ["שלום חנוך", "מחכים למשיח", "עוד לא תמו כל פלאייך"]),
    ("cp1251", ["Кукушка", "Кончится лето №5", "Звезда по имени Солнце", "36°", "© ® ™"]),
    ("cp1251", ["БИ-2", "КиноПроба", "ВИА Гра", "НеБо", "ИноПланетяне"]),
    ("cp1253", ["ΑΓΑΠΗ ΜΟΥ", "ΜΙΣΙΡΛΟΥ", "ΜΕΛΙΝΑ", "ΤΡΑΓΟΥΔΙΑ"]),
    ("cp1253", ["Αγάπη μου ©", "Μισιρλού", "Μελίνα", "Τραγούδια"]),
    ("koi8_r", ["Кукушка ©", "Кончится лето 36°", "Звезда по имени Солнце"]),
    ("koi8_r", ["кино", "группа крови", "звезда по имени солнце"]),
    ("cp932", ["宇多田ヒカル♪", "★桜流し★", "花束→君に", "道"]),
    ("cp932", ["宇多田ヒカル", "桜流し", "花束を君に", "道"]),
    ("cp932", ["椎名林檎", "無罪モラトリアム", "正しい街", "丸の内サディスティック"]),
    ("euc_jp", ["宇多田ヒカル", "桜流し", "花束を君に", "道"]),
    ("euc_kr", ["조용필", "돌아와요 부산항에", "단발머리"]),
    ("gbk", ["崔健", "一无所有", "新长征路上的摇滚", "花房姑娘"]),
    ("gbk", ["王菲", "流年", "红豆", "约定", "我愿意", "天空"]),
    ("big5", ["鄧麗君", "月亮代表我的心", "甜蜜蜜", "小城故事"]),
    ("big5", ["周杰倫", "范特西", "愛在西元前", "爸我回來了", "簡單愛"]),
]
LATIN = [
    "Motörhead", "Sigur Rós", "Mylène Farmer", "Øystein Sevåg", "Ænima", "Café del Mar", "Björk",
    "Ágætis byrjun", "Mötley Crüe", "Queensrÿche", "Hüsker Dü", "Françoise Hardy", "Édith Piaf",
    "Antônio Carlos Jobim", "João Gilberto", "Sólstafir", "Þú ert jörðin", "Émilie Simon",
    "Röyksopp", "Mø", "Måneskin", "Señor Coconut", "¡Olé!", "Él… ¿Qué?", "Blümchen", "Ã", "Å", "Ö",
    "«COBORÎ»", "COBORÎ…", "“COBORÎ”", "LUNEDÌ", "LUNEDÌ…", "LUNEDÌ”", "MAÏ®", "NAÎ’", "36°", "Ü ©",
    "ÅÄÖ", "Ææ", "Éé", "Où", "À la “carte”", "NESCAFÉ®", "CAFÉ™", "«CAFÉ»", "Viel Spaß…", "Spaß’",
    "Olé…”", "Nº 1", "MANHÃ", "Ça va", "Ñ", "½ + ¼", "© ℗", "20°", "Zoë", "Chloë",
]  # fmt: skip
OTHERS = [
    "Björk", "Sigur Rós", "Кино", "Μίκης", "שלום", "宇多田ヒカル", "조용필", "崔健", "Dvořák",
    "Nguyễn Văn", "Beyoncé’s", "🎵 song", "Məmməd", "Țara", "محمد عبده", "“Heroes”", "Don’t", "ไทย",
    "Motörhead – Live", "Łódź", "Ω", "é",
    "Jo\u0301ga", "Bjo\u0308rk", "BJO\u0308RK", "Beyonce\u0301", "E\u0301DITH", "g\u0303",
    "Aβ", "xΔ", "Aα",
]  # fmt: skip


def misread(text: str, encoding: str) -> str:
    return text.encode(encoding).decode("latin-1")


@pytest.mark.parametrize(("encoding", "texts"), ALBUMS)
def test_an_album_in_a_code_page_is_read_as_what_it_is(encoding: str, texts: list[str]) -> None:
    wrong = [misread(text, encoding) for text in texts]
    page = encodings.code_page(wrong)
    assert [encodings.in_page(text, page) for text in wrong] == texts
    # And it can be undone: no byte is lost.
    assert page is not None
    assert [misread(text, page) for text in texts] == wrong


@pytest.mark.parametrize("text", LATIN)
def test_what_is_right_is_never_made_worse(text: str) -> None:
    assert encodings.repaired(text) == text
    assert encodings.code_page([text]) is None
    assert encodings.in_page(text, encodings.code_page([text] * 20)) == text


def test_an_album_in_latin_letters_stays_as_it_is() -> None:
    assert encodings.code_page(LATIN) is None


@pytest.mark.parametrize(
    "texts",
    [["Кино"], ["Êèíî", "Bjork"], [], ["", "a"], ["\xff\xfe"], ["\xa0" * 40], ["Éé" * 3]],
)
def test_what_is_too_short_to_tell_stays_as_it_is(texts: list[str]) -> None:
    assert encodings.code_page(texts) is None


@pytest.mark.parametrize("text", OTHERS)
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_utf8_misread_any_number_of_times_is_read_as_what_it_is(
    text: str, times: int, encoding: str
) -> None:
    wrong = text
    for _ in range(times):
        try:
            wrong = wrong.encode().decode(encoding)
        except UnicodeDecodeError:
            break  # Windows-1252 has no such byte: nobody can misread it so.
    assert encodings.repaired(wrong) == text


def settled(texts: list[str]) -> list[str]:
    rows = [{"path": f"/a/{n}", **tags_of.columns([{"tit2": [t]}])} for n, t in enumerate(texts)]
    return [row["title"] for row in tags_of.settled(rows)]


@pytest.mark.parametrize(
    "text", ["Don’t Stop – Live…", "Œuvre", "“Heroes”", "Café €5", "Motörhead", "Señor™ Coconut"]
)
def test_what_no_page_explains_is_read_as_windows_does(text: str) -> None:
    assert settled([misread(text, "cp1252")]) == [text]


def test_letters_that_would_be_spaces_are_letters_at_the_end_too() -> None:
    texts = ["Кино", "Группа", "Звезда", "Последний герой", "Попса"]
    assert settled([misread(text, "cp866") for text in texts]) == texts


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Krzysztof Ścierański Ťok", "cp1250"), ("愛", "cp932"), ("Łąka", "cp1250")],
)
def test_what_stays_undecided_loses_no_byte(text: str, encoding: str) -> None:
    shown = settled([misread(text, encoding)])[0]
    as_bytes = re.sub(
        rb"\\x([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), shown.encode("cp1252")
    )
    assert as_bytes.decode(encoding) == text


LETTERS = [chr(c) for c in range(0xC0, 0x100) if chr(c).isalpha()]
ASCII = [chr(c) for c in range(0x20, 0x7F)]


@given(st.text(st.sampled_from(LETTERS + ASCII)))
def test_no_text_of_latin_letters_is_taken_for_utf8(text: str) -> None:
    assert encodings.repaired(text) == text


WORDS = st.text(st.sampled_from(ASCII[33:58] + ASCII[65:]), min_size=2, max_size=8)
ACCENTED = st.builds(lambda a, b, c: f"{a}{b}{c}", WORDS, st.sampled_from(LETTERS), WORDS)


@given(st.lists(ACCENTED, max_size=40))
def test_no_album_with_an_accent_a_word_is_taken_for_a_code_page(words: list[str]) -> None:
    assert encodings.code_page(words) is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_makes_a_repair_fail_or_what_is_repaired_change_again(text: str) -> None:
    once = encodings.repaired(text)
    assert encodings.repaired(once) == once or len(once) < len(text)
    for page in encodings.PAGES:
        assert encodings.in_page(text, page.name) is not None
    assert isinstance(encodings.code_page([text]), str | None)


@given(st.binary())
def test_any_bytes_are_text(content: bytes) -> None:
    for read in (encodings.of_utf8, encodings.of_unknown):
        read(content).encode()
    assert encodings.of_utf8("Ярославль".encode()) == "Ярославль"


def test_what_is_cut_off_within_a_letter_is_read_to_there() -> None:
    assert encodings.of_utf8("Ярославль".encode()[:-1]) == "Ярославл"
    assert encodings.of_unknown("Motörhead".encode("latin-1")) == "Motörhead"


# ---- in a collection


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("sounds")
    songs = demo.plan(folder, artists=1, songs_per_artist=4, seconds=1.0)
    made = []
    for number, song in enumerate(songs):
        demo.encode(folder / f"{number}.mp3", demo.compose(song), demo.RATE, {})
        made.append((folder / f"{number}.mp3").read_bytes())
    return made


TITLES = ["Группа крови", "Пачка сигарет", "Звезда", "Кукушка"]


def write(folder: Path, number: int, sound: bytes, title: str, encoding: str = "cp1251") -> None:
    frames = [
        (name, b"\0" + text.encode(encoding))
        for name, text in (("TPE1", "Кино\0Ария"), ("TALB", "Лучшее"), ("TIT2", title))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.mp3").write_bytes(tagging.id3v2(frames, 3) + sound)


def tags(home: Home) -> list[tuple[object, ...]]:
    return catalog.read(home).select("title", "artist", "artists", "album").rows()


def test_an_album_is_repaired_whole_whatever_order_its_files_come_in(
    home: Home, tmp_path: Path, sounds: list[bytes]
) -> None:
    music = tmp_path / "music"
    right = [(title, "Кино; Ария", ["Кино", "Ария"], "Лучшее") for title in TITLES]
    write(music / "a", 0, sounds[0], TITLES[0])
    write(music / "b", 0, sounds[1], "Да")
    ingestion.run(home, [music])
    assert tags(home)[0] == right[0]
    for number in (1, 2, 3):
        write(music / "a", number, sounds[number], TITLES[number])
    summary = ingestion.run(home, [music])
    assert tags(home)[:4] == right
    assert summary.counts["retagged"] == 0
    assert not ingestion.run(home, [music]).did_work
    afresh = Home(tmp_path / "afresh")
    ingestion.run(afresh, [music])
    assert tags(afresh) == tags(home)


def test_what_one_file_does_not_tell_its_album_does(
    home: Home, tmp_path: Path, sounds: list[bytes]
) -> None:
    folder = tmp_path / "music" / "album"
    folder.mkdir(parents=True)
    for number, text in enumerate(("Кино", "Звезда")):
        frame = ("TIT2", b"\0" + text.encode("cp1251"))
        (folder / f"{number}.mp3").write_bytes(tagging.id3v2([frame], 3) + sounds[number])
        summary = ingestion.run(home, [folder])
        if number == 0:
            assert catalog.read(home)["title"].to_list() == [misread("Кино", "cp1251")]
    assert catalog.read(home)["title"].to_list() == ["Кино", "Звезда"]
    assert (summary.counts["new"], summary.counts["touched"]) == (1, 0)


def test_a_new_song_has_only_its_own_album_opened_again(
    home: Home, tmp_path: Path, sounds: list[bytes], opened: list[str]
) -> None:
    music = tmp_path / "music"

    def put(name: str, sound: bytes, title: str, album: str) -> None:
        frames = [text_frame("TIT2", title), text_frame("TALB", album)]
        (music / name).write_bytes(tagging.id3v2(frames) + sound)

    write(music, 0, sounds[0], TITLES[0])
    put("1.mp3", sounds[1], "夜明けの歌", "Songs")
    put("2.mp3", sounds[2], "夜明けの歌", "Others")
    ingestion.run(home, [music])
    opened.clear()
    put("new.mp3", sounds[3], "Ö", "Songs")
    assert ingestion.run(home, [music]).counts["new"] == 1
    assert opened == ["new.mp3", "1.mp3"]
    opened.clear()
    write(music, 4, sounds[3] + sounds[3], TITLES[1])
    ingestion.run(home, [music])
    assert opened == ["4.mp3", "0.mp3"]
    assert catalog.read(home)["title"].to_list() == [
        TITLES[0], "夜明けの歌", "夜明けの歌", TITLES[1], "Ö",
    ]  # fmt: skip


def test_latin_text_among_it_and_albums_beside_it_stay_as_they_are(
    home: Home, tmp_path: Path, sounds: list[bytes]
) -> None:
    music = tmp_path / "music"
    write(music, 0, sounds[0], TITLES[0])
    write(music, 1, sounds[1], TITLES[1])
    for number, (title, album) in enumerate((("Björk", "Debüt"), ("Ænima", "Ænima")), 2):
        frames = [text_frame("TIT2", title, "latin-1"), text_frame("TALB", album, "latin-1")]
        (music / f"{number}.mp3").write_bytes(tagging.id3v2(frames, 3) + sounds[number])
    ingestion.run(home, [music])
    assert catalog.read(home)["title"].to_list() == [*TITLES[:2], "Björk", "Ænima"]


def test_a_wav_whose_tags_have_no_encoding_is_of_its_album_too(home: Home, tmp_path: Path) -> None:
    samples = bytes(range(256)) * 200
    form = b"fmt " + (16).to_bytes(4, "little") + bytes.fromhex("0100020044ac000010b1020004001000")
    title, artist = (f"{text}\0".encode("cp1251") for text in ("Группа крови", "Кино"))
    info = b"INFO" + tagging.chunk(b"INAM", title) + tagging.chunk(b"IART", artist)
    body = b"WAVE" + form + tagging.chunk(b"LIST", info) + tagging.chunk(b"data", samples)
    (tmp_path / "music").mkdir()
    (tmp_path / "music/song.wav").write_bytes(tagging.chunk(b"RIFF", body))
    ingestion.run(home, [tmp_path / "music"])
    assert catalog.read(home).select("title", "artist").row(0) == ("Группа крови", "Кино")


def test_files_are_never_changed(home: Home, tmp_path: Path, sounds: list[bytes]) -> None:
    write(tmp_path / "music", 0, sounds[0], TITLES[0])
    shutil.copytree(tmp_path / "music", tmp_path / "before")
    ingestion.run(home, [tmp_path / "music"])
    before, after = (tmp_path / name / "0.mp3" for name in ("before", "music"))
    assert before.read_bytes() == after.read_bytes()


def test_a_catalogue_of_before_is_read_once_more_and_tells_nothing_changed(
    home: Home, tmp_path: Path, sounds: list[bytes]
) -> None:
    write(tmp_path / "music", 0, sounds[0], TITLES[0])
    ingestion.run(home, [tmp_path / "music"])
    now = catalog.read(home)
    old = now.with_columns(
        pl.lit(misread("Кино", "cp1251")).alias("artist"),
        pl.lit(identify.VERSION - 1).cast(pl.Int16).alias("identified_by"),
        *(
            pl.lit(None, catalog.SCHEMA[name]).alias(name)
            for name in catalog.ADDED
            if name != "identified_by"
        ),
    )
    catalog.write(home, old)
    summary = ingestion.run(home, [tmp_path / "music"])
    assert summary.tables["changes"] == []
    assert catalog.read(home).equals(now)
