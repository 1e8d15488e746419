"""What a route changes about headers: `set`, `add`, `remove`, `rename`, and which are let through at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated

from pydantic import Field
from starlette.types import Scope

from bff.core.settings import Complaint, Settings
from bff.rest.names import comes_down, goes_up, is_identity
from bff.rest.templates import Text, as_header
from bff.upstream.client import Headers

Name = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$")]
Glob = Name
"""A name in which `*` stands for anything."""
_MOST = 50

_FRAMING = frozenset({"content-length", "content-encoding", "host", "expect"})
# A credential of the gateway's own may be what a service wants; the client's never gets here.
_FOR_SERVICES = frozenset({"authorization", "x-api-key"})


class HeaderSettings(Settings):
    """In this order, over the headers that pass anyway."""

    allow: tuple[Glob, ...] | None = None
    """Only these pass, of what would pass anyway: `[accept, content-*]`. All, if left out."""
    remove: tuple[Glob, ...] = ()
    """These do not: `[cookie, x-internal-*]`."""
    rename: dict[Name, Name] = Field(default_factory=dict, max_length=_MOST)
    """The old name with the new one: `{x-tenant: x-customer}`."""
    set: dict[Name, Text] = Field(default_factory=dict, max_length=_MOST)
    """Instead of whatever was there: `{x-account: "{caller.subject}"}`; nothing, where the request lacks the value."""
    add: dict[Name, Text] = Field(default_factory=dict, max_length=_MOST)
    """Beside what was there."""

    def credentials(self) -> Iterable[tuple[str, str]]:
        """Where one is set for the service."""
        for key, changes in (("set", self.set), ("add", self.add)):
            yield from ((key, name) for name in changes if name.lower() in _FOR_SERVICES)

    def complaints(self, *, up: bool) -> Iterable[Complaint]:
        """What cannot be changed, or must not be. `up`: whether it is about a request."""
        for key, changes in (("set", self.set), ("add", self.add)):
            for name, text in changes.items():
                if not _may_be_set(name, up=up):
                    yield (key, name), "is a header that the gateway itself sees to"
                elif up and is_identity(name) and (forged := text.of_client):
                    yield (key, name), f"says who calls, and {{{forged[0]}}} is whatever a client writes there"
        for old, new in self.rename.items():
            if _passes(new, up=up) is None or new.lower() in _FRAMING:
                yield ("rename", old), f"cannot become {new}, which the gateway itself sees to"


def _passes(name: str, *, up: bool) -> bytes | None:
    return (goes_up if up else comes_down)(name.lower().encode())


def _may_be_set(name: str, *, up: bool) -> bool:
    if name.lower() in _FRAMING:
        return False
    return _passes(name, up=up) is not None or (up and (name.lower() in _FOR_SERVICES or is_identity(name)))


class HeaderChanges:
    """These settings, ready to be applied."""

    def __init__(self, settings: HeaderSettings) -> None:
        self._stays = _matcher(settings.allow) if settings.allow is not None else None
        # Many servers read x_account and X-Account as one name: what is set is never beside a client's own.
        self._goes = _matcher((*settings.remove, *settings.set))
        self._renamed = {_folded(old.encode()): new.lower().encode() for old, new in settings.rename.items()}
        self._set = _texts(settings.set)
        self._added = _texts(settings.add)

    def applied(self, headers: Headers, scope: Scope) -> Headers:
        """To headers with names in lower case."""
        kept = [
            (self._renamed.get(_folded(name), name), value)
            for name, value in headers
            if not self._goes(name) and (self._stays is None or self._stays(name))
        ]
        if self._renamed:
            # Nor does a client's header become what is set.
            kept = [each for each in kept if not any(each[0] == name for name, _ in self._set)]
        for name, text in (*self._set, *self._added):
            if (value := text.fill(scope, as_header)) is not None:
                kept.append((name, value.encode()))
        return kept


def _texts(texts: Mapping[str, Text]) -> Sequence[tuple[bytes, Text]]:
    return tuple((name.lower().encode(), text) for name, text in texts.items())


def _folded(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _matcher(globs: Iterable[str]) -> Callable[[bytes], bool]:
    patterns = [re.escape(_folded(each.encode())).replace(rb"\*", b".*") for each in globs]
    pattern = re.compile(b"|".join(patterns) or b"(?!)")
    return lru_cache(1024)(lambda name: pattern.fullmatch(_folded(name)) is not None)
