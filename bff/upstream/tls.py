"""TLS to a service: whom the gateway believes, and what it shows of itself. There is no way not to verify."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from typing import Annotated, Final

from pydantic import Field

from bff.core.certificates import CIPHERS, Followed, Observed, complaint_of, load_pair, trust
from bff.core.settings import Complaint, Duration, File, Settings

_SAID_EVERY: Final = 60.0


class ServiceTlsSettings(Settings):
    ca: File | None = None
    """The authorities that are believed, in PEM form, in place of the system's."""
    cert: File | None = None
    """What the gateway shows of itself (mutual TLS): its certificate and those up to its authority, in PEM form."""
    key: File | None = None
    """The private key of `cert`, in PEM form and without a passphrase."""
    server_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$")
    """The name that the service's certificate has to have; by default the one in its address."""
    min_version: Annotated[str, Field(pattern=r"^1\.[23]$")] = "1.2"
    """The oldest TLS that is spoken: `1.2` or `1.3`."""
    refresh: Annotated[Duration, Field(gt=0)] = 5.0
    """How often the files are looked at: connections that are made later follow a changed one."""

    def problems(self) -> Iterable[Complaint]:
        if self.cert is None and self.key is not None:
            yield ("key",), "needs the `cert` that it is the key of"
        if self.cert is not None and self.key is None:
            yield ("cert",), "needs its `key` as well"
        else:
            yield from complaint_of(lambda: context_of(self))


def context_of(settings: ServiceTlsSettings) -> tuple[ssl.SSLContext, datetime | None]:
    """What handshakes follow, and when the gateway's own certificate ends.

    Raises:
        CertificateError: one of the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which verifies certificates and their names
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    if settings.ca is not None:
        trust(context, "ca", settings.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if settings.cert is None or settings.key is None:
        return context, None
    return context, load_pair(context, settings.cert, settings.key).not_valid_after_utc


@cache
def _of_the_system() -> ssl.SSLContext:
    return context_of(ServiceTlsSettings())[0]


class Tls:
    """How connections to one service are made safe.

    Args:
        context: the one that is current.
        server_name: what its certificate has to be for, if that is not the name in its address.
        say: told why a handshake failed, at most once a minute.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext] = _of_the_system,
        server_name: str | None = None,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.context = context
        self.server_name = server_name
        self._say, self._clock = say, clock
        self._silent_until = 0.0

    def failed(self, error: Exception) -> None:
        """A handshake did not succeed: whoever runs the gateway is told why, and what to do."""
        if self._say is not None and isinstance(error, OSError) and self._clock() >= self._silent_until:
            self._silent_until = self._clock() + _SAID_EVERY
            self._say(_advice(error))


class ServiceTls(Tls):
    """TLS to a service as its settings have it, following their files.

    Raises:
        CertificateError: they cannot be used.
    """

    def __init__(self, name: str, settings: ServiceTlsSettings, observed: Observed) -> None:
        files = (settings.ca, settings.cert, settings.key)
        followed = Followed(name, files, lambda: context_of(settings), observed, settings.refresh)
        super().__init__(
            lambda: followed.current,
            settings.server_name,
            lambda why: observed.log.warning("service_tls", service=name, problem=why),
        )
        self.files = followed


_UNKNOWN_AUTHORITY: Final = "who signed its certificate is not believed here: name that authority's file in `tls.ca`"
_OTHER_NAME: Final = "its certificate is for another name: say in `tls.server_name` which one, or renew it"
# By OpenSSL's X509_V_ERR_...
_OF_CERTIFICATES: Final = {
    **dict.fromkeys((2, 18, 19, 20, 21), _UNKNOWN_AUTHORITY),
    **dict.fromkeys((62, 64), _OTHER_NAME),
    10: "its certificate has expired: renew it",
}


def _advice(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError(verify_code=code):
            return _OF_CERTIFICATES.get(code, f"its certificate is not good: {error.verify_message}")
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "HTTP_REQUEST"):
            return "it does not speak TLS there: its `url` wants http://, or the port that does"
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:
            said = reason.partition("ALERT_")[2].lower().replace("_", " ")
            return f"it refused the handshake ({said}): it may want a certificate, `tls.cert` and `tls.key`"
    return "it ended the handshake: it may speak no TLS there, or want a certificate, `tls.cert` and `tls.key`"
