"""`bff requests`: the last requests that failed or were slow, as the gateway has kept them, and what one did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, aligned, ask_admin, table

commands = typer.Typer()

_WIDTH = 40  # of the bars, in characters


@commands.command()
def requests(
    id: Annotated[str | None, typer.Argument(help="Of a request, or of its trace: what it did at services.")] = None,
    admin: AdminUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """List the last requests, failed and slow ones first, or draw what one did, asking the gateway's admin port."""
    path = "/-/requests" if id is None else f"/-/requests/{quote(id, safe='')}"
    found = ask_admin(path, admin, config, profile)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif id is None:
        table([_HEAD, *map(_row, found["requests"])])
    else:
        for line in drawn(found):
            typer.echo(line)


_HEAD = ("KIND", "BEGAN", "MS", "STATUS", "REQUEST", "CODE", "CALLS", "SLOWEST", "ID")


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    what = f"{each['method']} {each['operation'] or each['path']}"
    return (
        each["kind"],
        each["began"][11:23],
        f"{each['ms']:.1f}",
        str(each["status"] or ""),
        what,
        each["code"] or "",
        str(each["calls"]),
        each["slowest_service"] or "",
        each["request_id"],
    )


def drawn(shown: dict[str, Any]) -> Iterator[str]:
    """One request as lines of text: what it was, and its calls over time, those that it waited for with a `*`."""
    yield f"{shown['method']} {shown['path']}  {shown['status']} {shown['code'] or ''}".rstrip()
    yield f"request   {shown['request_id']}, trace {shown['trace_id']}, {shown['began']}"
    if route := shown["route"]:
        yield f"route     {route['name']}  {route['path']}"
    caller = shown["caller"]
    yield f"caller    {' '.join(filter(None, (caller['credential'], caller['consumer'])))}, tier {caller['tier']}"
    if limits := shown["limits"]:
        by = f" by {', '.join(limits['refused_by'])}" if limits["refused_by"] else ""
        yield f"limits    {limits['decision']}{by}, {limits['taken']} units taken, {limits['left']} left"
    if shown["arms"]:
        yield f"arms      {', '.join(f'{service}={arm}' for service, arm in shown['arms'].items())}"
    if shown["cache"]:
        yield f"cache     {shown['cache']}"
    path = shown["critical_path"]["ms"]
    yield f"time      {shown['ms']} ms: {path} ms waiting for calls, {shown['gateway_ms']} ms of the gateway's own"
    yield ""
    yield from aligned([line for row in shown["waterfall"] for line in _lines(row, shown["ms"])])
    if shown["left_out"]:
        yield f"and {shown['left_out']} more"


def _lines(row: dict[str, Any], whole: float) -> Iterator[tuple[str, ...]]:
    mark = "*" if row["critical"] else " "
    keys = f"{row['keys']} keys" if row["keys"] else ""
    if row["hits"]:
        keys += f", {row['hits']} known"
    if row["cached"]:
        keys += f", {row['cached']} cached"
    said = "shared" if row["joined"] else str(row["status"] or row["failed"])
    yield f"{mark} {row['service']}", row["read"] or row["call"], keys, said, f"{row['ms']:.1f} ms", _bar(row, whole)
    for at, each in enumerate(row["attempts"], 1):
        phases = ", ".join(f"{name} {ms}" for name, ms in each["phases"].items() if ms >= 0.05)
        where = f"    {at}. {each['target']}"
        yield where, phases, "", str(each["status"] or each["failed"]), f"{each['ms']:.1f} ms", _bar(each, whole, "-")


def _bar(row: dict[str, Any], whole: float, mark: str = "=") -> str:
    scale = _WIDTH / max(whole, 0.001)
    start = min(_WIDTH - 1, int(row["start_ms"] * scale))
    return f"|{' ' * start}{mark * max(1, min(_WIDTH - start, round(row['ms'] * scale)))}".ljust(_WIDTH + 1) + "|"
