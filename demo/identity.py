"""The identity provider: keys and a way to rotate them, tokens, introspection (RFC 7662) and revocation (RFC 7009)."""

import base64
import binascii
import re
import secrets
import time
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from demo import keys, tokens
from demo.bodies import bounded_body, expect
from demo.database import database
from demo.keys import ALGORITHMS, Keys
from demo.server import Options, serve, service
from demo.tokens import Tokens

SUBJECT_GRANT = "urn:demo:subject"
CUSTOMER = "users:read users:write orders:read orders:write payments:read payments:write products:read"
OPERATOR = f"{CUSTOMER} users:admin orders:admin payments:admin"
LIFETIME = 3600
SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+( [\x21\x23-\x5B\x5D-\x7E]+)*")  # RFC 6749, appendix A.4
SUBJECT = re.compile(r"[\x21-\x7E]{1,200}")

CLIENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # client: its secret, the scopes it may have as itself, what it may ask for
    "demo-cli": ("demo-secret", OPERATOR, ("client_credentials", SUBJECT_GRANT)),
    "reporting": ("reporting-secret", "users:admin orders:admin orders:read", ("client_credentials",)),
    "bff": ("bff-secret", "", ()),  # asks what opaque tokens mean
}


class Refusal(Exception):
    """An error as OAuth has it (RFC 6749, section 5.2), which is older than problem+json."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.status = error, status


class Identity:
    def __init__(self, keys: Keys, tokens: Tokens) -> None:
        self.keys, self.tokens, self.issuer = keys, tokens, tokens.issuer

    async def discovery(self, _: Request) -> Response:
        """GET /.well-known/openid-configuration"""
        return JSONResponse(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/.well-known/jwks.json",
                "token_endpoint": f"{self.issuer}/token",
                "introspection_endpoint": f"{self.issuer}/introspect",
                "revocation_endpoint": f"{self.issuer}/revoke",
                "response_types_supported": [],
                "grant_types_supported": ["client_credentials", SUBJECT_GRANT],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(ALGORITHMS),
                "scopes_supported": OPERATOR.split(),
            }
        )

    async def jwks(self, _: Request) -> Response:
        """GET /.well-known/jwks.json"""
        return JSONResponse({"keys": [key.jwk for key in self.keys.published]})

    async def rotate(self, _: Request) -> Response:
        """POST /-/rotate: new keys sign from now on, the present ones stay published until the next rotation"""
        self.keys.rotate()
        return JSONResponse({alg: self.keys.signing(alg).kid for alg in ALGORITHMS})

    async def token(self, request: Request) -> Response:
        """POST /token"""
        form = await form_of(request)
        client, grant = client_of(request, form), form.get("grant_type", "")
        if grant not in CLIENTS[client][2]:
            known = grant in ("client_credentials", SUBJECT_GRANT)
            raise Refusal("unauthorized_client" if known else "unsupported_grant_type", f"grant_type {grant!r}")
        subject, scope = granted(client, grant, form)
        lifetime, alg = lifetime_in(form), form.get("alg", "RS256")
        if alg not in ALGORITHMS:
            raise Refusal("invalid_request", f"alg is one of {', '.join(ALGORITHMS)}")
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "shop",
            "sub": subject,
            "client_id": client,
            "scope": scope,
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(12),
        }
        if "plan" in form:
            claims["plan"] = form["plan"]
        opaque = form.get("token_format") == "opaque"
        token = self.tokens.opaque(claims) if opaque else self.tokens.signed(claims, alg)
        return private({"access_token": token, "token_type": "Bearer", "expires_in": lifetime, "scope": scope})

    async def introspect(self, request: Request) -> Response:
        """POST /introspect"""
        form = await form_of(request)
        client_of(request, form)
        claims = self.tokens.claims_of(token_in(form))
        return private({"active": True, "token_type": "Bearer", **claims} if claims else {"active": False})

    async def revoke(self, request: Request) -> Response:
        """POST /revoke: what is no valid token needs no revoking, and is answered like one that did"""
        form = await form_of(request)
        client, claims = client_of(request, form), self.tokens.claims_of(token_in(form))
        if claims and claims["client_id"] != client:
            raise Refusal("unauthorized_client", "the token belongs to another client")
        if claims:
            self.tokens.revoke(claims)
        return private({})


async def form_of(request: Request) -> dict[str, str]:
    expect(request, "application/x-www-form-urlencoded")
    body = (await bounded_body(request)).decode("utf-8", "replace")
    try:
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Refusal("invalid_request", "the form has too many fields") from None
    if len(dict(pairs)) < len(pairs):
        raise Refusal("invalid_request", "a parameter was sent more than once")
    return dict(pairs)


def client_of(request: Request, form: dict[str, str]) -> str:
    """The client that proved itself, by HTTP Basic or in the form."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    client, secret = form.get("client_id", ""), form.get("client_secret", "")
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        client, secret = (unquote_plus(part) for part in decoded.partition(":")[::2])
    expected = CLIENTS.get(client, ("",))[0]
    if not expected or not compare_digest(secret.encode(), expected.encode()):
        raise Refusal("invalid_client", "unknown client or wrong secret", 401)
    return client


def granted(client: str, grant: str, form: dict[str, str]) -> tuple[str, str]:
    """Subject and scope: a client as itself within its own scopes, or, this being a demo, anybody with any."""
    if grant == SUBJECT_GRANT:
        subject, scope = form.get("subject", ""), form.get("scope", CUSTOMER)
        if not SUBJECT.fullmatch(subject):
            raise Refusal("invalid_request", "subject says whose token it is, such as usr_1")
    else:
        subject, scope = client, form.get("scope", CLIENTS[client][1])
        if set(scope.split()) - set(CLIENTS[client][1].split()):
            raise Refusal("invalid_scope", f"{client} may not have all of {scope!r}")
    if scope and not SCOPE.fullmatch(scope):
        raise Refusal("invalid_scope", "scopes are words with one space between them")
    return subject, scope


def lifetime_in(form: dict[str, str]) -> int:
    wanted = form.get("expires_in", str(LIFETIME))
    if not re.fullmatch("[1-9][0-9]{0,3}", wanted) or int(wanted) > LIFETIME:
        raise Refusal("invalid_request", f"expires_in is a number of seconds from 1 to {LIFETIME}")
    return int(wanted)


def token_in(form: dict[str, str]) -> str:
    if not form.get("token"):
        raise Refusal("invalid_request", "token is missing")
    return form["token"]


def private(body: dict[str, Any]) -> Response:
    return JSONResponse(body, headers={"cache-control": "no-store"})


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - what it is registered for
    headers = {"cache-control": "no-store"}
    if error.status == 401:
        headers["www-authenticate"] = 'Basic realm="identity"'
    return JSONResponse({"error": error.error, "error_description": str(error)}, error.status, headers)


def build(options: Options) -> ASGIApp:
    db = database(options.data / "identity.db", f"{keys.SCHEMA}; {tokens.SCHEMA}", keys.generate)
    signing = Keys(db)
    identity = Identity(signing, Tokens(db, signing, options.issuer or f"http://127.0.0.1:{options.port}"))
    return service(
        [
            Route("/.well-known/openid-configuration", identity.discovery),
            Route("/.well-known/jwks.json", identity.jwks),
            Route("/-/rotate", identity.rotate, methods=["POST"]),
            Route("/token", identity.token, methods=["POST"]),
            Route("/introspect", identity.introspect, methods=["POST"]),
            Route("/revoke", identity.revoke, methods=["POST"]),
        ],
        options.latency,
        {Refusal: refused},
    )


if __name__ == "__main__":
    serve(8105, build)
