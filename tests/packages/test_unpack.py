"""Unpacking a package whose tools do not behave."""

import time
from pathlib import Path

import pytest

from cloister.packages import PackageError, unpack, unpack_package


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the time limit both processes are killed, not waited for."""
    tool = tmp_path / "bin/dpkg-deb"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec sleep 5\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setattr(unpack, "UNPACK_SECONDS", 0.2)
    begin = time.monotonic()
    with pytest.raises(PackageError, match="took longer"):
        unpack_package(tmp_path / "x.deb", tmp_path / "root")
    assert time.monotonic() - begin < 3
