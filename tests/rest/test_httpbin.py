"""httpbin, made by others to show what HTTP has, alone and behind the gateway: its answers are the same."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.running import ROOT, free_port, running

PYTHON = ROOT / "build" / "httpbin" / "bin" / "python"
CONFIG = """
services: {{httpbin: {{url: "{url}", timeout: 20s, retry: {{attempts: 1}}}}}}
routes: [{{name: httpbin, path: "/{{rest*}}", service: httpbin, public: true, errors: relay}}]
"""

# What the gateway says on answers of its own accord, and what of a service's it keeps inside.
ADDED = {"x-request-id", "x-content-type-options"}
KEPT_INSIDE = {"server", "connection", "keep-alive", "transfer-encoding", "date"}
NO_STORE = ("cache-control", "no-store")  # where a cookie came along, and httpbin says nothing
CORS = "access-control-"
# What it tells services beside what the client says, and what it says in its place: httpbin echoes it.
TOLD = {
    *("Connection", "Forwarded", "Request-Timeout", "Traceparent", "Transfer-Encoding", "X-Auth-Scopes"),
    *("Host", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id"),
}
ECHOES = re.compile(
    r"/(anything|get|post|put|patch|delete|delay|headers|stream|gzip|deflate|brotli|cache|etag)(/|\?|$)"
)

MANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
READ = ["GET", "HEAD", "OPTIONS"]
STATUSES = [*range(200, 209), 226, *range(300, 309), *range(400, 419), *range(421, 430), 431, 451, *range(500, 512)]


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | tuple[bytes, ...] = b""

    def __str__(self) -> str:
        return f"{self.method} {self.target} {dict(self.headers) or ''} {len(self.content) or ''}".strip()

    def sent(self, client: httpx.Client) -> Answer:
        content = self.content if isinstance(self.content, bytes) else iter(self.content)
        client.cookies.clear()
        with client.stream(self.method, self.target, headers=self.headers, content=content or None) as response:
            return Answer(response.status_code, response.headers.multi_items(), b"".join(response.iter_raw()))


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def less_what_differs(self, asked: Asked, base: str) -> Answer:
        """What has to be the same. `base`: the address of httpbin."""
        dropped, body = ADDED | KEPT_INSIDE, self.body
        if ECHOES.match(asked.target):
            dropped = dropped | {"content-length"}
            body = _less_told(httpx.Response(self.status, headers=self.headers, content=body).content)
        if asked.target == "/cache":
            dropped = dropped | {"etag", "last-modified"}  # of this moment
        if asked.method != "HEAD":
            # Its client has counted. Where all of a short answer is there, the gateway says how long it is.
            dropped = dropped | {"content-length"}
        headers = sorted(
            # Where httpbin points to itself, the gateway's clients are pointed to the gateway.
            (name, value.removeprefix(base) if name == "location" else value)
            for name, value in self.headers
            if name not in dropped and not name.startswith(CORS)
        )
        return Answer(self.status, headers, body)


def _less_told(body: bytes) -> bytes:
    """What httpbin echoes, less what only one of both told it."""
    try:
        echoes = [json.loads(body)]
    except ValueError:
        lines = body.splitlines()
        if not all(line.startswith(b"{") for line in lines):
            return body
        echoes = [json.loads(line) for line in lines]
    for echo in echoes:
        echo.pop("origin", None), echo.pop("url", None)
        if "headers" in echo:
            echo["headers"] = {name: value for name, value in echo["headers"].items() if name not in TOLD}
    return json.dumps(echoes).encode()


def asked() -> Iterable[Asked]:
    return chain(requests(), answers(), pieces(), conditions())


def requests() -> Iterable[Asked]:
    form = ("content-type", "application/x-www-form-urlencoded")
    multipart = ("content-type", "multipart/form-data; boundary=b")
    part = b'--b\r\ncontent-disposition: form-data; name="f"; filename="a.bin"\r\n\r\n\x00\xff\r\n--b--\r\n'
    for method in MANY:
        yield Asked(method, "/anything/a%20b;c/d?x=1&x=2&y=%zz&z=%2F")
        yield Asked(method, "/anything", (("x-tag", "1"), ("x-tag", "2"), ("user-agent", "one")), b"\x00plain\xff")
        yield Asked(method, "/anything", (form,), b"a=1&a=2&b=%20")
        yield Asked(method, "/anything", (("content-type", "application/json"),), b'{"a": [1, null, "\xc3\xa9"]}')
        yield Asked(method, "/anything", (multipart,), part)
        yield Asked(method, "/anything", (), (b"in ", b"three ", b"chunks"))
        yield Asked(method, "/anything", (), b"x" * 300_000)
        yield Asked(method, f"/{method.lower()}?a=1")
        yield Asked(method, "/delay/0")
        yield Asked(method, "/redirect-to?url=/get&status_code=307")
        yield Asked(method, "/redirect-to?url=https%3A%2F%2Fexample.com%2Fx%3Fy%23z")
    for method in ("OPTIONS", "HEAD"):
        yield Asked(method, "/anything")


def answers() -> Iterable[Asked]:
    for status in STATUSES:
        yield Asked("GET", f"/status/{status}")
    for method in (*MANY, "HEAD"):
        for status in (200, 204, 302, 304, 401, 418, 500):
            yield Asked(method, f"/status/{status}")
    for target in (
        *("/", "/html", "/json", "/xml", "/robots.txt", "/deny", "/encoding/utf8", "/forms/post", "/user-agent"),
        *(
            "/headers",
            "/cookies",
            "/links/5",
            "/links/5/2",
            "/base64/SFRUUEJJTg==",
            "/spec.json",
            "/legacy",
            "/nothing",
        ),
        *("/apidocs/index.html", "/oauth2-redirect.html", "/static/favicon.ico", "/flasgger_static/swagger-ui.css"),
        *("/gzip", "/deflate", "/brotli", "/image", "/image/jpeg", "/image/png", "/image/svg", "/image/webp"),
        *("/cookies/set/a/b", "/cookies/set?a=1&b=2", "/cookies/delete?a=&b=", "/cache", "/cache/60", "/etag/one"),
        *("/redirect/3", "/relative-redirect/3", "/absolute-redirect/3", "/bearer", "/basic-auth/u/p"),
        *("/hidden-basic-auth/u/p", "/response-headers?x-a=1&x-a=2&content-type=text/x-b%3B%20charset%3Dlatin-1"),
    ):
        for method in READ:
            yield Asked(method, target)
    yield Asked("POST", "/response-headers?x-a=%C3%A9&freeform=")


def pieces() -> Iterable[Asked]:
    for size in (0, 1, 1023, 1024, 16384, 65535, 65536, 65537, 102400):
        yield Asked("GET", f"/bytes/{size}?seed=1")
        yield Asked("GET", f"/stream-bytes/{size}?seed=1&chunk_size=1000")
        yield Asked("GET", f"/range/{size}")
    for said in ("bytes=0-0", "bytes=5-", "bytes=-7", "bytes=10-19", "bytes=1000-2000", "bytes=9-2", "rows=1-2"):
        for method in ("GET", "HEAD"):
            yield Asked(method, "/range/1024?duration=0&chunk_size=10", (("range", said),))
    for count in (0, 1, 20, 100):
        yield Asked("GET", f"/stream/{count}")
    yield Asked("GET", "/drip?duration=0.2&numbytes=20&code=200&delay=0")
    yield Asked("GET", "/drip?duration=0&numbytes=0&code=500&delay=0")


def conditions() -> Iterable[Asked]:
    for name, value in (("if-none-match", '"one"'), ("if-none-match", "*"), ("if-match", '"two"'), ("if-match", "one")):
        yield Asked("GET", "/etag/one", ((name, value),))
    yield Asked("GET", "/cache", (("if-modified-since", "Sat, 01 Jan 2022 00:00:00 GMT"),))
    yield Asked("GET", "/cache", (("if-none-match", "x"),))
    yield Asked("GET", "/cookies", (("cookie", "a=1; b=2"),))
    yield Asked("GET", "/cookies/delete?a=", (("cookie", "a=1; b=2"),))
    for accepted in ("image/webp", "image/svg+xml", "image/png", "image/jpeg", "image/*", "text/plain"):
        yield Asked("GET", "/image", (("accept", accepted),))
    for coding in ("identity", "gzip", "br, zstd;q=0.5"):
        yield Asked("GET", "/json", (("accept-encoding", coding),))


# They say something else each time, or what only they can know.
ELSEWHERE = {
    "/uuid": "says something else each time",
    "/ip": "says who asks, which is the gateway",
    "/digest-auth/{qop}/{user}/{passwd}": "has a nonce of its own in each answer",
    "/digest-auth/{qop}/{user}/{passwd}/{algorithm}": "as above",
    "/digest-auth/{qop}/{user}/{passwd}/{algorithm}/{stale_after}": "as above",
}


@pytest.fixture(scope="module")
def httpbin(tmp_path_factory) -> Iterator[str]:
    assert PYTHON.exists(), "make ready installs it"
    port, log = free_port(), tmp_path_factory.mktemp("httpbin") / "log"
    command = [PYTHON, "-m", "waitress", "--threads=8", f"--listen=127.0.0.1:{port}", "httpbin:app"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent) as process:
        try:
            until_it_answers(f"http://127.0.0.1:{port}/get", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            httpx.get(url)
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def gateway(httpbin, tmp_path_factory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("gateway") / "bff.yaml"
    config.write_text(CONFIG.format(url=httpbin))
    with running(config, None, BFF__LIMITS__MODE="off") as one:
        yield one.url


def differences(alone: Answer, behind: Answer) -> list[str]:
    told = [f"status {alone.status} {behind.status}"] if alone.status != behind.status else []
    if changed := set(alone.headers) ^ (set(behind.headers) - ({NO_STORE} - set(alone.headers))):
        told.append(f"headers {changed}")
    if alone.body != behind.body:
        told.append(f"body {alone.body[:300]!r} {behind.body[:300]!r}")
    return told


def test_it_answers_behind_the_gateway_as_it_does_alone(httpbin, gateway):
    found = []
    with httpx.Client(base_url=httpbin) as straight, httpx.Client(base_url=gateway) as through:
        for each in asked():
            alone, behind = (each.sent(client).less_what_differs(each, httpbin) for client in (straight, through))
            if told := differences(alone, behind):
                found.append(f"{each}: {told}")
    assert found == [], "\n".join(found)


def test_nothing_that_it_offers_is_left_out(httpbin, gateway):
    """But for what cannot be compared, and TRACE, which the gateway has not."""
    sent = [(each.method, urlsplit(each.target).path) for each in asked()]
    left_out = []
    for path, operations in httpx.get(f"{httpbin}/spec.json").json()["paths"].items():
        pattern = re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(path)))
        for method in operations:
            if method == "trace":
                assert httpx.request("TRACE", f"{gateway}/anything").status_code == 405
            elif path not in ELSEWHERE and not any(m == method.upper() and pattern.fullmatch(p) for m, p in sent):
                left_out.append(f"{method.upper()} {path}")
    assert left_out == [], "\n".join(left_out)
