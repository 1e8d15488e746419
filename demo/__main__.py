"""`python -m demo` runs the whole shop until Ctrl-C."""

import argparse
import signal
import sys
from pathlib import Path

from demo import FREE, PORTS, processes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=None, help="folder to keep the data in; a temporary one if not given"
    )
    parser.add_argument("--latency", type=int, default=0, metavar="MS", help="wait so long before each answer")
    parser.add_argument("--free", action="store_true", help="take free ports instead of 8101 to 8105")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with processes(FREE if chosen.free else PORTS, data=chosen.data, latency=chosen.latency) as shop:
            for name, url in shop.urls.items():
                print(f"{name:10}{url}", flush=True)  # noqa: T201 - a command line prints
            shop.wait()
    except KeyboardInterrupt:
        return
    except (OSError, RuntimeError) as error:
        sys.exit(f"The demo could not start: {error}")


if __name__ == "__main__":
    main()
