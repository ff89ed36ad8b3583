"""Colours of groups on the map.

Belongs here: one colour per number, the same in the page and in pictures, and one per age.
Does not: drawing.
"""

import functools
import math

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
NONE = "#8a8f98"


@functools.cache
def color(number: int) -> str:
    """Colour of group ``number`` as ``#rrggbb``; grey for -1, no group.

    Hues go round by the golden angle, so any few groups in a row differ well and a group keeps
    its colour however many there are. Lightness alternates, which tells more of them apart, within
    what can be seen on white and on black.
    """
    if number < 0:
        return NONE
    hue = 0.6 + number * GOLDEN_ANGLE
    lightness = (0.70, 0.62, 0.77)[number % 3]
    return _oklch(lightness, 0.145, hue)


def ramp(steps: int) -> list[str]:
    """``steps`` colours from the newest to the oldest: from yellow through red to violet."""
    shares = [i / max(steps - 1, 1) for i in range(steps)]
    return [_oklch(0.82 - 0.30 * share, 0.14, 1.55 - 3.1 * share) for share in shares]


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """A colour of the OKLCH space, in which equal steps look equal, as sRGB hex."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(min(max(c, 0.0), 1.0))):02x}" for c in linear)


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
