"""OpenID Connect Discovery 1.0: an issuer's own document says where its keys are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bff.edge.credentials.provider import Provider, ProviderFailed, is_loopback, is_safe


class Discovery:
    """Where an issuer's keys are. Asked for with every fetch of them, since they move when a provider is moved."""

    def __init__(self, issuer: str, provider: Provider, timeout: float, limit: int) -> None:
        self._issuer = issuer
        self._provider = provider
        self._timeout = timeout
        self._limit = limit

    async def __call__(self) -> str:
        """The address of the key set.

        Raises:
            ProviderFailed: the document is not this issuer's (§4.3), or names what must not be asked.
        """
        document = await self._provider.get(
            f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration",
            within=self._timeout,
            limit=self._limit,
        )
        if document.get("issuer") != self._issuer:
            raise ProviderFailed("the discovery document is another issuer's")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_safe(url):
            raise ProviderFailed("the discovery document has no https address of keys")
        if is_loopback(url) and not is_loopback(self._issuer):
            raise ProviderFailed("the discovery document of another machine names an address on this one")
        return url


def fixed(url: str) -> Callable[[], Awaitable[str]]:
    """What the configuration says, in the place of a document."""

    async def located() -> str:
        return url

    return located
