import json
import multiprocessing
from pathlib import Path

import pytest

from fastdino.errors import UserError
from fastdino.storage import alone, read_json, replacing, write_json


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.json"
    write_json(target, {"a": 1})
    write_json(target, {"a": 2})
    assert read_json(target) == {"a": 2}
    assert list(target.parent.iterdir()) == [target]


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail_half_way() -> None:
        with replacing(target) as part:
            part.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_damaged_json_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(json.JSONDecodeError):
        read_json(tmp_path / "x.json")


def hold(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with alone(folder):
        ready.set()
        multiprocessing.Event().wait()


def test_a_lock_keeps_others_out_and_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match="another run"), alone(tmp_path):
        pass
    holder.kill()
    holder.join()
    with alone(tmp_path):
        pass
