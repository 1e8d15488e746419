"""`bff documents`: what clients send, as a manifest that the gateway trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bff.cli.common import DEFAULT_CONFIG, ConfigPath, Profile, fail, group, read_config

commands = group("Trusted documents.")


@commands.command("build")
def documents_build(
    source: Annotated[Path, typer.Argument(help="A .graphql file, or a folder of them.")] = Path("operations"),
    format: Annotated[Literal["apollo", "relay"], typer.Option(help="Whose manifest.")] = "apollo",
    output: Annotated[Path | None, typer.Option(help="The file to write; printed if not given.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Write the manifest of an application's operations, once each of them fits the schema.

    Each operation is an entry, with the fragments that it needs from any of the files; its id is the SHA-256 of its
    text. `apollo` is what generate-persisted-query-manifest writes, with `__typename` where Apollo Client asks for it;
    `relay` is a JSON object from id to text.
    """
    from bff.assembly import schema_of
    from bff.core.telemetry import Telemetry
    from bff.graphql.compose import SchemaError, executable
    from bff.graphql.documents import Documents
    from bff.graphql.trusted import manifest, read

    settings = read_config(config, profile)
    try:
        text = manifest(source, format)
        schema = executable(schema_of(settings))
        Documents(schema, settings.graphql, Telemetry(), read(source))
    except SchemaError as error:
        fail(str(error))
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {output}")
