"""Who asks: one operator whose token every contender is given, so that all of them may check it."""

from __future__ import annotations

import jwt

SECRET = "a-secret-that-only-this-benchmark-uses"  # noqa: S105
ISSUER = "https://id.bench.example"
AUDIENCE = "shop"
SCOPES = [f"{service}:{right}" for service in ("users", "orders", "payments") for right in ("read", "admin")]
FOREVER = 4102444800  # the year 2100

TOKEN = jwt.encode(
    {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "scope": " ".join(SCOPES), "exp": FOREVER},
    SECRET,
    algorithm="HS256",
)
FORGED = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "exp": FOREVER}, SECRET + "!", algorithm="HS256")
