"""These tests are for the inside of the test host: elsewhere they are not collected at all."""

import os
from pathlib import Path

import pytest

TEST_HOST = "CLOISTER_TEST_HOST"

collect_ignore_glob = [] if TEST_HOST in os.environ else ["*"]


@pytest.fixture(scope="session")
def exchange() -> Path:
    """Return the directory shared with the tests outside."""
    return Path(os.environ[TEST_HOST])
