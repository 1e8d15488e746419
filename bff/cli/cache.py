"""`bff cache`: what the running gateway keeps of answers, dropped."""

from __future__ import annotations

from typing import Annotated

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, ask_admin, fail, group

commands = group("What is kept of answers.")


@commands.callback()
def cache() -> None:
    """Keep the name of the one command."""


@commands.command()
def purge(
    path: Annotated[
        list[str] | None, typer.Option(help="Of the gateway: /api/products/prd_1, or /api/products/* for all below.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A name that services gave to answers (Surrogate-Key).")] = None,
    entity: Annotated[list[str] | None, typer.Option(help="A service and an id: products:prd_1.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that there is.")] = False,
    admin: AdminUrl = None,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Drop answers; whoever asks from then on is given nothing that was read before. Options may come several times."""
    what = {"paths": path or [], "tags": tag or [], "entities": entity or [], "everything": everything}
    if not any(what.values()):
        fail("Say what to purge: --path, --tag, --entity or --all")
    found = ask_admin("/-/cache/purge", admin, config, profile, sent=what)
    typer.echo(f"{found['purged']} answers dropped")
