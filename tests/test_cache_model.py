"""Both caches under random reads, changes, expiries and purges by several callers over both fronts, against a model.

At one gateway, and at two that share a real Valkey.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bff.core.store.local import LocalValkey
from tests.harness import customer, gateway, partner
from tests.rest.test_cache import OPERATOR, ROUTES, START, TOKEN
from tests.shop import answer, number, product, user

USERS = ("usr_1", "usr_2")
PRODUCTS = ("prd_1", "prd_2")
CALLERS = {"one": customer("usr_1"), "two": customer("usr_2"), "partner": partner(), "nobody": {}}
KNOWN = {"one": "usr_1", "two": "usr_2", "partner": "partner", "nobody": "None"}
LIFETIME = 60
KEPT = {name: {"cache": {"entities": True}} for name in ("users", "products")}
# Past the HTTP cache, so that what the entity cache has is seen.
PLAIN = [
    {"name": f"plain-{each['name']}", "path": f"/plain{each['path'][4:]}"}
    | {key: value for key, value in each.items() if key not in {"name", "path", "cache"}}
    for each in ROUTES
]

ids = st.sampled_from(USERS + PRODUCTS)
places = st.integers(0, 1)
known_callers = st.sampled_from(["one", "two", "partner"])


class Cache(RuleBasedStateMachine):
    """Each answer says who asked, which version it is of, and when it was made; so it can be judged by itself."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = START
        self.version = dict.fromkeys(USERS + PRODUCTS, 0)
        self.certain = dict.fromkeys(USERS + PRODUCTS, 0)
        """The least version that a read may still give: that of the last purge or change through a gateway."""
        self.changed_at = {id: [START] for id in USERS + PRODUCTS}
        self.gateways = self.opened()
        for each in self.gateways:
            each.app.state.shelf.clock = lambda: self.now
            each.services.users.fail(self.behave)
            each.services.products.fail(self.behave)

    def opened(self):
        return [self.made()]

    def made(self, **more):
        return gateway(routes=[*ROUTES, *PLAIN], services=KEPT, admin={"token": TOKEN}, **more)

    def teardown(self):
        for each in self.gateways:
            self.run(each.app.state.cache.close())
        self.loop.close()

    async def behave(self, _, call):
        wanted = call.ids or [call.path.rsplit("/", 1)[1]]
        if call.method != "GET":
            self.version[wanted[0]] += 1
            self.changed_at[wanted[0]].append(self.now)
        subject = call.header("x-auth-subject") or call.header("x-auth-consumer")
        records = [
            (user if id in USERS else product)(number(id)) | {"name": f"{subject} {self.version[id]}"} for id in wanted
        ]
        await asyncio.sleep(0)
        headers = {"cache-control": f"public, max-age={LIFETIME}", "surrogate-key": " ".join(wanted)}
        return answer(200, {"items": records} if call.ids else records[0], **headers)

    def run(self, work):
        return self.loop.run_until_complete(work)

    def at(self, place):
        return self.gateways[place % len(self.gateways)]

    async def heard(self):
        """Return when all gateways know of what was said until now."""

    def judge(self, id, caller, name, least):
        asked_by, version = name.split(" ")
        assert id in PRODUCTS or asked_by == KNOWN[caller], "an answer for another caller"
        assert int(version) >= least, "stale after a change or purge that was answered"
        index = int(version)
        if index + 1 < len(self.changed_at[id]):
            assert self.now - self.changed_at[id][index + 1] <= LIFETIME, "older than it says it may be"

    async def read(self, place, id, caller, how):
        service, least, shop = "users" if id in USERS else "products", self.certain[id], self.at(place)
        if how == "graphql":
            document = f'{{ {service[:-1]}(id: "{id}") {{ name }} }}'
            found = await shop.query(document, headers=CALLERS[caller])
            assert found.errors == []
            name = found.data[service[:-1]]["name"]
        else:
            path = f"/api/{service}/{id}" if how == "rest" else f"/plain/{service}/{id}"
            found = await shop.client.get(path, headers=CALLERS[caller])
            assert found.status_code == 200
            name = found.json()["name"]
        self.judge(id, caller, name, least)

    @rule(place=places, id=ids, caller=known_callers, how=st.sampled_from(["rest", "plain", "graphql"]))
    def read_one(self, place, id, caller, how):
        self.run(self.read(place, id, caller, how))

    @rule(place=places, id=st.sampled_from(PRODUCTS), how=st.sampled_from(["rest", "plain", "graphql"]))
    def read_as_nobody(self, place, id, how):
        self.run(self.read(place, id, "nobody", how))

    @rule(place=places, wanted=st.permutations(USERS), caller=known_callers)
    def read_several(self, place, wanted, caller):
        least = dict(self.certain)
        path = f"/plain/users?ids={','.join(wanted)}"
        found = self.run(self.at(place).client.get(path, headers=CALLERS[caller])).json()["items"]
        assert [each["id"] for each in found] == wanted
        for each in found:
            self.judge(each["id"], caller, each["name"], least[each["id"]])

    @rule(place=places, id=st.sampled_from(USERS), subject=st.sampled_from(["one", "two"]), graphql=st.booleans())
    def change_user(self, place, id, subject, graphql):
        self.run(self.change(place, id, subject, graphql))

    async def change(self, place, id, subject, graphql):
        headers, shop = CALLERS[subject], self.at(place)
        if graphql:
            document = f'mutation {{ updateUser(input: {{id: "{id}", name: "x"}}) {{ __typename }} }}'
            await shop.client.post("/graphql", json={"query": document}, headers=headers)
        else:
            await shop.client.patch(f"/api/users/{id}", json={"name": "x"}, headers=headers)
        changed = self.version[id]
        await self.heard()
        self.certain[id] = max(self.certain[id], changed)

    @rule(id=ids)
    def change_behind_its_back(self, id):
        self.version[id] += 1
        self.changed_at[id].append(self.now)

    @rule(place=places, id=ids, how=st.sampled_from(["path", "tag", "entity", "everything"]))
    def purge(self, place, id, how):
        service = "users" if id in USERS else "products"
        what = {
            "path": {"paths": [f"/api/{service}/{id}"]},
            "tag": {"tags": [id]},
            "entity": {"entities": [f"{service}:{id}"]},
            "everything": {"everything": True},
        }[how]
        self.run(self.at(place).admin.post("/-/cache/purge", json=what, headers=OPERATOR))
        self.run(self.heard())
        for each in self.certain if how == "everything" else [id]:
            self.certain[each] = self.version[each]

    @rule(place=places, id=st.sampled_from(USERS), callers=st.lists(known_callers, min_size=2, max_size=5))
    def read_while_it_is_changed(self, place, id, callers):
        async def side_by_side():
            hows = ["rest", "plain", "graphql", "rest", "graphql"]
            reads = [self.read(place + at, id, each, hows[at]) for at, each in enumerate(callers)]
            await asyncio.gather(*reads, self.change(place, id, "one", graphql=False))

        self.run(side_by_side())

    @rule(seconds=st.sampled_from([1, 30, LIFETIME, 2 * LIFETIME]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def nothing_is_under_way(self):
        assert [len(each.app.state.cache.fetches) for each in self.gateways] == [0] * len(self.gateways)


class SharedCache(Cache):
    """At two gateways: what one of them says, the other knows before anybody may rely on it."""

    def opened(self):
        self.numbers = count()
        self.seen: list[set[object]] = [set(), set()]
        self.lifetimes = AsyncExitStack()
        self.valkey = LocalValkey()
        self.valkey.start()
        made = [self.made(store={"url": self.valkey.url, "timeout": "1s", "probe": "50ms"}) for _ in self.seen]
        for each, seen in zip(made, self.seen, strict=True):
            self.run(self.lifetimes.enter_async_context(each.app.router.lifespan_context(each.app)))
            each.app.state.shelf.on_purge.append(lambda tags, seen=seen: seen.update(tags or ()))
        return made

    def teardown(self):
        try:
            self.run(self.lifetimes.aclose())
        finally:
            self.valkey.stop()
            self.loop.close()

    async def heard(self):
        """Messages come in order: who has heard the last one has heard all, or keeps nothing from before."""
        async with asyncio.timeout(60):
            for each in self.gateways:
                marker = ("marker", str(next(self.numbers)))
                while not all(marker in seen for seen in self.seen):
                    each.app.state.shelf.purge(frozenset({marker}))
                    await self.has_been_seen(marker)

    async def has_been_seen(self, marker):
        """Or might have been; who was cut off meanwhile has to be told again."""
        for _ in range(100):
            if all(marker in seen for seen in self.seen):
                return
            await asyncio.sleep(0.002)


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestSharedCache = SharedCache.TestCase
TestSharedCache.settings = settings(max_examples=6, stateful_step_count=15, deadline=None)
