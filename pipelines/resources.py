"""What assets are given to work with.

Belongs here: the resources and their settings. Does not: their classes, which live beside the
assets that use them.
"""

from assets.pipes import pipes_client
from assets.stage import HomeFolder

RESOURCES = {
    "home": HomeFolder(),
    "pipes": pipes_client(),
}
