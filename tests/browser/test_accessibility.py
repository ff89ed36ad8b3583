"""Whether everyone can use the page: rules of axe-core, contrast, places without room."""

from pathlib import Path

import pytest
from opening import opened, watched
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

axe = pytest.importorskip("axe_playwright_python", reason="make test-browser brings axe-core")

SIZES = {"phone": (390, 844), "laptop": (1366, 768), "large": (2560, 1440)}
# The page as people meet it, one after the other.
PLACES = (
    "go({tab: 'Groups'})",
    "lookAtGroup('Cluster', 0)",
    "look(1)",
    "play([1, 2, 3, 4, 5]), go({tab: 'Queue'})",
    "pick([1, 2, 3])",
    "alterPlace({query: songs.title[0].split(' ')[0]})",
    "go({tab: 'Collection'})",
)
# Colours that are less than they should be over the paper, each with its least contrast.
CONTRAST = """() => {
    const own = Object.values(ways).flatMap(way =>
        [...way.groups.map(group => group.color), ...(way.tints || [])]).filter(Boolean);
    return own.flatMap(color => [[seen(color, DOT), 3], [seen(color, TEXT), 4.5]])
        .concat([[grey(), 3], [ink(), 4.5]])
        .filter(([color, least]) => contrast(color, paper()) < least);
}"""


def findings(page: Page) -> list[str]:
    """What axe-core says of the page as it is: rule and element."""
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {rules: {'label-content-name-mismatch': {enabled: true}}})"
    )
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize(
    ("size", "theme"),
    [("phone", "light"), ("phone", "dark"), ("laptop", "light"), ("large", "dark")],
)
def test_axe_finds_nothing_and_colours_are_seen(chromium: Browser, url: str, size: str, theme: str):
    width, height = SIZES[size]
    context = chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, has_touch=size == "phone"
    )
    page, complaints = watched(context)
    opened(page, url)
    assert page.evaluate(CONTRAST) == []
    for place in PLACES:
        page.evaluate(f"() => {{ {place}; }}")
        page.wait_for_timeout(250)
        assert findings(page) == [], place
    # Nothing that may be told apart by its colour alone is drawn thinner than it is.
    page.evaluate("() => { go({tab: 'Groups'}); }")
    assert page.evaluate("[map.data[0].marker.opacity, getComputedStyle(map).opacity]") == [1, "1"]
    context.close()
    assert not complaints


@pytest.mark.parametrize(("width", "height"), [(683, 384), (844, 390), (640, 360), (320, 256)])
def test_low_windows_have_room_for_the_list(chromium: Browser, url: str, width: int, height: int):
    context = chromium.new_context(viewport={"width": width, "height": height})
    page, complaints = watched(context)
    opened(page, url)
    box = page.locator("#view").bounding_box()
    assert box["height"] > height * 0.3
    assert box["width"] > 200
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("#play", "#next", "#query"):
        found = page.locator(name).bounding_box()
        assert found["x"] >= 0
        assert found["x"] + found["width"] <= width
        assert found["y"] + found["height"] <= height
    context.close()
    assert not complaints
