"""What a GraphQL request says: its parameters, wherever they stand, and the media type that its answer may have.

After https://graphql.github.io/graphql-over-http/draft/ .
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import orjson

from bff.core.errors import BadRequest, Code, LimitExceeded, NotAcceptable, UnsupportedMediaType
from bff.edge.errors import GRAPHQL_JSON

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
PREFLIGHT: Final = (
    "apollo-require-preflight",
    "graphql-require-preflight",
    "x-apollo-operation-name",
    "x-csrf-token",
    "x-graphql-yoga-csrf",
    "x-requested-with",
)
"""Headers, one of which clients of the usual kinds can send with a GET; any value will do."""

_OFFERED = {
    GRAPHQL_JSON: GRAPHQL_JSON,
    JSON: JSON,
    "application/*": JSON,
    "*/*": JSON,
    EVENT_STREAM: EVENT_STREAM,
}
_SIMPLE = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})


class Request(msgspec.Struct, frozen=True):
    """The parameters of a request (§4.1.1).

    Attributes:
        query: a document's text; "" where only an id is given.
        variables: by name.
        operation_name: which operation of the document; None where it has only one.
        id: what stands for the document, or None: from `documentId`, `id`, the path, or `extensions.persistedQuery`.
        hashed: whether `id` is from the extension, and so the hash of `query` where both are given.
    """

    query: str
    variables: dict[str, Any]
    operation_name: str | None
    id: str | None = None
    hashed: bool = False


@lru_cache(256)
def negotiate(accept: bytes) -> str:
    """The media type to answer in: what the client likes best; `application/json` if it does not care (§6.1).

    Raises:
        NotAcceptable: it takes neither.
    """
    best, best_quality = "", 0.0
    for kind, parameters, quality in accepted(accept):
        offered = _OFFERED.get(kind)
        if offered and quality > best_quality and "charset" not in "".join(parameters).replace("charset=utf-8", ""):
            best, best_quality = offered, quality
    if not best:
        parts = "; multipart/mixed, for what is deferred, goes with one of them" if b"multipart/mixed" in accept else ""
        raise NotAcceptable(f"Accept {GRAPHQL_JSON} or {JSON}, or {EVENT_STREAM} for subscriptions{parts}")
    return best


@lru_cache(256)
def accepts_events(accept: bytes) -> bool:
    """Whether a stream of events will do, whatever the client likes best."""
    return any(kind == EVENT_STREAM and quality > 0 for kind, _, quality in accepted(accept))


def accepted(accept: bytes) -> Iterator[tuple[str, list[str], float]]:
    """What is in `Accept` (RFC 9110 §12.5.1): each media type with its parameters and quality, in small letters."""
    for each in accept.decode("latin-1").lower().split(","):
        kind, *parameters = ("".join(part.split()) for part in each.split(";"))
        yield kind, parameters, _quality(parameters)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0


def check_body(headers: Mapping[bytes, bytes]) -> None:
    """Look at what the head says of the body.

    Raises:
        UnsupportedMediaType: it is not JSON in UTF-8, as it is. That keeps out what pages of other sites can send
            without asking first: forms and plain text.
    """
    kind, *parameters = _content_type(headers.get(b"content-type", b""))
    if kind != JSON:
        raise UnsupportedMediaType(f"Send the request as {JSON}", headers={"Accept-Post": JSON})
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType("Send the request in UTF-8", headers={"Accept-Post": JSON})
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType(
            "Send the request without a Content-Encoding", headers={"Accept-Encoding": "identity"}
        )


def preflighted(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another site only after it asked: a GET with a header of its own."""
    kind = _content_type(headers.get(b"content-type", b""))[0]
    return bool(kind and kind not in _SIMPLE) or any(headers.get(name.encode()) for name in PREFLIGHT)


@lru_cache(256)
def _content_type(value: bytes) -> tuple[str, ...]:
    """The type and its parameters, in small letters."""
    return tuple(part.strip() for part in value.decode("latin-1").lower().split(";"))


def from_query(query_string: bytes, id: str | None = None) -> Request:
    """The request that a GET's query string is (§5.3), with the document's `id` from the path, if there is one.

    Raises:
        BadRequest: it is none.
    """
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise BadRequest("The query string is not well-formed") from None
    given: dict[str, Any] = dict(pairs)
    for name in ("variables", "extensions"):
        if given.get(name):
            given[name] = _json(given[name].encode(), f"`{name}`")
    return from_parameters(given, id)


def from_json(body: bytes, max_operations: int, id: str | None = None) -> Request | list[Request]:
    """The request that a POST's body is (§5.4), or the requests: an array of them, as Apollo's batch link sends.

    Args:
        body: JSON in UTF-8.
        max_operations: of an array.
        id: of the document, from the path.

    Raises:
        BadRequest: it is none, or one of them is none.
        LimitExceeded: there are more than `max_operations` in the array.
    """
    given = _json(body, "The body")
    if isinstance(given, dict):
        return from_parameters(given, id)
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise BadRequest("The body must be a JSON object with a `query`")
    if len(given) > max_operations:
        raise LimitExceeded(
            Code.MAX_BATCH_LIMIT, f"There are {len(given)} operations in one request; {max_operations} are allowed"
        )
    return [from_parameters(each, id) for each in given]


def _json(text: bytes, what: str) -> Any:
    """Strictly: no NaN, no lone surrogates, no numbers past a double's range, at most 1024 levels."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{what} is not well-formed JSON: {error.msg} at character {error.pos}") from None


def from_parameters(given: dict[str, Any], id: str | None = None) -> Request:
    """The request of these parameters, however they came.

    Raises:
        BadRequest: one of them is not what it has to be, or there is neither a document nor an id.
    """
    query, variables, name = given.get("query"), given.get("variables"), given.get("operationName")
    extensions = given.get("extensions")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequest("`variables` must be an object")
    if name is not None and not isinstance(name, str):
        raise BadRequest("`operationName` must be a string")
    if extensions is not None and not isinstance(extensions, dict):
        raise BadRequest("`extensions` must be an object")
    hash = _hash(extensions) if extensions else None
    named = id or given.get("documentId") or given.get("id")
    if not isinstance(named, str):
        named = None
    elif hash and named != hash:
        raise BadRequest("The request names two documents: `extensions.persistedQuery` and another id differ")
    if not (query is None and (named or hash)) and (not isinstance(query, str) or not query):
        raise BadRequest("`query` must be a string with a GraphQL document, or `documentId` the id of one")
    return Request(query or "", variables or {}, name or None, named or hash, hash is not None)


def _hash(extensions: dict[str, Any]) -> str | None:
    """The hash of an automatic persisted query, or the id that clients put in its place."""
    persisted = extensions.get("persistedQuery")
    if persisted is None:
        return None
    hash = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if not isinstance(hash, str) or not hash or persisted.get("version", 1) != 1:
        raise BadRequest("`extensions.persistedQuery` must be an object with `version` 1 and a `sha256Hash`")
    return hash
