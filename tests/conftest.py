"""What every test may ask for."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from cloister.packages import PackageError
from cloister.places import current_places
from container_tools.unpacking import ContainerTools, ToolsMissingError, find_tools
from simulators.soft_token import SoftToken, make_token

# whoever runs this in the background ignores the interrupt, and so would every command that is tested
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_VECTORS = REPOSITORY.parent / "shared" / "vectors"


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Genuine AWS bytes, which live beside the repository and are never committed."""
    if not SHARED_VECTORS.is_dir():
        pytest.skip(
            f"genuine vectors are absent: {SHARED_VECTORS.name} directory not found beside the repository"
        )
    return SHARED_VECTORS


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    """Return a PKCS#11 token with a PIN and nothing else on it; a process can have but one."""
    try:
        return make_token(tmp_path_factory.mktemp("softhsm"))
    except PackageError as error:
        pytest.skip(f"SoftHSM cannot be had: {error}")


@pytest.fixture(scope="session")
def tools() -> ContainerTools:
    """Return the container tools unpacked on this host."""
    try:
        return find_tools(current_places())
    except ToolsMissingError as error:
        pytest.skip(str(error))


# A skip is not a pass: CI fails on one whose reason is not in this list.
EXPECTED_SKIPS = (
    "genuine vectors are absent",
    "SoftHSM cannot be had",
    "this user may not lock memory",
    "mounting a disk needs root",
    "a Docker daemon needs root",
    "systemd-analyze is absent",
    "GNU cpio is not installed",
    "this host's cgroup v2 hierarchy has no cpuset controller",
)


def pytest_collection_finish() -> None:
    """Spare every later garbage collection what thousands of collected tests hold."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Under CI an unexpected skip fails the run."""
    if os.environ.get("CI") != "true" or exitstatus != 0:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    reasons = [
        str(report.longrepr[2]).removeprefix("Skipped: ") for report in reporter.stats.get("skipped", [])
    ]
    unexpected = [reason for reason in reasons if not reason.startswith(EXPECTED_SKIPS)]
    if unexpected:
        reporter.write_line(f"unexpected skips: {unexpected}", red=True)
        session.exitstatus = 1


settings.register_profile("quick", deadline=None)
settings.register_profile("long", deadline=None, max_examples=20_000)
settings.load_profile("quick")
