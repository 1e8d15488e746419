"""Rules for all tests: where CI counts on them, a skipped test is a failed one; acceptance runs only when asked for."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import demo
from bff.generations import forget_functions
from tests.harness import Gateway, gateway
from tests.running import ROOT, Running, running
from tests.shop import NAMES

# Of a skipped test: what no installation mends, such as namespaces for who is not root.
NOT_ALLOWED = "not allowed here"
ACCEPTANCE = Path(__file__).parent / "acceptance"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--acceptance", action="store_true", help="run tests/acceptance, which needs ../shared")


def pytest_configure() -> None:
    # A shell has its background jobs ignore SIGINT, and so would every process that a test starts and then interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    wanted = config.getoption("--acceptance") or not collection_path.is_relative_to(ACCEPTANCE)
    return None if wanted else True


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    skipped = [each for each in skipped if NOT_ALLOWED not in str(each.longrepr)]
    if skipped and (os.environ.get("CI") or session.config.getoption("--acceptance")):
        for report in skipped:
            reporter.write_line(f"SKIPPED, which counts as failed here: {report.nodeid}")
        session.exitstatus = pytest.ExitCode.INTERRUPTED  # nothing failed, but it is not the whole


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """What was imported and what thousands of tests left behind is not walked through again and again.

    It would hold every loop up for 0.3 s at first, and for seconds at the end. Gateways that nobody has any more go
    first: what is kept out of the collector's sight is kept for good.
    """
    forget_functions()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_services() -> Iterator[demo.Demo]:
    """The demo's processes, which all tests share: who stops one starts it again."""
    with demo.processes(demo.FREE) as processes:
        yield processes


@pytest.fixture
async def real(real_services) -> AsyncIterator[Gateway]:
    """A gateway in this process over the demo's services, on connections of its own."""
    urls = {name: {"url": real_services.urls[name]} for name in NAMES}
    # Its loop may be late because the machine is busy, and then it would turn requests away.
    over = gateway(real_network=True, services=urls, server={"overload": {"mode": "measure"}})
    yield over
    await over.close()


@pytest.fixture(scope="session")
def development(real_services) -> Iterator[Running]:
    """A gateway as `make run` starts it, but for its limits: tools and runners are one caller with many requests."""
    with running(ROOT / "bff.yaml", real_services, "--profile", "development", BFF__LIMITS__MODE="off") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def production(real_services) -> Iterator[Running]:
    """The same as operators run it."""
    with running(ROOT / "bff.yaml", real_services, "--profile", "production", BFF__LIMITS__MODE="off") as gateway:
        yield gateway
