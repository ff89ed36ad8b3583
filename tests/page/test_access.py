"""Who is answered: by its names, by the token, and how often a token may be wrong."""

import json
import re
from collections.abc import Iterator

import pytest
import synthetic
from asking import Ask, serving, shared
from embedded import embedded
from starlette.datastructures import Headers

from fastdino.core.home import Home
from fastdino.page import access, invitation, server
from fastdino.page.access import ENTER, WrongTokens, origins, refusal
from fastdino.page.page import NO_FILES

SONG = f"/audio/{synthetic.track_id(0)}"
WRONG = "A" * 22


@pytest.fixture(scope="module")
def token(published: Home) -> str:
    return invitation.token(published)


@pytest.fixture
def ask(published: Home, token: str) -> Iterator[Ask]:
    with serving(published, shared(published)[0]) as ask:
        yield ask


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def entered(ask: Ask, token: str) -> str:
    """The cookie of who came in by the link."""
    status, headers, _ = ask(ENTER, **bearer(token))
    assert status == 200
    return headers["set-cookie"]


def test_without_the_token_nothing_is_told(ask: Ask, published: Home) -> None:
    paths = (
        "/", ENTER, SONG, f"{SONG}.wav", "/audio/nothing", "/similar-moments", "/journey/surprise",
        "/nothing", "/music.duckdb",
    )  # fmt: skip
    told = {}
    for path in paths:
        for how in ({}, bearer(WRONG), {"Cookie": f"fastdino-{ask.port}={WRONG}"}, bearer("")):
            status, headers, told[path] = ask(path, **how)
            assert status == 401
            assert headers["www-authenticate"] == "Bearer"
            assert "set-cookie" not in headers
            assert "uvicorn" not in str(headers)
    # Of two kinds, for a browser and for whatever else asks: neither knows what there is.
    assert told["/"] == told[ENTER]
    assert len(set(told.values())) == 2
    assert access.WITHOUT_TOKEN.encode() in told["/"]


def test_the_token_is_taken_from_the_header_or_a_cookie_and_from_nowhere_else(
    ask: Ask, token: str
) -> None:
    cookie = {"Cookie": f"fastdino-{ask.port}={token}"}
    for how in (bearer(token), {"Authorization": f"bearer  {token}"}, cookie):
        assert ask("/", **how)[0] == 200
        assert ask(SONG, **how)[0] == 200
    for path in (f"/?token={token}", f"/?{token}", f"/{token}", f"{SONG}?token={token}"):
        assert ask(path)[0] == 401
    for how in (
        {"Authorization": token},
        {"Authorization": f"Basic {token}"},
        {"Cookie": f"fastdino={token}"},
        {"Cookie": token},
        {"X_Token": token},
        # A header says that another token is meant than the cookie's.
        {**cookie, **bearer(WRONG)},
    ):
        assert ask("/", **how)[0] == 401


def test_who_comes_by_the_link_is_let_in_by_a_cookie(ask: Ask, token: str) -> None:
    cookie = entered(ask, token)
    assert re.fullmatch(
        rf"fastdino-{ask.port}={token}; HttpOnly; Max-Age=\d+; Path=/; SameSite=strict", cookie
    )
    assert ask(SONG, Cookie=cookie.partition(";")[0])[0] == 200
    # The link once more, on a device that is in.
    assert ask(ENTER, Cookie=cookie.partition(";")[0])[0] == 200


def test_the_page_at_the_door_runs_its_own_script_alone(ask: Ask, token: str) -> None:
    for how in ({}, bearer(token)):
        _, headers, body = ask(ENTER, **how)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert token.encode() not in body


def test_another_token_counts_at_once(home: Home) -> None:
    synthetic.write_home(home, 3)
    sharing, before = shared(home)
    with serving(home, sharing) as ask:
        assert ask("/nothing", **bearer(before))[0] == 404
        now = invitation.token(home, new=True)
        assert ask("/nothing", **bearer(before))[0] == 401
        assert ask("/nothing", **bearer(now))[0] == 404
        home.token.unlink()
        assert ask("/nothing", **bearer(now))[0] == 401
        home.token.write_text("\n")
        assert ask("/nothing", **bearer(""))[0] == 401
        assert ask("/nothing", Authorization="Bearer")[0] == 401


def test_too_many_wrong_tokens_are_not_looked_at(ask: Ask, token: str) -> None:
    for number in range(access.WRONG_TOKENS):
        assert ask("/", **bearer(f"{number:022}"))[0] == 401
    status, headers, _ = ask("/", **bearer(WRONG))
    assert (status, headers["retry-after"]) == (429, "60")
    # Nor is a right one, or guessing would only have to go on.
    assert ask("/", **bearer(token))[0] == 429
    assert ask("/")[0] == 401


def test_ordinary_use_is_never_limited(ask: Ask, token: str) -> None:
    cookie = entered(ask, token).partition(";")[0]
    # A page that was left open with the token of before, and a song that is sought in.
    for number in range(60):
        assert ask(SONG, Cookie=f"fastdino-{ask.port}={WRONG}")[0] == 401
        assert ask(SONG, Cookie=cookie, Range=f"bytes={number}-")[0] == 206
        assert ask(SONG)[0] == 401


def test_wrong_tokens_are_counted_by_address_and_forgotten() -> None:
    now = 0.0
    wrong = WrongTokens(lambda: now)
    for number in range(access.WRONG_TOKENS):
        assert not wrong.too_many("a")
        wrong.note("a", str(number))
        wrong.note("b", "always the same")
    assert wrong.too_many("a")
    assert not wrong.too_many("b")
    now = access.WRONG_WITHIN_S + 1
    assert not wrong.too_many("a")


def test_of_very_many_addresses_the_first_are_forgotten() -> None:
    wrong = WrongTokens()
    for number in range(access.ADDRESSES_KNOWN + 10):
        wrong.note(str(number), "x")
    assert len(wrong._tried) == access.ADDRESSES_KNOWN


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.168.1.7", "192.168.1.7"),
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("\x1b[2Jnobody\n", "[2Jnobody"),
    ],
)
def test_an_address_is_counted_as_what_one_person_has(client: str, counted: str) -> None:
    assert access.counted_as(client) == counted


def test_a_server_goes_by_its_own_names_alone() -> None:
    known = origins(("192.168.1.5", "::ffff:10.0.0.1", "fd00:0::5", "Kitchen.local"), 8321)
    for host in ("192.168.1.5:8321", "10.0.0.1:8321", "[fd00::5]:8321", "KITCHEN.local:8321"):
        assert refusal(Headers({"host": host}), known, "no") is None
        assert (
            refusal(Headers({"host": host, "origin": f"http://{host.lower()}"}), known, "no")
            is None
        )
    for host in (
        "192.168.1.5",
        "192.168.1.6:8321",
        "kitchen:8321",
        "evil.example:8321",
        "",
        "[::1",
    ):
        assert refusal(Headers({"host": host}), known, "no") == "no"
    assert "kitchen.local" in origins(["kitchen.local"], 80)


def test_a_shared_server_tells_no_path(ask: Ask, published: Home, token: str) -> None:
    status, _, page = ask("/", **bearer(token))
    shown = json.loads(re.search(rb'id="data"[^>]*>(.*?)</script>', page)[1])
    assert (status, len(shown["songs"]["title"])) == (200, 8)
    assert embedded(page.decode(), "files") == NO_FILES
    told = [str(ask("/", **bearer(token)))]
    for i in range(8):
        for suffix in ("", ".wav"):
            told.append(str(ask(f"/audio/{synthetic.track_id(i)}{suffix}", **bearer(token))[:2]))
            answer = ask(f"/audio/{synthetic.track_id(i)}{suffix}", **bearer(token))
            told += [str(answer[2])] if answer[0] != 200 else []
    assert "The file of this song is not there. Is its disk mounted?" in "".join(told)
    assert server.UNPLAYABLE in "".join(told)
    songs = [str(synthetic.song(i)["path"]) for i in range(8)]
    secret = {
        str(published.root.parent),
        "/music/",
        "notes.html",
        *(p.split("/")[-1] for p in songs),
    }
    assert not [each for each in secret if each in "".join(told)]


def test_what_is_wrong_with_the_home_is_not_told_either(home: Home) -> None:
    synthetic.write_home(home, 3)
    sharing, token = shared(home)
    with serving(home, sharing) as ask:
        for path in (SONG, "/journey/surprise"):
            status, _, body = ask(path, **bearer(token))
            assert (status, str(home.root).encode() in body) == (503, False)
        assert ask("/", **bearer(token))[0] == 404
        home.page.parent.mkdir(parents=True)
        home.page.write_text("<p>of another version</p>")
        status, _, body = ask("/", **bearer(token))
        assert (status, b"another version" in body) == (503, False)


def test_behind_a_proxy_it_goes_by_the_public_name_and_counts_whom_the_proxy_names(
    published: Home,
) -> None:
    sharing, token = shared(published, "https://music.example.org")
    with serving(published, sharing) as ask:
        through = {"Host": "music.example.org", "X_Forwarded_For": "203.0.113.9"}
        cookie = ask(ENTER, **through, **bearer(token))[1]["set-cookie"]
        assert cookie.endswith("; Secure")
        own = {"Origin": "https://music.example.org"}
        assert ask(SONG, **through, **own, Cookie=cookie.partition(";")[0])[0] == 200
        for other in ("http://music.example.org", "https://evil.example", "null"):
            assert ask(SONG, **through, **bearer(token), Origin=other)[0] == 403
        for number in range(access.WRONG_TOKENS + 1):
            status = ask("/", **through, **bearer(f"{number:022}"))[0]
        assert status == 429
        others = through | {"X_Forwarded_For": "203.0.113.10"}
        assert ask("/", **others, **bearer(token))[0] == 200


def test_without_a_proxy_no_one_says_who_is_asking(ask: Ask) -> None:
    for number in range(access.WRONG_TOKENS + 1):
        far = {"X_Forwarded_For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
        status = ask("/", **far, **bearer(f"{number:022}"))[0]
    assert status == 429
