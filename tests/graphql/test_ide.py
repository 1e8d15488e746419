"""GraphiQL's page and files, as HTTP has them; `tests/browser` looks at them with a browser."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from bff.app import build
from bff.cli.run import example
from bff.graphql.ide import Example
from tests.harness import gateway

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def settings(page: str) -> dict[str, object]:
    (text,) = re.findall(r"<script type=\"application/json\" id=\"settings\">(.*?)</script>", page, re.DOTALL)
    return json.loads(text)


@pytest.fixture
def bundled(tmp_path):
    (tmp_path / "graphiql.js").write_text("// GraphiQL")
    return tmp_path


@pytest.fixture(autouse=True)
def files(monkeypatch, bundled):
    """What is asked for here is not what `make pages` made, which may not be there."""
    monkeypatch.setattr("bff.graphql.ide.ASSETS", bundled)


async def test_a_browser_gets_the_page_under_a_policy_that_lets_nothing_run_but_its_own_files():
    client, services = gateway()
    answer = await client.get("/graphql", headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["worker-src"] == policy["connect-src"] == "'self'"
    sources = {source for each in policy.values() for source in each.split()}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert [name for name, each in policy.items() if "'unsafe-inline'" in each] == ["style-src"]
    assert answer.headers["cache-control"] == "no-store"
    assert "://" not in answer.text
    assert services.calls == []


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/graphql-response+json", "text/*"])
async def test_who_does_not_ask_for_html_by_name_is_no_browser(accept):
    client, _ = gateway()
    answer = await client.get("/graphql", headers={"accept": accept})
    assert answer.status_code in {400, 406}
    assert "html" not in answer.headers["content-type"]


async def test_a_query_by_get_is_answered_also_where_a_browser_sends_it():
    client, _ = gateway()
    answer = await client.get("/graphql", params={"query": "{ __typename }"}, headers=BROWSER)
    assert answer.json() == {"data": {"__typename": "Query"}}


async def test_the_page_does_not_depend_on_whether_queries_are_answered_by_get():
    client, _ = gateway(graphql={"get": False})
    assert (await client.get("/graphql", headers=BROWSER)).status_code == 200
    assert (await client.get("/graphql?query={__typename}", headers=BROWSER)).status_code == 405


@pytest.mark.parametrize("config", [{"profile": "production"}, {"graphql": {"ide": False}}], ids=["production", "off"])
async def test_where_it_is_off_there_is_neither_page_nor_file(config):
    client, _ = gateway(**config)
    for path in ("/graphql", "/graphql/assets/graphiql.js"):
        answer = await client.get(path, headers=BROWSER)
        assert answer.status_code in {400, 404, 405, 406}
        assert "graphiql" not in answer.text.lower()


async def test_it_is_at_the_path_of_the_endpoint_wherever_that_is():
    for path in ("/graphql", "/api/query", "/"):
        client, _ = gateway(graphql={"path": path})
        page = await client.get(path, headers=BROWSER)
        (script,) = re.findall(r"<script type=\"module\" src=\"(.*?)\">", page.text)
        assert (await client.get(page.url.join(script))).status_code == 200


async def test_files_are_sent_with_their_type_and_again_only_if_they_changed(bundled):
    client, _ = gateway()
    first = await client.get("/graphql/assets/graphiql.js")
    assert (first.status_code, first.text) == (200, "// GraphiQL")
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    same = {"if-none-match": first.headers["etag"]}
    assert (await client.get("/graphql/assets/graphiql.js", headers=same)).status_code == 304
    (bundled / "graphiql.js").write_text("// another GraphiQL")
    assert (await client.get("/graphql/assets/graphiql.js", headers=same)).text == "// another GraphiQL"


@pytest.mark.parametrize("name", ["nothing.js", "%2e%2e", "..%2fide.py", "", "..%5cide.py", "a/b", "%00", "x" * 300])
async def test_there_are_no_files_but_those(name):
    client, _ = gateway()
    answer = await client.get(f"/graphql/assets/{name}")
    assert answer.status_code in {400, 404}
    assert any(code in answer.text for code in ("NOT_FOUND", "BAD_REQUEST"))


async def test_pages_and_files_take_no_more_from_an_account_than_one_request():
    shop = gateway(tiers={"anonymous": {"rate": ["2/minute"]}})
    await shop.client.get("/graphql", headers=BROWSER)
    for _ in range(5):
        assert (await shop.client.get("/graphql/assets/graphiql.js")).status_code == 200
    assert (await shop.query("{ __typename }")).status == 200
    assert (await shop.query("{ __typename }")).status == 429


async def test_without_its_files_the_page_says_how_to_get_them_and_the_rest_works(bundled):
    (bundled / "graphiql.js").unlink()
    shop = gateway()
    answer = await shop.client.get("/graphql", headers=BROWSER)
    assert answer.status_code == 404
    assert "make pages" in answer.text
    assert "script" not in answer.text
    assert (await shop.query("{ __typename }")).data == {"__typename": "Query"}


async def test_a_page_without_an_example_holds_no_credential():
    client, _ = gateway()
    assert settings((await client.get("/graphql", headers=BROWSER)).text) == {"assets": "graphql/assets"}


async def test_no_text_of_an_example_can_end_the_element_that_it_is_in(bundled):
    query = "{ a } # </script><script>alert(1)</script><!-- {assets}"

    async def headers():
        return {"X-Odd": "<!--<script>"}

    app = build(gateway().config, example=Example(query, headers))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.example") as client:
        page = (await client.get("/graphql", headers=BROWSER)).text
    given = {"assets": "graphql/assets", "query": query, "headers": {"X-Odd": "<!--<script>"}}
    assert settings(page) == given
    assert page.count("<script") == 2


async def test_the_demos_example_has_a_new_token_for_each_page_and_none_while_its_provider_is_away(real_services):
    given = [(await example(real_services.urls["identity"]).headers())["Authorization"] for _ in range(2)]
    assert all(each.startswith("Bearer ey") for each in given)
    assert len(set(given)) == 2
    assert await example("http://127.0.0.1:1").headers() == {}
