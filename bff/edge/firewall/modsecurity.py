"""The ModSecurity engine with rules such as the OWASP Core Rule Set, for those who must have it.

It is Debian's libmodsecurity3, whose rules are regular expressions that take their time: a request is looked at in a
thread, with a bounded body. After https://github.com/owasp-modsecurity/ModSecurity/wiki , the C interface of version 3.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from threading import BoundedSemaphore
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from bff.core.errors import Overloaded
from bff.core.loading import ConfigError
from bff.core.settings import Settings

_Headers = Iterable[tuple[bytes, bytes]]

_ID = re.compile(rb'\[id "(\d+)"\]')
# Those that only add up what others have found.
_SUMS = re.compile(r"9(?:49|59|80)\d\d\d")
_MOST_IDS = 20  # of one request
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})

# What Debian's package leaves to the server that loads the rules. Services of REST know more methods than the rules.
_BASE = b"""
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess Off
SecAuditEngine Off
SecPcreMatchLimit 100000
SecPcreMatchLimitRecursion 100000
SecRule REQUEST_HEADERS:Content-Type "^application/(?:[a-z0-9.-]+[+])?json" \
 "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\\+|/)|text/)xml" \
 "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecAction "id:200002,phase:1,nolog,pass,t:none,\
 setvar:'tx.allowed_methods=GET HEAD POST OPTIONS PUT PATCH DELETE'"
"""


class ModSecuritySettings(Settings):
    rules: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files of rules in their order, with wildcards, `/usr/share/modsecurity-crs/rules/*.conf`; the setup first."""
    library: str = "libmodsecurity.so.3"
    """Of version 3; Debian's package is libmodsecurity3."""
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    """That look at requests."""
    max_waiting: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Requests that are looked at or wait for it; one more is refused with 503."""


class Seen(NamedTuple):
    """A request, as the engine is shown it."""

    method: bytes
    target: bytes
    headers: _Headers
    body: bytes
    client: bytes


class ModSecurity:
    """One engine with its rules.

    Raises:
        ConfigError: the library or the rules cannot be loaded.
    """

    def __init__(self, settings: ModSecuritySettings) -> None:
        self._library = _Library(settings)
        self._threads = ThreadPoolExecutor(settings.threads, "modsecurity")
        self._room = BoundedSemaphore(settings.max_waiting)

    async def inspect(self, seen: Seen) -> str | None:
        """The id of the rule that speaks against a request, if the engine would refuse it.

        Raises:
            Overloaded: as many requests wait as may.
        """
        if not self._room.acquire(blocking=False):
            raise Overloaded("The firewall has as many requests to look at as it may", retry_after=1)
        looking = self._threads.submit(self._library.verdict, seen)
        # Also where nobody waits for it any more: what has begun goes on to its end.
        looking.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(looking)


class _Intervention(ctypes.Structure):
    _fields_ = (
        ("status", ctypes.c_int),
        ("pause", ctypes.c_int),
        ("url", ctypes.c_void_p),
        ("log", ctypes.c_void_p),
        ("disruptive", ctypes.c_int),
    )


_OnLog = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
_POINTER, _TEXT, _SIZE, _NUMBER = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "init": (_POINTER,),
    "set_connector_info": (None, _POINTER, _TEXT),
    "set_log_cb": (None, _POINTER, _OnLog),
    "create_rules_set": (_POINTER,),
    "rules_add": (_NUMBER, _POINTER, _TEXT, ctypes.POINTER(_TEXT)),
    "rules_add_file": (_NUMBER, _POINTER, _TEXT, ctypes.POINTER(_TEXT)),
    "new_transaction": (_POINTER, _POINTER, _POINTER, _POINTER),
    "process_connection": (_NUMBER, _POINTER, _TEXT, _NUMBER, _TEXT, _NUMBER),
    "process_uri": (_NUMBER, _POINTER, _TEXT, _TEXT, _TEXT),
    "add_n_request_header": (_NUMBER, _POINTER, _TEXT, _SIZE, _TEXT, _SIZE),
    "process_request_headers": (_NUMBER, _POINTER),
    "append_request_body": (_NUMBER, _POINTER, _TEXT, _SIZE),
    "process_request_body": (_NUMBER, _POINTER),
    "intervention": (_NUMBER, _POINTER, ctypes.POINTER(_Intervention)),
    "transaction_cleanup": (None, _POINTER),
}


class _Library:
    """The library, called by its C interface; its calls let other threads run."""

    def __init__(self, settings: ModSecuritySettings) -> None:
        try:
            library = ctypes.CDLL(settings.library)
        except OSError as error:
            raise ConfigError.of(
                "firewall.modsecurity",
                f"the library cannot be loaded: {error}. Install Debian's libmodsecurity3, or leave this out",
            ) from error
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, f"msc_{name}")
            function.restype, function.argtypes = result, arguments
        self._msc = library
        self._free = ctypes.CDLL(None).free
        self._free.argtypes = (_POINTER,)
        self._logged: dict[int, list[str]] = {}
        self._on_log = _OnLog(self._log)  # held, since the library holds only its address
        self._engine = library.msc_init()
        library.msc_set_connector_info(self._engine, b"bff")
        library.msc_set_log_cb(self._engine, self._on_log)
        self._rules = library.msc_create_rules_set()
        self._add(library.msc_rules_add, _BASE)
        for each in settings.rules:
            files = sorted(glob(each))  # noqa: PTH207 - of a path that may be absolute
            if not files:
                raise ConfigError.of("firewall.modsecurity.rules", f"there is no file {each}")
            for file in files:
                self._add(library.msc_rules_add_file, os.fsencode(file))

    def _add(self, add: Any, rules: bytes) -> None:
        error = _TEXT()
        if add(self._rules, rules, ctypes.byref(error)) < 0:
            said = (error.value or b"").decode("utf-8", "replace").strip()
            raise ConfigError.of("firewall.modsecurity.rules", f"the rules cannot be loaded: {said}")

    def _log(self, key: int | None, text: bytes) -> None:
        """What the engine says of a rule that matched; of what is said only the rule's id is kept."""
        ids = self._logged.get(key or 0)
        if ids is not None and len(ids) < _MOST_IDS and (found := _ID.search(text)):
            ids.append(found[1].decode())

    def verdict(self, seen: Seen) -> str | None:
        # Its address is the key under which the engine speaks of this request.
        ids: list[str] = []
        key = id(ids)
        self._logged[key] = ids
        transaction = self._msc.msc_new_transaction(self._engine, self._rules, key)
        try:
            return self._judged(transaction, seen, ids)
        finally:
            self._msc.msc_transaction_cleanup(transaction)
            del self._logged[key]

    def _judged(self, transaction: Any, seen: Seen, ids: list[str]) -> str | None:
        msc = self._msc
        msc.msc_process_connection(transaction, seen.client, 0, b"127.0.0.1", 80)
        msc.msc_process_uri(transaction, seen.target, seen.method, b"1.1")
        for name, value in seen.headers:
            if name not in _CREDENTIALS:
                msc.msc_add_n_request_header(transaction, name, len(name), value, len(value))
        msc.msc_process_request_headers(transaction)
        if self._refuses(transaction):
            return _speaking(ids)
        if seen.body:
            msc.msc_append_request_body(transaction, seen.body, len(seen.body))
        msc.msc_process_request_body(transaction)
        return _speaking(ids) if self._refuses(transaction) else None

    def _refuses(self, transaction: Any) -> bool:
        found = _Intervention(status=200)
        refuses = bool(self._msc.msc_intervention(transaction, ctypes.byref(found)))
        self._free(found.url)
        self._free(found.log)
        return refuses


def _speaking(ids: list[str]) -> str:
    """The rule that says what is wrong, before those that add up."""
    return next((each for each in ids if not _SUMS.fullmatch(each)), ids[0] if ids else "unknown")
