"""What the gateway runs with where it is deployed: the packages of deploy/requirements.lock, and no others."""

from __future__ import annotations

import re
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

from tests.running import ROOT

LOCK = ROOT / "deploy" / "requirements.lock"
SITE = Path(sysconfig.get_path("purelib"))


def pinned(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package."""
    entries = re.finditer(
        r"^([a-z0-9-]+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", lock.read_text(), re.MULTILINE
    )
    return {each[1]: (each[2], frozenset(re.findall("[0-9a-f]{64}", each[3]))) for each in entries}


def site(folder: Path) -> Path:
    """A folder of packages with links to those of the lock, as they are installed here."""
    folder.mkdir(parents=True)
    for name, (version, _) in pinned(LOCK).items():
        installed = distribution(name)
        assert installed.version == version
        for each in installed.files or ():
            top = each.parts[0]
            if top not in {"..", "__pycache__"} and not (folder / top).exists():
                (folder / top).symlink_to(SITE / top)
    return folder


def python(folder: Path, packages: Path, *more: Path) -> Path:
    """A Python of its own in this folder, which sees these packages and nothing else of what is installed here."""
    binary = folder / "bin"
    binary.mkdir(parents=True)
    (binary / "python").symlink_to(Path(sys.executable).resolve())
    (folder / "pyvenv.cfg").write_text(
        f"home = {Path(sys.base_prefix) / 'bin'}\ninclude-system-site-packages = false\n"
    )
    seen = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    seen.mkdir(parents=True)
    (seen / "packages.pth").write_text("".join(f"{each}\n" for each in (packages, *more)))
    return binary / "python"
