"""What `routes[]` says beside where a route leads: what becomes of messages on their way, and who answers by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import Field

from bff.core.settings import Complaint, Settings, Size
from bff.edge.routing import RouteSettings
from bff.edge.routing.template import fault, template
from bff.rest.bodies import Form
from bff.rest.direct import puts
from bff.rest.headers import HeaderSettings
from bff.rest.redirects import target_fault
from bff.rest.shape import BodySettings
from bff.rest.templates import Text
from bff.rest.websocket import WebsocketSettings

Tag = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]


class MessageSettings(Settings):
    """What is made of a message's headers and body. A body that is made anew is held for that, within a bound."""

    headers: HeaderSettings = HeaderSettings()
    decode: Form | None = None
    """What the body comes in: `xml` or `form` becomes JSON. By default JSON."""
    encode: Form | None = None
    """What it goes on in: JSON becomes `xml` or a `form`. By default JSON."""
    lists: tuple[str, ...] = ()
    """Names of elements of XML, or fields of a form, that are lists also where there is one of them."""
    root: Tag = "root"
    """The element around a body that has more than one member, or none, in XML."""

    def _shared(self, *, up: bool) -> Iterator[Complaint]:
        for where, what in self.headers.complaints(up=up):
            yield ("headers", *where), what
        if self.decode is not None and self.decode == self.encode:
            yield ("encode",), f"is {self.encode} like `decode`, so nothing would be done"
        if self.lists and self.decode not in {"xml", "form"}:
            yield ("lists",), "needs `decode: xml` or `decode: form`: JSON has lists of its own"
        if self.root != "root" and self.encode != "xml":
            yield ("root",), "needs `encode: xml`"


class RequestSettings(MessageSettings):
    """What becomes of a request on its way to the service."""

    body: BodySettings | None = None

    @property
    def remakes(self) -> bool:
        """Whether bodies are made anew."""
        return self.body is not None or self.decode is not None or self.encode is not None

    def problems(self) -> Iterable[Complaint]:
        return self._shared(up=True)


class ResponseSettings(MessageSettings):
    """What becomes of the service's answer; or, on a route without a service, the answer itself."""

    status: Annotated[int, Field(ge=200, le=599)] | None = None
    """Of the answer, on a route without a service."""
    body: Text | BodySettings | None = None
    """What is made of the service's JSON; on a route without a service, text."""
    max_body: Size = 2 * 1024 * 1024
    """Of a service's answer that is made anew: a larger one is 502."""

    @property
    def remakes(self) -> bool:
        return isinstance(self.body, BodySettings) or self.decode is not None or self.encode is not None

    def problems(self) -> Iterable[Complaint]:
        return self._shared(up=False)


class RedirectSettings(Settings):
    to: Text
    """A path, `/api/{rest}`, or an address whose host is written out. The query goes along, unless this has one."""
    status: Literal[301, 302, 303, 307, 308] = 308
    """308 and 307 keep the method and the body."""

    def problems(self) -> Iterable[Complaint]:
        if why := target_fault(self.to.source):
            yield ("to",), why


class RestRouteSettings(RouteSettings):
    """A route leads to a service, or it redirects, or it answers by itself."""

    request: RequestSettings = RequestSettings()
    """What becomes of a request: `request: {headers: {set: {x-source: mobile}, remove: [cookie]}}`."""
    response: ResponseSettings = ResponseSettings()
    """What becomes of the answer: `response: {body: {rename: {sku: article}, drop: [stock]}}`."""
    websocket: bool | WebsocketSettings = False
    """Whether websockets are passed on; or within which bounds: `websocket: {max_message: 64KB, idle_timeout: 5m}`."""
    redirect: RedirectSettings | None = None
    """Instead of a service: `redirect: {to: "/api/{rest}", status: 308}`."""

    @property
    def transforms(self) -> bool:
        """Whether requests or answers are changed on their way."""
        return self.request != RequestSettings() or self.response != ResponseSettings()

    @property
    def sockets(self) -> WebsocketSettings | None:
        """The bounds of its websockets, if it has any."""
        return WebsocketSettings() if self.websocket is True else self.websocket or None

    def problems(self) -> Iterable[Complaint]:
        yield from super().problems()
        yield from self._ends()
        if self.websocket and self.methods is not None and "GET" not in self.methods:
            yield ("websocket",), "needs GET among `methods`, as which a websocket begins"
        if self.validate != "off" and self.request.remakes:
            yield (
                ("validate",),
                "cannot be with a `request` body that is made anew: it would be held to what it becomes",
            )
        if not fault(self.path):
            captured = template(self.path).names
            for where, text in _texts(self, ()):
                for name in text.captures():
                    if name not in captured:
                        yield where, f"uses {{{name}}}, which `path` does not capture"

    def _ends(self) -> Iterable[Complaint]:
        """What leads to a service, what redirects and what answers have each their own keys."""
        answers = self.response.status is not None
        if sum((self.service is not None, self.redirect is not None, answers)) != 1:
            yield ("name",), "needs one of `service`, `redirect` and `response.status`: where it leads, or what it says"
            return
        if self.service is None:
            for key in ("rewrite", "request", "validate", "websocket"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield (key,), "needs a `service`: there is none that could be asked"
            if self.response.decode or self.response.encode or isinstance(self.response.body, BodySettings):
                yield ("response",), "needs a `service`, but for `status`, `headers` and `body` as text"
        elif isinstance(self.response.body, Text):
            yield (
                ("response", "body"),
                "can be text only without a `service`: its own is shaped by a mapping",
            )
        if isinstance(text := self.response.body, Text) and answers:
            status = HTTPStatus(self.response.status) if self.response.status in set(HTTPStatus) else None
            if text.source and status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED, HTTPStatus.RESET_CONTENT}:
                yield ("response", "body"), f"cannot be sent with {self.response.status}"
            if text.names and puts(self.response) is None:
                yield ("response", "body"), "can have places in JSON, HTML and plain text only"


def _texts(value: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Text]]:
    """All templates in these settings, and where they are."""
    if isinstance(value, Text):
        yield where, value
    elif isinstance(value, Settings):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name), (*where, name))
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(each, (*where, name))
