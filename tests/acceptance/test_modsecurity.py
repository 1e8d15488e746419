"""The ModSecurity engine with Debian's Core Rule Set behind the firewall: what it refuses, and what it never sees."""

from __future__ import annotations

import asyncio
from ctypes.util import find_library
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from bff.config import ConfigError
from bff.edge.firewall.rules import rules
from tests.harness import FOUR_SERVICES, Gateway, gateway, operator
from tests.live.socket import Socket

CRS = ["/etc/modsecurity/crs/crs-setup.conf", "/usr/share/modsecurity-crs/rules/*.conf"]
pytestmark = pytest.mark.skipif(
    not (find_library("modsecurity") and Path("/usr/share/modsecurity-crs").is_dir()),
    reason="there is no ModSecurity: `make modsecurity` installs Debian's",
)
PATH = "/api/products/prd_1"
ATTACKS = {
    "sql": "1 UNION SELECT password FROM users",
    "script": "<script>alert(1)</script>",
    "traversal": "../../../../etc/passwd",
    "shell": ";cat /etc/passwd",
}


def shop(mode: str = "block", **modsecurity: object) -> Gateway:
    """None of our own rules says anything, so that it is the engine that does."""
    off = [rule.id for rule in rules()]
    return gateway(firewall={"mode": mode, "disabled": off, "modsecurity": {"rules": CRS, **modsecurity}})


@pytest.fixture(scope="module")
def running() -> Gateway:
    return shop()


def blocked_by(response) -> str:
    assert (response.status_code, response.json().get("code")) == (403, "REQUEST_BLOCKED"), response.text
    rule: str = response.json()["rule"]
    assert rule.startswith("modsecurity-9")
    return rule


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_is_refused_with_the_rule_that_found_it(running, attack):
    running.services.forget()
    found = [
        blocked_by(await running.client.get(f"{PATH}?q={quote_plus(attack)}")),
        blocked_by(await running.client.post("/api/orders", json={"a": [{"b": attack}]}, headers=operator())),
        blocked_by(await running.client.patch("/api/users/usr_1", data={"q": attack}, headers=operator())),
    ]
    assert "modsecurity-949110" not in found  # which only says that others add up
    assert not running.services.calls


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_of_graphql_it_sees_the_strings_alone(running, attack):
    running.services.forget()
    query = "query ($id: ID!) { product(id: $id) { name } }"
    literal = query.replace("($id: ID!)", "").replace("$id", f'"{attack}"')
    for answer in (await running.query(query, {"id": attack}), await running.query(literal)):
        assert (answer.status, answer.codes) == (403, ["REQUEST_BLOCKED"])
    async with Socket(running.app) as socket:
        await socket.init()
        await socket.subscribe("1", query, variables={"id": attack})
        assert (await socket.hear())["payload"][0]["extensions"]["code"] == "REQUEST_BLOCKED"
    assert not running.services.calls
    innocent = (
        'query SelectFromUsers { union: product(id: "prd_1") { select: id } }  # 1 UNION SELECT password FROM users'
    )
    assert (await running.query(innocent)).data == {"union": {"select": "prd_1"}}


async def test_ordinary_requests_pass(running):
    running.services.forget()
    assert (await running.query(FOUR_SERVICES, headers=operator())).status == 200
    assert (await running.client.get(f"{PATH}?q=blue+shoes&page=2")).status_code == 200
    note = {"name": "O'Brien & Söhne", "note": "ring twice; 2nd floor"}
    for method in ("PATCH", "PUT", "DELETE"):
        response = await running.client.request(method, "/api/users/usr_1", json=note, headers=operator())
        assert response.json().get("code") != "REQUEST_BLOCKED", method


async def test_a_body_goes_on_as_it_came_and_only_its_beginning_is_read():
    one = shop()
    body = b'{"note": "' + b"a" * 100_000 + b'<script>alert(1)</script>"}'
    await one.client.post("/api/orders", content=body, headers={**operator(), "content-type": "application/json"})
    assert [call.body for call in one.services.calls] == [body]


async def test_detect_counts_and_lets_pass():
    one = shop("detect")
    assert (await one.client.get(f"{PATH}?q={quote_plus(ATTACKS['sql'])}")).status_code == 200
    (line,) = [each for each in one.log if each["event"] == "firewall"]
    assert (line["where"], line["blocked"]) == ("request", False)
    assert line["rule"].startswith("modsecurity-942")
    assert "UNION" not in str(one.log)


async def test_more_than_may_wait_are_refused_and_the_next_are_served():
    one = shop(threads=1, max_waiting=2)
    statuses = [each.status_code for each in await asyncio.gather(*(one.client.get(PATH) for _ in range(12)))]
    assert set(statuses) == {200, 503}
    assert (await one.client.get(PATH)).status_code == 200


def test_rules_that_cannot_be_read_are_an_error_at_the_start(tmp_path):
    (tmp_path / "bad.conf").write_text("SecNonsense on\n")
    with pytest.raises(ConfigError, match=r"the rules cannot be loaded: .*SecNonsense"):
        shop(rules=[str(tmp_path / "bad.conf")])
    with pytest.raises(ConfigError, match="there is no file"):
        shop(rules=[str(tmp_path / "missing.conf")])
