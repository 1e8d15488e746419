"""`bff new`: the first version of something, written from what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bff.cli.common import DEFAULT_CONFIG, ConfigPath, fail, group

commands = group("Write the first version of something.")


@commands.command("service")
def new_service(
    name: Annotated[str, typer.Argument(help="In the plural, such as reviews.")],
    openapi: Annotated[Path | None, typer.Option(help="The service's OpenAPI document.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the service is.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write services/NAME.py and schema/NAME.py, and the service's entry in the configuration."""
    from bff.scaffold import ScaffoldError
    from bff.scaffold import new_service as write

    try:
        written = write(name, root=Path.cwd(), url=url or f"http://{name}.internal", openapi=openapi, config=config)
    except ScaffoldError as error:
        fail(str(error))
    for path in written:
        typer.echo(f"wrote {path}")
