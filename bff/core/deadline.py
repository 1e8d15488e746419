"""How long a request may take: what its route allows, or less where the client asks for less."""

from __future__ import annotations

import re
from typing import Final

from bff.core.errors import BadRequest

REQUEST_TIMEOUT: Final = b"request-timeout"
"""The header in which clients say it to us, and we to services: seconds, such as `2` or `0.25`."""

_SECONDS = re.compile(rb"[0-9]{1,7}(?:\.[0-9]{1,9})?")


def seconds_asked(value: bytes) -> float:
    """What `Request-Timeout` says.

    Raises:
        BadRequest: it is no number of seconds, or none above nought.
    """
    seconds = float(value) if _SECONDS.fullmatch(value) else 0.0
    if not seconds:
        raise BadRequest("`Request-Timeout` must be a number of seconds above 0, such as 2 or 0.25")
    return seconds
