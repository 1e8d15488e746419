"""TLS on the public port: which certificate is shown, whose clients are believed, and handshakes within bounds.

Each connection shakes hands by the context that is current when it comes, and only then becomes what the port speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, cast
from weakref import WeakKeyDictionary, ref

from cryptography import x509
from prometheus_client import Counter, Gauge
from pydantic import Field
from uvicorn import Config
from uvicorn.server import ServerState

from bff.core.certificates import (
    CERTIFICATE,
    CIPHERS,
    Certificate,
    CertificateError,
    Followed,
    Observed,
    complaint_of,
    content,
    dns_names,
    load_pair,
    revoked,
    trust,
)
from bff.core.settings import Complaint, Duration, File, Settings
from bff.core.telemetry import Telemetry

# For a client to say goodbye as well, before its connection is cut.
_GOODBYE: Final = 5.0
_NO_TLS: Final = b"This port speaks TLS: use https:// in place of http://\n"
_PLAIN: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(_NO_TLS), _NO_TLS)
)
# Loops close without the alert that OpenSSL has ready. These two are sent before anything is encrypted (RFC 8446 §6).
_ALERTS: Final = {
    "UNSUPPORTED_PROTOCOL": b"\x15\x03\x01\0\x02\x02\x46",
    "NO_SHARED_CIPHER": b"\x15\x03\x03\0\x02\x02\x28",
}


class PairSettings(Settings):
    cert: File
    """The certificate and those between it and its authority, in PEM form, its own first."""
    key: File
    """Its private key, in PEM form and without a passphrase."""


class TlsSettings(PairSettings):
    others: Annotated[tuple[PairSettings, ...], Field(max_length=1000)] = ()
    """Shown to clients that ask for a name in them (SNI); all others are shown the one above."""
    client_ca: File | None = None
    """The authorities whose clients may show certificates (mutual TLS)."""
    client_certificates: Literal["optional", "required"] = "optional"
    """Whether a client without a certificate is let in; one whose certificate is not good never is."""
    crl: File | None = None
    """Certificates of clients that were revoked: a list (RFC 5280) by each authority that signs them, in PEM form."""
    min_version: Annotated[str, Field(pattern=r"^1\.[23]$")] = "1.2"
    """The oldest TLS that is spoken: `1.2` or `1.3`."""
    handshake_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """For a client to finish its handshake."""
    max_handshakes: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Under way at once; one more connection is closed."""
    refresh: Annotated[Duration, Field(gt=0)] = 5.0
    """How often the files are looked at: a changed one counts from then on."""

    def problems(self) -> Iterable[Complaint]:
        if self.client_ca is None:
            if self.client_certificates == "required":
                yield ("client_certificates",), "needs a `client_ca`, whose certificates are required"
            if self.crl is not None:
                yield ("crl",), "needs a `client_ca`, whose certificates it revokes"
        yield from complaint_of(lambda: context_of(self, ()))


def context_of(settings: TlsSettings, protocols: Iterable[str]) -> tuple[ssl.SSLContext, datetime]:
    """What handshakes follow, and when the first of its certificates ends.

    Raises:
        CertificateError: one of the files cannot be used.
    """
    spoken = list(protocols)
    context, certificate = _presenting(settings, settings, spoken)
    ends = certificate.not_valid_after_utc
    by_name = dict.fromkeys(dns_names(certificate), context)
    for number, pair in enumerate(settings.others):
        try:
            other, certificate = _presenting(pair, settings, spoken)
            names = _names_of(certificate)
        except CertificateError as error:
            raise error.of("others", number) from None
        ends = min(ends, certificate.not_valid_after_utc)
        by_name |= {name: other for name in names if name not in by_name}
    if settings.others:
        context.sni_callback = partial(_choose, by_name)
    return context, ends


def _presenting(
    pair: PairSettings, settings: TlsSettings, protocols: list[str]
) -> tuple[ssl.SSLContext, x509.Certificate]:
    """All but the certificate is the same whichever is shown: who is believed counts by the one that was chosen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(protocols)
    certificate = load_pair(context, pair.cert, pair.key)
    if settings.client_ca is not None:
        trust(context, "client_ca", settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if settings.client_certificates == "required" else ssl.CERT_OPTIONAL
        if settings.crl is not None:
            revoked("crl", settings.crl)
            context.load_verify_locations(settings.crl)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context, certificate


def _names_of(certificate: x509.Certificate) -> list[str]:
    if names := dns_names(certificate):
        return names
    raise CertificateError("cert", "has no name that a client could ask for (a DNS subjectAltName)")


def _choose(
    by_name: Mapping[str, ssl.SSLContext], handshake: ssl.SSLObject, name: str | None, _first: ssl.SSLContext
) -> None:
    """RFC 6066 §3; a wildcard stands for one label (RFC 9525 §6.3)."""
    asked = (name or "").lower()
    chosen = by_name.get(asked) or by_name.get("*." + asked.partition(".")[2])
    if chosen is not None:
        handshake.context = chosen


class Tls:
    """The handshakes of the public port.

    Args:
        settings: the files, and the bounds.
        protocols: what is spoken after the handshake, best first, as ALPN names them (RFC 7301).
        observed: where it is said how the certificate is doing.
        telemetry: where handshakes are counted.

    Raises:
        CertificateError: the files cannot be used.
    """

    def __init__(
        self, settings: TlsSettings, protocols: Iterable[str], observed: Observed, telemetry: Telemetry
    ) -> None:
        self.settings = settings
        names = tuple(protocols)
        pairs = [each for pair in (settings, *settings.others) for each in (pair.cert, pair.key)]
        files = (*pairs, settings.client_ca, settings.crl)
        self.context = Followed("server", files, lambda: context_of(settings, names), observed, settings.refresh)
        self.under_way = 0
        self._authorities = self._content_of_authorities()
        self._let_in: WeakKeyDictionary[Certificate, ref[Any]] = WeakKeyDictionary()  # with its connection
        handshakes = Counter(
            "bff_tls_handshakes_total",
            "TLS handshakes of clients, by how they ended.",
            ["outcome"],
            registry=telemetry.registry,
        )
        self.count = {
            each: handshakes.labels(each).inc for each in ("done", "failed", "late", "left", "plain_http", "refused")
        }
        Gauge("bff_tls_handshakes_in_flight", "TLS handshakes under way.", registry=telemetry.registry).set_function(
            lambda: self.under_way
        )

    async def follow(self) -> None:
        """Follow the files, until cancelled."""
        await self.context.follow(self._judge_again)

    def connections(self, protocols: Callable[[str | None], Callable[..., Any]]) -> Callable[..., Handshake]:
        """What `uvicorn.Config(http=...)` takes; `protocols` gives the class for what ALPN has chosen."""

        def accept(
            config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None
        ) -> Handshake:
            return Handshake(self, protocols, config, server_state, app_state)

        return accept

    def came(self, connection: Any, certificate: Certificate) -> None:
        self._let_in[certificate] = ref(connection)

    def _judge_again(self) -> None:
        """Who would not be let in any more has to go, once what is under way is answered; with others, all come again.

        Both hold for what was said in a handshake, which nobody repeats on a connection that is open.
        """
        before, self._authorities = self._authorities, self._content_of_authorities()
        crl = self.settings.crl
        gone = revoked("crl", crl) if crl else frozenset()
        for certificate, connection in list(self._let_in.items()):
            if self._authorities != before or (certificate.issuer, certificate.serial) in gone:
                certificate.withdrawn = True  # what was a websocket or event stream goes by this
                if (there := connection()) is not None:
                    there.shutdown()

    def _content_of_authorities(self) -> object:
        return content([self.settings.client_ca] if self.settings.client_ca else [])


class Handshake(asyncio.Protocol):
    """A connection until its handshake is done; then it is what ALPN has chosen."""

    def __init__(
        self,
        tls: Tls,
        protocols: Callable[[str | None], Callable[..., Any]],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._tls, self._protocols = tls, protocols
        self._config, self._server, self._app_state = config, server_state, app_state
        self._draining = False

    def begin(self, client: socket.socket) -> None:
        """Shake hands with somebody who has connected, unless too many do already."""
        tls = self._tls
        if tls.under_way >= tls.settings.max_handshakes:
            tls.count["refused"]()
            client.close()
            return
        tls.under_way += 1
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn's own kinds; it asks for `shutdown`
        task = asyncio.get_running_loop().create_task(self._shake_hands(client))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _shake_hands(self, client: socket.socket) -> None:
        tls = self._tls
        # For last words: once it is clear that they are needed, the transport has closed its own.
        answering = os.dup(client.fileno())
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self,
                client,
                ssl=tls.context.current,
                ssl_handshake_timeout=tls.settings.handshake_timeout,
                ssl_shutdown_timeout=_GOODBYE,
            )
        except Exception as error:  # noqa: BLE001 - whatever a client sends, it concerns this connection alone
            outcome = _outcome(error)
            tls.count[outcome]()
            _say(answering, _PLAIN if outcome == "plain_http" else _ALERTS.get(getattr(error, "reason", "") or ""))
        else:
            tls.count["done"]()
        finally:
            os.close(answering)
            tls.under_way -= 1
            self._server.connections.discard(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = cast("asyncio.Transport", transport)
        tls: ssl.SSLObject = secured.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        certificate = Certificate.parse(shown) if shown else None
        state = self._app_state | ({CERTIFICATE: certificate} if certificate else {})
        protocol = self._protocols(tls.selected_alpn_protocol())(self._config, self._server, state)
        self._server.connections.discard(self)  # what takes its place is counted
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if certificate:
            self._tls.came(protocol, certificate)
        if self._draining:
            protocol.shutdown()

    def shutdown(self) -> None:
        self._draining = True


def _outcome(error: Exception) -> str:
    match error:
        case ssl.SSLError(reason="HTTP_REQUEST"):
            return "plain_http"
        case ssl.SSLError() | ssl.CertificateError():
            return "failed"
        case TimeoutError():
            return "late"
        case ConnectionAbortedError() if "handshake is taking longer" in str(error):
            return "late"
    return "left"


def _say(descriptor: int, words: bytes | None) -> None:
    if words is None:
        return
    with socket.socket(fileno=os.dup(descriptor)) as plain, contextlib.suppress(OSError):
        plain.send(words, socket.MSG_DONTWAIT)
        plain.shutdown(socket.SHUT_WR)
