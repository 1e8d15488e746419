"""`bff health`: whether the gateway of this machine is alive, or ready, for what watches over it."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Annotated, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, admin_url, fail, read_config, why

commands = typer.Typer()

_LONGEST: Final = 64 * 1024  # bytes of an answer


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
        with _answer(f"{base.rstrip('/')}/{'readyz' if ready else 'healthz'}", timeout) as answer:
            status, said = answer.status, answer.read(_LONGEST).decode(errors="replace")
    except (OSError, ValueError, HTTPException) as error:
        fail(f"The gateway's admin port, {base}, does not answer: {why(error)}")
    if status != HTTPStatus.OK:
        fail(said)
    typer.echo(said)


def _answer(url: str, timeout: float) -> HTTPResponse | HTTPError:
    """What comes, whatever its status."""
    try:
        answer: HTTPResponse = build_opener(ProxyHandler({})).open(url, None, timeout)
    except HTTPError as error:
        return error
    return answer
