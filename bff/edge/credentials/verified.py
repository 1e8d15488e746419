"""What tokens were found to stand for, so that each is verified once."""

from __future__ import annotations

from math import inf

from bff.core.identity import Caller
from bff.core.recent import Recent


class Verified:
    """Callers by the credential as it was sent; past `size`, the one that was used longest ago is forgotten."""

    def __init__(self, size: int) -> None:
        self._callers: Recent[bytes, tuple[Caller, float]] = Recent(size)

    def take_over(self, before: Verified) -> None:
        """Know what it knows by now; what it finds from here on, by keys of its own, is not for this one."""
        for sent, found in before._callers.items():
            self._callers[sent] = found

    def find(self, sent: bytes, now: float) -> Caller | None:
        found = self._callers.get(sent)
        if found is None:
            return None
        if now >= found[1]:
            del self._callers[sent]
            return None
        self._callers.move_to_end(sent)
        return found[0]

    def remember(self, sent: bytes, caller: Caller, now: float, longest: float) -> None:
        until = min(inf if caller.expires is None else caller.expires, now + longest)
        if now < until:
            self._callers[sent] = caller, until

    def forget(self, issuer: str) -> None:
        for sent in [sent for sent, (caller, _) in self._callers.items() if caller.issuer == issuer]:
            del self._callers[sent]
