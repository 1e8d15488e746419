"""What several commands share: their options, how a configuration is read, and how a failure is said."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from bff.config import AdminSettings, Config, Loaded

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", envvar="BFF_CONFIG")]
Profile = Annotated[str, typer.Option(help="production or development.", envvar="BFF_PROFILE")]
AdminUrl = Annotated[str | None, typer.Option(help="The admin port, http://127.0.0.1:9000; else as configured.")]
DEFAULT_CONFIG = Path("bff.yaml")


def group(about: str) -> typer.Typer:
    return typer.Typer(help=about, no_args_is_help=True)


def read_config(path: Path, profile: str) -> Config:
    return traced_config(path, profile).config


def traced_config(path: Path, profile: str) -> Loaded[Config]:
    """With where each value came from."""
    from bff.config import ConfigError, traced

    try:
        return traced(path, profile=profile, environ=os.environ)
    except ConfigError as error:
        fail(str(error))


def warn(config: Config) -> None:
    """Of what can be meant, and probably is not."""
    for each in config.doubts():
        typer.echo(f"Warning: {each}", err=True)


def admin_url(admin: AdminSettings) -> str:
    """Where this machine reaches the admin port: where it listens at all addresses, at its own."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.host, admin.host)  # noqa: S104 - compared, not listened at
    return f"http://[{host}]:{admin.port}" if ":" in host else f"http://{host}:{admin.port}"


def ask_admin(
    path: str,
    url: str | None,
    config: Path,
    profile: str,
    *,
    sent: object = None,
    refusals: frozenset[int] = frozenset(),
) -> dict[str, Any]:
    """What the running gateway says at its admin port; where something is sent, it is told to do it.

    `refusals` are statuses whose answers say something as well.
    """
    import httpx

    admin = read_config(config, profile).admin
    headers = {"Authorization": f"Bearer {admin.token.reveal()}"} if admin.token else {}
    base = url or admin_url(admin)
    try:
        at = httpx.URL(base).copy_with(path=path)
        answer = httpx.get(at, headers=headers) if sent is None else httpx.post(at, headers=headers, json=sent)
        if answer.status_code == httpx.codes.NOT_FOUND:
            fail(str(answer.json()["detail"]))
        if answer.status_code not in refusals:
            answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"The gateway's admin port, {base}, does not say: {why(error)}")
    found: dict[str, Any] = answer.json()
    return found


def table(rows: Sequence[Sequence[str]]) -> None:
    for line in aligned(rows):
        typer.echo(line)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each, their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


@contextmanager
def failing() -> Iterator[None]:
    """What is wrong with a file is said, not thrown."""
    from bff.config import ConfigError

    try:
        yield
    except ConfigError as error:
        fail(str(error))


def why(error: Exception) -> str:
    """What is wrong, in words alone: `Connection refused`, without urllib's wrapping and the system's number."""
    reason = getattr(error, "reason", error)
    return re.sub(r"^\[Errno -?[0-9]+\] ", "", str(getattr(reason, "strerror", None) or reason))


def fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
