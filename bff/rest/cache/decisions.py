"""What becomes of a request for which something is kept, in the words of `Cache-Status` (RFC 9211)."""

from __future__ import annotations

from bff.core.directives import Directives, seconds
from bff.rest.cache.stored import Stored


def usable(kept: Stored, said: Directives, now: float) -> str | None:
    """It may be given out as it is (RFC 9111 §4.2, §5.2.1); None if it may not."""
    if "no-cache" in said:
        return None
    ttl = kept.freshness.ttl_at(now)
    if said:
        oldest = seconds(said, "max-age")
        if oldest is not None and kept.freshness.age_at(now) > oldest:
            return None
        if ttl < (seconds(said, "min-fresh") or 0):
            return None if ttl > 0 or not _takes_stale(kept, said, ttl) else _hit(ttl)
    if ttl > 0 or _takes_stale(kept, said, ttl):
        return _hit(ttl)
    return None


def _takes_stale(kept: Stored, said: Directives, ttl: float) -> bool:
    """Whether the client wants it all the same."""
    if "max-stale" not in said or kept.freshness.strict:
        return False
    return said["max-stale"] == "" or -ttl <= (seconds(said, "max-stale") or 0)


def while_revalidating(kept: Stored, said: Directives, now: float) -> str | None:
    """It may be given out while it is asked for anew (RFC 5861 §3)."""
    ttl = kept.freshness.ttl_at(now)
    if not 0 <= -ttl < kept.freshness.while_revalidate or not said.keys().isdisjoint(
        {"no-cache", "max-age", "min-fresh"}
    ):
        return None
    return f"{_hit(ttl)}; detail=stale-while-revalidate"


def despite_error(kept: Stored, said: Directives, now: float) -> str | None:
    """It may be given out since the service fails (RFC 5861 §4)."""
    ttl = kept.freshness.ttl_at(now)
    allowed = max(kept.freshness.if_error, seconds(said, "stale-if-error") or 0)
    if kept.freshness.strict or "no-cache" in said or -ttl > allowed or not allowed:
        return None
    return f"{_hit(ttl)}; detail=stale-if-error"


def forwarded(kept: Stored | None, now: float, *, varies: bool) -> str:
    """Why the service has to be asked."""
    if kept is None:
        return "fwd=vary-miss" if varies else "fwd=uri-miss"
    return "fwd=request" if kept.freshness.ttl_at(now) > 0 else "fwd=stale"


def _hit(ttl: float) -> str:
    return f"hit; ttl={int(ttl)}"
