"""How identity providers are asked: safely, without redirects, within bounds of time and size."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

_LOOPBACK = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1")


class ProviderFailed(Exception):
    """It could not be asked, or did not answer with what it should."""


def is_safe(url: str) -> bool:
    """Whether nobody on the way can change what is said there."""
    return urlsplit(url).scheme == "https" or is_loopback(url)


def is_loopback(url: str) -> bool:
    return bool(_LOOPBACK.fullmatch(urlsplit(url).hostname or ""))


class Provider:
    """What all questions go through.

    Args:
        network: what carries them; neither follows redirects nor decodes.
    """

    def __init__(self, network: httpx.AsyncBaseTransport) -> None:
        self._network = network

    async def get(self, url: str, *, within: float, limit: int) -> dict[str, Any]:
        """The JSON object at `url`.

        Raises:
            ProviderFailed: there is none, it has more than `limit` bytes, or it did not come within `within` seconds.
        """
        return await self._ask(within, limit, "GET", url, headers={"accept": "application/json"})

    async def post(
        self, url: str, form: dict[str, str], authorization: str | None, *, within: float, limit: int
    ) -> dict[str, Any]:
        """The JSON object that answers a form; raises what `get` raises."""
        headers = {"accept": "application/json"} | ({"authorization": authorization} if authorization else {})
        return await self._ask(within, limit, "POST", url, headers=headers, data=form)

    async def _ask(self, within: float, limit: int, method: str, url: str, **given: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(within):
                body = await self._body(httpx.Request(method, url, **given), limit)
            document = orjson.loads(body)
        except (httpx.TransportError, httpx.InvalidURL, OSError, ValueError) as error:
            raise ProviderFailed(f"{type(error).__name__}: {error}") from error
        if not isinstance(document, dict):
            raise ProviderFailed("not a JSON object")
        return document

    async def _body(self, request: httpx.Request, limit: int) -> bytes:
        response = await self._network.handle_async_request(request)
        chunks, size = [], 0
        try:
            if response.status_code != 200:
                raise ProviderFailed(f"status {response.status_code}")
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > limit:
                    raise ProviderFailed(f"more than {limit} bytes")
                chunks.append(chunk)
        finally:
            await response.aclose()
        return b"".join(chunks)
