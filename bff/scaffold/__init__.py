"""`bff new service`: the first version of a service's two modules, from its OpenAPI document where there is one."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from bff.core.loading import ConfigError, read_text
from bff.scaffold.code import schema_module, services_module
from bff.scaffold.contract import contract, template
from bff.scaffold.entry import entry, services_of, with_entry
from bff.scaffold.types import ScaffoldError
from bff.scaffold.words import pascal, plural

__all__ = ["ScaffoldError", "new_service"]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_URL = re.compile(r"https?://[^\s\"\\\x00-\x1f\x7f]{1,2000}")
_MAX_NAME = 40


def new_service(
    name: str, *, root: Path, url: str | None = None, openapi: Path | None = None, config: Path | None = None
) -> list[Path]:
    """Write services/NAME.py and schema/NAME.py, and add the service to the configuration.

        new_service("reviews", root=Path(), openapi=Path("reviews.yaml"), config=Path("bff.yaml"))

    From an OpenAPI 3.0 or 3.1 document come the records, a batched read for each list of keys (`ids`, `product_ids`)
    and, where the list has `limit` and `cursor`, a connection. Edges to other services' types are suggested as
    comments, only those whose key the records hold. Without a document it is a template that works.

    Args:
        name: lower case, in the plural as the other services, such as `reviews`.
        root: the folder of `services/` and `schema/`.
        url: where the service is; `http://NAME.internal` if not given.
        openapi: the document, YAML or JSON, at most a million characters.
        config: the configuration; its comments and formatting stay. Where the entry can't be added, it is printed.

    Returns:
        The files that were written or changed.

    Raises:
        ScaffoldError: the name, the URL or the document won't do, or something is there already. Nothing was written.
    """
    url = url or f"http://{name}.internal"
    _check(name, url, root)
    text = _text(config, name)
    described = contract(name, openapi) if openapi else template(name)
    written = {
        root / "services" / f"{name}.py": services_module(name, described),
        root / "schema" / f"{name}.py": schema_module(name, described, lambda one: _has_entity(root, one)),
    }
    for path, source in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(source)
    changed = with_entry(text, name, url) if text is not None else None
    if config is None or changed is None:
        print(f"Add this to the configuration, below `services:`\n  {entry(name, url)}", file=sys.stderr)  # noqa: T201
        return [*written]
    config.write_bytes(changed.encode())
    return [*written, config]


def _check(name: str, url: str, root: Path) -> None:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ScaffoldError(
            f"{name!r} can't be a service's name: use lower-case letters, digits and _, beginning with a letter, "
            f"at most {_MAX_NAME} of them, such as `reviews`"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name == "money":
        raise ScaffoldError(f"{name!r} can't be a service's name: it means something else already")
    if not _URL.fullmatch(url):
        raise ScaffoldError(f"{url!r} can't be a service's URL: it has to be such as http://{name}.internal")
    for folder in ("services", "schema"):
        if (path := root / folder / f"{name}.py").exists():
            raise ScaffoldError(f"{path} is there already: it stays as it is")
        if (path := root / folder / f"{plural(name)}.py").exists():
            raise ScaffoldError(f"{path} is there already: services are named in the plural")


def _text(config: Path | None, name: str) -> str | None:
    if config is None or not config.exists():
        return None
    try:
        read_text(config)  # which knows the bound
        text = config.read_bytes().decode()
    except ConfigError as error:
        raise ScaffoldError(str(error)) from None
    if name in services_of(text):
        raise ScaffoldError(f"{config}: there is a service {name} already")
    return text


def _has_entity(root: Path, one: str) -> bool:
    """Whether a module of the gateway has an entity of this name, and a read of it by id."""
    schema, services = (root / folder / f"{plural(one)}.py" for folder in ("schema", "services"))
    if not schema.is_file() or not services.is_file():
        return False
    has_type = f"\nclass {pascal(one)}(Node)" in schema.read_text("utf-8")
    return has_type and f"\nasync def {one}_by_id(" in services.read_text("utf-8")
