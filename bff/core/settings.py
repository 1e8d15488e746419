"""What every part of the configuration is made of: `Settings`, and the values people write with a unit.

The values are plain at run time (seconds, bytes, fractions), so that no policy has to know how they were written:

    class RetrySettings(Settings):
        wait: Duration = 0.05       # retry: {wait: 50ms}
        budget: Percent = 0.2       # retry: {budget: 20%}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Key = str | int
Complaint = tuple[tuple[Key, ...], str]


class Settings(BaseModel):
    """One section of the configuration: fixed once loaded, and without room for keys that nobody reads.

    A docstring below a field is its description in the JSON Schema, and so in editors. A value with a short and a long
    form is a union (`Retry | int`): behind a model validator of mode "before", lists would no longer do for tuples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def problems(self) -> Iterable[Complaint]:
        """What is wrong between values that are right each: (where, what), `where` the keys from this section down."""
        return ()


def malformed(expected: str, *, show: bool = True) -> PydanticCustomError:
    """The error for a badly written value: `expected` completes "must be ..."; `show`: whether reports may quote it."""
    return PydanticCustomError(
        "malformed" if show else "malformed_secret", "must be {expected}", {"expected": expected}
    )


_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_LONGEST = 3650 * 86400
_DECIMALS = 6  # to the microsecond, so that 0.1s and 100ms are the same number


def _seconds(value: object) -> float:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        value = round(float(match[1]) * _SECONDS[match[2]], _DECIMALS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise malformed("a duration such as 250ms, 2s, 5m, 1h or 1d")
    return float(value)


def _duration(seconds: float) -> str:
    """In the largest unit that makes a whole number of it."""
    microseconds = round(seconds * 10**_DECIMALS)
    for unit, each in reversed(_SECONDS.items()):
        count, rest = divmod(microseconds, round(each * 10**_DECIMALS))
        if microseconds and not rest:
            return f"{count}{unit}"
    return f"{microseconds / 1000:.3f}ms" if microseconds else "0s"


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": f"^{_DURATION.pattern}$",
            "minimum": 0,
            "maximum": _LONGEST,
            "examples": ["250ms", "2s", "5m", "1h", "1d"],
        }
    ),
]
"""Seconds, written as `250ms`, `2s`, `5m`, `1h`, `1d` or a number of seconds; at most ten years."""


_BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_SIZE = re.compile(r"([0-9]{1,16})(B|KB|MB|GB)")
_LARGEST = 1024**5


def _bytes(value: object) -> int:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        value = int(match[1]) * _BYTES[match[2]]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise malformed("a size such as 512B, 64KB, 2MB or 1GB (1KB is 1024 bytes)")
    return value


def _size(amount: int) -> str:
    unit, each = max((item for item in _BYTES.items() if amount % item[1] == 0), key=lambda item: item[1])
    return f"{amount // each}{unit}" if amount else "0B"


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    PlainSerializer(_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": f"^{_SIZE.pattern}$",
            "minimum": 0,
            "maximum": _LARGEST,
            "examples": ["64KB", "2MB"],
        }
    ),
]
"""Bytes, written as `512B`, `64KB`, `2MB`, `1GB` (1KB is 1024 bytes) or a number of bytes; at most 1024 TB."""


_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


def _fraction(value: object) -> float:
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        value = float(match[1]) / 100
    # A bare 1 may be meant as one percent or as all of it: whoever writes it has to say.
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise malformed("a percentage from 0% to 100%")
    return value


def _percentage(fraction: float) -> str:
    return f"{round(fraction * 100, 6):.6f}".rstrip("0").rstrip(".") + "%"


Percent = Annotated[
    float,
    BeforeValidator(_fraction),
    PlainSerializer(_percentage, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": f"^{_PERCENT.pattern}$",
            "minimum": 0,
            "maximum": 1,
            "examples": ["20%", "0.5%"],
        }
    ),
]
"""A fraction from 0.0 to 1.0, written as `20%` or as a decimal such as `0.2`."""


_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"([1-9][0-9]{0,11})/(second|minute|hour|day)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So much in so long, written as `100/minute`, `20/second`, `5000/hour` or `100000/day`.

    Attributes:
        amount: how many, at least 1.
        per: in how many seconds.
    """

    amount: int
    per: int

    def __str__(self) -> str:
        return f"{self.amount}/{next(name for name, seconds in _PERIODS.items() if seconds == self.per)}"

    @classmethod
    def parse(cls, value: object) -> Rate:
        if isinstance(value, Rate):
            return value
        match = _RATE.fullmatch(value) if isinstance(value, str) else None
        if not match:
            raise malformed("a rate such as 20/second, 100/minute, 5000/hour or 100000/day")
        return cls(int(match[1]), _PERIODS[match[2]])

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return read_from_text(cls, cls.parse, f"^{_RATE.pattern}$", ["20/second", "100/minute", "100000/day"])


def read_from_text(kind: type, parse: Callable[[object], object], pattern: str, examples: list[str]) -> CoreSchema:
    """The schema of a class whose values are text in a configuration, and again where that is shown."""

    def json_schema(_schema: CoreSchema, _handler: object) -> dict[str, Any]:
        return {"type": "string", "pattern": pattern, "examples": examples}

    return core_schema.no_info_before_validator_function(
        parse,
        core_schema.is_instance_schema(kind),
        serialization=core_schema.to_string_ser_schema(when_used="json"),
        metadata={"pydantic_js_functions": [json_schema]},
    )


class Secret:
    """Text that no log, error, repr or dump ever shows; `reveal` is the one way to it, and easy to search for."""

    __slots__ = ("_text",)

    SHOWN: Final = "******"

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Secret({self.SHOWN})"

    def __str__(self) -> str:
        return self.SHOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))
        return core_schema.no_info_before_validator_function(
            lambda value: value.reveal() if isinstance(value, cls) else value,
            text,
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )


_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|[0-9A-Fa-f:.]{2,45}")
_A_URL = "an absolute URL such as http://users.internal:8080"
_URL = re.compile(r"https?://[!-~]{1,2000}", re.IGNORECASE)


def _base_url(value: object) -> str:
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise malformed(_A_URL)
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
    except ValueError:  # a port or an IPv6 address that is none
        raise malformed(_A_URL) from None
    if "@" in url.netloc or any(each in value for each in "?#\\"):
        raise malformed(f"{_A_URL}, without user, password, query or fragment", show=False)
    if not _HOST.fullmatch(host) or port == 0:
        raise malformed(_A_URL)
    return value.rstrip("/")


Url = Annotated[
    str,
    BeforeValidator(_base_url),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\\\\\\s]+(/[^?#\\\\\\s]*)?$",
            "examples": ["http://users.internal:8080"],
        }
    ),
]
"""An http(s) address that paths are added to, without user, password, query or fragment; a last `/` is dropped."""


_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")


def _origin(value: object) -> str:
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value) or _DEFAULT_PORT.fullmatch(value):
        raise malformed("an origin as browsers send it, such as https://shop.example.com: no path, no default port")
    return value


WebOrigin = Annotated[
    str,
    BeforeValidator(_origin),
    WithJsonSchema({"type": "string", "pattern": f"^{_ORIGIN.pattern}$", "examples": ["https://shop.example.com"]}),
]
"""Scheme, host and port of the pages of one site (RFC 6454 §6.2), compared to the letter."""


def _instant(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None:
        raise malformed("a date or time such as 2027-01-31 or 2027-01-31T12:00:00Z")
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


Instant = Annotated[
    float,
    BeforeValidator(_instant),
    PlainSerializer(_timestamp, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["2027-01-31", "2027-01-31T12:00:00Z"]}),
]
"""Seconds since 1970, written as a date or time (ISO 8601), in UTC unless it says otherwise."""


def _file(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise malformed("a path such as operations/")
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


File = Annotated[
    Path,
    PlainValidator(_file),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1, "examples": ["operations/"]}),
]
"""A file or folder; a relative path starts from the configuration's folder."""


def _network(value: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value) if isinstance(value, str | IPv4Network | IPv6Network) else ip_network("")
    except ValueError:
        raise malformed("a network such as 10.0.0.0/8, without bits past its prefix") from None


Network = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$", "examples": ["10.0.0.0/8", "::1"]}),
]
"""Addresses by their prefix: `10.0.0.0/8`, `fd00::/8`, or a single one, `127.0.0.1`."""
