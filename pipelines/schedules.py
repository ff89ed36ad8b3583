"""When jobs run by themselves.

Belongs here: schedules, and the time zone that they go by. Does not: what the jobs make. All are
off until someone switches them on in the UI, under Automation.
"""

import logging
import os
import zoneinfo
from pathlib import Path

import dagster as dg

from pipelines.jobs import refresh

log = logging.getLogger(__name__)

LOCALTIME, TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")


def time_zone() -> str:
    """The computer's time zone by its name, such as "Europe/Berlin"; UTC if it has none.

    That is what ``TZ`` says, or where a file that it names leads; where it is not set, or names
    ``/etc/localtime``, what that leads to, else ``/etc/timezone``.
    """
    given = os.environ.get("TZ", "")
    # TZ=:/etc/localtime is set to spare programs the look at whether the file has changed.
    file = given.removeprefix(":") or str(LOCALTIME)
    if name := _named(file) or _named(os.path.realpath(file)):
        return name
    if file == str(LOCALTIME):
        try:
            if name := _named(TIMEZONE.read_text(encoding="utf-8").strip()):
                return name
        except (OSError, ValueError):
            pass
    found = f"TZ={given!r} is no name of one" if given else "this computer does not say its own"
    log.warning("the schedule goes by UTC: %s; set TZ to one, as TZ=Europe/Berlin", found)
    return "UTC"


def _named(text: str) -> str | None:
    """The name of a time zone that is there: ``text``, or what a path of its file ends in."""
    name = text.rpartition("/zoneinfo/")[2]
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        return None
    return name


TIME_ZONE = time_zone()

nightly_refresh = dg.ScheduleDefinition(
    name="nightly_refresh",
    job=refresh,
    cron_schedule="0 3 * * *",
    execution_timezone=TIME_ZONE,
    description=(
        f"Every night at 3:00 ({TIME_ZONE}): take in new, moved, retagged and removed songs."
    ),
    default_status=dg.DefaultScheduleStatus.STOPPED,
)

SCHEDULES = [nightly_refresh]
