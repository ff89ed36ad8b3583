"""Names of files in any bytes, as text and back."""

import os
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from fastdino.core import paths
from fastdino.core.text import one_line

ESCAPES = "\U0010fe80\U0010fea9\U0010feff"
# Bytes by chance, and pieces that are or could be taken for the escape, put together in any order.
PIECES = st.one_of(
    st.binary(max_size=3),
    st.text(max_size=3).map(lambda text: text.encode("utf-8", "replace")),
    st.text(ESCAPES, max_size=3).map(str.encode),
    st.text(ESCAPES, min_size=1, max_size=2).map(lambda text: text.encode()[1:]),
)
NAMES = st.lists(PIECES, max_size=6).map(lambda pieces: b"".join(pieces).replace(b"\0", b""))


@given(NAMES)
@example(b"caf\xe9")
@example("\U0010fee9".encode())
def test_every_name_comes_back_from_text_that_can_be_stored(name: bytes) -> None:
    path = os.fsdecode(name)
    text = paths.to_text(path)
    assert text.encode().decode() == text
    assert paths.to_path(text) == path
    assert os.fsencode(paths.to_path(text)) == name


@given(NAMES, NAMES)
def test_two_names_never_share_a_text(one: bytes, other: bytes) -> None:
    texts = [paths.to_text(os.fsdecode(name)) for name in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)


@given(NAMES, NAMES)
def test_a_path_is_the_text_of_its_parts(one: bytes, other: bytes) -> None:
    joined = paths.to_text(os.fsdecode(one + b"/" + other))
    assert joined == "/".join(paths.to_text(os.fsdecode(part)) for part in (one, other))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=ESCAPES)))
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    if not any("\U0010fe80" <= c <= "\U0010feff" for c in name):
        assert paths.to_text(name) == paths.to_path(name) == paths.shown(name) == name


def test_people_read_the_bytes() -> None:
    path = Path(os.fsdecode(b"/music/caf\xe9/\xff.mp3"))
    for text in (str(path), paths.to_text(path)):
        assert paths.shown(text) == one_line(text) == r"/music/caf\xe9/\xff.mp3"
