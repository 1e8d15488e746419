"""What the schema demands of a caller: `@authenticated`, `@requiresScopes` and `@policy`, put together and judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from bff.core.errors import Forbidden, Unauthenticated
from bff.core.identity import Caller
from bff.core.loading import did_you_mean
from bff.core.policies import Policies
from bff.edge.credentials.refusals import challenge
from bff.graphql.directives import Authenticated, Policy, RequiresScopes

DEMANDS: Final = "bff.demands"
"""The key in the `extensions` of a type of what its objects or values demand."""

Alternatives = tuple[frozenset[str], ...]
"""Lists of which one is needed whole."""

_NAMED = 5  # fields in a message
_SENTENCE = "send an API key or a bearer token"


@dataclass(frozen=True)
class Demands:
    """Everything of it is to be met.

    Attributes:
        authenticated: somebody has to be known to ask.
        scopes: of each of these, all scopes of one alternative.
        policies: the same for policies.
    """

    authenticated: bool = False
    scopes: frozenset[Alternatives] = frozenset()
    policies: frozenset[Alternatives] = frozenset()

    def __bool__(self) -> bool:
        return self.authenticated or bool(self.scopes or self.policies)

    def __and__(self, other: Demands) -> Demands:
        return Demands(
            self.authenticated or other.authenticated, self.scopes | other.scopes, self.policies | other.policies
        )

    @cached_property
    def plain(self) -> frozenset[str] | None:
        """The scopes that it comes to, where it is no more than scopes without a choice."""
        if self.authenticated or self.policies or any(len(each) > 1 for each in self.scopes):
            return None
        return frozenset().union(*(each[0] for each in self.scopes))

    def unmet(self, caller: Caller, policies: Policies) -> Demands:
        """The part of it that this caller does not meet."""
        if self.plain is not None and self.plain <= caller.scopes:
            return NOTHING
        scopes = [each for each in self.scopes if not any(part <= caller.scopes for part in each)]
        held = [each for each in self.policies if not _hold(each, caller, policies)]
        return Demands(self.authenticated and caller.is_anonymous, frozenset(scopes), frozenset(held))

    def check(self, caller: Caller, policies: Policies, what: str = "This field") -> None:
        """Let pass who meets it.

        Raises:
            Unauthenticated: nobody is known to ask.
            Forbidden: the caller does not meet it; the message names what is missing.
        """
        unmet = self.unmet(caller, policies)
        if unmet is not NOTHING and unmet:
            raise unmet.refusal(caller, f"{what} needs {unmet.said(caller)}")

    def refusal(self, caller: Caller, detail: str) -> Unauthenticated | Forbidden:
        """The error for a caller who does not meet this."""
        wanted = frozenset().union(*(each[0] for each in self.scopes))
        if caller.is_anonymous:
            return Unauthenticated(f"{detail}: {_SENTENCE}", headers=challenge(None, wanted))
        return Forbidden(detail, headers=challenge("insufficient_scope", wanted) if wanted else {})

    def said(self, caller: Caller) -> str:
        """What is missing: `the scope orders:write`."""
        if caller.is_anonymous:
            return "a credential"
        parts = [*_said("scope", self.scopes, caller.scopes), *_said("policy", self.policies, ())]
        return " and ".join(parts) or "a credential"

    def as_json(self) -> list[dict[str, Any]]:
        """The arguments of the directives that say the same; what is needed in any case comes together."""
        shown: list[dict[str, Any]] = [{"authenticated": True}] if self.authenticated else []
        for name in ("scopes", "policies"):
            shown += ({name: [sorted(part) for part in each]} for each in _merged(getattr(self, name)))
        return shown

    def __str__(self) -> str:
        """`orders:read users:read, a or b, policy gold`."""
        parts = ["a credential"] if self.authenticated else []
        parts += map(_either, _merged(self.scopes))
        parts += (f"policy {_either(each)}" for each in _merged(self.policies))
        return ", ".join(parts)


NOTHING: Final = Demands()


class BadDemand(ValueError):
    """A directive makes no sense; the message says why."""


def demanded_by(directives: Iterable[object], policies: Collection[str]) -> Demands:
    """What these directives say, among others.

    Args:
        directives: of a type or field.
        policies: the names that there are.

    Raises:
        BadDemand: lists are empty or no lists, or name a policy that there is not.
    """
    found = NOTHING
    for each in directives:
        if isinstance(each, Authenticated):
            found &= Demands(authenticated=True)
        elif isinstance(each, RequiresScopes):
            found &= Demands(scopes=frozenset({_alternatives("@requiresScopes(scopes:", each.scopes)}))
        elif isinstance(each, Policy):
            named = _alternatives("@policy(policies:", each.policies)
            for name in sorted(frozenset().union(*named) - set(policies)):
                raise BadDemand(f"there is no policy `{name}` in `policies`{did_you_mean(name, policies)}")
            found &= Demands(policies=frozenset({named}))
    return found


def refuse_operation(needs: Mapping[str, Demands], caller: Caller, policies: Policies) -> None:
    """Let pass who meets what all these fields demand.

    Args:
        needs: by the field's coordinate.
        caller: who asks.
        policies: of the configuration.

    Raises:
        Unauthenticated, Forbidden: the caller does not; the message names what is missing, and for which fields.
    """
    unmet = {each: lacking for each, demands in needs.items() if (lacking := demands.unmet(caller, policies))}
    if not unmet:
        return
    fields_by_need: dict[str, list[str]] = {}
    for coordinate, lacking in unmet.items():
        fields_by_need.setdefault(lacking.said(caller), []).append(coordinate)
    parts = [f"{_several(coordinates)} {need}" for need, coordinates in fields_by_need.items()]
    whole = NOTHING
    for lacking in unmet.values():
        whole &= lacking
    raise whole.refusal(caller, f"The operation is refused as a whole: {_listed(parts, '; ')}")


def _hold(alternatives: Alternatives, caller: Caller, policies: Policies) -> bool:
    return any(all(policies.holds(name, caller) for name in part) for part in alternatives)


def _alternatives(what: str, lists: object) -> Alternatives:
    whole = isinstance(lists, list | tuple) and all(isinstance(each, list | tuple) and each for each in lists)
    if not whole or not lists or not all(_is_name(name) for each in lists for name in each):  # type: ignore[attr-defined]
        raise BadDemand(f'{what} {lists!r:.100}) has to be lists in a list, none of them empty: [["a", "b"], ["c"]]')
    return tuple(frozenset(each) for each in lists)  # type: ignore[attr-defined]


def _is_name(name: object) -> bool:
    # What a scope may be (RFC 6749 §3.3), less what would break a header of ours.
    return isinstance(name, str) and bool(name) and all("!" <= each <= "~" and each not in '"\\' for each in name)


def _said(kind: str, demanded: Iterable[Alternatives], had: Collection[str]) -> Iterator[str]:
    for each in _merged(demanded):
        # Where there is one way alone, what is there of it already is not worth a word.
        parts = each if len(each) > 1 else (each[0].difference(had),)
        yield f"the {kind} {_either(parts)}"


def _merged(demanded: Iterable[Alternatives]) -> list[Alternatives]:
    """In order; those of one alternative are one."""
    certain = frozenset().union(*(each[0] for each in demanded if len(each) == 1))
    others = sorted((each for each in demanded if len(each) > 1), key=lambda each: list(map(sorted, each)))
    return [*([(certain,)] if certain else []), *others]


def _either(alternatives: Alternatives) -> str:
    return " or ".join(" ".join(sorted(each)) for each in alternatives)


def _several(coordinates: list[str]) -> str:
    return f"{_listed(coordinates, ', ')} {'needs' if len(coordinates) == 1 else 'need'}"


def _listed(parts: list[str], separator: str) -> str:
    more = [f"{len(parts) - _NAMED} more"] if len(parts) > _NAMED else []
    return separator.join([*parts[:_NAMED], *more])
