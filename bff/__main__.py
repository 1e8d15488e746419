"""`python -m bff`, and what the script `bff` begins with, too."""

import os
import signal

if os.getpid() == 1:
    # To the first process of a container no signal comes that it has no handler for: until it serves, it would not end.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))

from bff.cli import command

if __name__ == "__main__":
    command()
