"""What people do to music files, in tests that need it done."""

from pathlib import Path
from typing import Any

import av

from fastdino import demo


def retag(source: Path, target: Path, tags: dict[str, str]) -> None:
    """What a tag editor does: the same packets in another file, with other tags."""
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
