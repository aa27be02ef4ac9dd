"""What a program loads, found without running it."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.setup.shared_libraries import LibraryError, library_closure, read_needs

PROGRAM = Path("/usr/bin/tar").resolve()
DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib",
)


def test_the_closure_is_what_the_dynamic_loader_finds() -> None:
    """The same files as ldd names, the loader among them."""
    ldd = subprocess.run(["ldd", str(PROGRAM)], capture_output=True, text=True, check=True, timeout=20)
    named = {
        Path(word).resolve() for line in ldd.stdout.splitlines() for word in line.split() if word[0] == "/"
    }
    found = dict(library_closure([PROGRAM], root=Path("/"), directories=DIRECTORIES))
    assert set(found.values()) == named
    assert read_needs(PROGRAM).interpreter in found


def test_a_library_that_is_nowhere_is_named(tmp_path: Path) -> None:
    """The sentence says who needs what, and where it was looked for."""
    loader = read_needs(PROGRAM).interpreter.lstrip("/")
    (tmp_path / loader).parent.mkdir(parents=True)
    shutil.copy(PROGRAM, tmp_path / "program")
    shutil.copy(f"/{loader}", tmp_path / loader)
    with pytest.raises(LibraryError, match=r"program needs lib.*, which is in none of /lib"):
        list(library_closure([tmp_path / "program"], root=tmp_path, directories=["/lib"]))


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100), b"\x7fELF\x02\x01"]
)
def test_what_is_no_program_is_refused(tmp_path: Path, content: bytes) -> None:
    """Scripts, other word sizes and stumps give a LibraryError."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(LibraryError, match="not a readable ELF program"):
        read_needs(tmp_path / "x")


@settings(max_examples=50)
@given(st.integers(0, 4096), st.integers(0, 255), st.integers(0, 1 << 16))
def test_damaged_headers_give_an_answer_or_a_library_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, length: int
) -> None:
    """Nothing else escapes, whichever byte is wrong and wherever the file ends."""
    content = bytearray(PROGRAM.read_bytes())
    content[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: length or None])
    with suppress(LibraryError):
        assert all(isinstance(name, str) for name in read_needs(path).libraries)
