"""What answers REST routes: those that lead to services, and those that the gateway answers by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp

from bff.rest.cache import HttpCache
from bff.rest.direct import Direct, Redirect
from bff.rest.proxy import Passthrough
from bff.rest.settings import RestRouteSettings
from bff.rest.transform import Transformation
from bff.rest.validation import Validation
from bff.upstream import Service


def rest(
    routes: Iterable[RestRouteSettings],
    services: Mapping[str, Service],
    validations: Mapping[str, Validation],
    cache: HttpCache | None,
) -> ASGIApp:
    """The app for all of them."""
    changed: dict[str, Transformation] = {}
    direct: dict[str, ASGIApp] = {}
    for each in routes:
        if each.redirect is not None:
            direct[each.name] = Redirect(each.redirect, each.response)
        elif each.service is None:
            direct[each.name] = Direct(each.response)
        elif each.transforms:
            changed[each.name] = Transformation(each)
    return Passthrough(services, validations, changed, direct, cache)
