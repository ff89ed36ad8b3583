"""When and where: what Dagster loads.

Belongs here: definitions, resources, jobs, schedules, sensors. Does not: what is made
(``assets``) and how (``fastdino``).
"""
