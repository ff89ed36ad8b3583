"""Every feature once by the keyboard alone, and once by touch alone on a phone."""

import itertools
from collections.abc import Iterator

import pytest
from opening import opened, watched
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.browser

PLAYS = "() => !audio.paused && audio.currentTime > 0.3"
QUEUE = "state.queue.map(entry => entry.song)"


class Keyboard:
    """Someone who has a keyboard and nothing else."""

    def __init__(self, page: Page) -> None:
        self.page, self.press = page, page.keyboard.press

    def go_to(self, wanted: Locator) -> None:
        """Tab on until ``wanted`` has the focus, which must be seen there."""
        expect(wanted).to_be_visible()
        for _ in range(500):
            if wanted.evaluate("element => element === document.activeElement"):
                assert wanted.evaluate("element => element.matches(':focus-visible')")
                return
            self.press("Tab")
        pytest.fail(f"the keyboard does not reach {wanted}")

    def use(self, wanted: Locator) -> None:
        """Go to a button and press it."""
        self.go_to(wanted)
        self.press("Enter")


def within(page: Page, name: str) -> Locator:
    """A button of the list, by what stands on it."""
    return page.locator("#view").get_by_role("button", name=name, exact=True)


def tab(page: Page, name: str) -> Locator:
    return page.locator("#tabs").get_by_role("button", name=name)


def test_every_feature_by_the_keyboard_alone(page: Page):
    by = Keyboard(page)
    # Search, look, hear, pause, seek, and the bar below.
    by.press("/")
    page.keyboard.type(page.evaluate("songs.title[0]"))
    expect(page.locator(".songs li").first).to_contain_text(page.evaluate("songs.title[0]"))
    by.press("Enter")
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[0]"))
    by.use(within(page, "Play"))
    page.wait_for_function(PLAYS)
    by.press("ArrowRight")
    page.wait_for_function("() => audio.currentTime > 5")
    by.press("n")
    assert page.evaluate("state.at") == 1
    by.press("p")
    page.wait_for_function("() => state.at === 0")
    by.go_to(page.locator("#volume"))
    by.press("ArrowLeft")
    assert page.evaluate("audio.volume") == pytest.approx(0.99)
    by.use(page.locator("#play"))
    page.wait_for_function("() => audio.paused")
    by.press("m")
    expect(page.locator(".switch button").nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".songs li").first).to_be_visible()
    by.use(page.locator(".switch button").nth(0))
    by.use(page.locator("#now"))
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[0]"))
    # What is like it: rows are walked, added, heard, picked, and put back.
    by.press("ArrowDown")
    by.press("a")
    assert page.evaluate(QUEUE)[-1] == page.evaluate("neighbors(0)[0].song")
    by.press("s")
    by.press("ArrowDown")
    by.press("s")
    by.press("ArrowDown")
    by.press("s")
    by.press("s")
    near = page.evaluate("neighbors(0).map(each => each.song)")
    assert page.evaluate("state.selected") == near[:2]
    expect(page.locator(".picked")).to_have_count(2)
    by.press("h")
    page.wait_for_function(f"() => playing() === {near[2]}")
    # Ways, blends and surprises; each into the queue.
    by.use(tab(page, "Picked"))
    by.use(within(page, "Way from the first to the last"))
    page.wait_for_function(f"() => {QUEUE}[0] === {near[0]} && {QUEUE}.at(-1) === {near[1]}")
    by.use(tab(page, "Picked"))
    by.use(within(page, "What is like all of them"))
    page.wait_for_function(f"() => {QUEUE}[1] === {near[1]}")
    by.use(within(page, "Surprise me"))
    expect(page.locator("#view h2").first).to_have_text("A surprise")
    by.use(tab(page, "Picked"))
    by.press("ArrowDown")
    by.press("s")
    assert page.evaluate("state.selected") == near[1:2]
    assert page.evaluate("document.activeElement.matches('.songs .what')")
    by.use(within(page, "Pick none"))
    # Groups of every kind, and all that can be done with one.
    by.use(tab(page, "Groups"))
    for way in ("Genre", "Artist", "Year", "Added", "Cluster"):
        by.use(page.locator(".switch").get_by_role("button", name=way))
        assert page.evaluate("state.by") == way
    by.use(page.locator(".groups .what").first)
    members = page.evaluate("ways.Cluster.members[0]")
    by.use(within(page, "Pick all"))
    assert sorted(page.evaluate("state.selected")) == members
    by.press("Escape")
    for name in ("Play all", "Play a few", "Shuffle"):
        by.use(within(page, name))
        assert set(page.evaluate(QUEUE)) <= set(members), name
    by.go_to(within(page, "Download playlist"))
    with page.expect_download() as download:
        by.press("Enter")
    assert download.value.suggested_filename.endswith(".m3u8")
    by.press("Escape")
    assert page.evaluate("state.place.group") is None
    # The queue.
    by.use(tab(page, "Queue"))
    first, second, *rest = page.evaluate(QUEUE)
    by.go_to(page.locator(".queue .handle").first)
    by.press("ArrowDown")
    assert page.evaluate(QUEUE) == [second, first, *rest]
    by.use(page.locator(".queue .away").last)
    assert page.evaluate(QUEUE) == [second, first, *rest[:-1]]
    by.use(within(page, "Shuffle"))
    by.use(within(page, "Clear"))
    assert page.evaluate(QUEUE) == [first]
    for _ in range(4):
        by.press("u")
    assert page.evaluate(QUEUE) == [first, second, *rest]
    by.use(within(page, "Go on with what is alike"))
    assert page.evaluate("state.endless")
    # The map and the rest.
    width = page.evaluate("view().x[1] - view().x[0]")
    by.press("+")
    page.wait_for_function(f"() => view().x[1] - view().x[0] < {width} * .8")
    by.press("0")
    page.wait_for_function(f"() => view().x[1] - view().x[0] > {width} * .9")
    for close in ("?", "Escape"):
        by.press("?")
        keys = page.locator("#hint").bounding_box()
        assert all(
            keys["y"] <= each.bounding_box()["y"] <= keys["y"] + keys["height"]
            for each in page.locator("#hint kbd").all()
        )
        by.press(close)
        assert page.locator("#help").get_attribute("aria-expanded") == "false"
    by.use(page.locator("#pick"))
    assert page.evaluate("state.picking")
    by.press("Escape")
    assert not page.evaluate("state.picking")
    dark = page.evaluate("state.dark")
    by.use(page.locator("#theme"))
    assert page.evaluate("state.dark") != dark
    by.use(tab(page, "Collection"))
    expect(page.locator("#view")).to_contain_text("How well it hears")
    by.use(tab(page, "Song"))
    for link in ("#view .facts .link >> nth=0", "#view .chip"):
        by.use(page.locator(link))
        assert page.evaluate("state.place.tab") == "Groups"
        by.press("Escape")
        page.wait_for_function("() => state.place.tab === 'Song'")
    by.use(within(page, "Play next"))
    by.use(page.get_by_role("button", name="Way here from what plays"))
    page.wait_for_function("() => state.place.tab === 'Queue'")


@pytest.fixture
def phone(chromium: Browser, url: str) -> Iterator[Page]:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
        accept_downloads=True,
    )
    page, complaints = watched(context)
    yield opened(page, url)
    context.close()
    assert not complaints


class Finger:
    """Someone who has a touch screen and nothing else."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.events = page.context.new_cdp_session(page)

    def _send(self, kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y} for x, y in points]
        self.events.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    def drag(self, *way: tuple[float, float]) -> None:
        """Along a way, slowly enough for what follows the finger."""
        self._send("touchStart", way[0])
        for (x, y), (to_x, to_y) in itertools.pairwise(way):
            for step in range(1, 6):
                self._send("touchMove", (x + (to_x - x) * step / 5, y + (to_y - y) * step / 5))
        self._send("touchEnd")
        self.page.wait_for_timeout(700)  # What follows sooner only ends what may become a fling.

    def hold(self, x: float, y: float) -> None:
        self._send("touchStart", (x, y))
        self.page.wait_for_timeout(800)
        self._send("touchEnd")

    def tap(self, wanted: Locator) -> None:
        """Tap what a finger can hit: at least 24 pixels each way, as WCAG asks."""
        wanted.scroll_into_view_if_needed()
        box = wanted.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 20, wanted
        wanted.tap()

    def tap_song(self, row: int) -> None:
        self.page.touchscreen.tap(*self.page.evaluate(f"pixel({row})"))


def middle(wanted: Locator) -> tuple[float, float]:
    box = wanted.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_every_feature_by_touch_alone(phone: Page):
    page, by = phone, Finger(phone)
    # Look, play, seek, next, moments.
    by.tap_song(4)
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[4]"))
    assert page.evaluate("audio.paused")
    by.tap(within(page, "Play"))
    page.wait_for_function(PLAYS)
    bar = page.locator("#seek").bounding_box()
    page.touchscreen.tap(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    page.wait_for_function("() => audio.currentTime > 8")
    by.tap(page.locator("#next"))
    by.tap(page.locator("#previous"))
    page.wait_for_function("() => state.at === 0")
    by.tap(page.locator("#moments"))
    expect(page.locator(".songs li").first).to_be_visible()
    by.tap(page.locator(".switch button").nth(0))
    by.tap(page.locator(".songs .add").first)
    assert page.evaluate(QUEUE)[-1] == page.evaluate("neighbors(4)[0].song")
    by.tap(page.locator(".songs .hear").nth(1))
    page.wait_for_function("() => playing() === neighbors(4)[1].song")
    by.tap(page.locator("#play"))
    page.wait_for_function("() => audio.paused")
    # The map: shifted by a finger, nearer and all of it by buttons.
    before = page.evaluate("view().x[0]")
    by.drag((120, 200), (220, 220))
    page.wait_for_function(f"() => Math.abs(view().x[0] - {before}) > .1")
    width = page.evaluate("view().x[1] - view().x[0]")
    by.tap(page.locator("#zoom-in"))
    page.wait_for_function(f"() => view().x[1] - view().x[0] < {width} * .8")
    by.tap(page.locator("#zoom-out"))
    by.tap(page.locator("#zoom-all"))
    page.wait_for_function(f"() => Math.abs(view().x[0] - {before}) < .1")
    # Picking: a finger that rests, taps, a loop, and rows.
    by.hold(*page.evaluate("pixel(2)"))
    page.wait_for_function("() => state.selected.join() === '2'")
    by.tap(page.locator("#pick"))
    by.tap_song(9)
    page.wait_for_function("() => state.selected.join() === '2,9'")
    by.tap(within(page, "Way from the first to the last"))
    page.wait_for_function(f"() => {QUEUE}[0] === 2 && {QUEUE}.at(-1) === 9")
    by.tap(tab(page, "Picked"))
    by.tap(within(page, "What is like all of them"))
    page.wait_for_function(f"() => {QUEUE}[1] === 9")
    seen = page.evaluate("view().x[0]")
    by.drag((4, 60), (386, 60), (386, 380), (4, 380), (4, 62))
    page.wait_for_function("() => state.selected.length === n")
    assert page.evaluate("view().x[0]") == seen
    by.tap(within(page, "Pick none"))
    by.tap(page.locator(".groups .what").first)
    by.tap(page.locator(".songs .what").nth(1))
    by.tap(page.locator(".songs .what").nth(2))
    expect(page.locator(".picked")).to_have_count(2)
    by.tap(page.locator("#pick"))
    # A group, and everything that can be done with one.
    for name in ("Play all", "Play a few", "Shuffle", "Add to queue", "Pick all"):
        by.tap(page.locator(".actions").get_by_role("button", name=name))
        if name == "Pick all":
            by.tap(tab(page, "Groups"))
    for way in ("Genre", "Artist", "Year", "Added", "Cluster"):
        by.tap(page.locator(".switch").get_by_role("button", name=way))
        assert page.evaluate("state.by") == way
    # The queue: dragged, taken from, cleared, brought back.
    by.tap(page.locator("#grip"))
    expect(page.locator("aside")).to_have_class("card tall")
    page.evaluate("play([0, 1, 2, 3, 4, 5], 0, 'Mine')")
    by.tap(tab(page, "Queue"))
    page.wait_for_timeout(400)
    by.drag(middle(page.locator(".queue .handle").nth(0)), middle(page.locator(".queue li").nth(2)))
    assert page.evaluate(QUEUE) == [1, 2, 0, 3, 4, 5]
    by.tap(page.locator(".queue .away").nth(3))
    # On a busy machine a tap is a click a moment later.
    expect(page.locator(".queue .away")).to_have_count(5)
    assert page.evaluate(QUEUE) == [1, 2, 0, 4, 5]
    for name in ("Clear", "Undo", "Undo", "Shuffle", "Go on with what is alike", "Surprise me"):
        by.tap(within(page, name))
    expect(page.locator("#view h2").first).to_have_text("A surprise")
    with page.expect_download():
        by.tap(within(page, "Download playlist"))
    # Search, the collection, the theme, and back.
    by.tap(page.locator("#query"))
    page.keyboard.type(page.evaluate("songs.title[7]"))  # That of the phone.
    page.wait_for_function("() => state.query === songs.title[7]")
    by.tap(page.locator(".songs .what", has_text=page.evaluate("songs.title[7]")).first)
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[7]"))
    by.tap(page.locator("#view .facts .link").first)
    by.tap(page.get_by_role("button", name="Back"))
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[7]"))
    by.tap(page.locator("#now"))
    by.tap(tab(page, "Collection"))
    dark = page.evaluate("state.dark")
    by.tap(page.locator("#theme"))
    assert page.evaluate("state.dark") != dark
    by.tap(page.locator("#grip"))
