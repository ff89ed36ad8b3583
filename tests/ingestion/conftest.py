import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from fastdino import demo


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
def retag() -> Callable[[Path, Path, dict[str, str]], None]:
    """What a tag editor does: the same packets in another file, with other tags."""

    def retagged(source: Path, target: Path, tags: dict[str, str]) -> None:
        container = demo.FORMATS[source.suffix].container
        with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
            stream: Any = new.add_stream_from_template(old.streams.audio[0])
            new.metadata.update(tags)
            stream.metadata.clear()
            stream.metadata.update(tags)
            for packet in old.demux(audio=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)

    return retagged
