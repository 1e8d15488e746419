"""A gateway with routes as a test writes them, before one service that keeps what it is asked and says one thing."""

import httpx

from bff.app import build
from bff.config import load
from tests.harness import SECRET

AUTH = f"""
auth:
  jwt: [{{issuer: "https://id.internal", audience: shop, algorithms: [HS256], secret: "{SECRET}"}}]
services: {{any: {{url: "http://any.internal"}}}}
"""


class Network(httpx.AsyncBaseTransport):
    """The service; `sent` is its last request, `body` what came with it."""

    def __init__(self, status=200, headers=(), body=b"{}", chunks=None):
        self.status, self.headers, self.content, self.chunks = status, headers, body, chunks
        self.asked = 0

    async def handle_async_request(self, request):
        self.asked += 1
        self.sent = request
        self.target = request.extensions["target"]
        self.body = b"".join([part async for part in request.stream])
        if self.chunks is not None:
            return httpx.Response(self.status, headers=self.headers, content=_each(self.chunks))
        return httpx.Response(self.status, headers=self.headers, content=self.content)

    @property
    def given(self):
        """The headers that it was sent."""
        return {name.decode().lower(): value.decode() for name, value in self.sent.headers.raw}


async def _each(chunks):
    for chunk in chunks:
        yield chunk


def client(routes, network=None, *, before=""):
    """A client of the gateway with these `routes`, in YAML."""
    app = build(load(f"{AUTH}{before}\nroutes:\n{routes}"), network=network or Network())
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway.example")


def route(changes):
    """One public route to the service, at /api/{rest*}, with these keys."""
    return f'- {{name: any, path: "/api/{{rest*}}", service: any, rewrite: "/{{rest}}", public: true, {changes}}}'
