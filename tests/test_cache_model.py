"""The cache under random reads, changes, expiries and purges by several callers over both fronts, against a model."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.harness import customer, gateway, partner
from tests.rest.test_cache import OPERATOR, ROUTES, START, TOKEN
from tests.shop import answer

USERS = ("usr_1", "usr_2")
PRODUCTS = ("prd_1", "prd_2")
CALLERS = {"one": customer("usr_1"), "two": customer("usr_2"), "partner": partner(), "nobody": {}}
LIFETIME = 60


class Cache(RuleBasedStateMachine):
    """Each answer says who asked, which version it is of, and when it was made; so it can be judged by itself."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = START
        self.version = dict.fromkeys(USERS + PRODUCTS, 0)
        self.certain = dict.fromkeys(USERS + PRODUCTS, 0)
        """The least version that a read may still give: that of the last purge or change through the gateway."""
        self.changed_at = {id: [START] for id in USERS + PRODUCTS}
        self.gateway = gateway(routes=ROUTES, admin={"token": TOKEN})
        self.gateway.app.state.shelf.clock = lambda: self.now
        self.gateway.services.users.fail(self.behave)
        self.gateway.services.products.fail(self.behave)

    def teardown(self):
        self.loop.run_until_complete(self.gateway.app.state.cache.close())
        self.loop.close()

    async def behave(self, request, call):
        id = call.path.rsplit("/", 1)[1]
        if call.method != "GET":
            self.version[id] += 1
            self.changed_at[id].append(self.now)
        await asyncio.sleep(0)
        subject = call.header("x-auth-subject") or call.header("x-auth-consumer")
        value = {"id": id, "name": f"{subject} {self.version[id]}", "email": "a@example.com"}
        headers = {"cache-control": f"public, max-age={LIFETIME}", "surrogate-key": f"all {id}"}
        return answer(200, value | {"created_at": "2024-01-01T08:00:00Z"}, **headers)

    def run(self, work):
        return self.loop.run_until_complete(work)

    def judge(self, id, caller, response, least):
        assert response.status_code == 200
        asked_by, version = response.json()["name"].split(" ")
        known = {"one": "usr_1", "two": "usr_2", "partner": "partner", "nobody": "None"}[caller]
        assert id in PRODUCTS or asked_by == known, "an answer for another caller"
        assert int(version) >= least, "stale after a change or purge that was answered"
        index = int(version)
        if index + 1 < len(self.changed_at[id]):
            assert self.now - self.changed_at[id][index + 1] <= LIFETIME, "older than it says it may be"

    async def read(self, id, caller):
        path = f"/api/users/{id}" if id in USERS else f"/api/products/{id}"
        least = self.certain[id]
        self.judge(id, caller, await self.gateway.client.get(path, headers=CALLERS[caller]), least)

    @rule(id=st.sampled_from(USERS), caller=st.sampled_from(["one", "two", "partner"]))
    def read_user(self, id, caller):
        self.run(self.read(id, caller))

    @rule(id=st.sampled_from(PRODUCTS), caller=st.sampled_from(sorted(CALLERS)))
    def read_product(self, id, caller):
        self.run(self.read(id, caller))

    @rule(id=st.sampled_from(USERS), subject=st.sampled_from(["one", "two"]), graphql=st.booleans())
    def change_user(self, id, subject, graphql):
        self.run(self.change(id, subject, graphql))

    async def change(self, id, subject, graphql):
        headers = CALLERS[subject]
        if graphql:
            document = f'mutation {{ updateUser(input: {{id: "{id}", name: "x"}}) {{ __typename }} }}'
            await self.gateway.client.post("/graphql", json={"query": document}, headers=headers)
        else:
            await self.gateway.client.patch(f"/api/users/{id}", json={"name": "x"}, headers=headers)
        self.certain[id] = self.version[id]

    @rule(id=st.sampled_from(USERS + PRODUCTS))
    def change_behind_its_back(self, id):
        self.version[id] += 1
        self.changed_at[id].append(self.now)

    @rule(id=st.sampled_from(USERS + PRODUCTS), how=st.sampled_from(["path", "tag", "entity", "everything"]))
    def purge(self, id, how):
        service = "users" if id in USERS else "products"
        what = {
            "path": {"paths": [f"/api/{service}/{id}"]},
            "tag": {"tags": [id]},
            "entity": {"entities": [f"{service}:{id}"]},
            "everything": {"everything": True},
        }[how]
        self.run(self.gateway.admin.post("/-/cache/purge", json=what, headers=OPERATOR))
        for each in self.certain if how == "everything" else [id]:
            self.certain[each] = self.version[each]

    @rule(
        id=st.sampled_from(USERS), callers=st.lists(st.sampled_from(["one", "two", "partner"]), min_size=2, max_size=5)
    )
    def read_while_it_is_changed(self, id, callers):
        async def side_by_side():
            await asyncio.gather(*(self.read(id, each) for each in callers), self.change(id, "one", graphql=False))

        self.run(side_by_side())

    @rule(seconds=st.sampled_from([1, 30, LIFETIME, 2 * LIFETIME]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def nothing_is_under_way(self):
        assert len(self.gateway.app.state.cache.fetches) == 0


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
