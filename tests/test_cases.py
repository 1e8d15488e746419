"""Cases that are a request in, and a response and upstream calls out: see cases/*.yaml.

    - name: what is promised
      profile: production            # or development, which is the default
      config: {graphql: {get: true}} # laid over the harness's configuration
      as: customer                   # or operator, partner; nobody by default
      request: {method: POST, path: /graphql, headers: {}, json: {}, body: text, query: {}}
      response: {status: 200, headers: {}, absent: [], json: {}, code: NOT_FOUND, body: text}
      upstream: ["GET /products?ids"]  # all calls that may be made; without it none

`headers` are some of those that come, None for one that must not; `code` is that of every error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bff.core.errors import Code
from tests.harness import customer, gateway, operator, partner

CALLERS = {"customer": customer, "operator": operator, "partner": partner, None: dict}
KEYS = {"name", "profile", "config", "as", "request", "response", "upstream"}


def cases() -> list[Any]:
    found = []
    for path in sorted((Path(__file__).parent / "cases").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            assert set(case) <= KEYS, case
            found.append(pytest.param(case, id=f"{path.stem}: {case['name']}"))
    assert found
    return found


def codes_in(body: Any) -> set[str]:
    if isinstance(body, dict) and "errors" in body:
        return {error["extensions"]["code"] for error in body["errors"]}
    return {body["code"]} if isinstance(body, dict) and "code" in body else set()


@pytest.mark.parametrize("case", cases())
async def test_case(case):
    shop = gateway(profile=case.get("profile", "development"), **case.get("config", {}))
    asked, expected = case["request"], case["response"]
    response = await shop.client.request(
        asked.get("method", "POST"),
        asked.get("path", "/graphql"),
        headers=CALLERS[case.get("as")]() | asked.get("headers", {}),
        params=asked.get("query"),
        **({"json": asked["json"]} if "json" in asked else {"content": asked["body"]} if "body" in asked else {}),
    )
    assert response.status_code == expected["status"], response.text
    for name, value in expected.get("headers", {}).items():
        assert response.headers.get(name) == value, response.headers
    body = response.json() if "json" in response.headers.get("content-type", "") and response.content else None
    assert codes_in(body) <= set(Code)
    if "code" in expected:
        assert codes_in(body) == {expected["code"]}, response.text
    if "json" in expected:
        assert body == expected["json"]
    if "body" in expected:
        assert response.text == expected["body"]
    assert "x-request-id" in response.headers
    assert sorted(shop.services.targets) == sorted(case.get("upstream", []))
