"""`bff health`: whether the gateway of this machine is alive, or ready, for what watches over it."""

from __future__ import annotations

from http.client import HTTPException
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, admin_url, fail, read_config

commands = typer.Typer()


@commands.command()
def health(
    admin: AdminUrl = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it takes requests, not only if it lives.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for its answer.")] = 2.0,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Ask the gateway at its admin port whether it is alive; exit status 1 if it is not.

    With --admin the configuration is not read, which makes it cheap enough to be asked every few seconds.
    """
    base = admin or admin_url(read_config(config, profile).admin)
    if not base.startswith(("http://", "https://")):
        fail(f"--admin is a URL such as http://127.0.0.1:9000, not {base}")
    try:
        answer = build_opener(ProxyHandler({})).open(
            f"{base.rstrip('/')}/{'readyz' if ready else 'healthz'}", None, timeout
        )
        with answer:
            typer.echo(answer.read().decode())
    except HTTPError as error:
        fail(error.read().decode(errors="replace"))
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        fail(f"The gateway's admin port, {base}, does not answer: {reason}")
