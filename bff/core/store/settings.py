"""Where the store is, as the configuration has it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from bff.core.settings import Complaint, Duration, File, Secret, Settings, malformed, read_from_text

_FORM = (
    "memory://, redis://[user:password@]host[:port][/db], unix:///path, redis+sentinel://host,host/service or "
    "redis+cluster://host,host (rediss for TLS)"
)
_EXAMPLES = ["memory://", "redis://valkey.internal:6379/0", "rediss+sentinel://s1.internal,s2.internal/limits"]
_KINDS = {
    "memory": "memory",
    "unix": "unix",
    **{
        f"{scheme}{kind}": kind.strip("+") or "single"
        for scheme in ("redis", "rediss")
        for kind in ("", "+sentinel", "+cluster")
    },
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})))(?::([1-9][0-9]{0,4}))?")
_PORTS = {"sentinel": 26379, "cluster": 6379, "single": 6379}


class StoreUrl:
    """Where the store is; its password is shown nowhere.

    Attributes:
        kind: `memory`, `unix`, `single`, `sentinel` or `cluster`.
        tls: whether connections are encrypted.
        hosts: the server, the sentinels, or some nodes of the cluster.
        path: of the socket, where it is one of this machine.
        service: what sentinels call the server.
    """

    def __init__(self, text: str) -> None:
        try:
            self._read(urlsplit(text))
        except ValueError:
            # Not what was written: there may be a password in it.
            raise malformed(_FORM, show=False) from None

    def _read(self, parts: SplitResult) -> None:
        self.scheme, self.kind = parts.scheme, _KINDS.get(parts.scheme, "")
        self.tls = parts.scheme.startswith("rediss")
        user, at, where = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self.username, self.password = unquote(name), Secret(unquote(password)) if password else None
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        databases = options.pop("db", [])
        if not self.kind or options or parts.fragment or (self.kind == "memory" and (at or where or parts.path)):
            raise ValueError
        self.hosts: tuple[tuple[str, int], ...] = ()
        self.path, rest = "", [each for each in parts.path.split("/") if each]
        if self.kind == "unix":
            self.path, rest = unquote(parts.path), []
        elif self.kind != "memory":
            self.hosts = tuple(_host(each, _PORTS[self.kind]) for each in where.split(","))
        self.service = unquote(rest.pop(0)) if self.kind == "sentinel" and rest else ""
        self._check(where, [*rest, *databases])

    def _check(self, where: str, databases: list[str]) -> None:
        number = (*databases, "0")[0]
        said = [
            len(databases) > 1 or not number.isdecimal() or len(number) > 5,
            len(self.hosts) > 1 and self.kind == "single",
            self.kind == "sentinel" and not self.service,
            self.kind == "unix" and (where != "" or self.path in {"", "/"}),
            self.kind == "cluster" and number != "0",
        ]
        if any(said):
            raise ValueError
        self.database = int(number)

    @property
    def is_memory(self) -> bool:
        return self.kind == "memory"

    @property
    def address(self) -> str:
        """Without who asks and by which password."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        rest = f"{self.path}?db={self.database}" if self.path and self.database else self.path
        if self.hosts:
            rest = "".join([f"/{each}" for each in (self.service, self.database) if each])
        return f"{self.scheme}://{hosts}{rest}"

    def __str__(self) -> str:
        if not self.username and not self.password:
            return self.address
        scheme, _, rest = self.address.partition("://")
        return f"{scheme}://{Secret.SHOWN}@{rest}"

    def __repr__(self) -> str:
        return f"StoreUrl({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreUrl) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.address)

    @classmethod
    def parse(cls, value: object) -> StoreUrl:
        if isinstance(value, StoreUrl):
            return value
        if not isinstance(value, str) or not 0 < len(value) <= 2000:
            raise malformed(_FORM, show=False)
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        pattern = r"^(memory://$|unix:///|rediss?(\+sentinel|\+cluster)?://.)"
        return read_from_text(cls, cls.parse, pattern, _EXAMPLES)


def _host(text: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if not match or int(match[3] or port) > 65535:
        raise ValueError
    return match[1] or match[2], int(match[3] or port)


class StoreSettings(Settings):
    url: StoreUrl = StoreUrl("memory://")
    """`memory://`, or `redis://`, `rediss://`, `unix://`, and `+sentinel` and `+cluster` of the first two."""
    timeout: Annotated[Duration, Field(gt=0, le=1)] = 0.02
    """For each answer; past it the store counts as away, and nobody waits for it until it answers again."""
    connect_timeout: Annotated[Duration, Field(gt=0, le=60)] = 1.0
    """To connect and to log in; also, for how long a silent connection is kept before a new one is tried."""
    probe: Annotated[Duration, Field(gt=0, le=60)] = 0.25
    """How often it is asked, while it is away, whether it is back."""
    heartbeat: Annotated[Duration, Field(ge=0.1, le=60)] = 5.0
    """How often each process says that it is there; after six without, it counts as dead and what it held is free."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,50}$")] = "bff"
    """What all keys begin with: gateways that share accounts share it."""
    ca: File | None = None
    """Certificates of those who may vouch for the server, with `rediss`; else those of this machine."""
    cert: File | None = None
    """The gateway's own certificate, where the server asks for one."""
    key: File | None = None
    """The key of `cert`, where it is not in the same file."""

    def problems(self) -> Iterable[Complaint]:
        for name in ("ca", "cert"):
            if getattr(self, name) and not self.url.tls:
                yield (name,), "is for rediss:// alone"
        if self.key and not self.cert:
            yield ("key",), "is the key of `cert`, which is missing"

    @property
    def files(self) -> list[Path]:
        """Those for TLS."""
        return [each for each in (self.ca, self.cert, self.key) if each]


def store_settings(value: StoreUrl | StoreSettings) -> StoreSettings:
    return value if isinstance(value, StoreSettings) else StoreSettings(url=value)


OnStoreError = Literal["local", "allow", "deny"]
