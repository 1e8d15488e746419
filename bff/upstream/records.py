"""Records in what a service is asked for and in what it answers: `/users/usr_1`, `/users?ids=usr_1,usr_2`, their JSON.

A record is an object with an `id`; a list of them is an array, or an object that has it as its `items`, and else nulls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

_ID: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


class Wanted(NamedTuple):
    """What a read is about.

    Attributes:
        collection: the path that the records are below.
        ids: theirs.
        is_batch: whether it asks by `ids=`.
    """

    collection: bytes
    ids: Sequence[bytes]
    is_batch: bool


class Shape(NamedTuple):
    """What stands around the records of a list."""

    before: bytes
    after: bytes


class Records(NamedTuple):
    """The records of an answer; `shape` where it is a list of them."""

    shape: Shape | None
    by_id: dict[bytes, bytes]


class _Identified(msgspec.Struct):
    id: str | int


_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_lists = msgspec.json.Decoder(list[msgspec.Raw])
_ids = msgspec.json.Decoder(_Identified)


def wanted_by(target: bytes) -> Wanted | None:
    """Which records a target is about, if it is about some."""
    path, mark, query = target.partition(b"?")
    if mark:
        name, _, value = query.partition(b"=")
        ids = list(dict.fromkeys(value.split(b",")))
        if name != b"ids" or b"" in ids or value.translate(None, _ID + b","):
            return None
        return Wanted(path, ids, is_batch=True)
    collection, _, id = path.rpartition(b"/")
    if not collection or not id or id.translate(None, _ID):
        return None
    return Wanted(collection, (id,), is_batch=False)


def _id_of(record: bytes | msgspec.Raw) -> bytes:
    return str(_ids.decode(record).id).encode()


def records_of(body: bytes, *, is_list: bool) -> Records | None:
    """None where it is nothing of the kind."""
    try:
        return _split(body) if is_list else Records(None, {_id_of(body): body})
    except msgspec.MsgspecError:
        return None


def _split(body: bytes) -> Records | None:
    """The records of a list, and what stands around them: nothing that says something of just these.

    Raises:
        msgspec.MsgspecError: it is no list of records.
    """
    shape = Shape(b"[", b"]")
    items: bytes | msgspec.Raw = body
    if body.lstrip()[:1] == b"{":
        others = _objects.decode(body)
        given = others.pop("items", None)
        if given is None or any(bytes(each) != b"null" for each in others.values()):
            return None
        rest = b"".join(b",%b:null" % msgspec.json.encode(name) for name in others)
        items, shape = given, Shape(b'{"items":[', b"]%b}" % rest)
    records = _lists.decode(items)
    found = {_id_of(each): bytes(each) for each in records}
    return Records(shape, found) if len(found) == len(records) else None


def joined(shape: Shape | None, bodies: Sequence[bytes]) -> bytes:
    return bodies[0] if shape is None else b"%b%b%b" % (shape.before, b",".join(bodies), shape.after)
