import pytest

from bff.core.errors import BadRequest, HeadersTooLarge, MethodNotAllowed, PayloadTooLarge, UriTooLong
from bff.core.head import head, head_of
from bff.core.receive import bounded_receive
from bff.edge.guard import Guard

HOST = (b"host", b"gateway")


async def ask(path=b"/api/users", *, query=b"", method="GET", headers=(HOST,), kind="http", messages=(), **bounds):
    """What the app below received; whatever the guard raises comes out."""
    received = []

    async def app(scope, receive, send):
        received.extend([await receive() for _ in messages])

    waiting = iter(messages)

    async def receive():
        return next(waiting)

    scope = {"type": kind, "raw_path": path, "query_string": query, "headers": list(headers), "http_version": "1.1"}
    scope["bff.head"] = head_of(scope["headers"])
    if kind == "http":
        scope["method"] = method
    await Guard(app, **({"max_headers": 64 * 1024, "max_body": 2 * 1024 * 1024} | bounds))(scope, receive, None)
    return received


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"/api/users/../orders", ". or .."),
        (b"/api/users/..", ". or .."),
        (b"/api/users/./x", ". or .."),
        (b"/api/users/%2e%2e/orders", ". or .."),
        (b"/api/users/.%2E/orders", ". or .."),
        (b"/api/users/%2e", ". or .."),
        (b"/api/users/..;/orders", ". or .."),
        (b"/api/users/..;a=b/orders", ". or .."),
        (b"/api/users/%2e%2e%3b/orders", ". or .."),
        (b"//api/users", "empty segment"),
        (b"/api/users//x", "empty segment"),
        (b"/api/users//", "empty segment"),
        (b"/api/users\\..\\orders", "backslash"),
        (b"/api/users/..%5corders", "backslash"),
        (b"/api/users/..%2forders", "encoded slash"),
        (b"/api/users/..%2Forders", "encoded slash"),
        (b"/api/users/a%00b", "control character"),
        (b"/api/users/a%0d%0ab", "control character"),
        (b"/api/users/a%7Fb", "control character"),
        (b"/api/users/a\x01b", "control character"),
        (b"/api/users/a b", "space"),
        (b"/api/users/%252e%252e/orders", "twice"),
        (b"/api/users/%252F", "twice"),
        (b"/api/users/%zz", "hexadecimal"),
        (b"/api/users/%2", "hexadecimal"),
        (b"/api/users/%", "hexadecimal"),
        (b"/api/users/%c0%af", "UTF-8"),
        (b"/api/users/%c0%ae%c0%ae", "UTF-8"),
        (b"/api/users/%ff", "UTF-8"),
        (b"/api/users/\xc3\xa9", "percent-encoded"),
        (b"api/users", "begin with /"),
        (b"*", "begin with /"),
        (b"", "begin with /"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_path_that_two_readers_could_read_differently_is_refused_in_clear_words(path, why, kind):
    with pytest.raises(BadRequest, match=why):
        await ask(path, kind=kind)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/graphql",
        b"/api/users/",
        b"/api/users/usr_1",
        b"/api/users/.well-known/x",
        b"/api/files/a..b/...",
        b"/api/users/a%20b%C3%A9",
        b"/api/users/100%25",
        b"/api/users/a;v=1,2",
        b"/api/users/~a!$&'()*+,;=:@b",
    ],
)
async def test_ordinary_paths_pass(path):
    await ask(path)


async def test_the_query_is_the_services_affair_but_for_what_ends_a_request_line():
    await ask(query=b"next=..%2f%252e&x=%zz&y=\xc3\xa9//")
    with pytest.raises(BadRequest, match="query"):
        await ask(query=b"a b")


async def test_a_target_of_more_than_8_kb_is_refused():
    await ask(b"/" + b"a" * 8000, query=b"b" * 190)
    with pytest.raises(UriTooLong):
        await ask(b"/" + b"a" * 8000, query=b"b" * 191)


async def test_headers_are_bounded_in_number_and_in_size():
    await ask(headers=[HOST, *[(b"x", b"")] * 99])
    with pytest.raises(HeadersTooLarge, match="100"):
        await ask(headers=[HOST, *[(b"x", b"")] * 100])
    await ask(headers=[HOST, (b"x", b"a" * 1012)], max_headers=1024)
    with pytest.raises(HeadersTooLarge, match="1024"):
        await ask(headers=[HOST, (b"x", b"a" * 1013)], max_headers=1024)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "BREW", "get"])
async def test_methods_that_nobody_answers_are_refused_with_those_that_are(method):
    with pytest.raises(MethodNotAllowed) as refused:
        await ask(method=method)
    assert refused.value.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST, HOST],
        [HOST, (b"content-length", b"+4")],
        [HOST, (b"content-length", b"4,4")],
        [HOST, (b"content-length", b"-1")],
        [HOST, (b"content-length", b"1" + b"0" * 30)],
        [HOST, (b"content-length", b"4"), (b"content-length", b"4")],
        [HOST, (b"content-length", b"4"), (b"transfer-encoding", b"chunked")],
    ],
)
async def test_a_request_has_one_host_and_at_most_one_length(headers):
    with pytest.raises(BadRequest):
        await ask(headers=headers)


async def test_an_announced_body_that_is_too_large_is_refused_before_any_of_it_is_read():
    headers = [HOST, (b"content-length", b"1025")]
    with pytest.raises(PayloadTooLarge, match="1024"):
        await ask(method="POST", headers=headers, max_body=1024)


def chunk(size, more=True):
    return {"type": "http.request", "body": b"a" * size, "more_body": more}


async def test_a_body_without_length_is_refused_when_it_becomes_too_large():
    headers = [HOST, (b"transfer-encoding", b"chunked")]
    exact = [chunk(512), chunk(512, more=False)]
    assert await ask(method="POST", headers=headers, messages=exact, max_body=1024) == exact
    with pytest.raises(PayloadTooLarge):
        await ask(method="POST", headers=headers, messages=[chunk(1024), chunk(1)], max_body=1024)


async def test_a_body_whose_length_is_known_costs_no_counting():
    async def receive():
        raise AssertionError

    assert bounded_receive(head({"headers": [(b"content-length", b"4")]}), receive, 4) is receive
