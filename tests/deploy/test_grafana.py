"""The dashboard is one that Grafana understands, by the types that Grafana's own project makes of its schema."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.running import ROOT

WRITTEN = json.loads((ROOT / "deploy" / "grafana" / "gateway.json").read_text())
# Of panels and queries, where Grafana's own variables begin with two underscores.
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@pytest.fixture(scope="module")
def understood() -> Dashboard:
    register_default_plugins()
    return Dashboard.from_json(WRITTEN)


def left_out(written: Any, read: Any, at: str = "") -> Iterator[str]:
    """What of it was not taken over as it is: what has no such name in the schema, for one."""
    if isinstance(written, dict) and isinstance(read, dict):
        for name, value in written.items():
            yield from left_out(value, read.get(name), f"{at}.{name}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, pair in enumerate(zip(written, read, strict=True)):
            yield from left_out(*pair, f"{at}[{number}]")
    elif written != read:
        yield at


def no_choices(value: Any, at: str = "") -> Iterator[str]:
    """Words where the schema has a choice of others."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from no_choices(each, f"{at}.{name}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from no_choices(each, f"{at}[{number}]")
    elif type(value).__module__.startswith("grafana_foundation_sdk.models") and not isinstance(value, enum.Enum):
        kinds = get_type_hints(type(value))
        for name, each in vars(value).items():
            kind = kinds.get(name)
            choices = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, enum.Enum)]
            if isinstance(each, str) and choices and not any(each in set(map(str, one)) for one in choices):
                yield f"{at}.{name}: {each}"
            yield from no_choices(each, f"{at}.{name}")


def test_grafana_has_a_meaning_for_all_of_it(understood):
    assert list(left_out(WRITTEN, json.loads(json.dumps(understood, cls=JSONEncoder)))) == []
    assert list(no_choices(understood)) == []


def test_what_is_misspelt_would_be_found():
    register_default_plugins()
    text = (
        json.dumps(WRITTEN)
        .replace('"legendFormat"', '"legendFromat"')
        .replace('"displayMode": "list"', '"displayMode": "lst"')
    )
    misspelt = Dashboard.from_json(json.loads(text))
    lost = list(left_out(json.loads(text), json.loads(json.dumps(misspelt, cls=JSONEncoder))))
    assert lost
    assert all(each.endswith(".legendFromat") for each in lost)
    assert any(each.endswith(".display_mode: lst") for each in no_choices(misspelt))


def test_variables_that_are_used_are_there_and_the_other_way_round():
    used = {each for each in VARIABLE.findall(json.dumps(WRITTEN)) if not each.startswith("__")}
    assert used == {each["name"] for each in WRITTEN["templating"]["list"]}
