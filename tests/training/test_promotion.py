import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import synthetic

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock
from fastdino.training import promotion, registry
from fastdino.training.promotion import forget, promote


@pytest.fixture
def two(home: Home) -> Home:
    """A current model "a" and a newer one "b", each with weights, vectors and a map."""
    for number, name in enumerate("ab", 1):
        made = f"2025-03-0{number}T00:00:00+00:00"
        synthetic.write_model(home, name, current=name == "a", created_at=made)
        (home.model(name) / "model.safetensors").write_bytes(b"weights")
        for folder in (home.vectors(name), home.maps(name) / "map"):
            folder.mkdir(parents=True)
            (folder / "file").write_bytes(b"much")
    return home


def traces(home: Home, name: str) -> list[Path]:
    return [path for path in home.root.rglob("*") if name in path.relative_to(home.root).parts]


def test_a_candidate_is_promoted_and_that_is_undone(two: Home) -> None:
    assert promote(two).did_work
    assert registry.current_id(two) == "b"
    assert registry.candidate(two) is None
    assert promote(two, "previous").did_work
    assert registry.current_id(two) == "a"
    # So that changing one's mind again is as simple.
    assert promote(two).counts["model"] == "b"


@pytest.mark.parametrize("wanted", ["candidate", "previous", "b"])
def test_the_same_promotion_given_twice_is_made_once(two: Home, wanted: str) -> None:
    if wanted == "previous":
        promote(two)
    promote(two, wanted)
    chosen = (two.models / "current.json").read_bytes()
    again = promote(two, wanted)
    assert not again.did_work
    assert (two.models / "current.json").read_bytes() == chosen


def test_a_candidate_that_comes_while_a_promotion_waits_is_not_what_was_asked_for(
    two: Home,
) -> None:
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(two.models):
            promoted = pool.submit(promote, two)
            time.sleep(0.5)  # so that it has begun to wait
            synthetic.write_model(two, "c", current=False, created_at="2025-03-03T00:00:00+00:00")
        with pytest.raises(UserError, match="model c was made while this waited"):
            promoted.result()
    assert registry.current_id(two) == "a"


@pytest.mark.parametrize("name", ["c", "../b", ".", ""])
def test_what_is_no_model_is_neither_promoted_nor_forgotten(two: Home, name: str) -> None:
    before = sorted(two.root.rglob("*"))
    with pytest.raises(UserError, match="there are a, b"):
        promote(two, name)
    forgotten = forget(two, name)
    assert not forgotten.did_work
    assert "there are a, b" in forgotten.headline
    assert [path for path in sorted(two.root.rglob("*")) if path.name != ".lock"] == before


def test_a_model_with_damaged_weights_is_not_promoted(two: Home) -> None:
    (two.model("b") / "model.safetensors").unlink()
    with pytest.raises(UserError, match="model b cannot be used"):
        promote(two)
    assert registry.current_id(two) == "a"


@pytest.mark.parametrize("content", [None, "damaged"])
def test_where_the_choice_is_lost_another_can_be_made(two: Home, content: str | None) -> None:
    (two.models / "current.json").unlink()
    if content:
        (two.models / "current.json").write_text(content)
    for wanted in ("candidate", "previous"):
        with pytest.raises(UserError, match="promote NAME"):
            promote(two, wanted)
    with pytest.raises(UserError, match="promote NAME"):
        forget(two, "a")
    promote(two, "a")
    assert registry.current_id(two) == "a"


def test_a_forgotten_model_leaves_nothing_and_the_current_one_is_not_forgotten(two: Home) -> None:
    with pytest.raises(UserError, match="in use"):
        forget(two, "a")
    assert forget(two, "b").did_work
    assert not traces(two, "b")
    assert traces(two, "a")
    assert registry.candidate(two) is None


def test_a_promotion_cannot_be_undone_once_the_model_before_is_forgotten(two: Home) -> None:
    promote(two)
    forget(two, "a")
    with pytest.raises(UserError, match="there is no model 'a'"):
        promote(two, "previous")


@pytest.mark.parametrize("done", range(3))
def test_forgetting_that_was_killed_is_finished_when_it_is_given_again(
    two: Home, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, deleted: list[Path] = []) -> None:  # noqa: B006
        deleted.append(folder)
        if len(deleted) > done:
            (folder / "file").unlink(missing_ok=True)
            raise KeyboardInterrupt
        rmtree(folder)

    rmtree = shutil.rmtree
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(two, "b")
    assert registry.current_id(two) == "a"
    forget(two, "b")
    assert not traces(two, "b")
    synthetic.write_model(two, "c", current=False)
    forget(two, "c")
    assert not (two.models / promotion.GOING).exists()


@pytest.mark.parametrize("busy", ["models", "vectors"])
def test_what_another_run_is_writing_to_is_forgotten_when_that_is_over(
    two: Home, busy: str
) -> None:
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(two.models if busy == "models" else two.vectors("b")):
            forgetting = pool.submit(forget, two, "b")
            with pytest.raises(TimeoutError):
                forgetting.result(timeout=0.2)
            assert (two.model("b") / "model.json").exists()
        forgetting.result(timeout=30)
    assert not traces(two, "b")
