"""How many connections and files a process may have open: as many as the system lets it have."""

from __future__ import annotations

import resource
import sys


def raised() -> int:
    """Raise what this process is held to (soft) to what it may have (hard); how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # where no bound is one (macOS), it may still not be set
            return soft
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
