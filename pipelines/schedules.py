"""When jobs run by themselves.

Belongs here: schedules. Does not: what the jobs make. All are off until someone switches them on
in the UI, under Automation.
"""

import dagster as dg

from pipelines.jobs import refresh

nightly_refresh = dg.ScheduleDefinition(
    name="nightly_refresh",
    job=refresh,
    cron_schedule="0 3 * * *",
    description="Every night at 3:00 UTC: take in new, moved, retagged and removed songs.",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)

SCHEDULES = [nightly_refresh]
