"""When and where: what Dagster loads.

Belongs here: definitions, resources, jobs, schedules. Does not: what is made (``assets``) and how
(``fastdino``).
"""
