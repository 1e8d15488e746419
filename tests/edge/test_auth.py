"""Who is let in: real keys, real tokens, and a provider that may lie, hang or be away."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bff.core.errors import BadRequest, Forbidden, GatewayError, Unauthenticated, UpstreamUnavailable
from bff.core.head import head_of
from bff.core.identity import ANONYMOUS, Caller
from bff.core.route import Route
from bff.core.settings import Secret
from bff.edge.auth import Auth
from bff.edge.credentials import AuthSettings, Credentials
from bff.edge.credentials.jwt import IssuerSettings
from bff.edge.credentials.keyset import KeySetSettings

ISSUER, AUDIENCE, JWKS = "https://id.example.com", "shop", "https://id.example.com/jwks.json"
SHARED, SHARED_ISSUER = "s3cret-" * 6, "https://partner.example.com"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SMALL_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 (what has to be refused)
EC = ec.generate_private_key(ec.SECP256R1())
API_KEY = "bff_4fJd81kq0zXnE7w2"


def jwk(key: Any, kid: str | None = None, **members: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    entry = algorithm.to_jwk(key.public_key(), as_dict=True)
    entry.pop("key_ops", None)
    return entry | ({"kid": kid} if kid is not None else {}) | members


class Provider(httpx.AsyncBaseTransport):
    """The network: answers with its keys, or does what it is told to."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.body: bytes | None = None
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.hold:
            await self.hold.wait()
        if self.error:
            raise self.error
        body = orjson.dumps({"keys": self.keys}) if self.body is None else self.body
        return httpx.Response(200, stream=httpx.ByteStream(body))


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider() -> Provider:
    return Provider(jwk(RSA, "r1", use="sig", alg="RS256"), jwk(EC, "e1"))


SETTINGS = AuthSettings.model_validate(
    {
        "jwt": [
            {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256", "ES256"], "jwks": JWKS},
            {"issuer": SHARED_ISSUER, "audience": AUDIENCE, "algorithms": ["HS256"], "secret": SHARED},
        ],
        "api_keys": [
            {
                "consumer": "acme",
                "hash": "sha256:" + hashlib.sha256(API_KEY.encode()).hexdigest(),
                "scopes": ["products:read"],
                "tier": "partner",
            }
        ],
    }
)


@pytest.fixture
async def credentials(provider, clock):
    held = Credentials(SETTINGS, provider, clock, timer=clock, tiers=frozenset({"default", "partner"}))
    yield held
    await held.close()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    all_claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "exp": now + 900, "iat": now} | changed
    return {name: value for name, value in all_claims.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r1", header: Any = None, **changed: Any) -> str:
    named = ({"kid": kid} if kid is not None else {}) | (header or {})
    return jwt.encode(claims(**changed), key, algorithm, headers=named)


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sealed(header: dict[str, Any], payload: Any, secret: bytes) -> str:
    """An HMAC token made by hand: PyJWT refuses to sign with what attackers sign with."""
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"shop"), (b"authorization", b"Bearer " + text.encode("latin-1"))]


def another_last_letter(text: str) -> str:
    """The same bytes: the last letter of 256 bytes has four bits too many."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


async def refused(credentials: Credentials, text: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await credentials.identify(bearer(text))
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert len(text) < 5 or text not in caught.value.detail
    return caught.value


# Good credentials


@pytest.mark.parametrize(
    "good",
    [
        token,
        lambda: token(EC, "ES256", "e1"),
        lambda: token(EC, "ES256", None),
        lambda: token(SHARED, "HS256", None, iss=SHARED_ISSUER),
        lambda: token(aud=["other", AUDIENCE]),
        lambda: token(header={"typ": "at+jwt"}),
        lambda: token(header={"typ": None}),
        lambda: token(exp=int(time.time()) - 20),
        lambda: token(nbf=int(time.time()) + 20),
        lambda: token(exp=time.time() + 100.5),
    ],
    ids=["rsa", "ec", "no kid", "shared", "one of several", "access token", "no typ", "leeway", "nbf leeway", "float"],
)
async def test_a_good_token_names_its_subject(credentials, good):
    caller = await credentials.identify(bearer(good()))
    assert (caller.subject, caller.credential, caller.tier) == ("usr_1", "jwt", "default")


async def test_claims_say_scopes_consumer_and_tier(credentials):
    spaced = await credentials.identify(bearer(token(scope="a:read  b:write", client_id="app", plan="partner")))
    assert spaced == Caller("usr_1", "app", frozenset({"a:read", "b:write"}), "partner", "jwt", ISSUER)
    listed = await credentials.identify(bearer(token(scope=["a", "b"], azp="web", sub=None)))
    assert listed == Caller(None, "web", frozenset({"a", "b"}), "default", "jwt", ISSUER)


@pytest.mark.parametrize("plan", ["no-such-tier", "anonymous", 7, ["partner"], True])
async def test_a_tier_that_does_not_exist_is_the_default(credentials, plan):
    assert (await credentials.identify(bearer(token(plan=plan)))).tier == "default"


async def test_other_claims_can_be_named(provider, clock):
    named = {"subject": "uid", "scopes": "permissions", "tier": "level"}
    issuer = SETTINGS.jwt[0].model_dump() | {"claims": named}
    held = Credentials(AuthSettings.model_validate({"jwt": [issuer]}), provider, clock, tiers=frozenset({"gold"}))
    caller = await held.identify(bearer(token(uid="u7", permissions=["x"], level="gold")))
    assert (caller.subject, caller.scopes, caller.tier) == ("u7", {"x"}, "gold")


async def test_an_api_key_names_its_consumer(credentials):
    caller = await credentials.identify([(b"x-api-key", API_KEY.encode())])
    assert caller == Caller(None, "acme", frozenset({"products:read"}), "partner", "api_key")


async def test_no_credential_is_anonymous(credentials, provider):
    assert await credentials.identify([(b"host", b"shop")]) is ANONYMOUS
    assert provider.asked == []


# Bad credentials; the J numbers are rows of the list of attacks


NOW = int(time.time())
HEADER = {"alg": "RS256", "kid": "r1", "typ": "JWT"}
SIGNATURE = token().rsplit(".", 1)[1]
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
HS = {"alg": "HS256", "typ": "JWT"}
ATTACKS = {
    "J01 alg none": [
        f"{part({'alg': alg, 'kid': 'r1'})}.{part(claims())}." for alg in ("none", "None", "NONE", "nOnE")
    ],
    "J02 null signature": [token().rsplit(".", 1)[0] + "."],
    "J03 tampered payload": [".".join([token().split(".")[0], part(claims(sub="admin")), SIGNATURE])],
    "J04 public key as secret": [
        sealed(HS | kid, claims(iss=iss), secret)
        for secret in (PEM, PEM.strip(), DER)
        for kid in ({}, {"kid": "r1"})
        for iss in (ISSUER, SHARED_ISSUER)
    ],
    "J05 embedded jwk": [token(OTHER_RSA, header={"jwk": jwk(OTHER_RSA)}, kid=kid) for kid in (None, "r1", "evil")],
    "J06 jku, x5u": [
        token(OTHER_RSA, header={name: "https://evil.example/jwks"}, kid=kid)
        for name in ("jku", "x5u")
        for kid in ("r1", "evil")
    ],
    "J07 expired": [token(exp=NOW - 3600), token(exp=NOW - 60)],
    "J08 not yet valid": [token(nbf=NOW + 3600), token(iat=NOW + 3600)],
    "J09 wrong audience": [token(aud="someone-else")],
    "J10 wrong issuer": [token(iss="https://evil.example"), token(iss=SHARED_ISSUER)],
    "J11 blank secret": [sealed(HS, claims(iss=iss), b"") for iss in (ISSUER, SHARED_ISSUER)],
    "J12 weak secrets": [
        sealed(HS, claims(iss=SHARED_ISSUER), secret) for secret in (b"secret", b"password", b"changeme", b"1234567890")
    ],
    "J13 kid as a path": [
        sealed(HS | {"kid": kid}, claims(iss=iss), secret)
        for kid in ("../../../dev/null", "/dev/null", "", "x' UNION SELECT '1';--", "|sleep 10")
        for secret in (b"", b"\0")
        for iss in (ISSUER, SHARED_ISSUER)
    ],
    "J14 no exp": [token(exp=None), f"{part(HEADER)}.{part(claims() | {'exp': None})}.{SIGNATURE}"],
    "J15 garbage": [
        *("a", "a.b.c", "...", "..", ".", "a.b.c.d", "", "\x00", "é.é.é", "=" * 8000),
        *(token() + ".x", "Bearer " + token(), token()[:-4]),
        *(f"{part([1])}.{part([])}.AA", f"{part(b'[' * 3000)}.{part(b'[' * 3000)}.AA"),
    ],
    "J52 alg of no kind": [
        f"{part({'alg': alg, 'kid': 'r1'})}.{part(claims())}.{SIGNATURE}"
        for alg in (None, 0, True, [], {}, "HS257", "none ", "\0", ["RS256"])
    ]
    + [f"{part({'kid': 'r1'})}.{part(claims())}.AAAA"],
    "J57 another algorithm": [
        token(algorithm="RS512"),
        token(algorithm="PS256"),
        f"{part({'alg': 'ES256', 'kid': 'r1'})}.{part(claims())}.{part(bytes([1]) * 64)}",
        token(kid="e1"),
    ],
    "J58 times of no kind": [
        token(**{name: value})
        for name in ("exp", "nbf", "iat")
        for value in ("never", str(NOW + 7200), [], {}, -1, "", float("nan"), True, 1e300)
    ]
    + [
        # signed by hand: what json.dumps does not write
        jwt.api_jws.encode(text.encode(), RSA, "RS256", {"kid": "r1"})
        for text in (
            f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"u","exp":1e400}}',
            f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"u","exp":{"9" * 5000}}}',
            f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"u","exp":{"9" * 400}}}',
        )
    ],
    "J61 aud and iss": [token(aud=aud) for aud in (["a", "b"], [], None, {}, 1, AUDIENCE[:-1], AUDIENCE.upper(), "")]
    + [
        jwt.api_jws.encode(orjson.dumps(claims() | {"iss": iss}), RSA, "RS256", {"kid": "r1"})
        for iss in (None, [ISSUER], {}, ISSUER[:-1], ISSUER + "/", 1)
    ],
    "crit": [
        sealed(HS | {"crit": crit, "b64": True, "exp": 1}, claims(iss=SHARED_ISSUER), SHARED.encode())
        for crit in (["b64"], ["exp"], [], None)
    ],
    "typ": [token(header={"typ": kind}) for kind in ("secevent+jwt", "logout+jwt", "JOSE")],
    "kid of no kind": [
        f"{part({'alg': 'RS256', 'kid': kid})}.{part(claims())}.{SIGNATURE}" for kid in (1, [], {}, "k" * 5000)
    ],
    "names that are no names": [
        token(**{name: value})
        for name, values in {
            "sub": ["a b", "a\r\nx-auth-scopes: admin", "", "ü", "x" * 300, 7],
            "client_id": ["a\nb", "", 1, ["x"]],
            "scope": ["a\nb", "a\tb", "ü", 7, {"a": 1}, [1], ["a b"], [["a"]], ["a\r\nb"]],
        }.items()
        for value in values
    ],
    "nobody": [token(sub=None)],
    "bound to a key": [token(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})],
    "another way to write it": [token() + "=", token() + "\n", another_last_letter(token())],
    "too long": [token(note="x" * 9000), "x" * 100_000],
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_bad_token_is_refused_and_asks_nobody_else(credentials, provider, attack):
    await credentials.identify(bearer(token()))
    for text in ATTACKS[attack]:
        await refused(credentials, text)
    await credentials.identify(bearer(token()))
    assert set(provider.asked) == {JWKS}
    assert len(provider.asked) == 1


async def test_a_token_with_two_issuers_is_judged_by_the_one_that_was_verified(credentials):
    text = f'{{"iss":"{SHARED_ISSUER}","iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"u","exp":{NOW + 7200}}}'
    await refused(credentials, sealed(HS, text.encode(), SHARED.encode()))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Basic dTpw")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"")],
        [(b"x-api-key", b"nope")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"k" * 100_000)],
        [(b"x-api-key", SETTINGS.api_keys[0].hash.encode())],
    ],
)
async def test_j16_a_bad_credential_is_not_anonymous(credentials, headers):
    with pytest.raises(Unauthenticated):
        await credentials.identify(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [*bearer("x"), (b"x-api-key", API_KEY.encode())],
        [(b"x-api-key", API_KEY.encode()), *bearer("x")],
        [(b"x-api-key", API_KEY.encode())] * 2,
        bearer("x") * 2,
    ],
)
async def test_two_credentials_are_refused_even_if_one_is_good(credentials, headers):
    with pytest.raises(BadRequest) as caught:
        await credentials.identify(headers)
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_request"'


async def test_what_is_wrong_with_time_is_said(credentials):
    assert "expired" in (await refused(credentials, token(exp=NOW - 100))).detail
    assert "not valid yet" in (await refused(credentials, token(nbf=NOW + 3600))).detail


async def test_the_same_subject_of_another_issuer_is_somebody_else(credentials):
    one = await credentials.identify(bearer(token()))
    other = await credentials.identify(bearer(token(SHARED, "HS256", None, iss=SHARED_ISSUER)))
    assert one.subject == other.subject == "usr_1"
    assert one != other
    assert one.account != other.account
    assert (b"x-auth-issuer", ISSUER.encode()) in one.headers
    assert (b"x-auth-issuer", SHARED_ISSUER.encode()) in other.headers


async def test_a_client_of_an_issuer_has_not_the_account_of_a_key_of_that_name(credentials):
    program = await credentials.identify(bearer(token(sub=None, client_id="acme")))
    holder = await credentials.identify([(b"x-api-key", API_KEY.encode())])
    assert program.consumer == holder.consumer == "acme"
    assert program.account != holder.account


def changed_issuer(**changed: Any) -> AuthSettings:
    return AuthSettings.model_validate({"jwt": [SETTINGS.jwt[0].model_dump() | changed]})


async def test_an_ed25519_key_verifies_what_it_signed_and_nothing_else(provider, clock):
    ed = ed25519.Ed25519PrivateKey.generate()
    public = jwt.algorithms.OKPAlgorithm.to_jwk(ed.public_key(), as_dict=True)
    provider.keys = [public | {"kid": "ed"}, jwk(RSA, "r1")]
    held = Credentials(changed_issuer(algorithms=["EdDSA", "RS256"]), provider, clock)
    assert (await held.identify(bearer(token(ed, "EdDSA", "ed")))).subject == "usr_1"
    assert (await held.identify(bearer(token()))).subject == "usr_1"
    for text in (token(ed25519.Ed25519PrivateKey.generate(), "EdDSA", "ed"), token(kid="ed"), token(ed, "EdDSA", "r1")):
        await refused(held, text)


async def test_subjects_can_be_told_apart_by_a_prefix(provider, clock):
    held = Credentials(changed_issuer(subject_prefix="login:"), provider, clock)
    caller = await held.identify(bearer(token()))
    assert caller.subject == "login:usr_1"
    assert (b"x-auth-subject", b"login:usr_1") in caller.headers


async def test_a_token_may_be_too_long_lived(provider, clock):
    held = Credentials(changed_issuer(max_lifetime="1h"), provider, clock)
    assert (await held.identify(bearer(token(exp=NOW + 3500)))).subject == "usr_1"
    assert "ends sooner" in (await refused(held, token(exp=NOW + 7200))).detail


# A websocket's connection_init


@pytest.mark.parametrize(
    "payload",
    [
        lambda text: {"Authorization": f"Bearer {text}"},
        lambda text: {"authorization": f"bearer {text}", "more": {"x": 1}},
        lambda text: {"headers": {"Authorization": f"Bearer {text}"}},
    ],
)
async def test_a_connection_is_of_whom_its_payload_names(credentials, payload):
    ends = int(time.time()) + 500  # by the clock of now: the suite may have begun long ago
    caller = await credentials.identify_connection(ANONYMOUS, payload(token(exp=ends)))
    assert (caller.subject, caller.expires) == ("usr_1", ends)


async def test_without_a_credential_in_its_payload_a_connection_is_of_whom_its_handshake_named(credentials):
    caller = Caller("usr_7", credential="jwt")
    for payload in (None, {}, {"headers": None}, {"headers": {}}, {"x": "Bearer y"}):
        assert await credentials.identify_connection(caller, payload) is caller


async def test_a_key_in_the_payload_is_taken_and_a_bad_credential_never_falls_back(credentials):
    caller = await credentials.identify_connection(ANONYMOUS, {"X-API-Key": API_KEY})
    assert caller.consumer == "acme"
    for bad in ({"X-API-Key": "no"}, {"Authorization": 7}, {"Authorization": "Bearer é"}, {"Authorization": ""}):
        with pytest.raises(Unauthenticated):
            await credentials.identify_connection(caller, bad)
    with pytest.raises(BadRequest):
        await credentials.identify_connection(caller, {"X-API-Key": API_KEY, "headers": {"x-api-key": "another"}})


async def test_a_credential_that_a_payload_says_twice_is_one(credentials):
    twice = {"X-API-Key": API_KEY, "headers": {"x-api-key": API_KEY}}
    assert (await credentials.identify_connection(ANONYMOUS, twice)).consumer == "acme"


# Verified tokens are remembered


async def test_a_token_is_verified_once(credentials, monkeypatch):
    text = token()
    first = await credentials.identify(bearer(text))
    monkeypatch.setattr(jwt, "decode", None)
    assert await credentials.identify(bearer(text)) is first


async def test_a_remembered_token_needs_no_loop_and_no_tasks(credentials):
    headers = bearer(token())
    caller = await credentials.identify(headers)
    again = credentials.identify(headers)
    with pytest.raises(StopIteration) as done:
        again.send(None)  # finishes without waiting for anything
    assert done.value.value is caller


async def test_a_remembered_token_costs_microseconds(credentials):
    headers = bearer(token())
    await credentials.identify(headers)
    gc.disable()
    best = 1.0
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(100):
            await credentials.identify(headers)
        best = min(best, (time.perf_counter() - started) / 100)
    gc.enable()
    assert best < 5e-6


async def test_a_token_is_not_remembered_past_its_end(credentials, clock):
    text = token(exp=int(clock.now) + 60)
    await credentials.identify(bearer(text))
    clock.now += 91
    await refused(credentials, text)


async def test_a_withdrawn_key_is_not_honoured_for_long(credentials, provider, clock):
    text = token(exp=int(clock.now) + 86400)
    await credentials.identify(bearer(text))
    provider.keys = [jwk(OTHER_RSA, "r2")]
    clock.now += 500
    await credentials.identify(bearer(token(exp=int(clock.now) + 9)))
    await asyncio.sleep(0.01)
    clock.now += 101
    await refused(credentials, text)


async def test_only_so_many_tokens_are_remembered_those_used_last(provider, clock):
    held = Credentials(SETTINGS.model_copy(update={"cache_size": 3}), provider, clock)
    tokens = {name: token(sub=name) for name in "abcd"}
    for name in "abcad":
        await held.identify(bearer(tokens[name]))
    assert [caller.subject for caller, _ in held._verified._callers.values()] == ["c", "a", "d"]


# The provider


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_requests_share_one_fetch_that_outlives_its_first_waiter(credentials, provider):
    provider.hold = asyncio.Event()
    waiting = [asyncio.create_task(credentials.identify(bearer(token(sub=f"u{number}")))) for number in range(20)]
    await settle()
    waiting[0].cancel()
    await settle()
    provider.hold.set()
    callers = await asyncio.gather(*waiting[1:])
    assert {caller.subject for caller in callers} == {f"u{number}" for number in range(1, 20)}
    assert len(provider.asked) == 1


async def test_a_new_key_is_found_by_its_name_at_once(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    clock.now += 31
    provider.keys.append(jwk(OTHER_RSA, "r2"))
    assert (await credentials.identify(bearer(token(OTHER_RSA, kid="r2")))).subject == "usr_1"
    assert len(provider.asked) == 2


async def test_names_that_nobody_knows_cost_one_fetch_in_thirty_seconds(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    for number in range(61):
        clock.now += 1
        await refused(credentials, token(OTHER_RSA, kid=f"made-up-{number}"))
    assert len(provider.asked) == 4


async def test_an_old_token_does_not_use_up_the_fetch_for_a_new_key(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    old = token(OTHER_RSA, kid="retired")
    clock.now += 31
    await refused(credentials, old)
    clock.now += 31
    await refused(credentials, old)
    assert len(provider.asked) == 2
    provider.keys.append(jwk(OTHER_RSA, "r2"))
    await credentials.identify(bearer(token(OTHER_RSA, kid="r2")))


async def test_a_fetch_that_began_before_a_rotation_does_not_make_the_new_key_unknown(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    clock.now += 301
    provider.hold = asyncio.Event()
    await credentials.identify(bearer(token(sub="u2")))  # the keys are old: a fetch begins
    await settle()
    clock.now += 1
    early = asyncio.create_task(credentials.identify(bearer(token(OTHER_RSA, kid="r2"))))
    await settle()
    provider.hold.set()
    with pytest.raises(Unauthenticated):
        await early
    provider.keys.append(jwk(OTHER_RSA, "r2"))
    clock.now += 1
    assert (await credentials.identify(bearer(token(OTHER_RSA, kid="r2")))).subject == "usr_1"


async def test_the_memory_for_unknown_names_is_bounded(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    keys = credentials._issuers[ISSUER]._keys
    for number in range(1500):
        clock.now += 31
        assert await keys.find(f"made-up-{number}", "RS256") is None
    assert len(keys._unknown) == 1000


async def test_fifty_unknown_names_at_once_cost_two_fetches_and_a_key_that_came_meanwhile_is_found(
    credentials, provider, clock
):
    await credentials.identify(bearer(token()))
    clock.now += 2
    provider.keys.append(jwk(OTHER_RSA, "r2"))
    rotated = asyncio.create_task(credentials.identify(bearer(token(OTHER_RSA, kid="r2"))))
    made_up = [credentials.identify(bearer(token(OTHER_RSA, kid=f"made-up-{number}"))) for number in range(50)]
    outcomes = await asyncio.gather(*made_up, return_exceptions=True)
    assert {type(each) for each in outcomes} == {Unauthenticated}
    assert (await rotated).subject == "usr_1"
    assert len(provider.asked) == 2


async def test_keys_that_nobody_could_fetch_for_a_day_are_dropped(credentials, provider, clock):
    text = token(exp=int(clock.now) + 1_000_000)
    await credentials.identify(bearer(text))
    provider.error = httpx.ConnectError("connection refused")
    clock.now += 86399
    await credentials.identify(bearer(text))
    clock.now += 1
    with pytest.raises(UpstreamUnavailable):
        await credentials.identify(bearer(token(exp=int(clock.now) + 300)))
    with pytest.raises(UpstreamUnavailable):
        await credentials.identify(bearer(text))


async def test_keys_are_there_before_the_first_token_is(credentials, provider):
    following = asyncio.create_task(credentials.follow())
    await settle()
    assert provider.asked == [JWKS]
    assert (await credentials.identify(bearer(token()))).subject == "usr_1"
    assert len(provider.asked) == 1
    following.cancel()


async def test_keys_are_fetched_anew_ahead_of_time_and_nobody_waits(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    clock.now += 481
    provider.hold = asyncio.Event()
    await asyncio.wait_for(credentials.identify(bearer(token(sub="u2"))), 20)
    await settle()
    assert len(provider.asked) == 2
    provider.keys = [jwk(OTHER_RSA, "r1")]
    provider.hold.set()
    await settle()
    await credentials.identify(bearer(token(OTHER_RSA, sub="u3")))
    await refused(credentials, token(sub="u4"))


BAD_BODIES = [b"", b"{", b"[]", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [1, null, {}, {"kty": "RSA", "n": []}]}']


@pytest.mark.parametrize("body", [*BAD_BODIES, b'{"keys": [' + b" " * 10_000_000 + b"]}", b"[" * 200_000])
async def test_keys_are_kept_while_the_provider_talks_nonsense(credentials, provider, clock, body):
    await credentials.identify(bearer(token()))
    provider.body = body
    for number in range(5):
        clock.now += 700
        await credentials.identify(bearer(token(sub=f"u{number}", exp=int(clock.now) + 300)))
        await settle()
    assert len(provider.asked) == 6


async def test_keys_are_kept_while_the_provider_is_away_and_it_is_asked_now_and_then(credentials, provider, clock):
    await credentials.identify(bearer(token()))
    provider.error = httpx.ConnectError("connection refused")
    clock.now += 3600
    for number in range(60):
        clock.now += 1
        await credentials.identify(bearer(token(sub=f"u{number}", exp=int(clock.now) + 300)))
        await settle()
    await refused(credentials, token(OTHER_RSA, kid="r2"))
    assert len(provider.asked) == 4


@pytest.mark.parametrize(
    "body", [None, *BAD_BODIES, b" " * KeySetSettings().max_size + orjson.dumps({"keys": [jwk(RSA, "r1")]})]
)
async def test_without_any_keys_ever_the_answer_is_503_soon_and_heals(credentials, provider, clock, body):
    provider.error, provider.body = (httpx.ConnectError("connection refused") if body is None else None), body
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable) as caught:
            await credentials.identify(bearer(token()))
        assert caught.value.retry_after == 1
        assert "id.example.com" not in caught.value.detail
    assert len(provider.asked) == 1
    clock.now += 1.1
    provider.error = provider.body = None
    assert (await credentials.identify(bearer(token()))).subject == "usr_1"


async def test_a_provider_that_hangs_holds_nobody_longer_than_its_timeout(provider, clock):
    settings = SETTINGS.model_copy(update={"key_sets": KeySetSettings(timeout="300ms")})
    held = Credentials(settings, provider, clock)
    provider.hold = asyncio.Event()
    for _ in range(3):  # the best of three, since the machine has other things to do
        started = time.monotonic()
        with pytest.raises(UpstreamUnavailable):
            await held.identify(bearer(token()))
        if (took := time.monotonic() - started) < 1.5:
            break
        clock.now += 10
    assert 0.25 < took < 1.5  # the default is two seconds
    assert await held.identify([]) is ANONYMOUS


async def test_closing_ends_a_fetch_under_way(provider, clock):
    held = Credentials(SETTINGS, provider, clock)
    provider.hold = asyncio.Event()
    asking = asyncio.create_task(held.identify(bearer(token())))
    await settle()
    await held.close()
    with pytest.raises(UpstreamUnavailable):
        await asking


@pytest.mark.parametrize(
    ("entry", "key", "algorithm"),
    [
        (jwk(RSA, "k", use="enc"), RSA, "RS256"),
        (jwk(RSA, "k", alg="RS512"), RSA, "RS256"),
        (jwk(RSA, "k", alg="RSA-OAEP"), RSA, "RS256"),
        (jwk(RSA, "k", key_ops=["encrypt"]), RSA, "RS256"),
        (jwk(RSA, "k", kty="EC"), RSA, "RS256"),
        (jwk(SMALL_RSA, "k"), SMALL_RSA, "RS256"),
        (jwk(ec.generate_private_key(ec.SECP384R1()), "k"), EC, "ES256"),
        ({"kty": "oct", "kid": "k", "k": part(SHARED.encode())}, SHARED, "HS256"),
    ],
    ids=["use", "alg", "oaep", "key_ops", "kty", "small", "curve", "oct"],
)
@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
async def test_a_key_is_used_only_for_what_it_was_made(credentials, provider, entry, key, algorithm):
    provider.keys = [jwk(OTHER_RSA, "good"), entry]
    await refused(credentials, token(key, algorithm, "k"))
    await credentials.identify(bearer(token(OTHER_RSA, kid="good")))


@pytest.mark.parametrize(
    "broken",
    [
        jwk(EC, "b") | {"x": part(b"\1" * 32)},
        jwk(EC, "b") | {"y": "!"},
        jwk(RSA, "b") | {"e": part(b"\2")},
        jwk(RSA, "b") | {"n": ""},
        {"kty": ["RSA"], "kid": "b"},
        {"kty": "RSA", "kid": {}, "n": 1},
    ],
)
async def test_a_broken_key_in_a_set_is_in_no_other_keys_way(credentials, provider, broken):
    provider.keys = [broken, jwk(RSA, "r1")]
    assert (await credentials.identify(bearer(token()))).subject == "usr_1"
    await refused(credentials, token(kid="b"))


async def test_a_set_of_weak_keys_is_no_set(credentials, provider):
    provider.keys = [jwk(SMALL_RSA, "r1")]
    with pytest.raises(UpstreamUnavailable):
        await credentials.identify(bearer(token()))


async def test_a_secret_shorter_than_its_hash_verifies_nothing(provider):
    issuer = SETTINGS.jwt[1].model_copy(update={"secret": Secret("short")})
    held = Credentials(SETTINGS.model_copy(update={"jwt": (issuer,)}), provider)
    await refused(held, sealed(HS, claims(iss=SHARED_ISSUER), b"short"))


async def test_a_token_without_a_name_for_its_key_needs_the_key_to_be_the_only_one(credentials, provider):
    provider.keys = [jwk(RSA, "r1"), jwk(OTHER_RSA, "r2")]
    await refused(credentials, token(kid=None))


# The layer


READ, WRITE = frozenset({"orders:read"}), frozenset({"orders:write"})
GUARDED = Route("orders", "/api/orders", read_scopes=READ, write_scopes=WRITE)
OPEN = Route("products", "/api/products", public=True)


async def passed(credentials, route: Route, headers: Any = (), **scope: Any) -> Caller | GatewayError:
    """The caller that the layers below see, or what is raised in their place."""
    seen: list[Caller] = []

    async def app(scope, receive, send):
        seen.append(scope["bff.caller"])

    given = {"type": "http", "method": "GET", "bff.head": head_of(list(headers)), "bff.route": route} | scope
    try:
        await Auth(app, credentials)(given, None, None)
    except GatewayError as error:
        assert not seen
        SETTINGS.challenge.complete(error)  # as the layer does that answers it
        return error
    return seen[0]


async def test_a_guarded_route_asks_for_a_credential(credentials):
    error = await passed(credentials, GUARDED)
    assert isinstance(error, Unauthenticated)
    assert error.headers == {"WWW-Authenticate": 'Bearer realm="bff", scope="orders:read"'}


async def test_a_public_route_lets_anybody_in_but_no_bad_credential(credentials):
    assert await passed(credentials, OPEN) is ANONYMOUS
    assert (await passed(credentials, OPEN, bearer(token()))).subject == "usr_1"
    assert isinstance(await passed(credentials, OPEN, bearer("x")), Unauthenticated)


async def test_scopes_are_asked_for_by_method(credentials):
    reader = bearer(token(scope="orders:read"))
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (await passed(credentials, GUARDED, reader, method=method)).subject == "usr_1"
    for method in ("POST", "DELETE", "PURGE"):
        error = await passed(credentials, GUARDED, reader, method=method)
        assert isinstance(error, Forbidden)
        assert 'error="insufficient_scope", scope="orders:write"' in error.headers["WWW-Authenticate"]


async def test_all_scopes_are_needed(credentials):
    both = Route("x", "/x", read_scopes=READ | WRITE)
    error = await passed(credentials, both, bearer(token(scope="orders:read")))
    assert 'scope="orders:read orders:write"' in error.headers["WWW-Authenticate"]
    assert (await passed(credentials, both, bearer(token(scope="orders:write orders:read")))).subject


async def test_a_public_route_with_scopes_for_writing_is_public_for_reading_only(credentials):
    mixed = Route("x", "/x", public=True, write_scopes=WRITE)
    assert await passed(credentials, mixed) is ANONYMOUS
    assert isinstance(await passed(credentials, mixed, method="POST"), Unauthenticated)


async def test_websockets_are_guarded_alike(credentials):
    socket = {"type": "websocket"}
    assert isinstance(await passed(credentials, GUARDED, **socket), Unauthenticated)
    assert isinstance(await passed(credentials, GUARDED, bearer(token()), **socket), Forbidden)
    assert (await passed(credentials, GUARDED, bearer(token(scope="orders:read")), **socket)).subject == "usr_1"


# Settings


def complaints(**changed: Any) -> list[str]:
    entry = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256"], "jwks": JWKS} | changed
    return [what for _, what in IssuerSettings.model_validate(entry).problems()]


def test_good_settings_have_no_complaints():
    assert complaints() == []
    assert complaints(jwks=None, secret=SHARED, algorithms=["HS256"]) == []
    for loopback in ("http://127.0.0.1:8105/jwks", "http://localhost/jwks", "http://[::1]:80/jwks"):
        assert complaints(jwks=loopback) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithms": ["RS256", "HS256"]},
        {"algorithms": ["HS256"]},
        {"secret": SHARED},
        {"secret": SHARED, "jwks": None},
        {"jwks": None},
        {"algorithms": ["HS256"], "jwks": None},
        {"algorithms": ["HS256"], "jwks": None, "secret": "short"},
        {"algorithms": ["HS512"], "jwks": None, "secret": "x" * 63},
        {"jwks": "http://id.example.com/jwks"},
        {"jwks": "http://127.0.0.1.evil.example/jwks"},
    ],
)
def test_settings_that_would_let_the_wrong_in_are_refused(changed):
    assert len(complaints(**changed)) == 1


@pytest.mark.parametrize("algorithms", [[], ["none"], ["RS1"], [""]])
def test_algorithms_are_named_and_never_none(algorithms):
    with pytest.raises(ValueError, match="algorithms"):
        complaints(algorithms=algorithms)


@pytest.mark.parametrize(
    "changed", [{"hash": "9f86"}, {"hash": "sha256:" + "Z" * 64}, {"consumer": "a b"}, {"scopes": ["a b"]}]
)
def test_an_api_key_is_a_hash_and_its_names_fit_into_headers(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        AuthSettings.model_validate({"api_keys": [SETTINGS.api_keys[0].model_dump() | changed]})


def test_issuers_and_keys_differ():
    entries = {"jwt": SETTINGS.jwt[:1] * 2, "api_keys": SETTINGS.api_keys * 2}
    assert [where for where, _ in AuthSettings(**entries).problems()] == [("jwt", 1, "issuer"), ("api_keys", 1, "hash")]
