"""How many CPUs this process may use: fewer than the machine has, where a container says so."""

from __future__ import annotations

import os
from contextlib import suppress
from math import ceil
from pathlib import Path


def cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """By the CPUs that are ours to run on and by the share of time that a control group leaves us, rounded up.

        cpus()  # 2, in a container with a limit of 1500m

    Args:
        quota: `cpu.max` of the control group, version 2.
    """
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        most, per = quota.read_text().split()
        number = min(number, ceil(int(most) / int(per)))
    return max(1, number)
