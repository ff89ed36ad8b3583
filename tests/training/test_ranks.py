"""Several ranks learn what one process learns: in double precision, to rounding."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from song_shards import songs, write_songs

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.spectrograms.shards import list_shards
from fastdino.training import ranks
from fastdino.training.objectives import OBJECTIVES

HERE = Path(__file__).parent


def ask(
    n_ranks: int, how: str, folder: Path, objectives: Iterable[str] = OBJECTIVES
) -> list[dict[str, Any]]:
    """What so many real gloo ranks find, each."""
    every = list(songs().items())
    shards = [
        shard
        for part in range(3)
        for shard in list_shards(write_songs(Home(folder / f"{part}"), dict(every[part::3])))
    ]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command, given = [sys.executable, str(HERE / "gloo_ranks.py")], ",".join(objectives)
    started = [
        subprocess.Popen(
            [*command, str(rank), str(n_ranks), how, given, str(folder), *map(str, shards)],
            env=environment,
        )
        for rank in range(n_ranks)
    ]
    assert [each.wait(timeout=600) for each in started] == [0] * n_ranks
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(n_ranks)]


# One test, though of several things: starting ranks takes seconds, in each process of a test run.
def test_two_ranks_learn_what_one_process_learns_and_agree_on_all_else(tmp_path: Path) -> None:
    # One that gathers what others have found, and one that has a teacher.
    objectives = ("fastdino", "dino")
    found = ask(2, "plain", tmp_path, objectives)
    for objective in objectives:
        assert found[0][objective]["gradients"] < 1e-12
        assert found[0][objective]["weights"] < 1e-10
    # What is gathered has the right gradient, however it lies in memory.
    for each in found:
        assert each["gathered"]["values"] == 0
        assert each["gathered"]["gradient"] < 1e-15
    # Those that share out a collection larger than memory learn one model.
    assert found[0]["shared_out"] == found[1]["shared_out"]
    # The first one's clock, and the least of their memories.
    assert [each["agreed"] for each in found] == [[0.25, 7.0]] * 2
    assert [each["least"] for each in found] == [7.0] * 2


@pytest.mark.thorough
@pytest.mark.parametrize(("n_ranks", "how"), [(2, "plain"), (4, "plain"), (2, "compiled")])
def test_so_have_four_ranks_and_those_that_compile_their_encoders(
    tmp_path: Path, n_ranks: int, how: str
) -> None:
    found = ask(n_ranks, how, tmp_path)
    for objective in OBJECTIVES:
        assert found[0][objective]["gradients"] < 1e-12
        assert found[0][objective]["weights"] < 1e-10
    assert all(each["gathered"]["gradient"] < 1e-14 for each in found)


def test_a_batch_that_cannot_be_shared_out_names_the_numbers_of_ranks_that_can() -> None:
    assert ranks.share(8, 4) == 2
    with pytest.raises(UserError, match=r"8 songs .* 3 ranks: take one of 1, 2, 4, 8"):
        ranks.share(8, 3)
