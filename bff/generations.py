"""Reload: another generation of the gateway is made beside the running one, and takes its place at once.

Each request ends on the generation that admitted it. What both are made of alike stays: connections, accounts, the
state of breakers and health, the schema (`bff.core.parts`). What cannot be used changes nothing, and is said.
"""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any, Final

from fastapi.dependencies import models
from prometheus_client import Counter, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.app import build
from bff.config import Config, ConfigError, Loaded, needs_restart
from bff.console.reload import Outcome, Reloaded, reload
from bff.core.loading.changes import changes
from bff.core.registry import forget
from bff.core.telemetry import Telemetry, standard
from bff.core.under_way import UnderWay
from bff.core.watched import contents
from bff.graphql.compose import SchemaError
from bff.graphql.trusted import DocumentsError

Read = Callable[[list[Path]], Loaded[Config]]
"""Reads the configuration, and names every file that it looks at, also where it fails."""

_SETTLED: Final = 0.1
"""Seconds for which a file has to be the same before it is taken: editors write in several steps."""
_LOOKS: Final = 50
_LEAVE: Final = 1.0
"""Seconds after which websockets and event streams are sent to the new generation: what was just admitted has begun."""


class Generation:
    """One of the gateways that there were since the start, until its last request has ended."""

    def __init__(self, app: Any, config: Config) -> None:
        self.app, self.config = app, config
        self.files = contents(config.files())
        self.answer: ASGIApp = app.answer
        self._under_way: UnderWay = app.state.under_way
        self._operators: set[asyncio.Task[Any] | None] = set()
        self._retired = False
        self._life: AbstractAsyncContextManager[Any] = app.router.lifespan_context(app)

    @property
    def under_way(self) -> int:
        """Requests that it has admitted and that have not ended."""
        return self._under_way.count

    async def begin(self) -> None:
        await self._life.__aenter__()

    async def end(self) -> None:
        await self._life.__aexit__(None, None, None)

    async def tell(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer operators, until this is not what they ask about any more: who looks on comes again."""
        task = asyncio.current_task()
        self._operators.add(task)
        try:
            await self.app.state.admin(scope, receive, send)
        except asyncio.CancelledError:
            if not self._retired:
                raise
            with suppress(RuntimeError):  # the server's, for an answer that has not begun
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._operators.discard(task)

    async def retire(self) -> None:
        """Let all that it admitted end, and what lasts move on; nobody waits for what goes on past every deadline."""
        self._retired = True
        moving = asyncio.create_task(self._move_on())
        try:
            if self.under_way:
                longest = max(each.timeout for each in self.config.all_routes())
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LEAVE + longest + self.config.server.drain.timeout):
                        await self._under_way.none_left()
            if self._operators:
                await asyncio.sleep(_LEAVE)
        finally:
            moving.cancel()
            for each in self._operators:
                if each is not None:
                    each.cancel()
            await self.end()

    async def _move_on(self) -> None:
        await asyncio.sleep(_LEAVE)
        await self.app.state.drain()


class Generations:
    """The gateway over all reloads: an ASGI app. `operators` is the one for the admin port.

    Args:
        config: what it starts with.
        read: reads it again.
        telemetry: where logs, metrics and spans go.
        options: of `bff.app.build`.

    Raises:
        SchemaError, ConfigError: as of `build`.
    """

    def __init__(
        self, config: Config, read: Read | None = None, telemetry: Telemetry | None = None, **options: Any
    ) -> None:
        self._read = read
        self._options = {**options, "pages": [reload(self)]}
        self._telemetry = telemetry or standard(config.observability.logs.level)
        self.log = self._telemetry.log
        self._one_at_a_time = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], Generation] = {}
        self._draining = False
        registry = self._telemetry.registry
        reloads = Counter("bff_config_reloads", "Looks at a changed configuration.", ["outcome"], registry=registry)
        self._count = {each: reloads.labels(each) for each in ("taken", "unchanged", "refused")}
        self._good = Gauge("bff_config_good", "Whether the configuration's files can be used.", registry=registry)
        self._good.set(True)
        alive = Gauge("bff_config_generations", "The running one, and those with requests left.", registry=registry)
        alive.set_function(lambda: 1 + len(self._retiring))
        self._files: list[Path] = []
        self._seen: Mapping[Path, str] = {}
        loaded, refused = Loaded(config, {}), None
        try:
            loaded = self._reread() if read else loaded
        except ConfigError as error:
            # It was good just now, or this process takes the place of one that began while it was.
            refused = _refused(error)
        self.current = Generation(self._built(loaded, None), loaded.config)
        if refused:
            self._tell(refused, "start")

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._live(receive, send)
        answer = self.current.answer
        return answer(scope, receive, send)

    async def operators(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The admin port's app."""
        await self.current.tell(scope, receive, send)

    async def drain(self) -> None:
        """End what lasts, for the gateway ends."""
        await asyncio.gather(*(each.app.state.drain() for each in (self.current, *self._retiring.values())))

    def leave(self) -> None:
        """Be not ready any more, and stay as it is from here on."""
        self._draining = True
        self.current.app.state.readiness.draining = True

    async def look(self) -> Reloaded:
        """What a reload would come to now."""
        try:
            config = (await asyncio.to_thread(self._read, [])).config if self._read else self.current.config
        except ConfigError as error:
            return _refused(error)
        return _taken(self.current.config, config, "unchanged")

    async def reload(self, why: str) -> Reloaded:
        """Read the configuration again, and let what is made of it take over, if it is another one and is good.

        Args:
            why: for the log: `file`, `signal` or `operator`.
        """
        now = asyncio.get_running_loop().time
        async with self._one_at_a_time:
            began = now()
            outcome = await self._reload()
            took = now() - began
        self._tell(outcome, why, duration_ms=round(took * 1000))
        return outcome

    def _tell(self, outcome: Reloaded, why: str, **more: int) -> None:
        self._count[outcome.outcome].inc()
        self._good.set(outcome.outcome != "refused")
        self.current.app.state.readiness.refused = outcome.problems
        if outcome.outcome == "refused":
            self.log.error("config_reload", why=why, **outcome.said(), **more)
        else:
            self.log.warning("config_reload", why=why, **outcome.said(), **more)

    async def _reload(self) -> Reloaded:
        before = self.current
        if self._draining:
            return Reloaded("refused", problems=["the gateway is shutting down"])
        try:
            loaded = await asyncio.to_thread(self._reread)
            config = loaded.config
            if config == before.config and await asyncio.to_thread(contents, config.files()) == before.files:
                return Reloaded("unchanged")
            after = Generation(await asyncio.to_thread(self._built, loaded, before.app), config)
            await after.begin()
        except (ConfigError, SchemaError, DocumentsError) as error:
            return _refused(error)
        except Exception as error:
            self.log.error("unexpected", exc_info=error)  # noqa: TRY400 - the log has no `exception`
            return Reloaded("refused", problems=traceback.format_exception_only(error))
        self.current = after
        after.app.state.readiness.draining = self._draining
        after.app.state.readiness.told_to_drain = before.app.state.readiness.told_to_drain
        retiring = asyncio.create_task(before.retire())
        self._retiring[retiring] = before
        retiring.add_done_callback(self._over)
        return _taken(before.config, config, "taken")

    def _over(self, retired: asyncio.Task[None]) -> None:
        del self._retiring[retired]
        forget(self._telemetry.registry, self._is_gone)
        forget_functions()
        # It is full of cycles, and the collector would come late; what is frozen since the start is not looked through.
        gc.collect()

    def _is_gone(self, labels: Mapping[str, str]) -> bool:
        """Whether something is about a service, an address or a certificate that no generation has any more."""
        living = [self.current, *self._retiring.values()]
        if name := labels.get("certificate"):
            settings = [each.config.services.get(name) for each in living]
            return name != "server" and not any(each and each.tls for each in settings)
        if name := labels.get("service"):
            services = [found for each in living if (found := each.app.state.services.get(name))]
            addresses = {str(address) for service in services for address in service.addresses}
            return not services or labels.get("target", "") not in {"", *addresses}
        return False

    def _built(self, loaded: Loaded[Config], before: Any) -> Any:
        return build(loaded.config, telemetry=self._telemetry, origin=loaded.origin, before=before, **self._options)

    def _reread(self) -> Loaded[Config]:
        """The configuration as it is now. What its files hold is looked at first: what changes later is seen again."""
        if self._read is None:
            return Loaded(self.current.config, {})
        before, files = contents(self._files), list[Path]()
        try:
            loaded = self._read(files)
            files += loaded.config.files()
        finally:
            now = contents(files)
            self._files, self._seen = files, {**now, **{path: before[path] for path in files if path in before}}
        return loaded

    async def _follow(self, every: float) -> None:
        """Look at the files until cancelled."""
        while True:
            await asyncio.sleep(every)
            seen = await asyncio.to_thread(contents, self._files)
            if seen == self._seen:
                continue
            for _ in range(_LOOKS):
                await asyncio.sleep(_SETTLED)
                before, seen = seen, await asyncio.to_thread(contents, self._files)
                if seen == before:
                    break
            await self.reload("file")

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan of the server: from the first generation's start to the last one's end."""
        await receive()
        try:
            await self.current.begin()
        except BaseException:
            await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
            raise
        every = self.current.config.server.reload
        following = asyncio.create_task(self._follow(every)) if self._read and every != "off" else None
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        except asyncio.CancelledError:
            return  # the server ends at once, and so does the process
        finally:
            if following:
                following.cancel()
        async with self._one_at_a_time:  # what is being made comes first, and ends as well
            for each in list(self._retiring):
                each.cancel()
            await asyncio.gather(*self._retiring, return_exceptions=True)
            await self.current.end()
        self._telemetry.end()
        await send({"type": "lifespan.shutdown.complete"})


def forget_functions() -> None:
    """Let go of gateways that are gone: FastAPI keeps what it found out of functions, and operators' pages hold all."""
    for each in vars(models).values():
        if isinstance(each, _lru_cache_wrapper):
            each.cache_clear()


def _taken(before: Config, after: Config, outcome: Outcome) -> Reloaded:
    found = changes(before, after)
    return Reloaded(outcome, changes=found, restart=[each.key for each in found if needs_restart(each.key)])


def _refused(error: Exception) -> Reloaded:
    return Reloaded("refused", problems=str(error).splitlines())
