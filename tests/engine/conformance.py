"""Graphql-core's own tests, run with the breadth-first executor in place of its own.

    python -m tests.engine.conformance      # or `make acceptance`, which does the same

It fetches the source distribution of the installed graphql-core, which has the tests in it, and pytest-describe, in
which they are written, into `build/`. They are run twice, with graphql-core's executor and with ours; only what fails
with ours alone counts, and the differences that the specification allows are listed by name below.
"""

# ruff: noqa: T201 - it can be run by hand

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

BUILD = Path("build/conformance")
VERSION = version("graphql-core")
TESTS = BUILD / f"graphql_core-{VERSION}" / "tests"

EXECUTED = (
    "execution",
    "type",
    "utilities",
    "test_star_wars_query.py",
    "test_star_wars_introspection.py",
    "test_user_registry.py",
)
"""The tests that execute operations. Parsing and validation are none of an executor's business."""

ORDER = "the order of errors is left open (§7.1.2); ours is that of the response, also where resolvers are awaited"
CLOSED = (
    "fields under a null may be cancelled (§6.4.4): what nobody waits for any more is closed, not run in the background"
)
DRAINED = "an iterator that has raised is not asked for more"
WAITED_FOR = "the neighbours of a failed item may be cancelled (§6.4.4), but need not"

_LISTS = "execution.test_lists.describe_execute"
_NON_NULL = "execution.test_nonnull.describe_execute_handles_non_nullable_types.describe"
_SEVERAL = f"{_NON_NULL}_handles_multiple_errors_for_a_single_response_position::"
ALLOWED: dict[str, str] = {
    "execution.test_executor.describe_execute_handles_basic_execution_tasks"
    "::handles_sync_errors_combined_with_async_ones_in_async_context": CLOSED,
    "execution.test_parallel.describe_parallel_execution.describe_cancel_on_exception::cancel_lists": WAITED_FOR,
    f"{_LISTS}_accepts_async_iterables_as_list_value"
    "::handles_mixture_of_sync_and_async_errors_in_async_iterables": CLOSED,
    f"{_LISTS}_handles_abrupt_completion_in_synchronous_iterables::drains_the_iterator_when_next_throws": DRAINED,
    f"{_LISTS}_handles_abrupt_completion_in_synchronous_iterables"
    "::handles_iterator_errors_with_later_pending_awaitables": DRAINED,
    f"{_LISTS}_handles_abrupt_completion_in_synchronous_iterables"
    "::handles_sync_errors_with_later_pending_awaitables": ORDER,
    f"{_NON_NULL}_nulls_a_complex_tree_of_nullable_fields_each::throws": ORDER,
    f"{_SEVERAL}nullable_and_non_nullable_nested_fields_throw_nested_errors": ORDER,
    f"{_SEVERAL}nullable_and_non_nullable_root_fields_throw_nested_errors": ORDER,
    f"{_SEVERAL}slower_nullable_after_non_nullable_nested_field": CLOSED,
    f"{_SEVERAL}slower_nullable_after_non_nullable_root_field": CLOSED,
}
"""Tests that fail with ours alone, and why they may."""


class Outcome(NamedTuple):
    """Names of tests.

    Attributes:
        theirs: those that fail with graphql-core's executor.
        unexpected: those that fail with ours alone, and may not.
        stale: those that may fail with ours, and do not.
    """

    theirs: set[str]
    unexpected: set[str]
    stale: set[str]


def outcome() -> Outcome:
    _fetch()
    theirs, ours = _failures("graphql-core"), _failures("breadth")
    return Outcome(theirs, ours - theirs - set(ALLOWED), set(ALLOWED) - ours)


def main() -> int:
    theirs, unexpected, stale = outcome()
    for name in sorted(unexpected):
        print("fails with the breadth-first executor alone:", name)
    for name in sorted(stale):
        print("does not fail any more, so need not be allowed to:", name)
    print(f"{len(theirs)} fail with graphql-core's executor, {len(ALLOWED) - len(stale)} differ as they may")
    return 1 if unexpected or stale else 0


def _fetch() -> None:
    if TESTS.exists():
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = ["--no-deps", "--no-binary", "graphql-core", f"graphql-core=={VERSION}"]
    subprocess.run([*pip, "download", *source, "--dest", str(BUILD)], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", str(BUILD / "site"), "pytest-describe"], check=True)
    shutil.unpack_archive(BUILD / f"graphql_core-{VERSION}.tar.gz", BUILD)


def _failures(executor: str) -> set[str]:
    """The names of the tests that fail."""
    settings = TESTS.parent / "conformance.ini"
    settings.write_text("[pytest]\npython_classes = PyTest*\nasyncio_mode = strict\n")
    report = BUILD.resolve() / f"{executor}.xml"
    report.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-c",
        _RUN,
        executor,
        str(Path.cwd()),
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
    ]
    command += ["-c", settings.name, f"--junitxml={report}", "--timeout=60", *(f"tests/{each}" for each in EXECUTED)]
    site = str((BUILD / "site").resolve())
    subprocess.run(
        command, cwd=TESTS.parent, env={"PYTHONPATH": site, "PATH": ""}, stdout=subprocess.DEVNULL, check=False
    )
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - pytest has just written it
    return {
        f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }


_RUN = """
import sys
import pytest
executor, project = sys.argv[1:3]
if executor == "breadth":
    sys.path.append(project)
    import graphql
    from bff.engine.executor import BreadthFirst
    module = sys.modules["graphql.execution.execute"]
    for name in ("IncrementalExecutor", "ExecutorThrowingOnIncremental"):
        own = getattr(module, name)
        setattr(module, name, type(name, (BreadthFirst, own), {}))
sys.exit(pytest.main(sys.argv[3:]))
"""

if __name__ == "__main__":
    sys.exit(main())
