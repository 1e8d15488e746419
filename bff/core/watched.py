"""Files that are looked at again and again: what counts is what is in them, not their names, times or links."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

_MOST: Final = 10_000
"""Files in one folder that are looked at."""


def contents(paths: Iterable[Path]) -> Mapping[Path, str]:
    """What differs whenever what is in one of the files, or in one of the folders, does."""
    return {path: _content(path) for path in dict.fromkeys(paths)}


def _content(path: Path) -> str:
    if not path.is_dir():
        return _digest(path)
    inside = sha256()
    for each in _files(path):
        inside.update(f"{each.relative_to(path)}\0{_digest(each)}\0".encode(errors="surrogateescape"))
    return inside.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for at, each in enumerate(sorted(folder.rglob("*"))):
        if at == _MOST:
            return
        if each.is_file():
            yield each


def _digest(path: Path) -> str:
    # No pipe or device: nobody knows when those end.
    if not path.is_file():
        return "is no file"
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or "cannot be read"
