"""A host of its own for commands that look at enclaves: real directories, real records."""

from pathlib import Path

import pytest

from cloister.cli.main import main
from cloister.places import Places, current_places
from simulators.enclave_records import Cloister


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Give this process directories of its own."""
    for variable in ("NITRO_CLI_SOCKETS_PATH", "NITRO_CLI_LOGS_PATH", "NITRO_CLI_ARTIFACTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return current_places()


@pytest.fixture
def cloister(places: Places, capfd: pytest.CaptureFixture[str]) -> Cloister:
    """Run ``cloister`` with words, in this process."""

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capfd.readouterr()

    return run
