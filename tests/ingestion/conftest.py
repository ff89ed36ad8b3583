import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from fastdino.ingestion import identify


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A fresh folder, and rights that can be refused: root may read everything."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    folder.chmod(0o777)
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are looked into, as they are."""
    names, real = list[str](), identify.identify_files

    def noting(
        files: Sequence[tuple[str, int]], folders: Iterable[str]
    ) -> Iterator[tuple[str, identify.Identified]]:
        names.extend(Path(path).name for path, _ in files)
        return real(files, folders)

    monkeypatch.setattr(identify, "identify_files", noting)
    return names
