"""A small tree of settings with each kind of value, so that these tests don't change with the gateway's keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bff.core.loading import DefaultsFrom, did_you_mean
from bff.core.settings import Complaint, Duration, Network, Percent, Rate, Secret, Settings, Size, Url


class Server(Settings):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """The TCP port."""
    max_body: Size = 2 * 1024 * 1024
    timeout: Annotated[Duration, Field(ge=0.1)] = 30.0
    trusted: tuple[Network, ...] = ()


class Retry(Settings):
    attempts: Annotated[int, Field(ge=1)] = 2
    on: tuple[str, ...] = ("connect",)
    budget: Percent = 0.2


class Service(Settings):
    url: Url
    timeout: Duration = 2.0
    """For one attempt."""
    retry: Retry = Retry()
    identity: Literal["forward", "signed", "none"] = "forward"


class Route(Settings):
    path: str
    service: str
    public: bool = False
    cost: Annotated[int, Field(ge=1)] = 1
    methods: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError(f"must begin with /, and {path} does not")
        return path


class Tier(Settings):
    rate: tuple[Rate, ...] = ()
    quota: Rate | None = None


class Claims(Settings):
    subject: str = "sub"


class Tree(Settings):
    """The root."""

    server: Server = Server()
    token: Secret | None = None
    introspection: bool | str = True
    mode: Literal["off", "measure", "enforce"] = "enforce"
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    claims: Claims | str | None = None
    tiers: dict[str, Tier] = Field(default_factory=dict)
    services: Annotated[dict[str, Service], DefaultsFrom("service")] = Field(default_factory=dict)
    routes: Annotated[tuple[Route, ...], DefaultsFrom("route")] = ()

    def problems(self) -> Iterable[Complaint]:
        for at, route in enumerate(self.routes):
            if route.service not in self.services:
                yield ("routes", at, "service"), f"no such service{did_you_mean(route.service, self.services)}"
