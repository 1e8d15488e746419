"""`bff upstreams`: how services do, as the running gateway sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, ask_admin, table

commands = typer.Typer()


@commands.command()
def upstreams(
    admin: AdminUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Say of each target of each service whether it gets calls, and why not, asking the gateway at its admin port."""
    found = ask_admin("/-/upstreams", admin, config, profile)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    rows: list[Sequence[str]] = [
        ("SERVICE", "IN FLIGHT", "WAITING", "RETRIES LEFT", "TARGET", "ARM", "HEALTH", "BREAKER", "WHY")
    ]
    for name, service in found.items():
        told: tuple[str, ...] = name, str(service["in_flight"]), str(service["waiting"]), str(service["retries_left"])
        for each in service["targets"]:
            rows.append((*told, *_target(each)))
            told = ("",) * len(told)
    table(rows)


def _target(target: dict[str, Any]) -> tuple[str, ...]:
    breaker = target["breaker"] or {"state": "off", "why": "", "next_probe_in_s": None}
    health = "ejected" if target["ejected_for"] else "up" if target["up"] else "down"
    why = [target["why"] or "" if health != "up" else "", breaker["why"]]
    if breaker["next_probe_in_s"] is not None:
        why.append(f"next probe in {breaker['next_probe_in_s']} s")
    return target["url"], target["arm"], health, breaker["state"], "; ".join(filter(None, why))
