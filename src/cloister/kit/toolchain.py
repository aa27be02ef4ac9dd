"""Running compilers so that the result depends on the sources alone and people see progress.

Each architecture is compiled by its own GCC: the host's where it is the host's, else Debian's cross compiler.
"""

import os
import selectors
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cloister.kit.manifest import KitError
from cloister.places import own_architecture

Progress = Callable[[float | None, str], None]
"""Called with the share done (0 to 1, or None when unknown) and what is being done."""

NEEDED = ("gcc", "make", "flex", "bison", "bc", "lz4", "xz", "tar", "dpkg-deb")
"""Programs that building a kit runs; the host's gcc compiles the kernel's own tools."""
QUIET_SECONDS = 600
"""No compiler stays silent for longer."""


def tool_prefix(architecture: str) -> str:
    """Return what the names of an architecture's compiler, linker and so on begin with on this host."""
    return "" if architecture == own_architecture() else f"{architecture}-linux-gnu-"


def missing_tools(architecture: str) -> list[str]:
    """Return the programs that building for an architecture needs and this host lacks."""
    needed = (*NEEDED, *(f"{tool_prefix(architecture)}{tool}" for tool in ("gcc", "ld")))
    return [name for name in dict.fromkeys(needed) if shutil.which(name) is None]


def compiler_version(architecture: str) -> str:
    """Return the first line of ``gcc --version``, and of ``ld --version``, which decide the bytes too."""
    lines = []
    for tool in ("gcc", "ld"):
        name = f"{tool_prefix(architecture)}{tool}"
        try:
            result = subprocess.run(
                [name, "--version"], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise KitError(f"{name} cannot be run: install gcc and binutils for {architecture}") from error
        lines.append(result.stdout.partition("\n")[0].removeprefix(tool_prefix(architecture)))
    return "; ".join(lines)


def reproducible_environment() -> dict[str, str]:
    """Return an environment in which neither the host, nor the user, nor the clock shows in the result."""
    kept = {name: value for name in ("PATH", "HOME", "TMPDIR") if (value := os.environ.get(name))}
    return kept | {
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "0",
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
        "KBUILD_BUILD_USER": "cloister",
        "KBUILD_BUILD_HOST": "cloister",
        "KBUILD_BUILD_VERSION": "1",
    }


def run_tool(
    command: Sequence[str],
    directory: Path,
    *,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run one tool, give its lines to ``on_line`` and return the last of them; KitError quotes its end.

    Stopped by a signal or by silence, the whole process group goes.
    """
    recent: deque[str] = deque(maxlen=40)
    try:
        process = subprocess.Popen(
            list(command), cwd=directory, env=reproducible_environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise KitError(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        with process, (log or Path(os.devnull)).open("ab") as record:
            for line in _lines(process):
                record.write(line)
                text = line.decode(errors="replace").rstrip("\n")
                recent.append(text)
                if on_line:
                    on_line(text)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        errors = [line for line in recent if "error" in line.lower() or "***" in line] or list(recent)
        quoted = "; ".join(errors[-3:])[:600] + (f" (log: {log})" if log else "")
        raise KitError(f"{Path(command[0]).name} failed with exit code {process.returncode}: {quoted}")
    return "\n".join(recent)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield whole lines as they come; KitError when the tool has been silent for too long."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(QUIET_SECONDS):
                raise KitError(f"{process.args!r} said nothing for {QUIET_SECONDS} s and was stopped")
            piece = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in lines)
            if not piece or len(rest) > 1 << 20:
                if rest:
                    yield rest + b"\n"
                rest = b""
            if not piece:
                return
