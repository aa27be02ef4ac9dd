"""nitro-cli in this process, with directories of its own and captured streams."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.nitro.main import main

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
