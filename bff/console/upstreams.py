"""`/-/upstreams`: how services do, and why they are left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException

from bff.upstream import Service


def upstreams(services: Mapping[str, Service]) -> APIRouter:
    """Of all services, or of one."""
    pages = APIRouter()

    @pages.get("/-/upstreams")
    async def all_of_them() -> dict[str, object]:
        return {name: service.shown() for name, service in services.items()}

    @pages.get("/-/upstreams/{name}")
    async def one(name: str) -> Mapping[str, object]:
        if name not in services:
            raise HTTPException(404, f"There is no service of that name; there are {', '.join(services)}")
        return services[name].shown()

    return pages


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
