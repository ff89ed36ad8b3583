import pytest
import synthetic

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import read_json, write_json
from fastdino.training import registry, staleness


def write(home: Home, name: str, day: int, *, current: bool = False) -> None:
    synthetic.write_model(home, name, current=current, created_at=f"2025-03-{day:02d}T00:00:00Z")


def candidate(home: Home) -> str | None:
    described = registry.candidate(home)
    return described["model_id"] if described else None


def test_the_candidate_is_the_newest_model_that_is_newer_than_the_current_one(home: Home) -> None:
    assert candidate(home) is None
    write(home, "c", 5, current=True)
    write(home, "d", 4)
    assert candidate(home) is None
    write(home, "b", 6)
    write(home, "a", 7)
    assert candidate(home) == "a"
    registry.make_current(home, "b")
    assert candidate(home) == "a"
    registry.make_current(home, "a")
    assert candidate(home) is None


def test_a_model_that_cannot_be_read_is_no_candidate(home: Home) -> None:
    write(home, "a", 1, current=True)
    write(home, "b", 2)
    (home.model("b") / "model.json").write_text("{")
    assert candidate(home) is None
    found, (why,) = registry.models(home)
    assert [each["model_id"] for each in found] == ["a"]
    assert str(home.model("b")) in why


@pytest.mark.parametrize("change", [{"dim": "8"}, {"created_at": "yesterday"}, {"model_id": "b"}])
def test_a_description_that_says_other_than_it_has_to_is_named(
    home: Home, change: dict[str, object]
) -> None:
    write(home, "a", 1)
    path = home.model("a") / "model.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        registry.metadata(home, "a")


@pytest.mark.parametrize("content", ["", "[]", "{}", "7", '{"model_id": null}'])
def test_a_damaged_choice_is_named_with_what_to_do(home: Home, content: str) -> None:
    write(home, "a", 1, current=True)
    (home.models / "current.json").write_text(content)
    with pytest.raises(UserError, match=r"current\.json is damaged: run 'fastdino"):
        registry.current(home)


def test_where_no_model_is_chosen_those_to_choose_from_are_named(home: Home) -> None:
    write(home, "a", 1)
    write(home, "b", 1)
    with pytest.raises(UserError, match="promote NAME' with one of a, b"):
        registry.current(home)


def test_what_a_model_was_trained_on_is_kept_and_damage_to_it_found(home: Home) -> None:
    write(home, "a", 1, current=True)
    described = registry.current(home)
    tracks = {synthetic.track_id(i) for i in range(12)}
    assert staleness.known_and_new(home, described, tracks) == (10, 2)
    registry.write_trained_on(home.model("a"), tracks - {synthetic.track_id(0)})
    assert staleness.known_and_new(home, described, tracks) == (11, 1)
    path = home.model("a") / registry.TRACKS
    spoilt = bytearray(path.read_bytes())
    spoilt[20] ^= 1
    path.write_bytes(spoilt)
    assert registry.trained_on(home.model("a")) is None
