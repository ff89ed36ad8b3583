"""Building what ``Dockerfile`` says and starting what ``compose.yaml`` says, without an engine.

The steps are run in a folder with a fresh Debian, in namespaces of their own. Of an engine's work
only what these two files ask for is done; what they must not ask for is an error.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
# How pip finds its index here, if not as everywhere: from outside, so that no image has it.
FROM_OUTSIDE = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
UP_WITHIN_S = 600.0
STATUS = """
import dagster
with dagster.DagsterInstance.get() as instance:
    print(instance.get_runs(limit=1)[0].status.value)
"""


def steps(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction and the rest of its line, continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.M)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield instruction, rest.strip()


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with ``${NAME}``, ``${NAME:-else}`` and ``${NAME:?must be set}`` in place."""

    def value(found: re.Match[str]) -> str:
        name, how, other = found.groups()
        if how == "?" and not values.get(name):
            raise ValueError(other)
        return values.get(name) or (other if how == "-" else "")

    return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", value, text)


@dataclass
class Image:
    """A root folder that is being built, and what its processes are started with."""

    root: Path
    arguments: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"

    def build(self, dockerfile: Path) -> None:
        """Do every step of it."""
        given = dict(self.arguments)
        for instruction, rest in steps(dockerfile.read_text(encoding="utf-8")):
            print(f"{instruction} {rest}", flush=True)
            match instruction:
                case "ARG":
                    name, _, usual = rest.partition("=")
                    self.arguments[name] = given.get(name, usual)
                case "FROM":
                    self._from(filled(rest, self.arguments))
                case "ENV":
                    name, _, value = rest.partition("=")
                    self.environment[name] = filled(value, self.arguments)
                case "WORKDIR":
                    self.folder = rest
                    self._inside(rest).mkdir(parents=True, exist_ok=True)
                case "USER":
                    self.user = rest
                case "COPY":
                    self._copy(*rest.split())
                case "RUN":
                    self._run(rest)
                case "CMD":
                    json.loads(rest)
                case _:
                    raise ValueError(f"no engine here knows {instruction}")

    def _from(self, name: str) -> None:
        found = re.fullmatch(r"debian:(\w+)-slim", name)
        assert found, name
        command = ["debootstrap", "--variant=minbase", found[1], str(self.root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", self.root / "etc" / name)
        if CERTIFICATES.exists():
            shutil.copy(CERTIFICATES, self.root / "etc/outside.crt")

    def _copy(self, *names: str) -> None:
        *sources, target = names
        into = self._inside(os.path.join(self.folder, target))
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, into)

    def _run(self, rest: str) -> None:
        cached = re.findall(r"--mount=type=cache,target=(\S+) ", rest)
        line = re.sub(r"--mount=\S+ +", "", rest)
        cache = Path.home() / ".cache/pip"
        cache.mkdir(parents=True, exist_ok=True)
        outside = {name: os.environ[name] for name in FROM_OUTSIDE if name in os.environ}
        if (self.root / "etc/outside.crt").exists():
            outside["PIP_CERT"] = "/etc/outside.crt"
        mounts = [(str(cache), target, "") for target in cached]
        command = self.command(["sh", "-c", line], outside | self.arguments, mounts)
        subprocess.run(["unshare", "--mount", "--pid", "--fork", *command], check=True)

    def command(
        self, inside: list[str], more: Mapping[str, str], mounts: list[tuple[str, str, str]]
    ) -> list[str]:
        """What starts ``inside`` there, from within a mount namespace of its own.

        Args:
            inside: the command.
            more: environment beside the image's.
            mounts: source, target and options of each.
        """
        lines = [
            f"mount -t proc proc {self.root}/proc",
            f"mount --rbind /dev {self.root}/dev",
        ]
        for source, target, options in mounts:
            where = shlex.quote(str(self._inside(target)))
            lines += [f"mkdir -p {where}", f"mount --bind {shlex.quote(source)} {where}"]
            if options:
                lines.append(f"mount -o remount,bind,{options} {where}")
        home = "/root" if self.user == "root" else f"/home/{self.user}"
        environment = {"HOME": home, "PATH": "/usr/sbin:/usr/bin", **self.environment, **more}
        settings = [f"{name}={value}" for name, value in environment.items()]
        go = ["env", "-C", self.folder, "-i", *settings, *inside]
        enter = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), *go]
        return ["sh", "-ec", "\n".join([*lines, f"exec {shlex.join(enter)}"])]

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")


class Services:
    """What ``compose.yaml`` starts, of an image that is built; the volume and the music are given.

    Within a network where there is nothing but loopback: nothing else is listened to.
    """

    def __init__(self, image: Image, music: Path, volume: Path) -> None:
        self.image, self.music, self.volume = image, music, volume
        text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
        values = {"MUSIC": str(music), "FASTDINO_PRESET": "tiny", "FASTDINO_MINUTES": "0.05"}
        self.services: dict[str, Any] = yaml.safe_load(filled(text, values))["services"]

    def command(self, name: str, inside: list[str]) -> list[str]:
        """What starts ``inside`` as the service ``name`` would be."""
        service = self.services[name]
        mounts = []
        for each in service["volumes"]:
            source, target, *options = each.split(":")
            source = str(self.volume) if source == "home" else source
            mounts.append((source, target, *(options or [""])))
        # What is filled with nothing is empty for Compose, and nothing for YAML.
        environment = {
            key: "" if value is None else str(value)
            for key, value in service["environment"].items()
        }
        return ["unshare", "--mount", *self.image.command(inside, environment, mounts)]

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a service."""
        return subprocess.Popen(self.command(name, self.services[name]["command"]))

    def health(self, name: str) -> int:
        """Run a service's health check; returns its exit code."""
        kind, *check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return subprocess.run(self.command(name, check), capture_output=True).returncode

    def run(self, name: str, *inside: str) -> str:
        """Run a command in a service's place; returns what it printed."""
        done = subprocess.run(self.command(name, list(inside)), stdout=subprocess.PIPE, text=True)
        assert not done.returncode, done.stdout
        return done.stdout


def main(root: str, described: str, music: str, volume: str) -> None:
    """In namespaces of its own: a first run, then all services until each is healthy."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    image = Image(Path(root), {}, **json.loads(described))
    services = Services(image, Path(music), Path(volume))
    assert services.run("page", "id", "-un").strip() == "fastdino"
    refused = services.command("page", ["touch", "/music/new"])
    assert subprocess.run(refused, capture_output=True).returncode
    print(services.run("page", "fastdino", "run"))
    for name in services.services:
        started, end = services.start(name), time.monotonic() + UP_WITHIN_S
        while services.health(name):
            assert started.poll() is None, f"{name} has ended"
            assert time.monotonic() < end, f"{name} is not healthy"
            time.sleep(2)
        print(f"{name} is healthy")
    listed = services.run("dagster", "dagster", "schedule", "list", "-w", "workspace.yaml")
    assert "nightly_refresh [RUNNING]" in listed, listed
    launch = ("dagster", "job", "launch", "-w", "workspace.yaml", "-j", "refresh")
    services.run("dagster", *launch)
    end = time.monotonic() + UP_WITHIN_S
    while (status := services.run("dagster", "python", "-c", STATUS).strip()) != "SUCCESS":
        assert status not in ("FAILURE", "CANCELED"), status
        assert time.monotonic() < end, status
        time.sleep(2)
    print("a refresh has run")


if __name__ == "__main__":
    main(*sys.argv[1:])
