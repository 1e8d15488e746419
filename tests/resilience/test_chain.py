"""The chain of policies is the one that is documented, whole, and in this order."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from bff.core.telemetry import Telemetry
from bff.upstream import Measures, ServiceSettings, connect

PAGE = Path(__file__).parent.parent.parent / "docs" / "resilience.md"


def test_the_picture_of_the_chain_is_the_chain():
    telemetry = Telemetry()
    settings = ServiceSettings(targets={"stable": ("http://a.internal", "http://b.internal")})
    service = connect("shop", settings, Measures(telemetry), telemetry, Random(7))  # noqa: S311
    chain = [service.transport]
    while inner := getattr(chain[-1], "inner", None) or next(iter(getattr(chain[-1], "_ways", {}).values()), None):
        chain.append(inner)
    names = [type(each).__name__.lower() for each in chain]
    assert names == re.findall(r"^ {7}([a-z]+)  ", PAGE.read_text(), re.MULTILINE)
