"""Albums that were split into a file a track, and whose sheet lies there yet.

Belongs here: telling from a sheet and the files of its folder whether those are its tracks. Does
not: what becomes of a sheet (``sheets``).

Split, an album often has a file that is called as the whole was, for its title track. What tells
the two apart is that every track has a file of its own, and that this one is a track's.
"""

import os
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fastdino.ingestion import cue

# How far a file's length may be from its track's: by itself, or if it has the track's title as
# well. Who splits an album may leave out the pauses.
LENGTHS_DIFFER_S = 0.5
TITLED_LENGTHS_DIFFER_S = 5.0
# Among more files than these to a track, some have its length by chance.
MOST_FILES_PER_TRACK = 2


@dataclass(frozen=True)
class File:
    """A music file as far as sheets ask: its columns of the catalogue."""

    path: str
    track_id: str | None
    duration_s: float | None
    own_sheet: str | None
    title: str | None = None

    @property
    def name(self) -> str:
        """Without its folder."""
        return os.path.basename(self.path)


class Folder:
    """The music files of a folder, by what tells that one is a track's."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = files
        self._titled: dict[str, list[File]] = {}
        for file in files:
            for title in set(_titles(file)):
                self._titled.setdefault(title, []).append(file)
        self._by_length = sorted(
            (file for file in files if file.duration_s), key=lambda file: file.duration_s or 0
        )
        self._lengths = [file.duration_s or 0 for file in self._by_length]

    def holds_tracks_of(self, part: cue.Part, file: File | None = None) -> bool:
        """Whether files of the folder are the tracks of a sheet's part.

        Args:
            part: of the sheet.
            file: the one that the sheet seems to be of: then it has to be a track as well.
        """
        tracks = part.audio
        if file is None:
            own, _ = self._own_files(tracks, None, None)
            return len(own) > 1 and 2 * len(own) >= len(tracks)
        if file.duration_s is not None and not is_long_enough(part, file):
            # It is not the whole; if it is no track either, the sheet does not fit it.
            own, is_sure = self._own_files(tracks, file, None)
            is_known = is_sure or (len(own) > 1 and 2 * len(own) >= len(tracks))
            return is_known and file in own.values()
        # Either it is the whole, or its name is that of a track. To cut a song into others is worse
        # than to leave an album whole, but neither is done for what may be chance.
        if file.duration_s is not None and tracks[-1].start is not None:
            rest_s = file.duration_s - tracks[-1].start / cue.FRAMES_PER_S
            own, _ = self._own_files(tracks, file, rest_s)
            if len(own) == len(tracks) and file not in own.values():
                return False  # all of it is there once more, down to the length of the last one
        own, _ = self._own_files(tracks, file, None, most_files=len(tracks))
        return len(own) == len(tracks) and file in own.values()

    def _own_files(
        self,
        tracks: Sequence[cue.Track],
        meant: File | None,
        last_s: float | None,
        most_files: int | None = None,
    ) -> tuple[dict[int, File], bool]:
        """A file for each track that has one, and whether ``meant`` is a track beyond doubt.

        The last track ends with a file that may not be there: ``last_s`` is its length if known.
        Lengths alone tell of a track only if there are at most ``most_files``.
        """
        if most_files is None:
            most_files = MOST_FILES_PER_TRACK * len(tracks)
        lengths_s = [
            None if one.start is None or after.start is None
            else (after.start - one.start) / cue.FRAMES_PER_S
            for one, after in pairwise(tracks)
        ]  # fmt: skip
        lengths_s.append(last_s)
        own: dict[int, File] = {}
        taken: set[File] = set()
        is_sure = False

        def give(index: int, files: Iterator[File]) -> None:
            left = [file for file in files if file not in taken]
            if left:
                # What is said to be the whole is a track only if no other is that track.
                own[index] = min(left, key=lambda file: file == meant)
                taken.add(own[index])

        for index, track in enumerate(tracks):
            give(index, self._titled_so(track.tags.title, lengths_s[index]))
            is_sure |= index in own and own[index] == meant and lengths_s[index] is not None
        if len(self.files) <= most_files:
            for index, length_s in enumerate(lengths_s):
                if index not in own and length_s is not None:
                    give(index, self._as_long(length_s))
            last = len(tracks) - 1
            if last not in own and len(own) == last and last_s is None:
                give(last, (file for file in self.files if file != meant))
        return own, is_sure

    def _titled_so(self, title: str | None, length_s: float | None) -> Iterator[File]:
        for file in self._titled.get(_letters(title or ""), ()):
            known = (file.duration_s, length_s)
            if None in known or abs((known[0] or 0) - (known[1] or 0)) <= TITLED_LENGTHS_DIFFER_S:
                yield file

    def _as_long(self, length_s: float) -> Iterator[File]:
        at = bisect_left(self._lengths, length_s - LENGTHS_DIFFER_S)
        while at < len(self._lengths) and self._lengths[at] <= length_s + LENGTHS_DIFFER_S:
            yield self._by_length[at]
            at += 1


def is_long_enough(part: cue.Part, file: File) -> bool:
    """Whether all of a part's songs can be in the file."""
    last_s = max(track.start or 0 for track in part.audio) / cue.FRAMES_PER_S
    return (file.duration_s or 0) > last_s


def folded(name: str) -> str:
    """``name`` as it is compared: whatever the case, and however accents are written."""
    return unicodedata.normalize("NFC", name).casefold()


def _titles(file: File) -> Iterator[str]:
    """What may be the title of a file, as ``_letters``: its tag, and parts of its name."""
    stem = os.path.splitext(file.name)[0]
    for text in (file.title or "", stem, re.split(r"[\s_]-[\s_]", stem)[-1]):
        for title in (text, re.sub(r"^(?:\d+[\W_]+)+", "", text)):
            if letters := _letters(title):
                yield letters


def _letters(text: str) -> str:
    # What the names of files cannot hold is left out of them, or replaced.
    return re.sub(r"[\W_]+", "", folded(text))
