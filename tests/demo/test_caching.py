"""ETag, If-None-Match, Cache-Control and ranges, as the contracts and RFC 9110 have them."""

import struct
import zlib

import pytest

from tests.demo.conftest import CUSTOMER, OPERATOR, assert_problem

SINGLE = [
    ("users", "/users/usr_1", "private, max-age=5"),
    ("users", "/users/usr_1/avatar", "private, max-age=5"),
    ("products", "/products/prd_1", "public, max-age=60"),
    ("orders", "/orders/ord_1", "private, no-cache"),
    ("payments", "/payments/pay_1", "private, no-cache"),
    ("payments", "/payments/pay_1/receipt", "private, no-cache"),
]
AVATAR = "/users/usr_1/avatar"


@pytest.mark.parametrize(("service", "path", "cache"), SINGLE)
def test_what_is_known_already_is_not_sent_again(request, service, path, cache):
    client = request.getfixturevalue(service)
    first = client.get(path, headers=CUSTOMER)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == cache
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, headers={**CUSTOMER, "if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (etag, cache)
    assert client.get(path, headers={**CUSTOMER, "if-none-match": '"other"'}).content == first.content


@pytest.mark.parametrize(
    ("service", "path", "cache"),
    [
        ("users", "/users?ids=usr_1", "private, max-age=5"),
        ("products", "/products?ids=prd_1", "public, max-age=60"),
        ("products", "/products", "public, max-age=60"),
        ("orders", "/orders?ids=ord_1", "private, no-cache"),
        ("orders", "/orders?user_ids=usr_1", "private, no-cache"),
        ("payments", "/payments?ids=pay_1", "private, no-cache"),
        ("payments", "/payments?order_ids=ord_1", "private, no-cache"),
    ],
)
def test_a_batch_may_be_kept_as_long_as_a_single_record(request, service, path, cache):
    assert request.getfixturevalue(service).get(path, headers=CUSTOMER).headers["cache-control"] == cache


def test_a_change_changes_the_etag(users):
    before = users.get("/users/usr_901", headers=OPERATOR).headers["etag"]
    changed = users.patch("/users/usr_901", json={"email": "new@example.com"}, headers=OPERATOR)
    assert changed.headers["etag"] != before
    fresh = users.get("/users/usr_901", headers={**OPERATOR, "if-none-match": before})
    assert fresh.status_code == 200
    assert fresh.headers["etag"] == changed.headers["etag"]


@pytest.mark.parametrize(("service", "path", "cache"), SINGLE)
def test_head_says_what_get_would_say(request, service, path, cache):
    client = request.getfixturevalue(service)
    get, head = client.get(path, headers=CUSTOMER), client.head(path, headers=CUSTOMER)
    assert head.content == b""
    for name in ("etag", "cache-control", "content-length", "content-type"):
        assert head.headers[name] == get.headers[name]


def test_an_avatar_is_a_picture_and_everybodys_is_another(users):
    pictures = {users.get(f"/users/usr_{n}/avatar", headers=OPERATOR).content for n in range(1, 21)}
    assert len(pictures) == 20
    for picture in pictures:
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        assert 1000 < len(picture) < 10_000
        width, height = struct.unpack(">II", picture[16:24])
        length = struct.unpack(">I", picture[33:37])[0]
        assert len(zlib.decompress(picture[41 : 41 + length])) == height * (1 + 3 * width)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-100", -100, None), ("bytes=5-5", 5, 6)],
)
def test_a_range_of_an_avatar_is_sent_alone(users, asked, start, stop):
    whole = users.get(AVATAR, headers=CUSTOMER).content
    part = users.get(AVATAR, headers={**CUSTOMER, "range": asked})
    assert part.status_code == 206
    assert part.content == whole[start:stop]
    first = start % len(whole)
    last = (stop or len(whole)) - 1
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert part.headers["content-type"] == "image/png"
    assert part.headers["etag"]


def test_a_range_past_the_end_is_cut(users):
    whole = users.get(AVATAR, headers=CUSTOMER).content
    assert users.get(AVATAR, headers={**CUSTOMER, "range": "bytes=10-999999"}).content == whole[10:]
    assert users.get(AVATAR, headers={**CUSTOMER, "range": "bytes=-999999"}).content == whole


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0"])
def test_a_range_with_nothing_in_it_is_refused_with_the_size(users, asked):
    size = len(users.get(AVATAR, headers=CUSTOMER).content)
    refused = users.get(AVATAR, headers={**CUSTOMER, "range": asked})
    assert_problem(refused, 416)
    assert refused.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=", "bytes=-"])
def test_a_range_that_is_none_gets_the_whole(users, asked):
    answer = users.get(AVATAR, headers={**CUSTOMER, "range": asked})
    assert answer.status_code == 200
    assert answer.headers["accept-ranges"] == "bytes"


def test_if_range_sends_the_part_only_of_the_picture_that_is_known(users):
    etag = users.get(AVATAR, headers=CUSTOMER).headers["etag"]
    asked = {**CUSTOMER, "range": "bytes=0-9"}
    assert users.get(AVATAR, headers={**asked, "if-range": etag}).status_code == 206
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert users.get(AVATAR, headers={**asked, "if-range": other}).status_code == 200
    assert users.get(AVATAR, headers={**asked, "if-none-match": etag}).status_code == 304
