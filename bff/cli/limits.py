"""`bff limits`: what callers have left, as the running gateway counts it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, ask_admin, fail, group, table

commands = group("What callers may spend.")


@commands.command("show")
def limits_show(
    caller: Annotated[str, typer.Argument(help="consumer:acme, subject:usr_1 or address:192.0.2.1.")],
    admin: AdminUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Say what a caller has left of its limits, asking the gateway at its admin port."""
    found = ask_admin(f"/-/limits/{caller}", admin, config, profile)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found["tiers"]:
        fail(f"{caller} has asked for nothing for a while; callers are consumer:NAME, subject:ID or address:IP")
    rows = [("TIER", "LIMIT", "ALLOWS", "LEFT", "MORE IN")]
    for tier, account in found["tiers"].items():
        for name, each in account["windows"].items():
            allows = f"{each['limit']} in {each['seconds']} s"
            rows.append((tier, name, allows, str(each["left"]), f"{each['more_in_ms'] / 1000:.1f} s"))
        rows += [(tier, name, "", f"{count} under way", "") for name, count in account["under_way"].items()]
    table(rows)
