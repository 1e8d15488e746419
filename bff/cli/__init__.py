"""The command line: `bff run`, `bff check`, and what else an operator or a developer types."""

import typer

from bff.cli import cache, documents, keys, limits, look, new, requests, run, upstreams

main = typer.Typer(name="bff", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
main.add_typer(run.commands)
main.add_typer(look.commands)
main.add_typer(keys.commands, name="keys")
main.add_typer(cache.commands, name="cache")
main.add_typer(limits.commands, name="limits")
main.add_typer(upstreams.commands)
main.add_typer(requests.commands)
main.add_typer(documents.commands, name="documents")
main.add_typer(new.commands, name="new")
