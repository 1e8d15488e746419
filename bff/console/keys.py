"""`/-/keys`: which API keys there are, by how they begin; those of `auth.api_keys_file` can be revoked."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, HTTPException

from bff.core.loading import ConfigError
from bff.edge.credentials import Credentials
from bff.edge.credentials.api_keys import ApiKeySettings
from bff.edge.credentials.keys_file import has_expired, shown


def keys(credentials: Credentials) -> APIRouter:
    """Never a key itself, since none is kept."""
    pages = APIRouter()

    @pages.get("/-/keys")
    async def all_of_them() -> list[dict[str, Any]]:
        followed = credentials.keys_file.entries if credentials.keys_file else ()
        configured = credentials.configured_keys
        return [_said(each, revocable=False) for each in configured] + [
            _said(each, revocable=True) for each in followed
        ]

    @pages.delete("/-/keys/{name:path}")
    async def revoke(name: str) -> dict[str, Any]:
        if credentials.keys_file is None:
            raise HTTPException(409, "Only keys of auth.api_keys_file can be revoked, and none is configured")
        if any(shown(each) == name for each in credentials.configured_keys):
            raise HTTPException(409, "This key is in the configuration: take it out of auth.api_keys there")
        try:
            return _said(await credentials.keys_file.revoke(name), revocable=False)
        except ConfigError as error:
            raise HTTPException(409, str(error)) from error

    return pages


def _said(key: ApiKeySettings, *, revocable: bool) -> dict[str, Any]:
    return {
        "key": shown(key),
        "consumer": key.consumer,
        "tier": key.tier,
        "scopes": key.scopes,
        "created": key.created,
        "expires": key.expires,
        "expired": has_expired(key, time.time()),
        "revocable": revocable,
    }
