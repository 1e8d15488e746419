"""Any kind of operation as a stream of results."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Literal

from graphql import OperationType
from msgspec.structs import replace
from prometheus_client import Counter, Gauge

from bff.core.errors import ShuttingDown
from bff.core.identity import Caller
from bff.core.lasting import Seats
from bff.core.requests import Explaining, Requests
from bff.core.telemetry import Telemetry
from bff.edge.limits import FLOOR, Tab
from bff.graphql.charges import Charges
from bff.graphql.document import DocumentRefused
from bff.graphql.execution import Execution, Prepared, Result, refused
from bff.graphql.live import SubscriptionSettings
from bff.graphql.request import Request
from bff.upstream.client import Origin

Transport = Literal["websocket", "sse"]


class Operations:
    """Executes operations that come over connections which stay.

    Attributes:
        execution: prepares and executes.
        settings: their bounds.
        requests: who is told of their own.
        draining: whether the gateway is about to end.
    """

    def __init__(
        self,
        execution: Execution,
        settings: SubscriptionSettings,
        charges: Charges,
        telemetry: Telemetry,
        requests: Requests,
    ) -> None:
        self.execution = execution
        self.requests = requests
        self._charges = charges
        self.settings = settings
        self.seats = Seats(settings.max_per_caller, "subscriptions")
        self.draining = False
        active = Gauge(
            "graphql_subscriptions", "Subscriptions that are open.", ["transport"], registry=telemetry.registry
        )
        events = Counter(
            "graphql_subscription_events", "Results sent to subscriptions.", ["transport"], registry=telemetry.registry
        )
        transports: tuple[Transport, ...] = ("websocket", "sse")
        self._active = {each: active.labels(each) for each in transports}
        self._events = {each: events.labels(each) for each in transports}

    def prepare(self, request: Request, caller: Caller) -> Prepared | Result:
        """What may be executed, or the result that it comes to instead."""
        try:
            return self.execution.prepare(request, caller)
        except DocumentRefused as error:
            return refused(error)

    async def admit(self, tab: Tab | None, request: Request, caller: Caller) -> Prepared | Result:
        """The same, paid for: to find out that it may not be executed costs something too.

        Raises:
            RateLimited: the account has not as much.
        """
        if tab is not None:
            await tab.take(FLOOR)
        prepared = self.prepare(request, caller)
        if isinstance(prepared, Prepared):
            await self._charges.admit(tab, [prepared])
        return prepared

    async def results(
        self,
        prepared: Prepared,
        origin: Callable[[], Origin],
        account: str,
        transport: Transport,
        tab: Tab | None,
        explaining: Explaining | None = None,
    ) -> AsyncGenerator[Result, None]:
        """One result for a query or a mutation; those of a subscription until it ends.

        A result without `data` is the last one.

        Args:
            prepared: the operation.
            origin: makes what services are told, with a deadline from now on.
            account: the caller's.
            transport: what counts it.
            tab: where it has been paid for; events of a subscription are put on it too.
            explaining: puts into each result what it did, if its client is told.

        Raises:
            RateLimited: the caller has as many subscriptions as it may, or cannot pay for an event.
            ShuttingDown: there is no beginning anything any more.
        """
        if self.draining:
            raise ShuttingDown
        if explaining is not None:
            origin = _explained(origin, explaining)
        if prepared.operation.type is not OperationType.SUBSCRIPTION:
            result = await self.execution.answer(prepared, origin())
            self._charges.settle(tab, [prepared], [result])
            if explaining is not None:
                explaining.put(result)
            yield result
            return
        with self.seats.taken(account), self._active[transport].track_inprogress():
            async with aclosing(self.execution.subscribe(prepared, origin)) as results:
                async for result in results:
                    await self._charges.event(tab, prepared, result)
                    if explaining is not None:
                        explaining.put(result)
                    yield result
                    self._events[transport].inc()


def _explained(origin: Callable[[], Origin], explaining: Explaining) -> Callable[[], Origin]:
    def explained() -> Origin:
        return replace(origin(), waterfall=explaining.begin())

    return explained
