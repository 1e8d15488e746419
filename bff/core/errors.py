"""Everything that the gateway can refuse or fail with.

    GatewayError                       status  code
    ├── ClientError                    the caller can mend it
    │   ├── BadRequest                 400     BAD_REQUEST
    │   │   ├── BadUserInput           400     BAD_USER_INPUT
    │   │   ├── CsrfPrevented          400     CSRF_PREVENTION_FAILED
    │   │   └── LimitExceeded          400     MAX_..._LIMIT, COST_LIMIT_EXCEEDED: a rule over documents
    │   ├── Unauthenticated            401     UNAUTHENTICATED
    │   ├── Forbidden                  403     FORBIDDEN
    │   ├── NotFound                   404     NOT_FOUND
    │   ├── MethodNotAllowed           405     METHOD_NOT_ALLOWED
    │   ├── NotAcceptable              406     NOT_ACCEPTABLE
    │   ├── Conflict                   409     CONFLICT
    │   ├── PayloadTooLarge            413     PAYLOAD_TOO_LARGE
    │   ├── UriTooLong                 414     URI_TOO_LONG
    │   ├── UnsupportedMediaType       415     UNSUPPORTED_MEDIA_TYPE
    │   ├── Unprocessable              422     UNPROCESSABLE
    │   ├── RateLimited                429     RATE_LIMITED
    │   │   └── QuotaExceeded          429     RATE_LIMITED: by limits that it names
    │   └── HeadersTooLarge            431     HEADERS_TOO_LARGE
    ├── Overloaded                     503     OVERLOADED
    ├── ShuttingDown                   503     SHUTTING_DOWN
    ├── DeadlineExceeded               504     DEADLINE_EXCEEDED
    └── UpstreamError                  names the service that failed
        ├── UpstreamFailed             502     UPSTREAM_ERROR: it answered with an error
        ├── UpstreamBadResponse        502     UPSTREAM_BAD_RESPONSE: it answered with nonsense
        ├── UpstreamUnavailable        503     UPSTREAM_UNAVAILABLE: nothing was sent
        └── UpstreamTimeout            504     UPSTREAM_TIMEOUT

Statuses and codes are read from here by `edge/errors.py` (REST: RFC 9457 problems) and `graphql/` (`extensions.code`);
no other module makes up either. What a service refuses (its own 4xx) becomes the error of that status: `refusal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar


class Code(StrEnum):
    """The closed list of codes: a client may switch over it, a test checks that nothing else is sent."""

    BAD_REQUEST = "BAD_REQUEST"
    BAD_USER_INPUT = "BAD_USER_INPUT"
    GRAPHQL_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    GRAPHQL_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    OPERATION_RESOLUTION_FAILURE = "OPERATION_RESOLUTION_FAILURE"
    PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
    PERSISTED_QUERY_HASH_MISMATCH = "PERSISTED_QUERY_HASH_MISMATCH"
    PERSISTED_QUERY_ID_REQUIRED = "PERSISTED_QUERY_ID_REQUIRED"
    QUERY_NOT_IN_SAFELIST = "QUERY_NOT_IN_SAFELIST"
    INTROSPECTION_DISABLED = "INTROSPECTION_DISABLED"
    CSRF_PREVENTION_FAILED = "CSRF_PREVENTION_FAILED"
    MAX_DEPTH_LIMIT = "MAX_DEPTH_LIMIT"
    MAX_ALIASES_LIMIT = "MAX_ALIASES_LIMIT"
    MAX_ROOT_FIELDS_LIMIT = "MAX_ROOT_FIELDS_LIMIT"
    MAX_TOKENS_LIMIT = "MAX_TOKENS_LIMIT"
    MAX_DIRECTIVES_LIMIT = "MAX_DIRECTIVES_LIMIT"
    MAX_LIST_SIZE_LIMIT = "MAX_LIST_SIZE_LIMIT"
    MAX_BATCH_LIMIT = "MAX_BATCH_LIMIT"
    COST_LIMIT_EXCEEDED = "COST_LIMIT_EXCEEDED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    REQUEST_BLOCKED = "REQUEST_BLOCKED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    CONFLICT = "CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    URI_TOO_LONG = "URI_TOO_LONG"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    UNPROCESSABLE = "UNPROCESSABLE"
    RATE_LIMITED = "RATE_LIMITED"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    INTERNAL_SERVER_ERROR = "INTERNAL_SERVER_ERROR"
    UPSTREAM_ERROR = "UPSTREAM_ERROR"
    UPSTREAM_BAD_RESPONSE = "UPSTREAM_BAD_RESPONSE"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    OVERLOADED = "OVERLOADED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


class GatewayError(Exception):
    """What goes wrong here, with the status and code that its class stands for.

    Args:
        detail: a sentence for the caller that says what to do; never an address, a stack or a secret.
        retry_after: seconds after which it may work again; sent as `Retry-After` with 429 and 503.
        headers: more headers for the answer, such as `Allow` or `WWW-Authenticate`.
        members: more members of the problem (RFC 9457 §3.2) and of GraphQL's `extensions`.
    """

    status: ClassVar[int] = 500
    code: Code = Code.INTERNAL_SERVER_ERROR
    title: ClassVar[str] = "Internal server error"
    type: str = "about:blank"
    """Of the problem (RFC 9457 §3.1.1); by default its title says no more than the status."""

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.headers = headers or {}
        self.members = members or {}


class ClientError(GatewayError):
    status, code, title = 400, Code.BAD_REQUEST, "Bad request"


class BadRequest(ClientError):
    """The request is not well-formed HTTP, JSON or GraphQL over HTTP."""


class BadUserInput(BadRequest):
    """An argument has a value that cannot be served."""

    code, title = Code.BAD_USER_INPUT, "Bad user input"


class CsrfPrevented(BadRequest):
    """A browser could have been made to send this without asking its user's leave."""

    code, title = Code.CSRF_PREVENTION_FAILED, "Blocked as a possible cross-site request forgery"


class LimitExceeded(BadRequest):
    """A document is larger than the rules allow; the code says which rule."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unauthenticated(ClientError):
    status, code, title = 401, Code.UNAUTHENTICATED, "Authentication needed"


class Forbidden(ClientError):
    """The caller is known, and may not do this."""

    status, code, title = 403, Code.FORBIDDEN, "Not allowed"


class RequestBlocked(ClientError):
    """It says what attacks say."""

    status, code, title = 403, Code.REQUEST_BLOCKED, "Request blocked"


class NotFound(ClientError):
    """There is no such thing, or none that this caller may know of."""

    status, code, title = 404, Code.NOT_FOUND, "Not found"


class MethodNotAllowed(ClientError):
    status, code, title = 405, Code.METHOD_NOT_ALLOWED, "Method not allowed"


class NotAcceptable(ClientError):
    status, code, title = 406, Code.NOT_ACCEPTABLE, "Not acceptable"


class Conflict(ClientError):
    """It may be done, but not in the present state of what it is asked of."""

    status, code, title = 409, Code.CONFLICT, "Conflict"


class PayloadTooLarge(ClientError):
    status, code, title = 413, Code.PAYLOAD_TOO_LARGE, "Payload too large"


class UriTooLong(ClientError):
    status, code, title = 414, Code.URI_TOO_LONG, "URI too long"


class UnsupportedMediaType(ClientError):
    status, code, title = 415, Code.UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"


class Unprocessable(ClientError):
    """It is well-formed, and still cannot be done as it is."""

    status, code, title = 422, Code.UNPROCESSABLE, "Unprocessable"


class RateLimited(ClientError):
    status, code, title = 429, Code.RATE_LIMITED, "Too many requests"


class QuotaExceeded(RateLimited):
    """A limit with a name, that the members of the problem say (draft-ietf-httpapi-ratelimit-headers-10 §6.1)."""

    title = "Request cannot be satisfied as assigned quota has been exceeded"
    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class HeadersTooLarge(ClientError):
    status, code, title = 431, Code.HEADERS_TOO_LARGE, "Headers too large"


class Overloaded(GatewayError):
    status, code, title = 503, Code.OVERLOADED, "Overloaded"


class ShuttingDown(GatewayError):
    status, code, title = 503, Code.SHUTTING_DOWN, "Shutting down"


class DeadlineExceeded(GatewayError):
    """The whole request took too long; `members` name the service that was waited for, if there was one."""

    status, code, title = 504, Code.DEADLINE_EXCEEDED, "Deadline exceeded"


def called(service: str, phase: str | None, attempts: int | None, *, retryable: bool) -> dict[str, Any]:
    """What an error says of a call to a service that did not succeed."""
    members: dict[str, Any] = {"service": service, "retryable": retryable}
    if phase:
        members["phase"] = phase
    if attempts is not None:
        members["attempts"] = attempts
    return members


class UpstreamError(GatewayError):
    """A service failed.

    Args:
        service: its name in the config; that much of the inside a caller may know.
        detail: as for every `GatewayError`.
        phase: where the call ended: dns, connect, tls, pool, send, first_byte, body; or which policy of the gateway's
            did not let it go: bulkhead, breaker, deadline.
        attempts: how often it was sent.
        retryable: whether asking again may help.
    """

    status, code, title = 502, Code.UPSTREAM_ERROR, "A service failed"
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        service: str,
        detail: str = "",
        *,
        phase: str | None = None,
        attempts: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        members = called(service, phase, attempts, retryable=self.retryable)
        super().__init__(detail or f"{self.title}: {service}", retry_after=retry_after, members=members)
        self.service = service
        self.phase = phase


class UpstreamFailed(UpstreamError):
    """It answered with an error of its own (5xx)."""


class UpstreamBadResponse(UpstreamError):
    """It answered, but not with what its contract says."""

    code, title = Code.UPSTREAM_BAD_RESPONSE, "A service gave an answer that makes no sense"
    retryable = False


class UpstreamUnavailable(UpstreamError):
    """It could not be reached, and nothing was sent."""

    status, code, title = 503, Code.UPSTREAM_UNAVAILABLE, "A service is unavailable"


class UpstreamTimeout(UpstreamError):
    """It took longer than one attempt may."""

    status, code, title = 504, Code.UPSTREAM_TIMEOUT, "A service took too long"


def _tree(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    for each in error.__subclasses__():
        yield from _tree(each)


_STATUSES: dict[Code, int] = {each.code: each.status for each in _tree(GatewayError)}


def status_of(code: Code) -> int:
    """The status that goes with a code where an error is told by its code alone; 400 for rules over documents."""
    return _STATUSES.get(code, 400)


_REFUSALS: dict[int, type[ClientError]] = {
    400: BadUserInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    422: Unprocessable,
    429: RateLimited,
}


def refusal(service: str, status: int, detail: str, *, retry_after: float | None = None) -> ClientError:
    """The error for a service's own 4xx: the caller can mend it, so the service's words go on to the caller."""
    error = _REFUSALS.get(status, BadRequest)
    return error(detail, retry_after=retry_after, members={"service": service})
