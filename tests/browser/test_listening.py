"""Looking, listening and finding one's way, as people do it."""

import itertools

import pytest
import synthetic
from opening import draw_loop, opened, watched
from playwright.sync_api import Browser, BrowserContext, Page, expect
from published import rows

from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.page import write_page

pytestmark = pytest.mark.browser

PLAYS = "() => !audio.paused && audio.currentTime > 0.3"
QUEUE = "state.queue.map(entry => entry.song)"
# The names of clusters that are shown: where, in which colour, and over whose songs.
NAMES = """() => [...document.querySelectorAll("#labels span:not(.title)")].flatMap(
  (element, g) => { if (element.style.visibility !== "visible") return [];
    const {left, top, right, bottom} = element.getBoundingClientRect();
    const over = drawn.filter(i => { const [x, y] = pixel(i);
      return x > left && x < right && y > top && y < bottom; }).map(i => ways.Cluster.of[i]);
    return {box: [left, top, right, bottom], color: getComputedStyle(element).color,
      own: over.filter(each => each === g).length,
      other: over.filter(each => each >= 0 && each !== g).length}; })"""
TITLED = """() => [...document.querySelectorAll("#labels .title")].filter(element =>
    element.style.visibility === "visible").length > 2"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of 400 songs in six clusters, from disk."""
    home = Home(tmp_path_factory.mktemp("large") / "home")
    synthetic.write_home(home, 400)
    reports.draw_map(home)
    publish(home)
    write_page(home)
    return home.page.as_uri()


def tab(page: Page, name: str) -> None:
    page.locator("#tabs").get_by_text(name).click()


def test_looking_does_not_interrupt_listening(page: Page):
    page.evaluate("play([0, 1, 2])")
    page.wait_for_function(PLAYS)
    source = page.evaluate("audio.src")
    page.mouse.click(*page.evaluate("pixel(5)"))
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[5]"))
    page.locator(".songs .what").nth(2).click()
    page.wait_for_timeout(500)
    assert page.evaluate("audio.src") == source
    assert page.evaluate(QUEUE) == [0, 1, 2]
    # What plays goes on where it is, though the list that it is played from is another.
    second = page.evaluate("audio.currentTime")
    page.evaluate("play([3, 0, 4], 1)")
    assert page.evaluate("audio.currentTime") >= second
    # A row that is clicked twice plays.
    title = page.locator(".songs .what b").nth(3).inner_text()
    page.locator(".songs .what").nth(3).dblclick()
    expect(page.locator("#now b")).to_have_text(title)


def test_the_queue_is_added_to_reordered_cleared_and_brought_back(page: Page):
    page.evaluate("play([0, 1, 2], 1, 'Mine')")
    page.evaluate("look(7)")
    page.locator(".actions").get_by_text("Add to queue").click()
    page.locator(".actions").get_by_text("Play next").click()
    assert page.evaluate(QUEUE) == [0, 1, 7, 2, 7]
    tab(page, "Queue")
    expect(page.locator(".queue li")).to_have_count(5)
    # Its way over the map.
    assert page.evaluate("marked.line.length") == 5
    handle = page.locator(".queue .handle").nth(3)
    handle.focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(QUEUE) == [0, 1, 2, 7, 7]
    assert page.evaluate("document.activeElement.closest('li').dataset.k") == "2"
    page.locator(".queue .handle").nth(0).hover()
    page.mouse.down()
    below = page.locator(".queue li").nth(2).bounding_box()
    page.mouse.move(below["x"] + 300, below["y"] + below["height"] / 2, steps=4)
    page.mouse.up()
    assert page.evaluate(QUEUE) == [1, 2, 0, 7, 7]
    assert page.evaluate("playing()") == 1
    page.locator(".queue .away").nth(4).click()
    page.locator(".actions").get_by_text("Clear").click()
    assert page.evaluate(QUEUE) == [1]
    assert page.locator("#next").is_disabled()
    for _ in range(3):
        page.locator(".actions").get_by_text("Undo").click()
    assert page.evaluate(QUEUE) == [0, 1, 2, 7, 7]
    page.locator(".actions").get_by_text("Shuffle").click()
    assert sorted(page.evaluate(QUEUE)) == [0, 1, 2, 7, 7]
    assert page.evaluate(QUEUE)[:2] == [0, 1]
    # Taking away all there is ends it.
    page.evaluate("clear(), remove(0)")
    expect(page.locator("#now")).to_contain_text("Nothing is playing")
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert len(page.evaluate(QUEUE)) == 5


def test_what_is_paused_stays_so_until_someone_asks_for_sound(page: Page, collection: Home):
    wma = rows(collection, "SELECT track_id FROM files WHERE codec = 'wmav2'")[0][0]
    # A format that the browser does not know is asked for a second time, decoded.
    decoded = page.evaluate(f"rowOf.get('{wma}')")
    first, last = [row for row in range(3) if row != decoded][:2]
    page.evaluate(f"play([{first}, {decoded}, {last}])")
    page.wait_for_function(PLAYS)
    page.keyboard.press(" ")
    page.wait_for_function("() => audio.paused")
    for change, song in (("remove(0)", decoded), ("remove(0)", last), ("undo()", decoded)):
        page.evaluate(change)
        page.wait_for_function("() => audio.readyState > 2")
        assert page.evaluate("[audio.paused, playing()]") == [True, song]
    page.keyboard.press(" ")
    page.wait_for_function(PLAYS)
    assert page.evaluate("audio.src").endswith(".wav")
    # What sounds is followed by what sounds, also where it is taken away or brought back.
    for change, song in (("remove(0)", last), ("undo()", decoded)):
        page.evaluate(change)
        page.wait_for_function(f"() => playing() === {song} && ({PLAYS})()")
    page.evaluate("clear(), remove(0), append([0])")
    page.wait_for_function("() => audio.readyState > 2")
    assert page.evaluate("audio.paused")


def test_endless_play_repeats_nothing_and_no_artist_in_a_row(context: BrowserContext, large: str):
    page, complaints = watched(context)
    opened(page, large)
    tab(page, "Queue")
    page.get_by_text("Go on with what is alike").click()
    page.evaluate("likeSong(17)")
    for _ in range(60):
        page.evaluate("turnTo(state.queue.length - 1)")
    heard = page.evaluate(QUEUE)[21:]
    assert len(heard) > 250
    assert len(set(page.evaluate(QUEUE))) == len(page.evaluate(QUEUE))
    artists = page.evaluate("list => list.map(i => songs.artists[i][0])", heard)
    assert all(one != other for one, other in itertools.pairwise(artists))
    # Of all that there is it begins again with what was heard longest ago.
    assert page.evaluate("goingOn([...songs.id.keys()], 3).length") == 3
    assert not complaints


def test_the_address_leads_back_and_a_reload_returns(page: Page):
    page.evaluate("play([0, 1, 2], 1, 'Mine')")
    page.wait_for_function(PLAYS)
    page.evaluate("audio.currentTime = 9, audio.volume = .4")
    page.locator("#volume").fill("0.4")
    page.evaluate("look(5)")
    link = page.url
    assert page.evaluate("songs.id[5]") in link
    page.evaluate("lookAtGroup('Genre', 0)")
    tab(page, "Queue")
    page.go_back()
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("data.genres[0]"))
    page.go_back()
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[5]"))
    page.wait_for_function("() => audio.currentTime > 9")
    opened(page)
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[5]"))
    assert page.evaluate(QUEUE) == [0, 1, 2]
    assert page.evaluate("playing()") == 1
    assert page.evaluate("audio.volume") == pytest.approx(0.4)
    page.wait_for_function("() => audio.currentTime >= 9")
    assert page.evaluate("audio.paused")
    page.keyboard.press(" ")
    page.wait_for_function("() => !audio.paused && audio.currentTime > 9.2")
    other = page.context.new_page()
    opened(other, link)
    expect(other.locator("#view h2").first).to_have_text(page.evaluate("songs.title[5]"))


@pytest.mark.parametrize(
    "hash",
    ["#song=gone", "#of=Genre&group=gone", "#of=__proto__&group=x", "#tab=%3Cb%3E&by=toString"],
)
def test_addresses_that_lead_nowhere_are_survived(context: BrowserContext, large: str, hash: str):
    page, complaints = watched(context)
    opened(page, large + hash)
    expect(page.locator(".groups li").first).to_be_visible()
    assert page.locator("#missing").is_visible() == ("gone" in hash)
    assert page.evaluate("state.by") == "Cluster"
    assert not complaints


def test_search_finds_groups_of_every_kind_and_shows_hits_on_the_map(
    context: BrowserContext, large: str
):
    page, complaints = watched(context)
    opened(page, large)
    for asked, kind, of in (
        ("techno", "Genres", "Genre"),
        ("1984", "Years", "Year"),
        (page.evaluate("data.artists[3]"), "Artists", "Artist"),
        (page.evaluate("data.albums[3]"), "Albums", "Album"),
        (page.evaluate("ways.Cluster.groups[1].name"), "Clusters", "Cluster"),
    ):
        page.fill("#query", asked)
        heading = page.get_by_role("heading", name=kind)
        expect(heading).to_be_visible()
        first = heading.locator("xpath=following-sibling::ul[1]//button[@class='what']").first
        name = first.locator("b").inner_text()
        first.click()
        expect(page.locator("#view h2").first).to_have_text(name)
        assert page.evaluate("state.place.of") == of
    # The map shows all hits and little else.
    page.fill("#query", page.evaluate("data.albums[3]"))
    wide = page.evaluate("view().x[1] - view().x[0]")
    page.wait_for_function("() => marked.rings.length > 0 && marked.rings.length < 100")
    page.wait_for_timeout(800)
    inside = page.evaluate(
        """() => { const {x, y} = view(), within = ([a, b], value) => a < value && value < b;
           return hits().every(i => within(x, songs.x[i]) && within(y, songs.y[i])); }"""
    )
    assert inside
    page.keyboard.press("Escape")
    page.wait_for_function(f"() => view().x[1] - view().x[0] > {wide} * .95")
    assert not complaints


@pytest.mark.parametrize("ends", ["Enter", "Escape", "look(5)", "history.back()"])
def test_what_is_typed_and_left_at_once_is_not_searched_for_later(page: Page, ends: str):
    page.evaluate("look(3)")
    page.evaluate("look(4)")
    # All in one go: however fast the machine, the search has not begun yet.
    page.evaluate(
        """ends => {
          $("query").focus();
          $("query").value = songs.title[0];
          $("query").dispatchEvent(new InputEvent("input"));
          if (/^[A-Z]/.test(ends))
            $("query").dispatchEvent(new KeyboardEvent("keydown", {key: ends, bubbles: true}));
          else eval(ends);
        }""",
        ends,
    )
    leads_to = {"Enter": "search(songs.title[0])[0]", "Escape": "4", "look(5)": "5"}.get(ends, "3")
    title = page.evaluate(f"songs.title[{leads_to}]")
    expect(page.locator("#view h2").first).to_have_text(title)
    page.wait_for_timeout(400)
    expect(page.locator("#view h2").first).to_have_text(title)
    assert page.locator("#query").input_value() == page.evaluate("state.query") == ""


def test_songs_are_picked_one_by_one_and_by_a_loop(page: Page):
    page.mouse.click(*page.evaluate("pixel(2)"), button="left")
    page.keyboard.down("Control")
    for row in (3, 6):
        page.mouse.click(*page.evaluate(f"pixel({row})"))
    page.keyboard.up("Control")
    assert page.evaluate("state.selected") == [3, 6]
    page.get_by_text("Way from the first to the last").click()
    page.wait_for_function(PLAYS)
    queue = page.evaluate(QUEUE)
    assert (queue[0], queue[-1]) == (3, 6)
    tab(page, "Picked")
    page.get_by_text("What is like all of them").click()
    page.wait_for_function(f"() => {QUEUE}[1] === 6")
    tab(page, "Queue")
    page.get_by_text("Surprise me").click()
    expect(page.locator("#view h2").first).to_have_text("A surprise")
    page.evaluate("showAll()")
    draw_loop(page)
    assert len(page.evaluate("state.selected")) == page.evaluate("n")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (844, 390), (1366, 768), (2560, 1440)])
def test_names_on_the_map_stay_within_it_and_over_their_own_songs(
    chromium: Browser, large: str, width: int, height: int
):
    context = chromium.new_context(viewport={"width": width, "height": height})
    page, complaints = watched(context)
    opened(page, large)
    page.wait_for_timeout(300)
    found = page.evaluate(NAMES)
    assert len(found) >= min(4, page.evaluate("ways.Cluster.groups.length"))
    assert len({label["color"] for label in found}) == len(found)
    for label in found:
        assert label["own"] >= label["other"]
        assert 0 <= label["box"][0] < label["box"][2] <= width
        assert 0 <= label["box"][1] < label["box"][3] <= height
    # Nearer there are titles.
    page.evaluate(
        """() => { const i = ways.Cluster.groups[0].typical, {x} = view();
           const half = (x[1] - x[0]) / 10;
           Plotly.relayout(map, {"xaxis.range": [songs.x[i] - half, songs.x[i] + half],
             "yaxis.range": [songs.y[i] - half, songs.y[i] + half]}); }"""
    )
    page.wait_for_function(TITLED)
    context.close()
    assert not complaints


def test_without_storage_it_works(chromium: Browser, large: str):
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"])
           Object.defineProperty(window, name, {get() { throw new Error("forbidden"); }});"""
    )
    page, complaints = watched(context)
    opened(page, large)
    page.click("#theme")
    page.evaluate("play([1, 2])")
    assert page.evaluate(QUEUE) == [1, 2]
    context.close()
    assert not complaints


def test_without_webgl_it_says_so_and_works(chromium: Browser, large: str):
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    context.add_init_script(
        """const own = HTMLCanvasElement.prototype.getContext;
           HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
             return /webgl/.test(kind) ? null : own.call(this, kind, ...more); };"""
    )
    page, complaints = watched(context)
    opened(page, large)
    expect(page.locator("#sampled")).to_have_text("No WebGL: the map is slower")
    assert page.evaluate("map.data[0].type") == "scatter"
    page.mouse.click(*page.evaluate("pixel(5)"))
    expect(page.locator("#view h2").first).to_have_text(page.evaluate("songs.title[5]"))
    context.close()
    assert not complaints


@pytest.mark.parametrize("codec", ["flac", "wmav2"])
def test_where_sound_is_forbidden_it_says_so_and_a_press_starts_it(
    chromium: Browser, chromium_path: str, url: str, collection: Home, codec: str
):
    query = "SELECT min(track_id) FROM files WHERE codec = ?"
    ((song,),) = rows(collection, query, codec)
    options = ["--autoplay-policy=document-user-activation-required", "--disable-audio-output"]
    strict = chromium.browser_type.launch(
        executable_path=chromium_path, args=[*options, "--no-sandbox"]
    )
    context = strict.new_context(viewport={"width": 1366, "height": 768})
    # Not by a test's own hand, which the browser would take for someone's.
    context.add_init_script(
        "addEventListener('load', () => setTimeout(() => "
        f"modules.player.play([modules.collection.rowOf.get('{song}')])));"
    )
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#note")).to_contain_text("press Play")
    page.click("#play")
    expect(page.locator("#note")).to_be_hidden()
    page.wait_for_function("() => !document.getElementById('audio').paused")
    strict.close()
