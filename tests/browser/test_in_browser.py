"""The page as people meet it: a real browser, the real server, songs that are really decoded."""

import os
from pathlib import Path

import pytest
import stages
import synthetic
from cue_album import SHEET, write
from opening import draw_loop, opened, serve, watched
from playwright.sync_api import Browser, BrowserContext, Page, expect
from published import rows

from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.page import page as report_page
from fastdino.page import write_page

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.title='owned'</script><b>&amp;\u2028\u2029{{data}}"
PLAYS = "() => !audio.paused && audio.currentTime > 0.3"


def make_page(home: Home) -> None:
    """All that comes after vectors."""
    reports.draw_map(home)
    publish(home)
    write_page(home)


def titles(page: Page) -> list[str]:
    return page.locator(".songs .what b").all_inner_texts()


def click_song(page: Page, row: int) -> None:
    """Click the point of a song on the map, to look at it."""
    page.mouse.click(*page.evaluate(f"pixel({row})"))


# How many of the songs that stand out are drawn over the points, where they belong.
COVERED = """() => {
  const canvas = $("marks").firstElementChild, {left, top} = canvas.getBoundingClientRect();
  const {width, height} = canvas, pen = canvas.getContext("2d");
  const {data} = pen.getImageData(0, 0, width, height);
  return marked.dots.filter(i => {
    const [x, y] = pixel(i).map((at, k) => Math.floor((at - [left, top][k]) * devicePixelRatio));
    return data[4 * (y * width + x) + 3] > 200;
  }).length;
}"""


def hear_song(page: Page, row: int) -> None:
    """Double-click the point of a song on the map, to look at it and hear it."""
    page.mouse.dblclick(*page.evaluate(f"pixel({row})"))


def test_every_song_is_on_the_map_in_the_colour_of_its_cluster(page: Page, collection: Home):
    songs = rows(collection, "SELECT count(*) FROM songs WHERE x IS NOT NULL")[0][0]
    assert page.locator("html").get_attribute("data-ready") == str(songs)
    assert page.locator("h1").inner_text() == f"{songs} songs, laid out by sound"
    clusters = rows(collection, "SELECT count(*) FROM clusters")[0][0]
    expect(page.locator(".groups li")).to_have_count(
        clusters + (page.evaluate("ways.Cluster.rest.length") > 0)
    )
    seen = page.evaluate(
        """() => { const own = new Map(data.clusters.map(({id, color}) => [id, seen(color, DOT)]));
           return drawn.every((i, at) =>
             map.data[0].marker.color[at] === (own.get(songs.cluster[i]) ?? grey())); }"""
    )
    assert seen


def test_a_song_is_found_by_part_of_its_name_with_a_slip(page: Page, collection: Home):
    title, artist = rows(
        collection,
        "SELECT title, artist FROM songs WHERE length(title) > 11 ORDER BY title LIMIT 1",
    )[0]
    first, second = title.split()[:2]
    page.keyboard.press("/")
    page.keyboard.type(f"{second[:4]} {first[0]}{first[2:]} {artist.split()[0][:3]}".lower())
    expect(page.locator(".songs .what b").first).to_have_text(title)
    page.keyboard.press("Enter")
    expect(page.locator("#view h2")).to_have_text(title)
    page.fill("#query", "qqqqqq")
    expect(page.locator("#view")).to_contain_text("Nothing is called like that")


def test_a_song_that_is_clicked_twice_plays_and_its_nearest_are_listed(
    page: Page, collection: Home
):
    hear_song(page, 3)
    page.wait_for_function(PLAYS)
    assert page.title() == page.evaluate("spoken(3)")
    track_id = page.evaluate("songs.id[3]")
    near = rows(
        collection,
        "SELECT title FROM neighbors JOIN tracks ON neighbor_id = tracks.track_id "
        "WHERE neighbors.track_id = ? ORDER BY rank",
        track_id,
    )
    assert titles(page) == [title for (title,) in near]
    assert page.evaluate("songs.title[3]") == page.locator("#now b").inner_text()
    # Ringed on the map: the song and its nearest.
    assert page.evaluate("marked.rings.length") == 1 + len(near)
    # One of them is heard without leaving the list, and the rest follow it.
    page.locator(".songs .hear").nth(1).click()
    expect(page.locator("#now b")).to_have_text(near[1][0])
    assert titles(page)[0] == near[0][0]
    page.wait_for_function(PLAYS)
    page.keyboard.press("n")
    expect(page.locator("#now b")).to_have_text(near[2][0])
    # And its name leads on to what is like it.
    page.locator(".songs .what").first.click()
    expect(page.locator("#view h2")).to_have_text(near[0][0])
    page.keyboard.press("Escape")
    expect(page.locator("#view h2")).to_have_text(page.evaluate("songs.title[3]"))


@pytest.mark.parametrize("codec", ["flac", "mp3", "opus", "vorbis", "aac", "pcm_s16le", "wmav2"])
def test_every_format_is_heard(page: Page, collection: Home, codec: str):
    track_id = rows(collection, "SELECT min(track_id) FROM files WHERE codec = ?", codec)[0][0]
    page.evaluate(f"likeSong(rowOf.get('{track_id}'))")
    page.wait_for_function(PLAYS)
    assert page.evaluate("audio.currentSrc").endswith(".wav") == (codec == "wmav2")
    page.evaluate("audio.currentTime = 15")
    page.wait_for_function("() => audio.currentTime > 15.2")
    assert page.evaluate("audio.duration") == pytest.approx(25, abs=2)


def test_a_moment_of_a_song_leads_to_moments_like_it(page: Page, collection: Home):
    hear_song(page, 5)
    page.wait_for_function(PLAYS)
    bar = page.locator("#seek").bounding_box()
    page.mouse.click(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    # To seek is only to seek.
    page.wait_for_function("() => audio.currentTime > 10")
    assert page.evaluate("state.place.lens") == "songs"
    page.click("#moments")
    expect(page.locator(".switch button").nth(1)).to_contain_text("Moments like 0:1")
    expect(page.locator(".songs li").first).to_be_visible()
    at_s = page.evaluate("state.moments.at")
    assert at_s == pytest.approx(page.evaluate("audio.duration") / 2, abs=3)
    found = rows(
        collection,
        "SELECT title, from_s FROM similar_segments(?, ?, 20) ORDER BY similarity DESC, track_id",
        page.evaluate("songs.id[5]"),
        at_s,
    )
    assert titles(page) == [title for title, _ in found]
    later = next(k for k, (_, from_s) in enumerate(found) if from_s > 0)
    page.locator(".songs .hear").nth(later).click()
    page.wait_for_function(f"() => audio.currentTime > {found[later][1]}")
    expect(page.locator("#now b")).to_have_text(found[later][0])
    # Going on from there by the keyboard only goes on, wherever the focus is.
    page.locator("#tabs").get_by_text("Queue").click()
    page.locator("#seek").focus()
    before = page.evaluate("audio.currentTime")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("audio.currentTime") < before
    expect(page.locator("#view h2")).to_contain_text("Moments like")
    assert page.evaluate("state.place.tab") == "Queue"


def playlist_of(page: Page, folder: Path) -> list[str]:
    with page.expect_download() as download:
        page.get_by_text("Download playlist").click()
    assert download.value.suggested_filename.endswith(".m3u8")
    download.value.save_as(folder / "list.m3u8")
    return (folder / "list.m3u8").read_text(encoding="utf-8").splitlines()


def test_a_playlist_is_downloaded_whose_files_are_all_there(page: Page, tmp_path: Path):
    click_song(page, 2)
    lines = playlist_of(page, tmp_path)
    assert lines[0] == "#EXTM3U"
    assert lines[1] == f"#PLAYLIST:Like {page.evaluate('songs.title[2]')}"
    paths = [line for line in lines if not line.startswith("#")]
    assert paths[0] == page.evaluate("path(2)")
    assert len(paths) == len(set(paths)) == 21
    assert all(Path(path).is_file() for path in paths)


def test_a_group_plays_a_few_of_its_songs(page: Page):
    page.locator(".groups .hear").first.click()
    page.wait_for_function(PLAYS)
    members = page.evaluate("ways.Cluster.members[0].map(i => songs.title[i])")
    page.locator("#tabs").get_by_text("Queue").click()
    assert set(titles(page)) <= set(members)
    assert 1 < len(titles(page)) <= 12
    # Its typical song comes first.
    assert titles(page)[0] == page.evaluate("songs.title[ways.Cluster.groups[0].typical]")


@pytest.mark.parametrize("way", ["Cluster", "Genre", "Artist", "Year", "Added"])
def test_the_map_is_coloured_in_every_way(page: Page, way: str):
    page.get_by_role("group", name="Colour by").get_by_text(way).click()
    rows = page.locator(".groups li")
    sizes = [int(text) for text in page.locator(".groups .detail").all_inner_texts()]
    assert sum(sizes) == page.evaluate("n")
    rows.first.locator(".what").click()
    expect(page.locator("#view .facts")).to_contain_text(f"{sizes[0]} song")
    # Songs of other groups step back.
    assert page.evaluate("marked.dots.length") == sizes[0]
    assert float(page.evaluate("getComputedStyle(map).opacity")) < 0.5
    assert page.evaluate(COVERED) == sizes[0]


def test_everything_is_done_from_the_keyboard(page: Page):
    page.keyboard.press("/")
    page.keyboard.type(page.evaluate("songs.title[0]"))
    # Of what is typed last: what half of it finds may be another song.
    expect(page.locator(".songs li").first).to_contain_text(page.evaluate("songs.title[0]"))
    page.keyboard.press("ArrowDown")
    while page.evaluate("document.activeElement.querySelector('b').textContent") != page.evaluate(
        "songs.title[0]"
    ):  # Groups of that name come first.
        page.keyboard.press("ArrowDown")
    page.keyboard.press("h")
    expect(page.locator("#now b")).to_have_text(page.evaluate("songs.title[0]"))
    page.wait_for_function(PLAYS)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    page.wait_for_function("() => audio.paused")
    before = page.evaluate("audio.currentTime")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("audio.currentTime") == pytest.approx(before + 5, abs=0.2)
    page.keyboard.press("m")
    expect(page.locator(".switch button").nth(1)).to_have_attribute("aria-pressed", "true")
    width = page.evaluate("view().x[1] - view().x[0]")
    page.keyboard.press("+")
    page.wait_for_function(f"() => view().x[1] - view().x[0] < {width} * .8")
    page.keyboard.press("0")
    page.wait_for_function(f"() => view().x[1] - view().x[0] > {width} * .9")


def test_arrow_keys_scroll_where_there_is_nothing_to_choose(page: Page):
    page.set_viewport_size({"width": 1366, "height": 460})
    page.evaluate("go({tab: 'Collection'})")
    scrolled = "$('view').scrollTop"
    page.wait_for_function("() => $('view').scrollHeight > $('view').clientHeight + 150")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    down = page.evaluate(scrolled)
    assert down > 50
    page.keyboard.press("ArrowUp")
    assert 0 < page.evaluate(scrolled) < down
    page.keyboard.press("ArrowUp")
    assert page.evaluate(scrolled) == 0
    assert page.evaluate("document.activeElement.id") != "query"
    # From the top, up leads to the search, as from the first row of songs.
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "query"


def test_everything_that_can_be_pressed_has_a_name(page: Page):
    click_song(page, 1)
    for tab in ("Groups", "Song", "Queue", "Collection"):
        page.locator("#tabs").get_by_text(tab).click()
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input")].filter(each =>
               !each.innerText?.trim() && !each.ariaLabel).map(each => each.outerHTML)"""
        )
        assert not nameless


def test_light_or_dark_is_chosen_and_kept(page: Page):
    paper = "getComputedStyle(document.querySelector('aside')).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    dark = page.evaluate(paper)
    assert dark != light
    opened(page)
    assert page.evaluate(paper) == dark


def test_a_phone_shows_it_all_and_hears_a_tap(chromium: Browser, url: str):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page, complaints = watched(context)
    opened(page, url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for row in range(page.evaluate("n")):
        x, y = page.evaluate(f"pixel({row})")
        assert 0 < x < 390
        assert 0 < y < page.locator("aside").bounding_box()["y"]
    page.touchscreen.tap(*page.evaluate("pixel(4)"))
    expect(page.locator("#view h2")).to_have_text(page.evaluate("songs.title[4]"))
    assert page.evaluate("audio.paused")
    page.locator(".actions").get_by_text("Play", exact=True).tap()
    page.wait_for_function(PLAYS)
    page.click("#grip")
    expect(page.locator("aside")).to_have_class("card tall")
    context.close()
    assert not complaints


def test_artists_and_album_are_apart_whatever_the_window(page: Page):
    row = page.evaluate("songs.album.findIndex(album => album >= 0)")
    artist, album = page.evaluate(f"look({row}), [artist({row}), album({row})]")
    for width, height, between in ((1366, 768, "\n"), (390, 844, " · ")):
        page.set_viewport_size({"width": width, "height": height})
        text = page.locator("#view .facts").inner_text()
        assert text.startswith(f"{artist}{between}{album} · ")
        assert "· ·" not in text


def test_the_map_fills_a_window_of_any_shape(page: Page):
    for width, height in ((700, 900), (1900, 700), (1366, 768)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(f"() => map._fullLayout.width === {width}")
        page.wait_for_timeout(300)
        filled = page.evaluate(
            """() => { const {l, r, t, b} = margin(), at = songs.id.map((_, i) => pixel(i));
               const span = k => Math.max(...at.map(p => p[k])) - Math.min(...at.map(p => p[k]));
               const edge = .1 * Math.max(span(0), span(1));   // a twentieth on each side
               const room = [innerWidth - l - r, innerHeight - t - b];
               return Math.max(...room.map((there, k) => (span(k) + edge) / there)); }"""
        )
        # Whatever the shape of the map, as well.
        assert filled == pytest.approx(1, abs=0.02)


def test_what_is_under_the_pointer_is_named(page: Page):
    x, y = page.evaluate("pixel(7)")
    page.mouse.move(x + 2, y + 2)
    expect(page.locator("#tip b")).to_have_text(page.evaluate("songs.title[7]"))
    page.mouse.move(5, 5)
    expect(page.locator("#tip")).to_be_hidden()


def test_a_large_collection_is_sampled_and_all_of_it_is_there_nearer(
    context: BrowserContext, tmp_path: Path
):
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 400)
    make_page(home)
    text = home.page.read_text(encoding="utf-8")
    home.page.write_text(text.replace("AT_ONCE = 30_000", "AT_ONCE = 100"), encoding="utf-8")
    page, complaints = watched(context)
    opened(page, home.page.as_uri())
    assert page.evaluate("drawn.length") == 100
    expect(page.locator("#sampled")).to_contain_text("100 of 400 songs here are drawn")
    # A loop is around songs, drawn or not.
    draw_loop(page)
    assert len(page.evaluate("state.selected")) == 400
    page.keyboard.press("Escape")
    for _ in range(5):
        page.keyboard.press("+")
        page.wait_for_timeout(150)
    expect(page.locator("#sampled")).to_have_text("")
    inside = """() => { const {x, y} = view(); return songs.id.map((_, i) => i).filter(i =>
        songs.x[i] > x[0] && songs.x[i] < x[1] && songs.y[i] > y[0] && songs.y[i] < y[1]); }"""
    assert set(page.evaluate(inside)) <= set(page.evaluate("[...drawn]"))
    assert not complaints


def test_of_many_songs_groups_and_hits_the_page_shows_what_it_can(
    context: BrowserContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 60)
    reports.draw_map(home)
    publish(home)
    monkeypatch.setattr(report_page, "SHOWN", 50)
    write_page(home)
    text = home.page.read_text(encoding="utf-8")
    text = text.replace("GROUPS = 500", "GROUPS = 2").replace("FEW = 3000", "FEW = 30")
    home.page.write_text(text, encoding="utf-8")
    page, complaints = watched(context)
    opened(page, home.page.as_uri())
    artists = page.evaluate("data.artists.length")
    page.evaluate("alterPlace({by: 'Artist'})")
    expect(page.locator("#view .groups .what")).to_have_count(2)
    expect(page.locator("#view .rest")).to_have_text(
        f"and {artists - 2} more, which the search finds"
    )
    page.evaluate("go({tab: 'Picked'}); change({selected: [...songs.id.keys()]})")
    # Each stands out in its own colour, unless another lies over it.
    seen = page.evaluate(
        """() => {
            const canvas = document.querySelector("#marks canvas"), {width, height} = canvas;
            const {left, top} = canvas.getBoundingClientRect();
            const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
            return songs.id.map((_, i) => {
                const [x, y] = pixel(i), ratio = devicePixelRatio;
                const at = Math.round((y - top) * ratio) * width + Math.round((x - left) * ratio);
                return [...data.slice(4 * at, 4 * at + 4)];
            });
        }"""
    )
    expected = set(
        page.evaluate("ways.Artist.groups.map(each => each.color && seen(each.color, DOT))")
    )
    assert {"#{:02x}{:02x}{:02x}".format(*rgb) for *rgb, _ in seen} <= expected
    expect(page.locator("#facts")).to_contain_text("a sample of 50 is on this page")
    page.evaluate("alterPlace({query: 'zzzqqq'})")
    expect(page.locator("#view")).to_contain_text("among the 50 songs of this page")
    assert not complaints


def test_opened_from_disk_it_works_and_says_why_it_is_silent(
    context: BrowserContext, collection: Home, tmp_path: Path
):
    page, complaints = watched(context)
    opened(page, collection.page.as_uri())
    expect(page.locator("#note")).to_contain_text("make report")
    hear_song(page, 2)
    expect(page.locator("#now b")).to_have_text(page.evaluate("songs.title[2]"))
    assert len(titles(page)) == 20
    assert len(playlist_of(page, tmp_path)) == 2 + 2 * 21
    page.locator(".switch").get_by_text("Moments").click()
    expect(page.locator("#view")).to_contain_text("needs the server")
    assert not complaints


def test_a_song_that_is_gone_is_told(context: BrowserContext, collection: Home, tmp_path: Path):
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 8)
    make_page(home)
    with serve(home) as url:
        page, _ = watched(context)  # The browser itself complains of a song it cannot load.
        opened(page, url)
        page.evaluate("likeSong(0)")
        expect(page.locator("#note")).to_contain_text("Is its disk mounted?")
        # It is now: playing is all that has to be done.
        answers = {"path": next(collection.root.parent.rglob("*.wav"))}
        page.route("**/audio/**", lambda route: route.fulfill(content_type="audio/wav", **answers))
        page.keyboard.press(" ")
        page.wait_for_function(PLAYS)
        expect(page.locator("#note")).not_to_contain_text("mounted")


def test_a_song_of_a_cue_sheet_plays_from_its_place_to_its_end(
    context: BrowserContext, tmp_path: Path
):
    write(tmp_path / "music" / "album.flac")
    (tmp_path / "music" / "album.cue").write_text(SHEET, encoding="utf-8")
    home = Home(tmp_path / "home")
    stages.run(home, tmp_path / "music")
    with serve(home) as url:
        page, complaints = watched(context)
        opened(page, url)
        low, middle, high = (
            page.evaluate(f"songs.title.indexOf('{title}')") for title in ("Low", "Middle", "High")
        )
        page.evaluate(f"play([{middle}, {high}])")
        page.wait_for_function(PLAYS)
        assert page.evaluate("audio.duration") == pytest.approx(8 - 311 / 75, abs=0.01)
        assert page.locator("#length").inner_text() == "0:03"
        # A moment of it is told from its beginning, and so are those like it.
        page.evaluate("askMoments(1)")
        expect(page.locator(".songs .what b")).to_have_count(2)
        assert {moment["from_s"] for moment in page.evaluate("state.moments.found.moments")} == {0}
        # It ends where the next one begins, which is heard then.
        page.evaluate("audio.currentTime = 3.5")
        page.wait_for_function(f"() => playing() === {high} && ({PLAYS})()")
        assert page.evaluate("audio.currentTime") < 3
        page.evaluate(f"look({low}), likeSong({low})")
        page.wait_for_function(PLAYS)
        lines = playlist_of(page, tmp_path)
        assert lines[2:6] == [
            "#EXTINF:4,The Sheet - Low",
            "#EXTVLCOPT:start-time=0.000",
            "#EXTVLCOPT:stop-time=4.147",
            str(tmp_path / "music" / "album.flac"),
        ]
        assert not complaints


def test_back_leads_to_the_group_that_was_left_whatever_groups_were_seen_since(page: Page):
    page.locator("#tabs").get_by_text("Groups").click()
    page.evaluate("lookAtGroup('Cluster', 1)")
    left = page.locator("#view h2").inner_text()
    page.evaluate("look(2)")
    page.evaluate("lookAtGroup('Artist', 0)")
    for _ in range(2):
        page.keyboard.press("Escape")
    expect(page.locator("#view h2")).to_have_text(left)


def test_names_without_a_letter_are_found(page: Page):
    page.evaluate("songs.title[4] = '!!!'")
    assert page.evaluate("search('!!!')") == [4]
    assert page.evaluate("search('???')") == []


def test_a_letter_within_a_word_is_found_where_words_have_no_spaces(
    context: BrowserContext, tmp_path: Path
):
    titles = ["愛の歌", "ガラスの愛", "เพลงรัก", "Lantern"]
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 30)
    songs = [synthetic.song(i) for i in range(30)]
    for song, title in zip(songs, titles, strict=False):
        song["title"] = title
    synthetic.write_catalog(home, songs)
    make_page(home)
    page, complaints = watched(context)
    opened(page, home.page.as_uri())
    for letter, wanted in (("歌", [0]), ("愛", [0, 1]), ("ラ", [1]), ("ร", [2])):
        ids = [synthetic.track_id(i) for i in wanted]
        assert page.evaluate("text => search(text).map(i => songs.id[i])", letter) == ids, letter
    # A letter of others begins a word.
    assert page.evaluate(f"!search('t').includes(rowOf.get('{synthetic.track_id(3)}'))")
    assert not complaints


def test_a_dragged_seek_bar_that_is_let_go_where_it_was_goes_on(page: Page):
    hear_song(page, 1)
    page.wait_for_function(PLAYS)
    page.evaluate("audio.pause(), audio.currentTime = 0")
    bar = page.locator("#seek").bounding_box()
    middle = bar["y"] + bar["height"] / 2
    page.mouse.move(bar["x"] + 3, middle)
    page.mouse.down()
    page.mouse.move(bar["x"] + 200, middle)
    page.mouse.move(bar["x"] - 40, middle)
    page.mouse.up()
    assert not page.evaluate("isDragging()")


def test_hostile_tags_are_text(context: BrowserContext, tmp_path: Path):
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 30)
    changed = dict.fromkeys(("title", "artist", "album", "genre"), HOSTILE)
    broken = {**synthetic.song(99), "track_id": None, "error": HOSTILE, "path": f"/m/{HOSTILE}.mp3"}
    synthetic.write_catalog(home, [*({**synthetic.song(i), **changed} for i in range(30)), broken])
    make_page(home)
    page, complaints = watched(context)
    opened(page, home.page.as_uri())
    click_song(page, 0)
    plain = " ".join(HOSTILE.split())
    expect(page.locator("#view h2")).to_have_text(plain)
    page.fill("#query", "owned")
    expect(page.locator(".songs li").first).to_be_visible()
    for tab in ("Groups", "Queue", "Collection"):
        page.locator("#tabs").get_by_text(tab).click()
    expect(page.locator(".failures")).to_contain_text("document.title='owned'")
    lines = playlist_of(page, tmp_path) if page.get_by_text("Download playlist").count() else []
    assert all(line.startswith(("#", "/")) for line in lines)
    assert page.title() == "Map of the collection"
    assert not complaints


def test_albums_of_the_same_name_are_told_apart_and_play_in_order(
    context: BrowserContext, tmp_path: Path
):
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 30)
    songs = [synthetic.song(i) for i in range(30)]
    for number, song in enumerate(songs[:12]):
        artist = ("Abba", "Cher", "Queen")[number % 3]
        song |= {"album": "Greatest Hits", "artist": artist, "title": f"{artist} {9 - number // 3}"}
        song |= {"path": f"/music/{artist}/{number}.flac", "track_number": 9 - number // 3}
    # Of one, several made the songs.
    songs[11] |= {"artist": "Elton"}
    synthetic.write_catalog(home, songs)
    make_page(home)
    page, complaints = watched(context)
    opened(page, home.page.as_uri())
    page.fill("#query", "greatest hits")
    found = page.locator(".groups .what")
    expect(found).to_have_count(3)
    by = [text.split("\n")[1] for text in found.all_inner_texts()]
    assert sorted(by) == ["Abba", "Cher", "Various artists"]
    for artist in ("Cher", "Abba"):
        page.fill("#query", "greatest hits")
        found.filter(has_text=artist).click()
        expect(page.locator("#view .facts")).to_contain_text(f"Album · {artist} · 4 songs")
        assert titles(page) == [f"{artist} {number}" for number in (6, 7, 8, 9)]
        page.locator(".actions").get_by_text("Play all").click()
        queue = page.evaluate("state.queue.map(entry => songs.title[entry.song])")
        assert queue == titles(page)
        link = page.url
        opened(page)
        assert titles(page) == queue
    # A link of before says the name alone, and one may be of a song that has gone since.
    for address in (link.partition("&with=")[0], link + "0"):
        page.goto("about:blank")
        opened(page, address)
        expect(page.locator("#view h2")).to_have_text("Greatest Hits")
    assert not complaints


def test_a_song_of_several_artists_and_genres_is_found_and_shown_with_each(
    context: BrowserContext, tmp_path: Path
):
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 30)
    duet = {"artist": "Owls feat. Ára", "artists": ["Owls", "Ára"], "genres": ["Zouk", "Rebetiko"]}
    several = [{**synthetic.song(i), **(duet if i == 4 else {})} for i in range(30)]
    synthetic.write_catalog(home, several)
    make_page(home)
    page, complaints = watched(context)
    opened(page, home.page.as_uri())
    row = page.evaluate(f"rowOf.get('{synthetic.track_id(4)}')")
    for asked in ("ara", "owls", "feat ara", "rebetiko", "zouk"):
        assert page.evaluate("text => search(text)[0]", asked) == row, asked
    for by, names in (("Artist", ["Owls", "Ára"]), ("Genre", ["Zouk", "Rebetiko"])):
        for name in names:
            number = f"ways.{by}.groups.findIndex(group => group.name === '{name}')"
            assert page.evaluate(f"ways.{by}.members[{number}]") == [row]
    assert page.evaluate(f"ways.Artist.groups[ways.Artist.of[{row}]].name") == "Owls"
    page.evaluate(f"look({row}), likeSong({row})")
    expect(page.locator("#view .facts")).to_contain_text("Owls; Ára")
    expect(page.locator("#now")).to_contain_text("Owls feat. Ára")
    page.get_by_role("button", name="Ára: all songs").click()
    expect(page.locator("#view h2")).to_have_text("Ára")
    assert titles(page) == [several[4]["title"]]
    assert page.evaluate(f"spaced([{row}, {row}, 5])") == [row, 5]
    assert not complaints


def test_a_picture_is_taken_if_asked_for(request: pytest.FixtureRequest, chromium: Browser):
    target: Path | None = request.config.getoption("--picture")
    if target is None:
        return
    given = os.environ.get("FASTDINO_HOME")
    home = Home.from_environment() if given else request.getfixturevalue("collection")
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900}, device_scale_factor=1, color_scheme="dark"
    )
    with serve(home) as url:
        page = context.new_page()
        opened(page, url)
        page.evaluate(
            "look(ways.Cluster.groups[0].typical), likeSong(ways.Cluster.groups[0].typical)"
        )
        page.wait_for_function(PLAYS)
        page.wait_for_timeout(1_500)
        page.screenshot(path=target)
    context.close()
