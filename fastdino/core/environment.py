"""Settings from outside: environment variables, and lines in the file ``.env``.

Belongs here: every ``FASTDINO_*`` variable, that is its name, what it means, what it may be, and
reading it; where stores are. Does not: options of a command, which go before them
(``fastdino.steps``); numbers that change what is computed, which are the settings of a stage.
"""

import difflib
import io
import logging
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fastdino.core.errors import UserError

T = TypeVar("T")

log = logging.getLogger(__name__)

PREFIX = "FASTDINO_"
DOTENV = ".env"
# Sizes of the encoder; ``fastdino.training.settings`` says what they are.
PRESETS = ("auto", "cpu", "gpu", "tiny")


@dataclass(frozen=True)
class Variable(Generic[T]):
    """One setting.

    Attributes:
        name: of the environment variable.
        means: what it decides, for people.
        may_be: what it can be set to, to go on from "set ...".
        default: what holds where it is not set, for people.
        unset: the same as a value.
        parse: makes a value of a text that is not empty, or raises ValueError.
    """

    name: str
    means: str
    may_be: str
    default: str
    unset: T
    parse: Callable[[str], T]

    def value(self) -> T:
        """What it is set to; an empty one is not set.

        Raises:
            UserError: it is set to what it cannot be.
        """
        text = os.environ.get(self.name, "").strip()
        try:
            return self.parse(text) if text else self.unset
        except ValueError:
            raise UserError(f"{self.name} is {text!r}: set {self.may_be}") from None


def minutes(text: str) -> float:
    """A length of time, more than none.

    Raises:
        ValueError: it is none.
    """
    return _above_0(text)


def _above_0(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(f"{text} is not above 0")
    return number


def _minutes_or_none_at_all(text: str) -> float:
    return minutes(text) if float(text) else 0.0


def _preset(text: str) -> str:
    if text not in PRESETS:
        raise ValueError(text)
    return text


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # there is no such user
        raise ValueError(text) from error


def _folders(text: str) -> tuple[str, ...]:
    # Taken apart where it is known which of them are there: a name may have the separator in it.
    return (text,)


def _store(text: str) -> str:
    if "@" in text:
        # Not even to say that it is wrong is it told what stands there.
        raise UserError(
            f"{STORE.name} has credentials in it: set {STORE.may_be}, and the credentials as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/\w[\w.=+-]*)*/?", text, re.ASCII):
        raise ValueError(text)
    return text.rstrip("/")


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(os.pathsep) if each.strip())


def _song_paths(text: str) -> str:
    return text if text in ("absolute", "relative") else _mounted(text)


def _mounted(text: str) -> str:
    for each in text.split(os.pathsep):
        here, _, there = each.rpartition("=")
        if not here.startswith(("/", "~")) or not there.startswith("/"):
            raise ValueError(text)
    return text


def _songs(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _server(text: str) -> str:
    if "@" in text:
        raise UserError(
            f"{SERVER.name} has credentials in it: set {SERVER.may_be}, and the credentials as "
            f"{SERVER_USER.name} and {SERVER_PASSWORD.name}"
        )
    url = r"https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:(?P<port>\d{1,5}))?(/[\w./~-]*)?"
    found = re.fullmatch(url, text, re.ASCII)
    if not found or int(found["port"] or 0) > 65_535:
        raise ValueError(text)
    return text.rstrip("/")


def _web_address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(text)
    return text


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text != "auto" and not (host and "/" not in host and port.isdigit()):
        raise ValueError(text)
    return text


MUSIC = Variable[tuple[str, ...]](
    "FASTDINO_MUSIC",
    "the music folders",
    f"folders, with '{os.pathsep}' between several",
    "those of last time",
    (),
    _folders,
)
EXCLUDE = Variable[tuple[str, ...]](
    "FASTDINO_EXCLUDE",
    "files and folders of the music folders to leave out",
    f"patterns as `*.instrumental.mp3` or `*/Podcasts/*`, with '{os.pathsep}' between several",
    "none",
    (),
    _patterns,
)
HOME = Variable(
    "FASTDINO_HOME",
    "the folder where results lie",
    "a folder",
    "var",
    Path("var"),
    _folder,
)
PLAYLISTS = Variable[str | None](
    "FASTDINO_PLAYLISTS",
    "a folder to keep playlists in, for players and music servers",
    "a folder that is there",
    "none: there are no playlists by themselves",
    None,
    str,
)
PLAYLISTS_PATHS = Variable(
    "FASTDINO_PLAYLISTS_PATHS",
    "how those playlists name songs: by their place on this computer, or seen from the folder, or "
    "by what another computer or a container calls the music folder",
    f"absolute, relative, or `/home/me/Music=/music`, with '{os.pathsep}' between several",
    "absolute",
    "absolute",
    _song_paths,
)
PLAYLISTS_SONGS = Variable(
    "FASTDINO_PLAYLISTS_SONGS",
    "how many songs such a playlist has at most",
    "a whole number above 0",
    "50",
    50,
    _songs,
)
PLAYLISTS_EXCLUDE = Variable[tuple[str, ...]](
    "FASTDINO_PLAYLISTS_EXCLUDE",
    "folders and files of which nothing is on those playlists",
    f"folders, or patterns as `*/Audiobooks/*`, with '{os.pathsep}' between several",
    "none",
    (),
    _patterns,
)
SERVER = Variable[str | None](
    "FASTDINO_SERVER",
    "the music server that may ask what sounds like a song of its own",
    "its address, as `http://127.0.0.1:4533`",
    "none",
    None,
    _server,
)
SERVER_USER = Variable[str | None](
    "FASTDINO_SERVER_USER",
    "a user of that server, where it speaks Subsonic's language, as Navidrome does",
    "a name",
    "none: the server is Jellyfin",
    None,
    str,
)
SERVER_PASSWORD = Variable[str | None](
    "FASTDINO_SERVER_PASSWORD",
    "that user's password, or an API key of Jellyfin's",
    "a password",
    "what FASTDINO_SERVER_PASSWORD_FILE holds",
    None,
    str,
)
SERVER_PASSWORD_FILE = Variable[str | None](
    "FASTDINO_SERVER_PASSWORD_FILE",
    "a file that holds the password or the key",
    "a file",
    "none",
    None,
    str,
)
SERVER_PATHS = Variable[str | None](
    "FASTDINO_SERVER_PATHS",
    "what that server calls the music folders, where it knows them by other names",
    f"`/home/me/Music=/music`, with '{os.pathsep}' between several",
    "as here",
    None,
    _mounted,
)
PRESET = Variable(
    "FASTDINO_PRESET",
    "size of the encoder: tiny is a trial, auto takes gpu where there is one",
    f"one of {', '.join(PRESETS)}",
    "auto",
    "auto",
    _preset,
)
MINUTES = Variable[float | None](
    "FASTDINO_MINUTES",
    "minutes to train at most; with four times as many as usual, the encoder is wider",
    "a number of minutes above 0, such as 10 or 2.5",
    "5, more above 125 hours of music",
    None,
    minutes,
)
QUIET_MINUTES = Variable(
    "FASTDINO_QUIET_MINUTES",
    "minutes without a change after which Dagster's sensor takes in new music",
    "a number of minutes, 0 or more",
    "2",
    2.0,
    _minutes_or_none_at_all,
)
# The name is Ray's own.
CLUSTER = Variable[str | None](
    "RAY_ADDRESS",
    "the Ray cluster to compute on",
    "its address, as 10.0.0.1:6379, or auto",
    "none: this computer alone",
    None,
    _address,
)
STORE = Variable[str | None](
    "FASTDINO_STORE",
    "S3-compatible storage for shards, vectors and models, which several machines may share",
    "`s3://bucket` or `s3://bucket/prefix`",
    "all is in the folder of results",
    None,
    _store,
)
STORE_CACHE_GB = Variable(
    "FASTDINO_STORE_CACHE_GB",
    "gigabytes of that storage's shards to keep copies of in the folder of results",
    "a number of gigabytes above 0",
    "100",
    100.0,
    _above_0,
)
# Ray's own as well: what asks for this address takes it from there, whatever else it is told.
JOBS = Variable[str | None](
    "RAY_API_SERVER_ADDRESS",
    "the Ray cluster that Dagster sends its steps to, as jobs",
    "the address of its dashboard, as http://10.0.0.1:8265",
    "none: steps run beside Dagster",
    None,
    _web_address,
)
VARIABLES: tuple[Variable[Any], ...] = (
    MUSIC, EXCLUDE, HOME, PRESET, MINUTES, QUIET_MINUTES, PLAYLISTS, PLAYLISTS_PATHS,
    PLAYLISTS_SONGS, PLAYLISTS_EXCLUDE, SERVER, SERVER_USER, SERVER_PASSWORD, SERVER_PASSWORD_FILE,
    SERVER_PATHS, CLUSTER, JOBS, STORE, STORE_CACHE_GB,
)  # fmt: skip
# Printed nowhere, and told to no other computer, where they would be in a cluster's logs.
SECRETS = (SERVER_PASSWORD,)


def store_endpoint() -> str | None:
    """Where stores are, if not at Amazon; by the variables that all programs for stores read."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def load() -> None:
    """Take in the nearest ``.env``, from the current folder upwards; then check every variable.

    What is set already goes before what the file says.

    Raises:
        UserError: the file cannot be read, or a variable is set to what it cannot be.
    """
    if file := _nearest():
        # Only here: where nothing is set there may be no such package, as on a machine for GPUs.
        from dotenv import load_dotenv

        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise UserError(
                f"{file} is not UTF-8 text (line {line}): save it as UTF-8 in a text editor"
            ) from None
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from error
        if "\0" in text:
            raise UserError(f"{file} is not a text file: write lines NAME=value")
        load_dotenv(stream=io.StringIO(text))
    check()


def check() -> None:
    """Look at every variable, whether or not anything asks for it; warn of names there are not.

    Raises:
        UserError: one is set to what it cannot be.
    """
    for variable in VARIABLES:
        variable.value()
    for name in unknown(os.environ):
        near = difflib.get_close_matches(name, [each.name for each in VARIABLES], n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        log.warning("there is no setting %s%s", name, meant)


def told() -> dict[str, str]:
    """What is set of all that decides what is computed: for processes on other computers."""
    names = [each.name for each in VARIABLES if each not in (CLUSTER, JOBS, *SECRETS)]
    return {name: os.environ[name] for name in names if name in os.environ}


def shown(variable: Variable[Any]) -> str:
    """What a variable is set to, for people; of a secret only that it is set."""
    text = os.environ.get(variable.name, "")
    return "(set)" if text and variable in SECRETS else text


def unknown(names: Iterable[str]) -> list[str]:
    """Of ``names``, those that look like a setting and are none."""
    known = {each.name for each in VARIABLES}
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def _nearest() -> Path | None:
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted since
        return None
    return next((f for d in (here, *here.parents) if os.path.isfile(f := d / DOTENV)), None)
