"""Other people's programs, run so that they cannot hang, flood the disk or outlive us.

An argument list and no shell; an environment of the few variables they are configured by; what they print
goes to files in the workspace, which are watched like everything else there.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError
from cloister.fetch.limits import LONGEST_SECONDS, MAX_BYTES, FetchError
from cloister.fetch.workspace import bytes_in

_KEPT: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF",
    "CONTAINERS_STORAGE_CONF", "STORAGE_DRIVER", "STORAGE_OPTS", "BUILDAH_ISOLATION", "BUILDAH_RUNTIME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    # inside 'buildah unshare': who we were outside
    "_CONTAINERS_USERNS_CONFIGURED", "_CONTAINERS_ROOTLESS_UID", "_CONTAINERS_ROOTLESS_GID",
)  # fmt: skip
_KEPT_PREFIX: Final = "AWS_"
"""For the credential helper of AWS's registry, which the auth file may name."""
_POLL_SECONDS: Final = 0.1
_MERCY_SECONDS: Final = 10.0
"""Between being asked to end and being killed."""
_MAX_REASON: Final = 400
_READ_BYTES: Final = 1 << 16
_PR_SET_PDEATHSIG: Final = 1
_LOGRUS: Final = re.compile(r'level=(?:fatal|error) msg=("(?:[^"\\]|\\.)*"|\S+)')
_NO_REASON: Final = "(Unable to determine exit status)"
"""What containers/storage says last when something before it has gone wrong."""
_HINTS: Final = {
    "newgidmap": "ordinary users need 'apt-get install uidmap'",
    "no subuid ranges found": "ordinary users need a range in /etc/subuid and /etc/subgid",
    "server gave HTTP response to HTTPS client": "--tls-verify=false or registries.conf allow that",
}


class ToolFailedError(CloisterError):
    """A program ended with a failure; the message is its own last complaint, made printable."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How long a program may be silent, and who is told what it does."""

    silent_seconds: float
    on_bytes: Callable[[int], None] = lambda _done: None
    """Called with the bytes now in the workspace."""
    on_output: Callable[[str], None] | None = None
    """Called with what it prints, as it prints it, without control characters."""


def require_tool(name: str, purpose: str) -> str:
    """Return where a program is; raises FetchError that names the package to install."""
    found = shutil.which(name)
    if found is None:
        raise FetchError(f"{name} is needed {purpose}; install it with 'apt-get install {name}'.")
    return found


def run_tool(words: Sequence[str], workspace: Path, environ: Mapping[str, str], watch: Watch) -> None:
    """Run a program to its end; raises ToolFailedError, or FetchError when it was stopped."""
    scratch = workspace / "tmp"
    scratch.mkdir(exist_ok=True)
    environment = {
        name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIX)
    }
    environment |= {"LC_ALL": "C.UTF-8", "TMPDIR": str(scratch)}
    output = workspace / "output"
    program = Path(words[0]).name
    with output.open("wb") as sink:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, cwd=workspace,
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 -- at most a progress bar's thread is there
            )  # fmt: skip
        except OSError as error:
            raise FetchError(f"{words[0]} cannot be run: {error.strerror}.") from error
    try:
        status = _wait(process, program, workspace, output, watch)
    finally:
        _end(process)
    if status != 0:
        raise ToolFailedError(_complaint(output, program, status))


def _wait(process: subprocess.Popen[bytes], program: str, workspace: Path, output: Path, watch: Watch) -> int:
    begun = last = time.monotonic()
    seen, read = -1, 0
    while True:
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(_POLL_SECONDS)
        printed, read = _tell(output, read, watch)
        size = bytes_in(workspace)
        now = time.monotonic()
        if size != seen or printed:
            last, seen = now, size
            watch.on_bytes(size)
        if size > MAX_BYTES:
            raise FetchError(f"{program} has brought more than {MAX_BYTES} bytes; it was stopped.")
        if status is not None:
            return status
        if now - last > watch.silent_seconds:
            raise FetchError(
                f"{program} has brought and said nothing for {watch.silent_seconds:.0f} s; it was stopped."
            )
        if now - begun > LONGEST_SECONDS:
            raise FetchError(f"{program} has taken longer than {LONGEST_SECONDS:.0f} s; it was stopped.")


def _tell(output: Path, position: int, watch: Watch) -> tuple[bool, int]:
    """Pass on what was printed since ``position``; return whether there was any, and the new position."""
    with output.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if watch.on_output:
            file.seek(position)
            while text := file.read(_READ_BYTES):
                watch.on_output(_printable(text.decode(errors="replace"), keep="\n\t"))
                end = file.tell()
    return end != position, end


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and everything it started, first by asking."""
    for number, patience in ((signal.SIGTERM, _MERCY_SECONDS), (signal.SIGKILL, None)):
        if process.poll() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _end_with(starter: int) -> Callable[[], None]:
    """Prepare a child whose starter's death is its own, so that SIGKILL leaves nobody fetching."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != starter:
            os._exit(1)

    return prepare


def _complaint(output: Path, program: str, status: int) -> str:
    """Return a program's last words about what went wrong, as one printable line."""
    with output.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _READ_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    words = _last_words(lines, program, status)
    logged = [words, *(line for line in lines if line.startswith("time="))]
    hints = [hint for sign, hint in _HINTS.items() if any(sign in line for line in logged)]
    return "; ".join([_shorten(words), *hints[:1]])


def _last_words(lines: Sequence[str], program: str, status: int) -> str:
    for line in reversed(lines):
        match = _LOGRUS.search(line)
        words = _unquote(match[1]) if match else line.removeprefix("Error: ")
        if (match or line.startswith("Error")) and words != _NO_REASON:
            return words
    ending = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
    return f"{program} {ending}{': ' + lines[-1] if lines else ''}"


def _unquote(text: str) -> str:
    """Undo Go's quoting, which is JSON's but for what no message needs."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')


def _shorten(text: str) -> str:
    plain = _printable(text).rstrip(".")
    return plain if len(plain) <= _MAX_REASON else f"{plain[:_MAX_REASON]}…"


def _printable(text: str, keep: str = "") -> str:
    """Leave out what could drive a terminal: part of it comes from a server or an image."""
    return "".join(char if char.isprintable() or char in keep else " " for char in text)
