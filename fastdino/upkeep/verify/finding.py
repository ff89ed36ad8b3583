"""What ``verify`` finds.

Belongs here: one finding and the line it is told in. Does not: looking for it, or mending it.
"""

import dataclasses
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from fastdino.core.errors import StoreTrouble, UserError
from fastdino.core.text import one_line
from fastdino.spectrograms.shards import UNREADABLE

T = TypeVar("T")

# What reading a damaged file raises, depending on where the damage is. Memory runs out where a
# damaged length is believed; nothing that is looked at takes much otherwise.
DAMAGE = (*UNREADABLE, LookupError, TypeError, MemoryError)


class Mender(Enum):
    """Who can put it right."""

    REPAIR = "With --repair"
    RUN = "Next run"
    PERSON = "To mend"
    # Takes room, and is not wrong.
    NOBODY = "Harmless; with --repair"
    # Takes room, and may be wanted again.
    COMPACTION = "Harmless"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        path: the file or folder.
        wrong: what is wrong with it.
        mend: what puts it right.
        mender: who does that.
        mended: whether it has been done just now.
    """

    path: Path
    wrong: str
    mend: str
    mender: Mender = Mender.REPAIR
    mended: bool = False

    @property
    def is_wrong(self) -> bool:
        """Whether it was or is wrong, and not merely in the way."""
        return self.mender not in (Mender.NOBODY, Mender.COMPACTION)

    def settled(self, mend: Callable[[], object], *, repair: bool) -> "Finding":
        """The same, put right by ``mend`` if a repair is asked for."""
        if not repair:
            return self
        mend()
        return self.now_mended()

    def now_mended(self) -> "Finding":
        """The same, put right."""
        return dataclasses.replace(self, mended=True)

    def __str__(self) -> str:
        who = "Repaired" if self.mended else self.mender.value
        text = f"{self.path}: {self.wrong}. {who}: {self.mend}"
        # Whatever a library or a file name has in it.
        return one_line(text)


# What a check finds, one by one.
Findings = Generator[Finding, None, None]


def reason(path: Path, error: BaseException) -> str:
    """What is wrong with a file, from what reading it raised.

    Raises:
        UserError: the file may be sound, and it is the disk or its permissions that are not.
        StoreTrouble: the same of a store.
    """
    error = error.__cause__ or error
    if isinstance(error, StoreTrouble):
        raise error
    if isinstance(error, FileNotFoundError):
        return "it is missing"
    if isinstance(error, OSError) and error.errno:
        raise UserError(
            f"{path} cannot be read now ({error.strerror}): look at the disk and who may read it"
        ) from error
    text = " ".join(str(error).replace(str(path), "it").split()) or type(error).__name__
    return f"it cannot be read ({text.partition('. ')[0][:160]})"


def noting(
    told: list[Finding], findings: Generator[Finding, None, T]
) -> Generator[Finding, None, T]:
    """The same findings and the same result, with what is wrong noted on the way."""
    while True:
        try:
            finding = next(findings)
        except StopIteration as end:
            return end.value
        if finding.is_wrong:
            told.append(finding)
        yield finding
