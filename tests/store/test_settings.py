"""`store`: where it is, told in one line, and what is said of it."""

from __future__ import annotations

import pytest

from bff.config import ConfigError, load
from bff.core.store import StoreSettings, StoreUrl, store_settings
from bff.core.store.servers import slot_of

SERVICES = "services: {users: {url: 'http://users.internal'}}\n"


@pytest.mark.parametrize(("text", "kind", "hosts", "rest"), [
    ("memory://", "memory", (), ("", "", 0)),
    ("redis://valkey.internal", "single", (("valkey.internal", 6379),), ("", "", 0)),
    ("redis://me:p%40ss@10.0.0.7:7000/3", "single", (("10.0.0.7", 7000),), ("", "", 3)),
    ("rediss://[::1]:1?db=2", "single", (("::1", 1),), ("", "", 2)),
    ("unix:///run/valkey.sock?db=1", "unix", (), ("/run/valkey.sock", "", 1)),
    ("rediss+sentinel://:pw@a,b:1/limits/2", "sentinel", (("a", 26379), ("b", 1)), ("", "limits", 2)),
    ("redis+cluster://a,b:7001", "cluster", (("a", 6379), ("b", 7001)), ("", "", 0)),
])  # fmt: skip
def test_where_it_is_takes_one_line(text, kind, hosts, rest):
    url = StoreUrl(text)
    assert (url.kind, url.hosts, (url.path, url.service, url.database)) == (kind, hosts, rest)
    assert url.tls == text.startswith("rediss")
    assert StoreUrl(text) == url
    if "@" not in text:
        assert StoreUrl(str(url)) == url


@pytest.mark.parametrize("text", [
    "", "redis", "redis://", "redis:///1", "redis://a,b", "redis://a/x", "redis://a/1?db=2", "redis://a?timeout=1",
    "redis://a:0",
    "redis://a:99999", "redis://a b", "redis://a#x", "redis+sentinel://a", "redis+cluster://a/1", "unix://",
    "unix:///", "unix://a/b", "memory://a",
    "memory://u:hunter2@", "http://a", "redis+other://a", "unix+cluster://a", "redis://u:hunter2@a/nonsense", 7, ["redis://a"],
])  # fmt: skip
def test_what_is_no_address_is_refused_with_the_forms_there_are_and_never_quoted(text):
    with pytest.raises(ConfigError) as caught:
        load(SERVICES, overrides={"store": text})
    assert "store" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    if isinstance(text, str):
        assert "must be memory://, redis://" in str(caught.value)


def test_the_short_form_is_the_long_one_with_the_defaults():
    short, long = (load(SERVICES, overrides={"store": each}) for each in ("redis://a", {"url": "redis://a"}))
    assert store_settings(short.store) == store_settings(long.store) == StoreSettings(url=StoreUrl("redis://a"))


def test_files_for_tls_are_for_tls():
    with pytest.raises(ConfigError, match="is for rediss:// alone"):
        load(SERVICES, overrides={"store": {"url": "redis://a", "ca": "ca.pem"}})


@pytest.mark.parametrize(("key", "slot"), [(b"123456789", 0x31C3), (b"{user1000}.following", 3443)])
def test_slots_are_those_of_the_cluster_specification(key, slot):
    assert slot_of(key) == slot


def test_windows_too_small_for_one_request_are_told():
    tiers = {"few": {"rate": ["1000/minute", "50/second"]}, "many": {"rate": ["200/second"]}, "free": {}}
    route = {"name": "users", "path": "/users", "service": "users", "cost": 60}
    (one, other) = load(SERVICES, overrides={"tiers": tiers, "routes": [route]}).doubts()
    assert one.startswith("tiers.few: 50/second is less than what one operation may cost, 200 units")
    assert other.startswith("tiers.few: 50/second is less than what route users costs, 60 units")
    assert not list(load(SERVICES, overrides={"tiers": tiers, "limits": {"mode": "off"}}).doubts())
