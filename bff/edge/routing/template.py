"""Path templates: `/api/users/{id}` captures one segment, `/api/users/{rest*}` all that follow, or none."""

from __future__ import annotations

import re
from dataclasses import dataclass

LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\*?)\}")
_ENCODED = re.compile(rb"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, slots=True)
class Template:
    """A route's path, taken apart.

    Attributes:
        shape: its segments: a literal, None for a captured one.
        rest: whether all further segments are captured too.
        names: of what is captured, from left to right.
    """

    shape: tuple[bytes | None, ...]
    rest: bool
    names: tuple[str, ...]

    def overlaps(self, other: Template) -> bool:
        """Whether some path is of both."""
        for mine, theirs in zip(self.shape, other.shape, strict=False):
            if None not in (mine, theirs) and mine != theirs:
                return False
        shorter, longer = sorted((self, other), key=lambda each: len(each.shape))
        return shorter.rest or len(shorter.shape) == len(longer.shape)

    def order(self) -> tuple[int, ...]:
        """Of two templates of one path, the more specific has the smaller one: a literal, a captured one, the rest."""
        return (*(1 if segment is None else 0 for segment in self.shape), 2 if self.rest else -1)


def template(path: str) -> Template:
    """Takes apart what has no `fault`."""
    shape: list[bytes | None] = []
    names, rest = [], False
    for segment in path.split("/")[1:]:
        capture = _CAPTURE.fullmatch(segment)
        if not capture:
            shape.append(normal(segment.encode()))
            continue
        names.append(capture[1])
        rest = bool(capture[2])
        if not rest:
            shape.append(None)
    return Template(tuple(shape), rest, tuple(names))


def fault(path: str) -> str | None:
    """Why this is no template; None if it is one."""
    if not path.startswith("/"):
        return "must begin with /"
    *inner, last = path.split("/")[1:]
    names = []
    for segment in (*inner, last):
        if capture := _CAPTURE.fullmatch(segment):
            names.append(capture[1])
        elif not LITERAL.fullmatch(segment) or segment in {".", ".."}:
            return f"has a segment that is neither percent-encoded text, {{name}} nor {{name*}}: {segment}"
    if "" in inner:
        return "has an empty segment"
    if any(segment.endswith("*}") for segment in inner):
        return "may capture the rest, {name*}, only at its end"
    if len(set(names)) < len(names):
        return "captures two parts under one name"
    return None


def normal(segment: bytes) -> bytes:
    """Percent-encoding that changes nothing undone, all other in capitals (RFC 3986 §6.2.2)."""
    return _ENCODED.sub(_decoded, segment)


def _decoded(encoded: re.Match[bytes]) -> bytes:
    octet = int(encoded[0][1:], 16)
    return bytes((octet,)) if octet in _UNRESERVED else encoded[0].upper()
