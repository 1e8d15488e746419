"""`python -m demo` runs the whole shop until Ctrl-C."""

import argparse
import contextlib
import signal
import sys
from pathlib import Path

from demo import processes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=None, help="folder to keep the data in; a temporary one if not given"
    )
    parser.add_argument("--latency", type=int, default=0, metavar="MS", help="wait so long before each answer")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), processes(data=chosen.data, latency=chosen.latency) as shop:
        for name, url in shop.urls.items():
            print(f"{name:10}{url}")  # noqa: T201 - a command line prints
        shop.wait()


if __name__ == "__main__":
    main()
