"""The edge: ASGI layers that every request crosses, GraphQL and REST alike."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from limits.strategies import RateLimiter
from starlette.middleware import Middleware

from bff.core.entitlements import Tables
from bff.core.policies import Policies
from bff.core.requests import Requests
from bff.core.route import Route
from bff.core.telemetry import Telemetry
from bff.core.under_way import UnderWay
from bff.edge.auth import Auth
from bff.edge.compression import Coding, Compression
from bff.edge.cors import Cors, CorsSettings
from bff.edge.credentials import AuthSettings, Credentials
from bff.edge.errors import Errors
from bff.edge.firewall import Firewall, FirewallSettings, is_on
from bff.edge.firewall.modsecurity import ModSecurity
from bff.edge.forwarded import Forwarded, Network, Spoken
from bff.edge.guard import Guard
from bff.edge.hardening import Hardening
from bff.edge.limits import Accounts, AddressLimit, Decisions, Limits, LimitSettings
from bff.edge.observe import ObservabilitySettings, Observe
from bff.edge.overload import Full, Load, Overload
from bff.edge.routing import BodyRouting, Described, Matcher, Routing, reads_bodies


def layers(
    *,
    trusted_proxies: Sequence[Network],
    proxy_headers: Spoken,
    compression: Sequence[Coding],
    cors: CorsSettings | None,
    max_headers: int,
    max_body: int,
    routes: Sequence[Route],
    described: Described,
    auth: AuthSettings,
    credentials: Credentials,
    policies: Policies,
    tables: Tables,
    limits: LimitSettings,
    load: Load,
    accounts: Accounts,
    addresses: RateLimiter,
    firewall: FirewallSettings,
    observability: ObservabilitySettings,
    telemetry: Telemetry,
    requests: Requests,
    under_way: UnderWay,
    random: Random,
) -> list[Middleware]:
    """Outermost first. The order is policy; each line says why it is where it is.

    A layer that has nothing to do on the way back is no coroutine: it returns the next one's, and is gone. It reads the
    next one before it calls it: in `self.app(...)` Python 3.11 looks for a method, each time for 500 instructions.
    """
    looks = is_on(firewall, routes)
    engine = ModSecurity(firewall.modsecurity) if firewall.modsecurity and looks else None
    decisions = Decisions(telemetry)
    return [
        # Before anything looks at who the client is.
        *([Middleware(Forwarded, trusted=trusted_proxies, spoken=proxy_headers)] if trusted_proxies else []),
        # Sees the final status: requests that are refused or fail below are traffic too.
        Middleware(
            Observe,
            settings=observability,
            telemetry=telemetry,
            random=random,
            requests=requests,
            under_way=under_way,
        ),
        # Of every answer, also of those that the next one writes.
        Middleware(Hardening),
        # Of every answer too, and preflights are answered here: they have no credential.
        *([Middleware(Cors, settings=cors)] if cors else []),
        # Of every answer as well, refusals too, once it is known what is in it.
        *([Middleware(Compression, codings=compression)] if compression else []),
        # Everything below may raise; only this one writes what went wrong.
        Middleware(Errors, telemetry=telemetry, complete=auth.challenge.complete),
        # Before anything costs: refusals that need no more than the request's head.
        Middleware(Guard, max_headers=max_headers, max_body=max_body),
        # From here on every layer reads its own policy from scope["bff.route"].
        Middleware(Routing, matcher=Matcher(routes), described=described),
        # Before anything that costs: where there is no place for anybody, it does not matter who asks.
        Middleware(Full, load=load),
        # Before auth: it guards the checking of keys and tokens itself.
        Middleware(AddressLimit, settings=limits, limiter=addresses, decisions=decisions),
        # Before limits: what may be spent belongs to a caller, not to an address.
        Middleware(Auth, credentials=credentials, policies=policies, tables=tables),
        # Before the work, and after the cheap refusals; before limits, so that what is refused costs nobody a unit.
        Middleware(Overload, load=load),
        # Before the request costs upstream calls.
        Middleware(Limits, accounts=accounts, decisions=decisions),
        # After limits, so that the work of looking is on somebody's account.
        *([Middleware(Firewall, settings=firewall, telemetry=telemetry, modsecurity=engine)] if looks else []),
        # Innermost: bodies are read for callers who may pass and have paid, to choose among routes that agree on that.
        *([Middleware(BodyRouting)] if reads_bodies(routes) else []),
    ]
