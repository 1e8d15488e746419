"""The service's entry in bff.yaml, put in as text: comments and formatting are the owner's."""

from __future__ import annotations

from typing import Any

import yaml

from bff.core.loading import ConfigError
from bff.core.loading.document import Problem, parse


def entry(name: str, url: str) -> str:
    """What to add below `services:`."""
    return f'{name}: {{url: "{url}"}}'


def with_entry(text: str, name: str, url: str) -> str | None:
    """The configuration with the service in it; None where that can't be done without touching anything else."""
    before = _data(text)
    if not isinstance(before, dict) or not isinstance(before.get("services") or {}, dict):
        return None
    after = _added(text, entry(name, url))
    wanted = before | {"services": (before.get("services") or {}) | {name: {"url": url}}}
    return after if after is not None and _data(after) == wanted else None


def services_of(text: str) -> set[str]:
    """The names that are taken."""
    data = _data(text)
    services = data.get("services") if isinstance(data, dict) else None
    return set(services) if isinstance(services, dict) else set()


def _data(text: str) -> Any:
    problems: list[Problem] = []
    try:
        data = parse(text, "", problems).data()
    except ConfigError:
        return None
    return None if problems else data


def _added(text: str, line: str) -> str | None:
    end = "\r\n" if "\r\n" in text else "\n"
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return f"{text}{'' if not text or text.endswith(end) else end}services:{end}  {line}{end}"
    if root.flow_style:
        return None
    services = next((value for key, value in root.value if key.value == "services"), None)
    if services is None:
        return _after(text, _last(root), end, f"{end}services:{end}  {line}")
    if not isinstance(services, yaml.MappingNode):
        return _after(text, services.start_mark.index, end, f"  {line}")
    if services.flow_style:
        at = services.end_mark.index - 1
        comma = ", " if services.value else ""
        body = text[:at].rstrip(" ")
        return f"{body}{comma}{line}{text[len(body) : at]}{text[at:]}"
    indent = " " * services.value[0][0].start_mark.column
    return _after(text, _last(services), end, f"{indent}{line}", comments=indent)


def _last(node: yaml.Node) -> int:
    """Where the node's last value ends; the end of a block itself would be where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _after(text: str, index: int, end: str, added: str, comments: str | None = None) -> str:
    """`added` as lines of their own after the line of `index`, and after the comments there that belong to it."""
    # The end of a literal block is the beginning of the next line already.
    at = text.find("\n", index) + 1 if not text[:index].endswith("\n") else index
    if not at:
        return f"{text}{end}{added}{end}"
    while comments is not None and text.startswith(f"{comments}#", at):
        following = text.find("\n", at) + 1
        if not following:
            return f"{text}{end}{added}{end}"
        at = following
    return f"{text[:at]}{added}{end}{text[at:]}"
