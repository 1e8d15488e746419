"""What deploy/Dockerfile makes, run without Docker: its files, variables, user and commands.

Each container has a read-only file system of its own, and all of them one network. Of the base image there is what this
machine has: `/usr` and Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.deploy.runtime import SITE, python, site
from tests.running import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
OF_THE_BASE = ("usr", "bin", "sbin", "lib", "lib64", "etc", "dev", "proc")
# In a mount namespace of its own: the image, what it has from the base, the files it is given, and nothing to write to.
MOUNTED = """
set -e
cd "$1"; shift
mount --bind . .
cd "$PWD"
mount -t tmpfs -o mode=1777 tmpfs ./tmp
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p ".$2"; else mkdir -p "$(dirname ".$2")"; touch ".$2"; fi
    mount --rbind "$1" ".$2"
    shift 2
done
shift
mount -o remount,bind,ro .
exec chroot . "$@"
"""


class Instruction(NamedTuple):
    word: str
    text: str

    @property
    def command(self) -> list[str]:
        listed: list[str] = json.loads(self.text.removeprefix("CMD "))
        return listed


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage, after those of the stage that it is made from."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: dict[str, list[Instruction]] = {}
    here: list[Instruction] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.rpartition(" AS ")
            here = found[name] = [*found.get(base, [Instruction(word, base)])]
        elif word:
            here.append(Instruction(word, rest))
    return found


def sent(path: Path) -> bool:
    """Whether .dockerignore lets it through: nothing, but what it names, less what it names in any folder."""
    lines = [each for each in (ROOT / ".dockerignore").read_text().splitlines() if not each.startswith("#")]
    assert lines[0] == "*"
    named = {Path(each.removeprefix("!")) for each in lines[1:] if each.startswith("!")}
    dropped = {each.removeprefix("**/") for each in lines[1:] if not each.startswith("!")}
    return bool(named & {path, *path.parents}) and not dropped & set(path.parts)


class Image:
    """One stage, laid out in a folder.

    Attributes:
        environ, user, workdir, entrypoint, command, health: as the Dockerfile has them.
    """

    def __init__(self, stage: str, folder: Path) -> None:
        self.folder = folder
        self.environ, self.user, self.workdir = {"PATH": "/usr/local/bin:/usr/bin:/bin"}, "0:0", Path("/")
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []
        for each in stages()[stage]:
            self._follow(each)
        self.mounts = [*self._base()]
        (folder / "tmp").mkdir()

    def at(self, path: Path) -> Path:
        return self.folder / path.relative_to("/")

    def _follow(self, said: Instruction) -> None:
        match said.word:
            case "WORKDIR":
                self.workdir /= said.text
                self.at(self.workdir).mkdir(parents=True, exist_ok=True)
            case "ENV":
                for name, value in re.findall(r"(\w+)=(\S+)", said.text):
                    self.environ[name] = value.replace("$PATH", self.environ["PATH"])
            case "USER":
                self.user = said.text
            case "ENTRYPOINT":
                self.entrypoint, self.command = said.command, []
            case "CMD":
                self.command = said.command
            case "HEALTHCHECK":
                self.health = json.loads(said.text[said.text.index("[") :])
            case "COPY":
                self._copy(said.text)

    def _copy(self, said: str) -> None:
        *sources, into = said.split()
        target = self.at(self.workdir / into)
        if sources[0] == "--from=packages":
            # Linked in place of being installed.
            site(self.folder / "opt" / "packages")
            python(self.folder / "opt" / "venv", Path("/opt/packages"))
        elif sources[0] == "--from=pages":
            # Bundled by the same command.
            shutil.copytree(ROOT / sources[1].removeprefix("/pages/"), target)
        else:
            for source in map(Path, sources):
                self._copy_sent(source, target)

    def _copy_sent(self, source: Path, target: Path) -> None:
        here = ROOT / source
        files = [here] if here.is_file() else [each for each in here.rglob("*") if each.is_file()]
        for file in files:
            if sent(file.relative_to(ROOT)):
                copy = target / (file.name if file == here else file.relative_to(here))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)

    def _base(self) -> Iterator[tuple[Path, Path]]:
        for there in (Path("/", name) for name in OF_THE_BASE):
            if there.is_symlink():
                self.at(there).symlink_to(there.readlink())
            elif there.exists():
                yield there, there
        # The Python of these tests and its packages, where they are elsewhere.
        yield from ((each, each) for each in {Path(sys.base_prefix), SITE} if not each.is_relative_to("/usr"))


class Network:
    """Where containers reach each other by their names, and nobody else."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._hosts = folder / "hosts"
        self._hosts.write_text("".join(f"127.0.0.1 {each}\n" for each in ("localhost", *names)))
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"up\n"
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def enter(self) -> list[str]:
        """What comes before a command that is to run in it."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]

    def start(
        self,
        image: Image,
        command: list[str],
        environ: Mapping[str, str] = {},
        files: Mapping[Path, Path] = {},
        **streams: int,
    ) -> subprocess.Popen[bytes]:
        """Run all these words in a container; `files` are given to it, by where they are in it."""
        mounts = [*image.mounts, (self._hosts, Path("/etc/hosts")), *((file, at) for at, file in files.items())]
        user, _, group = image.user.partition(":")
        given = [f"{name}={value}" for name, value in {**image.environ, **environ}.items()]
        nobody = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        nobody += ["--bounding-set=-all", "--inh-caps=-all", "env", "--ignore-environment", f"--chdir={image.workdir}"]
        process = subprocess.Popen(
            [*self.enter, "unshare", "--mount", "--propagation=private", "sh", "-c", MOUNTED, "sh", image.folder]
            + [str(each) for mount in mounts for each in mount]
            + ["--", *nobody, *given, *command],
            **streams,
        )
        self._running.append(process)
        return process

    def beside(self, command: list[str]) -> None:
        """Run a program of this machine in the network."""
        self._running.append(subprocess.Popen([*self.enter, *command], stdout=subprocess.DEVNULL))

    def end(self) -> None:
        for each in (*self._running, self._holder):
            if each.poll() is None:
                each.terminate()
        for each in (*self._running, self._holder):
            try:
                each.wait(20)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
        assert self._holder.stdout
        self._holder.stdout.close()


@contextmanager
def network(folder: Path, names: list[str]) -> Iterator[Network]:
    made = Network(folder, names)
    try:
        yield made
    finally:
        made.end()


def can_be_made() -> bool:
    """Whether this user may make namespaces, which is root as a rule."""
    tried = ["unshare", "--net", "--mount", "true"]
    return os.geteuid() == 0 and subprocess.run(tried, capture_output=True, check=False).returncode == 0
