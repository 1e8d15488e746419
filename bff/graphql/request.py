"""What a GraphQL request says: its parameters, wherever they stand, and the media type that its answer may have.

After https://graphql.github.io/graphql-over-http/draft/ .
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from bff.core.errors import BadRequest, NotAcceptable, UnsupportedMediaType

GRAPHQL_JSON: Final = "application/graphql-response+json"
JSON: Final = "application/json"


class Request(NamedTuple):
    """The parameters of a request (§4.1.1)."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None


def negotiate(accept: str) -> str:
    """The media type to answer in: what the client likes best; `application/json` if it does not care (§6.1).

    Raises:
        NotAcceptable: it takes neither.
    """
    best, best_quality = "", 0.0
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        offered = {GRAPHQL_JSON: GRAPHQL_JSON, JSON: JSON, "application/*": JSON, "*/*": JSON}.get(kind)
        quality = _quality(parameters)
        if offered and quality > best_quality and "charset" not in "".join(parameters).replace("charset=utf-8", ""):
            best, best_quality = offered, quality
    if not best:
        raise NotAcceptable(f"Accept {GRAPHQL_JSON} or {JSON}")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0


def check_body(headers: Mapping[str, str]) -> None:
    """Look at what the head says of the body.

    Raises:
        UnsupportedMediaType: it is not JSON in UTF-8, as it is.
    """
    kind, _, parameters = headers.get("content-type", "").partition(";")
    if kind.strip().lower() != JSON:
        raise UnsupportedMediaType("Send the request as application/json")
    if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
        raise UnsupportedMediaType("Send the request in UTF-8")
    if headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("Send the request without a Content-Encoding")


def from_query(query_string: bytes) -> Request:
    """The request that a GET's query string is (§5.3).

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
    return _checked(given)


def from_json(body: bytes) -> Request:
    """The request that a POST's body is (§5.4).

    Raises:
        BadRequest: it is none.
    """
    given = _json(body, "The body")
    if not isinstance(given, dict):
        raise BadRequest("The body must be a JSON object with a `query`")
    return _checked(given)


def _json(text: bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadRequest(f"{what} is not well-formed JSON") from None


def _checked(given: dict[str, Any]) -> Request:
    query, variables, name = given.get("query"), given.get("variables"), given.get("operationName")
    if not isinstance(query, str) or not query:
        raise BadRequest("`query` must be a string with a GraphQL document")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequest("`variables` must be an object")
    if name is not None and not isinstance(name, str):
        raise BadRequest("`operationName` must be a string")
    if not isinstance(given.get("extensions"), dict | None):
        raise BadRequest("`extensions` must be an object")
    return Request(query, variables or {}, name or None)
