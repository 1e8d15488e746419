"""Runs a module as `python -m` does and notes every few milliseconds of CPU time which functions are on the stack.

    python -m benchmarks.sampler FILE bff run --config bff.yaml

SIGUSR1 begins anew; SIGUSR2 ends the noting and writes FILE: a line of JSON for each distinct stack,
its count first and then its frames as `file:function`, the outermost first. C functions count for their callers.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

EVERY = 0.004  # seconds of CPU; the kernel's clock ticks no finer


def main() -> None:
    file, module, *arguments = sys.argv[1:]
    stacks: Counter[tuple[CodeType, ...]] = Counter()

    def note(_: int, frame: FrameType | None) -> None:
        codes = []
        while frame is not None:
            codes.append(frame.f_code)
            frame = frame.f_back
        stacks[tuple(codes)] += 1

    def forget(*_: object) -> None:
        stacks.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def write(*_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = [json.dumps([count, [named(code) for code in reversed(codes)]]) for codes, count in stacks.items()]
        whole = Path(f"{file}.part")
        whole.write_text("\n".join(lines) + "\n")
        whole.rename(file)

    signal.signal(signal.SIGUSR1, forget)
    signal.signal(signal.SIGUSR2, write)
    signal.signal(signal.SIGPROF, note)
    forget()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def named(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_qualname}"


if __name__ == "__main__":
    main()
