"""Who calls, by the headers that only the gateway may set. A service judges by itself what a caller sees."""

from typing import NamedTuple

from starlette.requests import Request

from demo.problems import Problem


class Caller(NamedTuple):
    subject: str
    consumer: str
    scopes: frozenset[str]

    @property
    def key(self) -> str:
        """One name per caller: what a user sent belongs to it, whichever client it used."""
        return f"subject {self.subject}" if self.subject else f"consumer {self.consumer}"

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def demand(self, scope: str) -> None:
        if not self.may(scope):
            raise Problem(403, f"this needs the scope {scope}")


def caller_of(request: Request) -> Caller:
    subject, consumer = single(request, "x-auth-subject"), single(request, "x-auth-consumer")
    if not subject and not consumer:
        raise Problem(401, "the request names neither a subject nor a consumer")
    return Caller(subject, consumer, frozenset(single(request, "x-auth-scopes").split()))


def single(request: Request, header: str) -> str:
    """The header's value; none when it came twice, for who knows which one the gateway set?"""
    values = request.headers.getlist(header)
    return values[0].strip() if len(values) == 1 else ""
