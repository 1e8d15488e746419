"""A gateway in memory that is reloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import orjson
from starlette.types import Message

from bff.config import Config, Loaded, traced
from bff.core.telemetry import JsonLog, Telemetry
from bff.generations import Generations
from tests.harness import BFF_YAML
from tests.shop import Record, Services

TOKEN = "admin: {token: operators}\n"
TEXT = TOKEN + BFF_YAML


class Reloading:
    """A gateway in memory, and the file that it is made of."""

    def __init__(
        self,
        folder: Path,
        text: str = TEXT,
        jwks: Iterable[Record] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.environ = environ
        self.file = folder / "bff.yaml"
        self.file.write_text(text)
        self._log = BytesIO()
        self.services = Services([*jwks])
        self.generations = Generations(
            self.read([]).config,
            self.read,
            Telemetry(log=JsonLog(self._log)),
            network=self.services,
        )
        self.client = self._at(self.generations)
        self.admin = self._at(self.generations.operators)
        self.admin.headers["authorization"] = "Bearer operators"

    def read(self, files: list[Path]) -> Loaded[Config]:
        return traced(self.file, profile="development", environ=self.environ, files=files)

    def _at(self, app: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1:9000",
        )

    def write(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    @property
    def state(self) -> Any:
        return self.generations.current.app.state

    @property
    def log(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self._log.getvalue().splitlines() if b"config_reload" in line]

    async def metric(self, name: str, of: str = "") -> float:
        lines = (await self.admin.get("/metrics")).text.splitlines()
        mine = [line for line in lines if line.startswith((f"{name} ", f"{name}{{")) and of in line]
        return sum(float(line.rpartition(" ")[2]) for line in mine)


@asynccontextmanager
async def living(generations: Generations):
    """As the server has it live."""
    to, fro = asyncio.Queue[Message](), asyncio.Queue[Message]()
    life = asyncio.create_task(generations({"type": "lifespan"}, to.get, fro.put))
    await to.put({"type": "lifespan.startup"})
    assert (await fro.get())["type"] == "lifespan.startup.complete"
    yield
    await to.put({"type": "lifespan.shutdown"})
    assert (await fro.get())["type"] == "lifespan.shutdown.complete"
    await life


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for is the gateway's own
            await asyncio.sleep(0.02)


async def retired(one: Reloading) -> None:
    await until(lambda: not one.generations._retiring)
