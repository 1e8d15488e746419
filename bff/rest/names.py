"""Which headers pass the gateway: up to a service, and down to the client."""

from __future__ import annotations

from collections.abc import Callable

from bff.core.deadline import REQUEST_TIMEOUT
from bff.upstream.client import Headers

# RFC 9110 §7.6.1, and two names that never were standard.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_CONNECTION = len(b"connection")
_OURS = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"via",
        # How long is left is told anew with each attempt.
        REQUEST_TIMEOUT,
        # Who calls from where is what the connection says, not the caller.
        b"forwarded",
        b"x-real-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        # A method or a path other than the one whose scopes were checked.
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
        # CGI programs take it for their own proxy setting.
        b"proxy",
    }
)
_OURS_BY_PREFIX = (
    b"x-auth-",
    b"x-user-",
    b"x-internal-",
    b"x-forwarded-",
    # What other gateways call a caller: a service that once stood behind one may still believe it.
    b"x-authenticated-",
    b"x-consumer-",
    b"x-credential-",
    # What others who end TLS say of a client's certificate (RFC 9440).
    b"client-cert",
    b"ssl-client-",
    b"x-client-cert",
    b"x-ssl-client-",
)
_MOST = 1024  # names that are remembered, which clients and services make up
# Two that tell about the inside, and the id that the gateway itself puts on every answer.
_KEPT_INSIDE = frozenset({b"server", b"x-powered-by", b"x-request-id"})


def is_identity(name: str) -> bool:
    """Whether services may take it for who calls, and the gateway itself does not say it."""
    folded = name.lower().encode().replace(b"_", b"-")
    return folded.startswith(_OURS_BY_PREFIX) and not folded.startswith((b"x-auth-", b"x-forwarded-"))


def _up(given: bytes) -> bytes | None:
    # Many servers read x_auth_subject and X-Auth-Subject as one name.
    name = given.lower().replace(b"_", b"-")
    stays = name in _HOP_BY_HOP or name in _OURS or name.startswith(_OURS_BY_PREFIX)
    return None if stays else given.lower()


def _down(given: bytes) -> bytes | None:
    name = given.lower()
    # Whose pages may read an answer is what `server.cors` says, and not a service behind it.
    stays = name in _HOP_BY_HOP or name in _KEPT_INSIDE or name.startswith(b"access-control-")
    return None if stays else name


class _Verdicts(dict[bytes, bytes | None]):
    """What was decided of a name; `lru_cache` would cost each header of each request four times as much."""

    def __init__(self, decide: Callable[[bytes], bytes | None]) -> None:
        self._decide = decide

    def __missing__(self, given: bytes) -> bytes | None:
        if len(self) >= _MOST:
            self.clear()
        verdict = self[given] = self._decide(given)
        return verdict


goes_up = _Verdicts(_up).__getitem__
"""The name that a header goes on under, in lower case as ASGI has them; None if it does not."""
comes_down = _Verdicts(_down).__getitem__


def end_to_end(headers: Headers, verdict: Callable[[bytes], bytes | None]) -> Headers:
    """Those that go on."""
    kept = []
    for given, value in headers:
        name = verdict(given)
        if name is not None:
            kept.append((name, value))
    if len(kept) == len(headers):
        return kept
    said = [value for given, value in headers if len(given) == _CONNECTION and given.lower() == b"connection"]
    hops = {each.strip().lower() for value in said for each in value.split(b",")}
    return [header for header in kept if header[0] not in hops] if hops else kept
