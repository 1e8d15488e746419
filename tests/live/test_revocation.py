"""A credential that is revoked, changed or expired ends the connections that it opened, within the time configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from bff.edge.credentials import keys_file
from tests.harness import BFF_YAML, bearer, customer, gateway
from tests.live.conftest import Live
from tests.live.socket import Socket
from tests.live.sse import EventStream
from tests.live.stream import OrderEvents
from tests.live.test_subscriptions import status, watch
from tests.shop import Call, answer
from tests.upstream.raw import eventually

SCOPES = ("orders:read", "orders:admin")
WATCH = 'subscription { orderStatusChanged(id: "ord_1") { id status } }'


class Revocable:
    """A gateway with an API key in a file and an opaque token, both of which can be taken away."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.key, self.entry = keys_file.new_key("acme", SCOPES, now=0)
        keys_file.write(file, [self.entry])
        self.active, self.away = True, False
        introspection = {"url": "https://login.internal/introspect", "client_id": "bff", "client_secret": "s"}
        auth = {"api_keys_file": str(file), "introspection": introspection | {"cache": "0s"}, "recheck": "20ms"}
        one = gateway(BFF_YAML, auth=auth | {"cookie": {"name": "t"}})
        self.live = Live(one, OrderEvents(one.services.orders))
        one.services.login.behaviour = self.explain

    async def explain(self, _: httpx.Request, call: Call) -> httpx.Response | None:
        if call.path != "/introspect":
            return None
        if self.away or parse_qs(call.body.decode())["token"] != ["opaque"]:
            return answer(500 if self.away else 200, {"active": False})
        return answer(200, {"active": self.active, "sub": "usr_1", "scope": " ".join(SCOPES)})

    async def replace(self, *entries: Any) -> None:
        keys_file.write(self.file, entries)
        await self.live.gateway.app.state.credentials._file.look()

    async def revoke_key(self) -> None:
        await self.replace()

    async def narrow_key(self) -> None:
        await self.replace(self.entry.model_copy(update={"scopes": ("orders:read",)}))

    async def revoke_token(self) -> None:
        self.active = False


@pytest.fixture
def one(tmp_path) -> Revocable:
    return Revocable(tmp_path / "keys.yaml")


WAYS: dict[str, tuple[Callable[[Revocable], dict[str, str]], Callable[[Revocable], Any]]] = {
    "key revoked": (lambda one: {"x-api-key": one.key}, Revocable.revoke_key),
    "key's scopes changed": (lambda one: {"x-api-key": one.key}, Revocable.narrow_key),
    "opaque token revoked": (lambda _: bearer("opaque"), Revocable.revoke_token),
    "cookie's token revoked": (
        lambda _: {"cookie": "t=opaque", "origin": "http://gateway.example"},
        Revocable.revoke_token,
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_websocket_whose_handshake_had_the_credential_is_closed(one, way):
    headers, revoke = WAYS[way]
    async with Socket(one.live.gateway.app, headers=headers(one)) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        await asyncio.sleep(0.1)
        assert socket.code is None
        await revoke(one)
        await eventually(lambda: socket.code is not None)
        assert (socket.code, socket.reason) == (4403, "The credential is no longer what it was: connect anew")
    await eventually(lambda: not one.live.events.open)


async def test_a_websocket_whose_payload_had_it_is_closed_too(one):
    async with Socket(one.live.gateway.app) as socket:
        await socket.say(type="connection_init", payload={"X-API-Key": one.key})
        assert (await socket.hear())["type"] == "connection_ack"
        await asyncio.sleep(0.1)
        assert socket.code is None
        await one.revoke_key()
        await eventually(lambda: socket.code == 4403)
    (line,) = [line for line in one.live.gateway.log if line["event"] == "audit" and line["action"] == "refused"]
    assert (line["method"], line["code"]) == ("WEBSOCKET", "UNAUTHENTICATED")


async def test_a_credential_that_a_payload_has_twice_is_one_for_as_long_as_the_connection_lasts(one):
    async with Socket(one.live.gateway.app) as socket:
        await socket.init(**{"X-API-Key": one.key, "headers": {"x-api-key": one.key}})
        await asyncio.sleep(0.1)
        assert socket.code is None


async def test_a_bad_credential_in_a_payload_is_in_the_audit_log(one):
    async with Socket(one.live.gateway.app) as socket:
        await socket.say(type="connection_init", payload={"X-API-Key": "bff_nobody"})
        assert await socket.closed() == (4403, [])
    (line,) = [line for line in one.live.gateway.log if line["event"] == "audit"]
    assert line["reason"] == "The API key is not known: check X-API-Key"


@pytest.mark.parametrize("way", ["key revoked", "opaque token revoked"])
async def test_an_event_stream_ends_and_its_client_is_told_to_come_again(one, way):
    headers, revoke = WAYS[way]
    async with EventStream(one.live.gateway.app, WATCH, headers=headers(one)) as stream:
        assert (await stream.event()).name == "next"
        await revoke(one)
        assert (await stream.event()).name == "retry"
        assert await stream.event() is None
    await eventually(lambda: not one.live.events.open)


async def test_while_a_provider_cannot_be_asked_connections_go_on(one):
    async with Socket(one.live.gateway.app, headers=bearer("opaque")) as socket:
        await socket.init()
        one.away = True
        await asyncio.sleep(0.2)
        assert socket.code is None
        one.away, one.active = False, False
        await eventually(lambda: socket.code == 4403)


async def test_who_needs_no_judging_is_not_disturbed(one):
    for headers in ({}, customer()):
        async with Socket(one.live.gateway.app, headers=headers) as socket:
            await socket.init()
            await asyncio.sleep(0.1)
            assert socket.code is None


async def test_the_watch_ends_with_the_connection(one):
    before = asyncio.all_tasks()
    async with Socket(one.live.gateway.app, headers=customer()) as socket:
        await socket.init()
        assert len(asyncio.all_tasks() - before) >= 2
    await eventually(lambda: not asyncio.all_tasks() - before)
