"""The four services as lean stand-ins: rows encoded once, answers remembered, one process, a port each.

They answer the reads of the contracts that the workloads need and refuse everything else, so that no contender can be
fast by asking for something else. They take every caller for an operator: what is measured is in front of them.

`python -m benchmarks.backends` prints the addresses as a line of JSON and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from urllib.parse import parse_qsl, unquote

import httptools
import orjson
import uvloop

from benchmarks import data

CALLS = b"/-/calls"
MAX_BATCH, MAX_PAGE, DEFAULT_PAGE = 500, 200, 20
REMEMBERED_ANSWERS = 4096


class Refused(Exception):
    """A request that the contract refuses, or that no workload needs."""

    def __init__(self, status: int, title: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title


class Service:
    """One service's rows by id in the order of its pages, and what it knows of their parents.

    Args:
        name: as in its paths.
        rows: in the order of its pages.
        parent: the field that names a row's parent; batches by `parent` + "s" are answered.
        paged: whether a batch by parents has `limit` rows of each of them instead of all.
        cache_control: what its answers carry.
    """

    def __init__(
        self, name: str, rows: Iterable[data.Row], *, parent: str = "", paged: bool = False, cache_control: str = ""
    ) -> None:
        self.name = name
        self.by_parents = parent and f"{parent}s"
        self.paged = paged
        self.headers = {"cache-control": cache_control} if cache_control else {}
        self.rows: dict[str, bytes] = {}
        self.children: dict[str, list[str]] = {}
        for row in rows:
            self.rows[row["id"]] = orjson.dumps(row)
            if parent:
                self.children.setdefault(row[parent], []).append(row["id"])
        self.ids = list(self.rows)
        self.position = {key: at for at, key in enumerate(self.ids)}
        self.answer = lru_cache(REMEMBERED_ANSWERS)(self._answer)

    def _answer(self, target: bytes) -> bytes:
        """The whole response, head and body, to GET `target`."""
        path, _, query = target.decode("latin-1").partition("?")
        try:
            return self.resource(path, dict(parse_qsl(query, keep_blank_values=True)))
        except (Refused, TypeError, ValueError) as error:  # a TypeError: a parameter that nothing takes
            status = error.status if isinstance(error, Refused) else 400
            problem = orjson.dumps({"title": str(error), "status": status})
            return response(status, problem, {"content-type": "application/problem+json"})

    def resource(self, path: str, parameters: dict[str, str]) -> bytes:
        match path.strip("/").split("/"):
            case ["healthz"]:
                return response(200, b'{"status":"ok"}')
            case [self.name]:
                return response(200, self.many(parameters), self.headers)
            case ["products", "export"] if self.name == "products":
                return self.export(**parameters)
            case [self.name, key] if not parameters:
                return self.one(unquote(key))
        raise Refused(404, "no such resource")

    def one(self, key: str) -> bytes:
        if key not in self.rows:
            raise Refused(404, f"{key} is unknown")
        return response(200, self.rows[key], {"etag": f'"{key}-1"', **self.headers})

    def many(self, parameters: dict[str, str]) -> bytes:
        match parameters:
            case {"ids": ids, **others} if not others:
                return self.items(key for key in batch(ids) if key in self.rows)
            case {self.by_parents: ids, **others} if self.by_parents and not self.paged and not others:
                return self.items(key for parent in batch(ids) for key in self.children.get(parent, []))
            case {self.by_parents: ids, **others} if self.by_parents:
                return self.pages(batch(ids), **others)
            case {"ids": _}:
                raise Refused(400, "ids excludes the other parameters")
        return self.page(**parameters)

    def page(self, limit: str = str(DEFAULT_PAGE), cursor: str = "") -> bytes:
        start = self.after(cursor)
        end = start + size(limit)
        following = self.ids[end - 1] if end < len(self.ids) else None
        return self.items(self.ids[start:end], {"next_cursor": following})

    def pages(self, parents: list[str], limit: str = str(DEFAULT_PAGE), cursor: str = "") -> bytes:
        start, count = self.after(cursor), size(limit)
        left = {p: [key for key in self.children.get(p, []) if self.position[key] >= start] for p in parents}
        following = {p: keys[count - 1] if len(keys) > count else None for p, keys in left.items()}
        return self.items((key for keys in left.values() for key in keys[:count]), {"next_cursors": following})

    def export(self, copies: str = "1") -> bytes:
        lines = b"\n".join(self.rows.values()) + b"\n"
        return response(200, lines * min(int(copies), 10), {"content-type": "application/x-ndjson"})

    def items(self, keys: Iterable[str], more: Mapping[str, object] | None = None) -> bytes:
        tail = b"," + orjson.dumps(more)[1:] if more else b"}"
        return b'{"items":[' + b",".join([self.rows[key] for key in keys]) + b"]" + tail

    def after(self, cursor: str) -> int:
        if cursor and cursor not in self.position:
            raise Refused(400, "the cursor is unknown")
        return self.position[cursor] + 1 if cursor else 0


def batch(ids: str) -> list[str]:
    keys = list(dict.fromkeys(key for key in ids.split(",") if key))
    if not 0 < len(keys) <= MAX_BATCH:
        raise Refused(400, f"from 1 to {MAX_BATCH} ids")
    return keys


def size(limit: str) -> int:
    if not 0 < int(limit) <= MAX_PAGE:
        raise Refused(400, f"limit is from 1 to {MAX_PAGE}")
    return int(limit)


def response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    head = f"HTTP/1.1 {status} \r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode("latin-1") + b"\r\n" + body


def services() -> list[Service]:
    return [
        Service("users", data.users(), cache_control="private, max-age=5"),
        Service("products", data.products(), cache_control="public, max-age=60"),
        Service("orders", data.orders(), parent="user_id", paged=True),
        Service("payments", data.payments(), parent="order_id"),
    ]


class Connection(asyncio.Protocol):
    """One client of one service. Headers are not looked at: no callback for them, so the parser skips them in C."""

    def __init__(self, service: Service, calls: Counter[str]) -> None:
        self.service = service
        self.calls = calls
        self.target = b""
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, received: bytes) -> None:
        try:
            self.parser.feed_data(received)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self.target = b""

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_message_complete(self) -> None:
        self.transport.write(self.answer())
        if not self.parser.should_keep_alive():
            self.transport.close()

    def answer(self) -> bytes:
        if self.target == CALLS:
            return response(200, orjson.dumps(self.calls))
        if self.parser.get_method() != b"GET":
            return response(405, b"{}")
        if self.target != b"/healthz":
            self.calls[self.service.name] += 1
        return self.service.answer(self.target)


async def listen() -> tuple[dict[str, str], list[asyncio.Server]]:
    """Serves all four on free ports of loopback; the addresses by service."""
    loop = asyncio.get_running_loop()
    calls: Counter[str] = Counter()
    urls, servers = {}, []
    for service in services():
        calls[service.name] = 0
        server = await loop.create_server(partial(Connection, service, calls), "127.0.0.1", 0, backlog=4096)
        servers.append(server)
        urls[service.name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return urls, servers


async def main() -> None:
    urls, servers = await listen()
    print(orjson.dumps(urls).decode(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    uvloop.run(main())
