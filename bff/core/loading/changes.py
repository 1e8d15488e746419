"""What differs between two configurations, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bff.core.loading.document import Path, dotted
from bff.core.settings import Settings


class Change(NamedTuple):
    """One key that is not the same any more.

    Attributes:
        key: dotted, such as `services.users.timeout`.
        before: as it would be written, secrets hidden; None where it was not there.
        after: the same.
    """

    key: str
    before: Any
    after: Any


_ABSENT = object()


def changes(before: Settings, after: Settings) -> list[Change]:
    """What differs, in the order of the keys; of what is not there at all, the whole."""
    return list(_changes(before, after, before.model_dump(mode="json"), after.model_dump(mode="json"), ()))


def _changes(before: Any, after: Any, was: Any, is_now: Any, path: Path) -> Iterator[Change]:
    """Compared by the values themselves, shown as they are written: of a secret, only that it changed."""
    if before is not _ABSENT and after is not _ABSENT and before == after:
        return
    one, other = _below(before), _below(after)
    if type(before) is type(after) and one and other:
        for key in dict.fromkeys([*one, *other]):
            yield from _changes(
                one.get(key, _ABSENT), other.get(key, _ABSENT), _shown(was, key), _shown(is_now, key), (*path, key)
            )
        return
    yield Change(dotted(path), was, is_now)


def _below(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Settings):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return {}


def _shown(written: Any, key: Any) -> Any:
    if isinstance(written, Mapping):
        return written.get(key)
    if isinstance(written, list) and isinstance(key, int):
        return written[key] if key < len(written) else None
    return None
