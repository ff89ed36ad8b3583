"""Every format that is read is really decoded, and every one that is named is read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import formats
import numpy as np
import pytest

from fastdino.core.workers import WorkerFailure
from fastdino.ingestion import identify
from fastdino.ingestion.scan import SUFFIXES, scan

Extract = Callable[[Path], tuple[Any, np.ndarray]]


@pytest.mark.parametrize("suffix", formats.WRITERS)
def test_a_file_of_each_format_is_found_identified_and_decoded(
    suffix: str, tmp_path: Path, extracted: Extract
) -> None:
    path = tmp_path / f"Song{suffix.upper()}"
    formats.write(tmp_path / f"song{suffix}")
    (tmp_path / f"song{suffix}").rename(path)
    (row,) = scan([tmp_path]).files.rows(named=True)
    assert (row["path"], row["error"]) == (str(path), None)
    found = identify.identify(str(path))
    assert found.error is None
    assert len(str(found.track_id)) == 32
    result, frames = extracted(path)
    assert not isinstance(result, WorkerFailure), result
    assert result.decoded_s == pytest.approx(formats.SECONDS, abs=0.1)
    assert not result.salvaged
    assert frames.max() > 100


def test_the_formats_that_are_read_are_those_that_can_be_and_are_in_the_readme() -> None:
    assert set(formats.WRITERS) | formats.UNWRITTEN == set(SUFFIXES)
    assert list(SUFFIXES) == sorted(set(SUFFIXES))
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"Files that end in ((?:`\.\w+`[\s,]+(?:and\s+)?)+)", readme)
    assert re.findall(r"\.\w+", told) == list(SUFFIXES)


@pytest.mark.parametrize("rate", [64, 128, 256, 512, 1024])
@pytest.mark.parametrize("write", [formats.dsf, formats.dff])
def test_dsd_is_decoded_at_every_rate(
    write: Callable[..., None], rate: int, tmp_path: Path, extracted: Extract
) -> None:
    path = tmp_path / ("a." + write.__name__)
    write(path, rate * 44_100)
    result, frames = extracted(path)
    assert not isinstance(result, WorkerFailure), result
    assert result.decoded_s == pytest.approx(formats.SECONDS, abs=0.01)
    # The bands around 500 Hz.
    assert frames[10:-10].mean(0).argmax() in (12, 13)
