"""Text that was written in one encoding and read as another, made right where that is beyond doubt.

Belongs here: pure functions over texts and bytes. Does not: which texts belong together, which the
stage knows, and reading tags (``tags``).

Two mistakes are mended. UTF-8 read as Latin-1, once or several times over ("BjÃ¶rk"), is so each
text by itself: bytes that are valid UTF-8 and make sense as such are hardly ever anything else.
Code pages of before Unicode read as Latin-1 ("Êèíî") are so only for all of an album together, and
only where there are enough letters and a single reading makes sense; otherwise all stays as it is.
What stays undecided is read as Windows-1252, which is what most call Latin-1; the five bytes that
it leaves open are written as numbers (``\\x81``) where the text is shown. All of this can be undone
from the text alone: written in its encoding and read as Latin-1 it is what the file seemed to say,
but for control characters of ASCII and odd spaces, which no shown text keeps. The file itself is
never touched.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

# Of a text that was wrongly read once, the result wrongly read again: more were never seen.
MOST_TIMES = 3
# What a code page is decided from, at least: letters beyond ASCII in words of nothing else.
FEWEST_LETTERS, FEWEST_DIFFERENT = 8, 4
# Of the bytes in words that hold any beyond ASCII, the share that is beyond ASCII. In Latin scripts
# it is about a fifth, and far below this over a whole album. Of two bytes for a letter the second
# one may be ASCII.
DENSE, DENSE_WIDE = 0.85, 0.55
# Ideographs from which a language can be told.
TELLING = 10
# By so much one guess of charset-normalizer has to be better than another, in one of the two.
CLEARLY_LESS_CHAOS, CLEARLY_MORE_COHERENT = 0.05, 0.2
# Without capitals it takes more letters to tell.
TELLING_UNCASED = 24

# Letters of Latin script past the first two blocks that languages do use; their neighbours are
# phonetic signs, which a capital letter before a symbol ("CAFÉ®") would turn into. In capitals
# ("CAFÉ™") there are no small ones.
LATIN_BEYOND = frozenset("ƏəƠơƯưǍǎǏǐǑǒǓǔȘșȚțʻʼƁɓƊɗƘƙƝɲŊŋƆɔƐɛɣɩ")
# Signs that stand right after words: quotes, dashes, dots, trademarks, superscript letters.
AFTER_WORDS = frozenset("…‘’“”•–—™»«´·ªº©®\xa0".encode("cp1252"))
# Symbols that are in titles; the others of pages with a byte a letter are frames and shades of old
# screens, and formulas.
SYMBOLS = frozenset("№©®°™±×÷¬¦")
# What nearly every Greek word ends in.
GREEK_ENDS = frozenset("αεηιουωνσςρ")
# Of the words of an album, those that may be cased as no words are; of its letters, those that are
# common ones at least.
MISCASED, COMMON = 0.1, 0.6
_WORD = re.compile(r"[^\W\d_]+")


def undecided(text: str) -> bool:
    """Whether ``text`` may be bytes of any code page: it has some, and no other characters."""
    return not text.isascii() and max(text) <= "\xff"


def of_utf8(content: bytes) -> str:
    """What should be UTF-8; where it is something else, its bytes as Latin-1, undecided."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        # Cut off in the middle of a character.
        if error.start and error.end == len(content) and error.reason == "unexpected end of data":
            return of_utf8(content[: error.start])
    replaced = content.decode("utf-8", "replace")
    sound = sum("\x7f" < character != "\ufffd" for character in replaced)
    return replaced if sound > replaced.count("\ufffd") else content.decode("latin-1")


def of_unknown(content: bytes) -> str:
    """Bytes in no known encoding: UTF-8 if they make sense as such, otherwise undecided."""
    if content.isascii():
        return content.decode("ascii")
    whole = of_utf8(content)
    return whole if _makes_sense(whole) and "\ufffd" not in whole else content.decode("latin-1")


def repaired(text: str) -> str:
    """``text`` with UTF-8 that was read as Latin-1, or as Windows-1252, read as what it is."""
    if text.isascii():
        return text
    found = text
    for _ in range(MOST_TIMES):
        try:
            text = _bytes_of(text).decode("utf-8")
        except UnicodeError:
            break
        if text.isascii():
            break
        if _makes_sense(text):
            found = text
    return found


def _bytes_of(text: str) -> bytes:
    """What ``text`` was read from.

    Raises:
        UnicodeEncodeError: there is a character in it that is no byte.
    """
    return b"".join(c.encode("latin-1" if c <= "\xff" else "cp1252") for c in text)


def _makes_sense(text: str) -> bool:
    """Whether text that came out of a repair is one that people write."""
    alone, others = 0, 0
    for at, character in enumerate(text):
        before = text[max(0, at - 2) : at]
        if character > "\x7f":
            kind = unicodedata.category(character)
            if kind in ("Cc", "Cn", "Co", "Cs"):
                return False
            if "\u0180" <= character <= "\u02ff" and (
                character not in LATIN_BEYOND
                or (len(before) == 2 and before.isascii() and before.isalpha() and before.isupper())
            ):
                return False
            is_letter = kind[0] in "LMN" or kind == "Sk"
            if is_letter and character > "\u02ff" and not _is_latin(character):
                others += 1
                alone += _may_end_a_latin_word(before[-1:], character)
    # "Spaß…" is no German word with a letter of N'Ko behind it.
    return not others or alone < others


def _may_end_a_latin_word(before: str, character: str) -> bool:
    """Whether a letter after ``before`` may be an accented one and a sign, as of "Spaß…".

    Not after a small letter, where the accented one would be a capital; and of the letters that
    accents and Greek would be, Ì, Î and Ï, only where a sign follows that words do end in.
    """
    if not (before.isascii() and before.isalpha()):
        return False
    first, *_, last = character.encode()
    if first in range(0xC4, 0xDF) and before.islower():
        return False
    return first not in (0xCC, 0xCE, 0xCF) or last in AFTER_WORDS


def _is_latin(character: str) -> bool:
    return "\u1e00" <= character <= "\u1eff"


# ---- code pages


@dataclass(frozen=True)
class CodePage:
    """A way to read bytes, and how to tell that what is read makes sense.

    Attributes:
        name: as Python and charset-normalizer call it.
        makes_sense: told from all words with letters beyond ASCII.
        is_wide: whether two bytes stand for a letter.
    """

    name: str
    makes_sense: Callable[[list[str]], bool]
    is_wide: bool = False


def _cased(word: str) -> bool:
    """Whether capitals are where they are in words, also put together as in "НеБо"."""
    if word.islower() or word.isupper() or word[1:].islower():
        return True
    return word[0].isupper() and not any(a.isupper() and b.isupper() for a, b in pairwise(word))


def _alphabet(letters: str, common: str) -> Callable[[list[str]], bool]:
    """Words of ``letters`` only, cased as words are, with a usual share of the ``common`` ones."""

    def makes_sense(words: list[str]) -> bool:
        text = "".join(words).lower()
        return (
            len(text) >= FEWEST_LETTERS
            and len(set(text)) >= FEWEST_DIFFERENT
            and set(text) <= set(letters)
            and sum(not _cased(word) for word in words) <= MISCASED * len(words)
            and sum(letter in common for letter in text) >= COMMON * len(text)
        )

    return makes_sense


def _hebrew(words: list[str]) -> bool:
    text = "".join(words)
    return (
        all("\u05d0" <= letter <= "\u05ea" for letter in text)
        and len(text) >= TELLING_UNCASED
        # Final forms stand at the end of a word alone.
        and not any(letter in "ךםןףץ" for word in words for letter in word[:-1])
        and sum(letter in "יוהלאמרתבנש" for letter in text) >= 0.55 * len(text)
    )


def _korean(words: list[str]) -> bool:
    text = "".join(words)
    return len(text) >= 4 and all("가" <= letter <= "힣" for letter in text)


def _japanese(words: list[str]) -> bool:
    text = "".join(words)
    kana = sum("ぁ" <= letter <= "ヿ" for letter in text)
    ideographs = sum("一" <= letter <= "鿿" for letter in text)
    return kana + ideographs == len(text) and kana >= 0.3 * len(text)


def _chinese(encoding: str, first: int, last: int) -> Callable[[list[str]], bool]:
    """Ideographs, nearly all of the commoner half, which begin with ``first`` to ``last``."""

    def makes_sense(words: list[str]) -> bool:
        text = "".join(words)
        common = sum(first <= letter.encode(encoding)[0] <= last for letter in text)
        return (
            len(text) >= TELLING
            and all("一" <= letter <= "鿿" for letter in text)
            and common >= 0.95 * len(text)
        )

    return makes_sense


_RUSSIAN = _alphabet("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўјљњћђџѓќѕ", "оеаинтсрвлкмдіу")
_GREEK = _alphabet("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ", "αοιετσςνηυρπκλάίόέή")
PAGES = (
    CodePage("cp1251", _RUSSIAN),
    CodePage("koi8_r", _RUSSIAN),
    CodePage("cp866", _RUSSIAN),
    CodePage("cp1253", _GREEK),
    CodePage("cp1255", _hebrew),
    CodePage("cp932", _japanese, is_wide=True),
    CodePage("euc_jp", _japanese, is_wide=True),
    CodePage("euc_kr", _korean, is_wide=True),
    CodePage("gb18030", _chinese("gb18030", 0xB0, 0xD7), is_wide=True),
    CodePage("big5", _chinese("big5", 0xA4, 0xC6), is_wide=True),
)


def code_page(texts: Iterable[str]) -> str | None:
    """The code page that undecided texts of one album are in; None unless it is beyond doubt.

    It is if words are made of letters beyond ASCII throughout, as in no Latin script, and one page
    alone makes sense of all of them; where several do, if charset-normalizer rules out the others.
    """
    wanted = sorted({text for text in texts if undecided(text)})
    content = "\n".join(wanted).encode("latin-1")
    density = _density(content)
    sensible = [
        page.name
        for page in PAGES
        if density >= (DENSE_WIDE if page.is_wide else DENSE)
        and (words := _words(content, page)) is not None
        and page.makes_sense(words)
    ]
    # In small letters alone, a Cyrillic text whose words would all end as Hebrew ones do is none.
    if "cp1255" in sensible:
        return "cp1255"
    # The order of KOI8 is that of Latin, and so nearly that of Greek: capitals of the one are small
    # letters of the other.
    if sensible == ["koi8_r", "cp1253"] and _ends_as_greek(content):
        return "cp1253"
    if len(sensible) > 1:
        sensible = _told_apart(content, sensible)
    return sensible[0] if len(sensible) == 1 else None


def is_dense(texts: Iterable[str]) -> bool:
    """Whether undecided texts may be of an album in a code page, were there more of them."""
    return _density("\n".join(texts).encode("latin-1"), fewest=1) >= DENSE_WIDE


def _density(content: bytes, fewest: int = FEWEST_LETTERS) -> float:
    """Of the bytes in words with any beyond ASCII, the share that is; 0 if they are too few."""
    words = [word for word in re.findall(rb"[A-Za-z\x80-\xff]+", content) if max(word) > 0x7F]
    beyond = sum(byte > 0x7F for word in words for byte in word)
    return beyond / sum(map(len, words)) if beyond >= fewest else 0.0


def _ends_as_greek(content: bytes) -> bool:
    words = [word.lower() for word in _WORD.findall(content.decode("cp1253")) if len(word) > 1]
    words = [word for word in words if not word.isascii()]
    return len(words) >= 3 and all(word[-1] in GREEK_ENDS for word in words)


def _words(content: bytes, page: CodePage) -> list[str] | None:
    """Words with letters beyond ASCII as ``page`` has them; None if these are no such bytes."""
    try:
        text = content.decode(page.name)
    except UnicodeDecodeError:
        return None
    for at, character in enumerate(text):
        kind = unicodedata.category(character) if character > "\x7f" else ""
        # Frames and shades of old screens and unassigned characters are in no title.
        if kind in ("Cn", "Co") or "\u2500" <= character <= "\u259f":
            return None
        # A sign between letters is a letter of another page.
        if kind in ("So", "Sm") and not page.is_wide:
            around = text[max(0, at - 1) : at], text[at + 1 : at + 2]
            if character not in SYMBOLS or all(map(str.isalpha, around)):
                return None
    if any("\x7f" <= c <= "\x9f" for c in text):
        return None
    words = _WORD.findall(unicodedata.normalize("NFC", text))
    return [word for word in words if not word.isascii()]


def _told_apart(content: bytes, names: list[str]) -> list[str]:
    """Of several pages the one without a fault, where the detector finds one with the others."""
    import charset_normalizer

    found = charset_normalizer.from_bytes(content, cp_isolation=names, enable_fallback=False)
    best = found.best()
    if best is None or any(
        guess.chaos - best.chaos < CLEARLY_LESS_CHAOS
        and best.coherence - guess.coherence < CLEARLY_MORE_COHERENT
        for guess in found
        if guess is not best
    ):
        return []
    return [best.encoding]


def in_page(text: str, name: str | None) -> str:
    """``text`` read in a code page if it is undecided, and stays as it is if that does not work."""
    if name is None or not undecided(text):
        return text
    try:
        return text.encode("latin-1").decode(name)
    except UnicodeDecodeError:
        return text


def as_windows(text: str) -> str:
    """``text`` as Windows-1252 if it is undecided, what that leaves open as lone surrogates."""
    if not undecided(text):
        return text
    return "".join(_as_windows(c) if "\x80" <= c <= "\x9f" else c for c in text)


def _as_windows(character: str) -> str:
    byte = character.encode("latin-1")
    try:
        return byte.decode("cp1252")
    except UnicodeDecodeError:
        return byte.decode("ascii", "surrogateescape")
