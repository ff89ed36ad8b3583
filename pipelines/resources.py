"""What assets are given to work with.

Belongs here: the resources and their settings. Does not: their classes, which live beside the
assets that use them.
"""

from assets.pipes import pipes_client
from assets.ray_jobs import RayJobs
from assets.stage import HomeFolder
from fastdino.core import environment

RESOURCES = {
    "home": HomeFolder(),
    # Where steps run: beside Dagster, or as jobs of the Ray cluster that is named for them.
    "pipes": pipes_client() if environment.JOBS.value() is None else RayJobs(),
}
