import logging
from pathlib import Path

import pytest

from pipelines import schedules
from pipelines.schedules import nightly_refresh, time_zone


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer that says nothing of its time zone."""
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(schedules, "LOCALTIME", tmp_path / "localtime")
    monkeypatch.setattr(schedules, "TIMEZONE", tmp_path / "timezone")
    return tmp_path


@pytest.mark.parametrize(
    "given",
    ["Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"],
)
def test_the_time_zone_is_what_is_set(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", given)
    assert time_zone() == "Europe/Berlin"


@pytest.mark.parametrize("colon", ["", ":"])
@pytest.mark.parametrize("linked", [True, False])
def test_where_the_computers_own_file_is_set_the_time_zone_is_the_computers(
    linked: bool, colon: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", f"{colon}{bare}/localtime")
    if linked:
        (bare / "localtime").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    else:
        (bare / "localtime").write_bytes(b"TZif2")
        (bare / "timezone").write_text("Asia/Tokyo\n")
    assert time_zone() == "Asia/Tokyo"


# As Debian has it, and macOS.
@pytest.mark.parametrize("folder", ["/usr/share/zoneinfo", "/var/db/timezone/zoneinfo"])
def test_the_time_zone_is_where_the_link_leads(bare: Path, folder: str) -> None:
    (bare / "localtime").symlink_to(f"{folder}/America/New_York")
    assert time_zone() == "America/New_York"


def test_the_time_zone_is_what_the_file_says_where_there_is_no_link(bare: Path) -> None:
    (bare / "localtime").write_bytes(b"TZif2")
    (bare / "timezone").write_text("Asia/Tokyo\n")
    assert time_zone() == "Asia/Tokyo"


@pytest.mark.parametrize("given", [None, "CET-1CEST", "../../etc/passwd", "No/Where", "/etc/hosts"])
def test_without_a_name_it_is_utc_and_that_is_said(
    given: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if given:
        monkeypatch.setenv("TZ", given)
    with caplog.at_level(logging.WARNING):
        assert time_zone() == "UTC"
    assert "goes by UTC" in caplog.text
    assert (given or "does not say") in caplog.text


def test_the_night_is_that_of_the_computer() -> None:
    assert nightly_refresh.execution_timezone == schedules.TIME_ZONE
    assert schedules.TIME_ZONE in str(nightly_refresh.description)
