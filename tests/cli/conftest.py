"""nitro-cli and cloister in this process, with directories of their own and captured streams."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.main import main as cloister_main
from cloister.cli.nitro.main import main
from cloister.places import Places, current_places
from simulators.enclave_records import Cloister

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give nitro-cli a host of its own, and return where the sockets are."""
    monkeypatch.setenv("NITRO_CLI_LOGS_PATH", str(tmp_path / "logs"))
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("BACKTRACE", "RUST_LOG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "run"


@pytest.fixture
def run(places: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run nitro-cli there and return exit code, stdout and stderr."""
    del places  # asked for its environment

    def call(*words: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Give cloister a host of its own."""
    for variable in ("NITRO_CLI_SOCKETS_PATH", "NITRO_CLI_LOGS_PATH", "NITRO_CLI_ARTIFACTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return current_places()


@pytest.fixture
def cloister(host: Places, capfd: pytest.CaptureFixture[str]) -> Cloister:
    """Run ``cloister`` with words, in this process."""
    del host  # asked for its environment

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = cloister_main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capfd.readouterr()

    return call
