"""What assets are given to work with.

Belongs here: the resources and their settings. Does not: their classes, which live beside the
assets that use them.
"""

import dagster as dg

from assets.stage import HomeFolder

RESOURCES = {
    "home": HomeFolder(),
    # A stage that is interrupted finishes its song or its training step first.
    "pipes": dg.PipesSubprocessClient(termination_timeout_seconds=30),
}
