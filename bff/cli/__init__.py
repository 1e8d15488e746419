"""The command line: `bff run`, `bff check`, and what else an operator or a developer types."""

import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from bff import __version__
from bff.cli import cache, documents, health, keys, limits, look, new, requests, run, upstreams, usage

main = typer.Typer(name="bff", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
main.add_typer(run.commands)
main.add_typer(health.commands)
main.add_typer(look.commands)
main.add_typer(keys.commands, name="keys")
main.add_typer(cache.commands, name="cache")
main.add_typer(limits.commands, name="limits")
main.add_typer(upstreams.commands)
main.add_typer(requests.commands)
main.add_typer(usage.commands)
main.add_typer(documents.commands, name="documents")
main.add_typer(new.commands, name="new")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bff {__version__} (Python {platform.python_version()})")
        raise typer.Exit


@main.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None: ...


def command() -> None:
    """What the shell calls. A team's `schema/` and `services/` are in the folder that it is called in."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    main()
