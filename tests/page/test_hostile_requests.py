"""What strangers may send to a shared server: it gives nothing and changes nothing."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
from asking import SERVER_ID, Ask, everything, serving, shared, tree

from fastdino.core.home import Home
from fastdino.page import access, connections, invitation
from fastdino.page.access import ENTER

TRACK = synthetic.track_id(0)
# Where files are, and what could lead there.
PLACES = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%252f..%252fetc",
    "....//....//etc/passwd", "..%c0%af..%c0%afetc/passwd", "..\\..\\etc\\passwd", "%5c..%5cetc",
    "%00", f"{TRACK}%00.wav", f"{TRACK}/../../music.duckdb", "/etc/passwd", "//etc/passwd",
    "file:///etc/passwd", "~root/.ssh/id_rsa", "..;/..;/etc/passwd", "%ff%fe", "%", "%zz", "*",
    "' OR 1=1 --".replace(" ", "%20"), "'%3B%20DROP%20TABLE%20tracks%3B--", "$%7Bjndi:ldap://a%7D",
    "%0d%0aSet-Cookie:%20a=b", "%0aX:%20y", "%1b%5b2J", "%e2%80%ae", "a" * 3_000, "%41" * 1_500,
    "..%2fserve%2ftoken", "serve/token", ".env", ".git/config", "music.duckdb", "index.html",
    "{{data}}", "%7B%7B7*7%7D%7D", "<script>alert(1)</script>".replace(" ", "%20"), TRACK.upper(),
    f"{TRACK}.wav.wav", "nul", "con", "..", ".", "%2e", "%u002e%u002e", "%c0%ae%c0%ae", "?", "??",
)  # fmt: skip
# What music servers ask, up to an id.
FOR_SERVERS = (
    "/api/similar_tracks?n=5&item_id=", f"/api/find_path?start_song_id={SERVER_ID}&end_song_id=",
    "/api/similar_artists?artist=", "/rest/getSonicSimilarTracks.view?id=", "/rest/",
)  # fmt: skip
PATHS = (
    *(f"/{place}" for place in PLACES),
    *(f"/audio/{place}" for place in PLACES),
    *(f"{asked}{place}" for asked in FOR_SERVERS for place in PLACES if "?" not in place),
    "/api", "/api/", "/api/similar_tracks", f"/api/similar_tracks?item_id={SERVER_ID}&n=1e9",
    f"/api/similar_tracks?item_id={SERVER_ID}&n=" + "9" * 5_000,
    f"/api/similar_tracks?item_id={SERVER_ID}&item_id=x&n=-1&n=nan",
    "/api/max_distance?item_id[]=x", "/api/search_tracks?search_query=" + "%25" * 2_000,
    f"/api/search_tracks?title=a&start=-{'9' * 400}&end={'9' * 400}", "/api/../api/config",
    "/api/analysis/start", "/api/create_playlist", "/external/get_embedding?id=x",
    f"/rest/findSonicPath?startSongId={SERVER_ID}&endSongId={SERVER_ID}&count=-0",
    f"/rest/getSonicSimilarTracks?id={SERVER_ID}&f=xml&callback=alert(1)", "/rest/stream?id=1",
    "/", "/enter", "/enter/", "/ENTER", "//", "/./", "/audio", "/audio/", f"/audio/{TRACK}",
    f"/audio/{TRACK}.wav", "/audio//" + TRACK, "/similar-moments", "/similar-moments?song=&at=",
    f"/similar-moments?song={TRACK}&at=nan", f"/similar-moments?song={TRACK}&at=inf",
    f"/similar-moments?song={TRACK}&at=-1e999", f"/similar-moments?song={TRACK}&at=%00",
    f"/similar-moments?song={TRACK}&song=x&at=1&at=2", "/similar-moments?song=" + "a" * 9_000,
    "/journey/", "/journey/way", "/journey/..%2f", "/journey/surprise?song=x",
    "/journey/blend?song", "/journey/way?song='&song=%22", "/journey/__proto__", "/docs",
    "/openapi.json", "/favicon.ico", "/metrics", "/.well-known/security.txt", "/admin", "/login",
    "/cgi-bin/test", "/rest/ping.view",
)  # fmt: skip
METHODS = (
    "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "MOVE",
    "COPY", "LOCK", "PURGE", "DEBUG", "get", "Get", "HEAD2", "QUERY", "X" * 2_000,
)  # fmt: skip
# In place of the line that says by which name it is asked, or beside it.
NAMES = (
    "", "Host:", "Host: evil.example", "Host: evil.example:{port}", "Host: 127.0.0.1",
    "Host: 127.0.0.1:1", "Host: 127.0.0.1.evil.example:{port}",
    "Host: 127.0.0.1:{port}.evil.example", "Host: 127.1:{port}", "Host: 2130706433:{port}",
    "Host: 0x7f.1:{port}", "Host: 0:{port}", "Host: 0.0.0.0:{port}", "Host: [::]:{port}",
    "Host: [::1]:{port}", "Host: 127.0.0.1:{port}@evil", "Host: evil@127.0.0.1:{port}",
    "Host: localhost.:{port}", "Host: 127.0.0.2:{port}",
    "Host: 127.0.0.1:{port}\r\nHost: evil.example", "Host: evil.example\r\nHost: 127.0.0.1:{port}",
    "Host: 127.0.0.1:{port}, evil.example", "Host: 127.0.0.1:{port}/../", "Host: \xff\xfe",
    "Host: evil.example\r\nX-Forwarded-Host: 127.0.0.1:{port}", "Host : 127.0.0.1:{port}",
    "Host: 169.254.169.254", "Host: http://127.0.0.1:{port}", "Host: 127.0.0.1:{port}#x",
)  # fmt: skip
# Beside the right name.
HEADERS = (
    "Origin: http://evil.example", "Origin: null", "Origin: https://127.0.0.1:{port}", "Origin:",
    "Origin: http://127.0.0.1:1", "Origin: http://127.0.0.1:{port}.evil.example", "Origin: *",
    "Origin: http://127.0.0.1:{port}\r\nOrigin: http://evil.example", "Origin: file://",
    "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors",
    "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1;proto=https",
    "X-Original-URL: /audio/x", "X-Rewrite-URL: /", "X-HTTP-Method-Override: DELETE",
    "X-Forwarded-User: admin", "Authorization:", "Authorization: Bearer", "Authorization: Bearer ",
    "Authorization: Basic YWRtaW46YWRtaW4=", "Authorization: Digest username=a", "Cookie: a=b",
    "Cookie: fastdino-{port}=", "Cookie: ;;;=;", "Cookie: " + "a=b; " * 1_000, "Range: bytes=0-",
    "Range: bytes=" + ",".join(f"{i}-{i}" for i in range(2_000)), "Range: bytes=-1,0-,x",
    "If-Range: x\r\nRange: bytes=0-1", "If-None-Match: *", "If-Modified-Since: never",
    "Accept-Encoding: " + "gzip," * 1_000, "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ",
    "Connection: close, Host", "Expect: 100-continue", "TE: trailers",
    "Proxy-Connection: keep-alive", "Content-Length: 5", "Content-Length: -1", "Content-Length: x",
    "Content-Length: 5, 6", "Content-Length: 99999999999999999999",
    "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x",
    "Transfer-Encoding: chunked\r\nContent-Length: 3", "Transfer-Encoding : chunked", "X\0: y",
    " folded: line", "X: y\r\n continued", "NoColon", ": empty", "X: \x1b[2J", "X: \r y", "X: \0",
    "X: " + "a" * 20_000, "\r\n".join(f"X-{i}: y" for i in range(3_000)), "X" * 20_000 + ": y",
    "Referer: http://evil.example", "User-Agent: () {{ :; }}; echo", "Content-Type: ../../x",
)  # fmt: skip
# What is no request of HTTP/1.1 at all.
BYTES = (
    b"\0" * 100, b"\xff" * 5_000, b"\r\n" * 500, b"GET\r\n\r\n", b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.9\r\n\r\n", b"GET / http/1.1\r\n\r\n",
    b"GET / HTTP/1.1\n\n", b"GET / HTTP/1.1\r\r\n\n", b"\nGET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"SSH-2.0-OpenSSH_9.6\r\n",
    b"EHLO evil.example\r\n", b"\x05\x01\x00", b"{}\n", b"a" * 300_000,
    b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\n\r\n", b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET evil HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n" * 20,
)  # fmt: skip
# Sent in part, the rest of it never.
SLOW = (
    b"",
    b"G",
    b"GET / HTTP/1.1\r\nHost: ",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100,
    b"\x16\x03",
)


def almost(token: str) -> list[str]:
    """Tokens that are nearly right, in the header or the cookie or where none is looked for."""
    half = len(token) // 2
    near = [
        token[:-1], token[1:], token + "A", token + "=", token.swapcase(), token[::-1], token * 2,
        token[:half], "\0" + token, token + "\0", f'"{token}', f"'{token}'", f"{token}/",
        f"{token}\t.", token[:half] + " " + token[half:], "%" + token,
        token[:-1] + ("A" if token[-1] != "A" else "B"), token.encode().hex(), "", "*", "null",
        "undefined", "true", "[]", "A" * len(token), "é" * 22,
    ]  # fmt: skip
    return [
        *(f"Authorization: Bearer {each}" for each in near),
        *(f"Cookie: fastdino-{{port}}={each}" for each in near),
        f"Authorization: {token}", f"Authorization: Basic {token}", f"Authorization: Token {token}",
        f"Authorization: Bearer{token}", f"X-Token: {token}",
        f"Proxy-Authorization: Bearer {token}", f"Cookie: {token}", f"Cookie: fastdino={token}",
        f"Cookie: fastdino-1={token}", f"Cookie: FASTDINO-{{port}}={token}",
        f"Referer: http://127.0.0.1/enter#{token}",
        f"Authorization: Bearer {token}\r\nAuthorization: Bearer {token}",
        f"Authorization: Basic a\r\nCookie: fastdino-{{port}}={token}",
    ]  # fmt: skip


def request(port: int, path: str = "/", method: str = "GET", *more: str, host: str | None = None):
    """A request in bytes, after which the connection is to be closed."""
    name = "Host: 127.0.0.1:{port}" if host is None else host
    given = (name, *more, "Connection: close")
    lines = [line.replace("{port}", str(port)) for line in given if line]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def requests(port: int, *more: str, at: str = "/") -> list[bytes]:
    """All of them, with ``more`` in the head where there is one; odd heads ask for ``at``."""
    return [
        *(request(port, path, "GET", *more) for path in PATHS if " " not in path),
        *(request(port, path, method, *more) for method in METHODS for path in (at, "/audio/x")),
        *(request(port, at, "GET", *more, host=name) for name in NAMES),
        *(request(port, at, "GET", header, *more) for header in HEADERS),
        *BYTES,
    ]


class Shared:
    """``fastdino serve --host 127.0.0.1`` as a process of its own, and all that it says."""

    def __init__(self, home: Home, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "fastdino", "serve", "--host", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--home", str(home.root)], stdout=log.open("w"), stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        self.ask = Ask(int(found[1]))

    def ended(self) -> str:
        """What it has said, once it has ended."""
        self.process.terminate()
        self.process.wait(20)
        return self.log.read_text()


@pytest.fixture
def process(published: Home, tmp_path: Path) -> Iterator[Shared]:
    process = Shared(published, tmp_path / "log")
    yield process
    process.ended()


def secrets_of(home: Home) -> list[bytes]:
    """What no stranger is to be told."""
    songs = [synthetic.song(i) for i in range(8)]
    names = {str(song[column]) for song in songs for column in ("title", "artist", "album")}
    tracks = {synthetic.track_id(i)[8:] for i in range(1, 8)}
    told = {
        invitation.token(home),
        str(home.root),
        "/music",
        "Traceback",
        "fastdino",
        *names,
        *tracks,
    }
    return [each.encode() for each in told if each]


def answers(said: bytes) -> list[int]:
    """The status of each answer."""
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d{3}) ", said[:100_000])]


def test_strangers_are_given_nothing_and_change_nothing(published: Home, process: Shared) -> None:
    ask, token = process.ask, invitation.token(published)
    before, secret = tree(published.root), secrets_of(published)
    waiting = []
    for begin in SLOW:
        waiting.append(ask.open())
        waiting[-1].sendall(begin)
    near = [request(ask.port, path, "GET", line) for line in almost(token) for path in ("/", ENTER)]
    sent = [*requests(ask.port), *near]
    assert len(sent) > 400
    for each in sent:
        said = ask.raw(each, ends=each in BYTES)
        assert set(answers(said)) <= {400, 401, 403, 405, 413, 429, 431}, (each[:300], said[:300])
        assert b"set-cookie" not in said.lower(), each[:300]
        assert not [word for word in secret if word in said], (each[:300], said[:300])
    for connection in waiting:
        connection.close()
    # It is as it was, for who has the token and no wrong one to their name.
    assert ask("/")[0] == 401
    assert tree(published.root) == before
    log = process.ended()
    assert token not in log
    assert "Traceback" not in log
    assert str(published.root) not in log


def test_who_has_the_token_is_told_no_path_and_changes_nothing(
    published: Home, process: Shared
) -> None:
    ask, token = process.ask, invitation.token(published)
    before = tree(published.root)
    places = [str(published.root.parent).encode(), b"/music/", b"Traceback", token.encode()]
    answered = 0
    for each in requests(ask.port, f"Authorization: Bearer {token}", at=f"/audio/{TRACK}"):
        said = ask.raw(each, ends=each in BYTES)
        answered += bool({200, 404} & set(answers(said)))
        assert not set(answers(said)) & {500, 502, 503}, (each[:300], said[:300])
        assert not [place for place in places if place in said.partition(b"set-cookie")[0]], each[
            :300
        ]
    assert answered > 100
    assert tree(published.root) == before
    log = process.ended()
    assert token not in log
    assert "Traceback" not in log


def test_a_token_that_is_nearly_right_is_wrong(
    published: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "WRONG_TOKENS", 1_000)  # each of them is looked at
    sharing, token = shared(published)
    with serving(published, sharing) as ask:
        for line in almost(token):
            said = ask.raw(request(ask.port, "/", "GET", line))
            assert set(answers(said)) <= {400, 401}, line
        assert ask("/", Authorization=f"Bearer {token}")[0] == 200


@pytest.mark.thorough
def test_slow_strangers_are_cut_off_by_the_real_server(published: Home, process: Shared) -> None:
    waiting = []
    for begin in SLOW * 8:
        waiting.append(process.ask.open())
        waiting[-1].settimeout(3 * connections.ASKING_S)
        waiting[-1].sendall(begin)
    # Meanwhile everyone else is answered.
    assert process.ask("/")[0] == 401
    for connection in waiting:
        with connection:
            everything(connection)  # or it takes too long, which fails
