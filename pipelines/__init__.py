"""When and where: what Dagster loads.

Belongs here: definitions, resources, jobs, schedules, sensors. Does not: what is made
(``assets``) and how (``fastdino``).
"""

from fastdino.core import environment

# Before any asset is imported, whose options have the settings as their defaults: each of Dagster's
# processes comes by here, and Dagster itself looks for no file ``.env`` in the folders above.
environment.load()
