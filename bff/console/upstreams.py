"""`/-/upstreams`: how services do, and why they are left alone."""

from __future__ import annotations

from collections.abc import Mapping

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
