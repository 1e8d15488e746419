"""`/-/keys`: which API keys there are, by how they begin, and an end to those that can be revoked."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, HTTPException, Response

from bff.core.loading import ConfigError
from bff.edge.credentials import Credentials
from bff.edge.credentials.api_keys import ApiKeySettings, shown
from bff.edge.credentials.keys_file import has_expired


def keys(credentials: Credentials) -> APIRouter:
    """Never a key itself, since none is kept."""
    pages = APIRouter()

    def said(key: ApiKeySettings, *, revocable: bool) -> dict[str, Any]:
        revoked = key.digest in credentials.api_keys.revoked
        return {
            "key": shown(key),
            "consumer": key.consumer,
            "tier": key.tier,
            "scopes": key.scopes,
            "created": key.created,
            "expires": key.expires,
            "expired": has_expired(key, time.time()),
            "revoked": revoked,
            "revocable": revocable and not revoked,
        }

    @pages.get("/-/keys")
    async def all_of_them() -> list[dict[str, Any]]:
        keys = credentials.api_keys
        return [said(each, revocable=credentials.shared) for each in keys.configured] + [
            said(each, revocable=True) for each in keys.added
        ]

    @pages.delete("/-/keys/{name:path}")
    async def revoke(name: str, response: Response) -> dict[str, Any]:
        try:
            key, known = await credentials.revoke(name)
        except ConfigError as error:
            raise HTTPException(409, str(error)) from error
        response.status_code = 200 if known else 202
        return said(key, revocable=False) | {"revoked": True}

    return pages
