"""`/-/upstreams`: how services do, and why they are left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from bff.core.telemetry import Telemetry
from bff.upstream import Service
from bff.upstream.split import Weights

_A_DAY = 86_400


class WeightsForAWhile(BaseModel):
    """What an operator asks for; no weights end what was set before."""

    model_config = ConfigDict(extra="forbid", strict=True)

    weights: Annotated[dict[str, float], Field(max_length=10)]
    seconds: Annotated[float, Field(ge=0, le=_A_DAY)]


def upstreams(services: Mapping[str, Service], telemetry: Telemetry) -> APIRouter:
    """Of all services, or of one; and how calls are split between a service's arms, for a while."""
    pages = APIRouter()

    @pages.get("/-/upstreams")
    async def all_of_them() -> dict[str, object]:
        return {name: service.shown() for name, service in services.items()}

    @pages.get("/-/upstreams/{name}")
    async def one(name: str) -> Mapping[str, object]:
        return _named(name).shown()

    @pages.put("/-/upstreams/{name}/weights")
    async def split(name: str, asked: WeightsForAWhile) -> Mapping[str, object]:
        service = _named(name)
        weights = _weights(service)
        if weights is None:
            raise HTTPException(
                409, f"{name} has no rule of `split` with weights for everybody: there is nothing to set"
            )
        try:
            weights.set(asked.weights, asked.seconds)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        telemetry.audit("weights_set", service=name, weights=asked.weights, seconds=asked.seconds)
        return service.shown()

    def _named(name: str) -> Service:
        if name not in services:
            raise HTTPException(404, f"There is no service of that name; there are {', '.join(services)}")
        return services[name]

    return pages


def _weights(service: Service) -> Weights | None:
    return service.deployments.split.weights if service.deployments else None


def upstreams_of_all(said: Sequence[Any]) -> Any:
    """Of several processes, what they say together, of all services or of one."""
    if isinstance(said[0].get("targets"), list):
        return _together(said)
    return {name: _together([each[name] for each in said]) for name in said[0] if all(name in each for each in said)}


def _together(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counted = {name: sum(each[name] for each in said) for name in ("in_flight", "waiting", "retries_left")}
    same = zip(*(each["targets"] for each in said), strict=False)
    return {**said[0], **counted, "targets": [_worst(each) for each in same]}


def _worst(target: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each process judges for itself: the judgement shown is that of the one to which the target looks worst."""
    worst = min(target, key=lambda each: (each["up"], (each["breaker"] or {}).get("state", "closed") == "closed"))
    return {**worst, **{name: sum(each[name] for each in target) for name in ("in_flight", "errors")}}
