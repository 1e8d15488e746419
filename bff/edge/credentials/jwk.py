"""Which keys of a published set may be used, and with which algorithm (RFC 7517, RFC 8725 §3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWTError

Kid = str | None

_RSA_BITS = range(2048, 8192 + 1)
_PUBLIC_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_CURVES = {"ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "EdDSA": ("OKP", "Ed25519")}

# Keys that Infineon's chips made can be factored (CVE-2017-15361): modulo each of these primes their modulus is a
# power of 65537, which that of another key is by chance once in a hundred million.
_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_POWERS = {prime: {pow(65537, power, prime) for power in range(prime)} for prime in _ROCA_PRIMES}


def usable(document: Mapping[str, Any], algorithms: Iterable[str], most: int) -> dict[tuple[Kid, str], PyJWK]:
    """What of a key set may be used, by name and algorithm; by no name where an algorithm has one key only.

    Raises:
        ValueError: there is nothing to use, so that the keys from before go on.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > most:
        raise ValueError(f"not a key set of at most {most} keys")
    keys: dict[tuple[Kid, str], PyJWK] = {}
    for algorithm in algorithms:
        found = list(_keys_for(algorithm, entries))
        names = [kid for kid, _ in found]
        # Two keys of one name: which of them was meant, nobody can say.
        keys |= {(kid, algorithm): key for kid, key in found if names.count(kid) == 1}
        keys.pop((None, algorithm), None)
        if len(found) == 1:
            keys[None, algorithm] = found[0][1]
    if not keys:
        raise ValueError("the key set has no key that could be used")
    return keys


def _keys_for(algorithm: str, entries: list[Any]) -> Iterator[tuple[Kid, PyJWK]]:
    for entry in entries:
        if not isinstance(entry, dict) or not _is_meant_for(algorithm, entry):
            continue
        # The public members alone: a provider that publishes its private key too gets no other use of it here.
        public = {member: entry.get(member) for member in ("kty", *_PUBLIC_MEMBERS[entry["kty"]])}
        if not all(isinstance(value, str) for value in public.values()):
            continue
        try:
            key = PyJWK(public, algorithm)
        except (PyJWTError, ValueError):  # such as a point that is not on its curve
            continue
        if entry["kty"] != "RSA" or _is_strong(key.key):
            yield entry.get("kid"), key


def _is_meant_for(algorithm: str, entry: dict[str, Any]) -> bool:
    """RFC 7517 §4.2 to 4.5, and RFC 8725 §3.1: a key is used with the algorithm it was made for."""
    operations = entry.get("key_ops", ["verify"])
    curve = _CURVES.get(algorithm)
    return (
        ((entry.get("kty"), entry.get("crv")) == curve if curve else entry.get("kty") == "RSA")
        and (curve is not None or algorithm.startswith(("RS", "PS")))
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and isinstance(entry.get("kid", ""), str)
    )


def _is_strong(key: RSAPublicKey) -> bool:
    modulus = key.public_numbers().n
    return key.key_size in _RSA_BITS and any(modulus % prime not in _ROCA_POWERS[prime] for prime in _ROCA_PRIMES)
