"""The command line: `bff run`, `bff check`, and what else an operator or a developer types."""

import sys
from pathlib import Path

import typer

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


def command() -> None:
    """What the shell calls. A team's `schema/` and `services/` are in the folder that it is called in."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    main()
