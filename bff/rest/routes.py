"""What answers REST routes: those that lead to services, and those that the gateway answers by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp

from bff.core.lasting import Judge
from bff.core.telemetry import Telemetry
from bff.rest.cache import HttpCache
from bff.rest.direct import Direct, Redirect
from bff.rest.proxy import Passthrough
from bff.rest.settings import RestRouteSettings
from bff.rest.transform import Transformation
from bff.rest.validation import Validation
from bff.rest.websocket import Websockets, WebsocketSettings
from bff.upstream import Service


def rest(
    routes: Iterable[RestRouteSettings],
    services: Mapping[str, Service],
    validations: Mapping[str, Validation],
    cache: HttpCache | None,
    judge: Judge,
    pages: Iterable[str],
    telemetry: Telemetry,
) -> Passthrough:
    """The app for all of them.

    Args:
        routes: as they are configured.
        services: by their names.
        validations: by the services that they are of.
        cache: for those that have one.
        judge: of the credentials of those who stay.
        pages: origins whose pages may use the gateway.
        telemetry: where websockets are counted.
    """
    changed: dict[str, Transformation] = {}
    direct: dict[str, ASGIApp] = {}
    sockets: dict[str, WebsocketSettings] = {}
    for each in routes:
        if each.sockets is not None:
            sockets[each.name] = each.sockets
        if each.redirect is not None:
            direct[each.name] = Redirect(each.redirect, each.response)
        elif each.service is None:
            direct[each.name] = Direct(each.response)
        elif each.transforms:
            changed[each.name] = Transformation(each)
    websockets = Websockets(sockets, services, changed, judge, pages, telemetry) if sockets else None
    return Passthrough(services, validations, changed, direct, cache, websockets)
