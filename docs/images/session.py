# ruff: noqa: INP001 - it is no module of anything
"""Draws docs/images/session.svg from what a terminal really shows: `python docs/images/session.py BANNER`.

BANNER is a file with the beginning of what `make run` printed, while that gateway is still up on its usual ports.
"""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path
from urllib.request import Request, urlopen

from rich.console import Console
from rich.syntax import Syntax
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 112
# Two users and two orders of each, so that the answer fits into a picture.
FEWER = (("users(first: 10)", "users(first: 2)"), ("orders(first: 3)", "orders(first: 2)"))


def banner(path: Path) -> list[str]:
    """From the line that says it is up to the last one that is no log line."""
    lines = path.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("The gateway is up"))
    return [line for line in lines[start : start + 24] if not line.startswith("{")]


def ask(lines: list[str]) -> tuple[str, str]:
    token = next(line.partition("TOKEN=")[2] for line in lines if "TOKEN=" in line)
    query: str = json.loads(next(line.split("'")[3] for line in lines if "-d '" in line))["query"]
    for long, short in FEWER:
        query = query.replace(long, short)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request("http://127.0.0.1:8000/graphql", json.dumps({"query": query}).encode(), headers)
    with urlopen(request) as response:  # noqa: S310 - the gateway on this machine
        return query, json.dumps(json.load(response))


def main() -> None:
    lines = banner(Path(sys.argv[1]))
    query, answer = ask(lines)
    console = Console(record=True, width=WIDTH, file=StringIO(), highlight=False)
    console.print(Text("$ make run", style="bold green"))
    for line in lines:
        console.print(Text(re.sub(r"(TOKEN=.{12}).*", r"\1...", line)))
    console.print(Text('\n$ curl -s http://127.0.0.1:8000/graphql -H "Authorization: Bearer $TOKEN" \\', "bold green"))
    console.print(Text(f"    -H 'Content-Type: application/json' -d '{json.dumps({'query': query})}' \\"))
    console.print(Text("    | python3 -m json.tool --no-indent"))
    console.print(Syntax(answer, "json", theme="monokai", word_wrap=True, background_color="default"))
    svg = console.export_svg(title="make run", theme=MONOKAI)
    # No fonts from elsewhere: a reader's own will do.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace(
        "Fira Code", "DejaVu Sans Mono, Menlo, Consolas"
    )
    (Path(__file__).parent / "session.svg").write_text(svg)


if __name__ == "__main__":
    main()
