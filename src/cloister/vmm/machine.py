"""A running machine: QEMU in its jail, ended by killing it, and gone when its last process is.

No monitor: what the enclave needs comes over its devices, and a machine without state to save is best killed.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloister.vmm.command_line import command_line
from cloister.vmm.config import MachineConfig, MachineError
from cloister.vmm.jail import STAGE, Jail, jail_command_line
from cloister.vmm.seccomp import seccomp_filter

if TYPE_CHECKING:
    import asyncio

KILL_SECONDS: Final = 10.0
START_SECONDS: Final = 10.0
MAX_INFO: Final = 65536
MAX_COMPLAINT: Final = 8192
"""Bytes kept of what QEMU writes to its standard error; the rest is read and dropped."""
_CLONE_NEWNS: Final = 0x20000
_PR_SET_PDEATHSIG: Final = 1
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000


class Machine:
    """QEMU and bubblewrap, started by this process; they die with it."""

    def __init__(self, process: subprocess.Popen[bytes], info_fd: int) -> None:
        """Take over bubblewrap, the leader of a process group, and the read end of what it tells."""
        assert process.stderr is not None
        self._process = process
        self._process_fd = os.pidfd_open(process.pid)
        self._info_fd = info_fd
        self._stderr_fd = process.stderr.fileno()
        self._complaint = bytearray()
        self._emulator_fd: int | None = None
        self.emulator_pid: int | None = None
        """QEMU's own process id, once `settle` has run."""
        os.set_blocking(self._stderr_fd, False)

    @property
    def pid(self) -> int:
        """The process id of bubblewrap, QEMU's parent."""
        return self._process.pid

    @property
    def complaint(self) -> str:
        """What QEMU and bubblewrap said on their standard error, at most 8 KiB."""
        return self._complaint.decode(errors="replace").strip()

    def settle(self) -> None:
        """Learn QEMU's process id from bubblewrap, waiting at most 10 s; without it, kill what there is."""
        if self._info_fd < 0:
            return
        text = _read_to_end(self._info_fd, START_SECONDS)
        os.close(self._info_fd)
        self._info_fd = -1
        with contextlib.suppress(ValueError, KeyError, OSError):
            pid = int(json.loads(text)["child-pid"])
            self._emulator_fd = os.pidfd_open(pid)
            self.emulator_pid = pid

    def kill(self) -> None:
        """End the machine at once; safe to call again and after its end."""
        self.settle()
        if self._emulator_fd is None:
            self._kill_group()
            return
        with contextlib.suppress(ProcessLookupError):  # bubblewrap follows, when it has buried QEMU
            signal.pidfd_send_signal(self._emulator_fd, signal.SIGKILL)

    def _kill_group(self) -> None:
        """Kill bubblewrap and a child of it that has not become QEMU yet."""
        if self._process.returncode is None:  # until it is buried its number is nobody else's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return bubblewrap's exit status (QEMU's, or 128 + signal) once all processes are gone."""
        import asyncio  # noqa: PLC0415 -- 40 ms that a starting machine need not wait for

        loop = asyncio.get_running_loop()
        await self._drain(loop)
        self.kill()  # without its standard error or bubblewrap it is not a machine any more
        if self._emulator_fd is not None:
            gone = loop.create_future()
            loop.add_reader(self._emulator_fd, _finish, gone)
            try:
                await asyncio.wait_for(gone, KILL_SECONDS)
            finally:
                loop.remove_reader(self._emulator_fd)
        return self._bury()

    def _bury(self) -> int:
        """Reap bubblewrap, and QEMU where bubblewrap was killed first and this process is a subreaper."""
        if self._process.returncode is None:
            select.select([self._process_fd], [], [], KILL_SECONDS)
            self._kill_group()
        status = self._process.wait(KILL_SECONDS)
        if self.emulator_pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.emulator_pid, os.WNOHANG)
        return status

    async def _drain(self, loop: "asyncio.AbstractEventLoop") -> None:
        ended = loop.create_future()

        def read() -> None:
            try:
                chunk = os.read(self._stderr_fd, 4096)
            except BlockingIOError:
                return
            self._complaint += chunk[: MAX_COMPLAINT - len(self._complaint)]
            if not chunk:
                _finish(ended)

        loop.add_reader(self._stderr_fd, read)
        loop.add_reader(self._process_fd, _finish, ended)
        try:
            await ended
        finally:
            loop.remove_reader(self._stderr_fd)
            loop.remove_reader(self._process_fd)

    def is_broken(self) -> bool:
        """Say whether QEMU has reported that the processor cannot go on; such a machine only waits."""
        self.last_words()
        return b"KVM internal error" in self._complaint

    @property
    def has_ended(self) -> bool:
        """Whether the machine's first process is gone."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """Return the complaint of a machine that has ended."""
        with contextlib.suppress(OSError, ValueError):
            self._complaint += os.read(self._stderr_fd, MAX_COMPLAINT - len(self._complaint))
        return self.complaint

    def close(self) -> None:
        """Kill the machine, wait for its end (at most 10 s) and let go of its descriptors."""
        self.kill()
        if self._emulator_fd is not None:
            select.select([self._emulator_fd], [], [], KILL_SECONDS)
            os.close(self._emulator_fd)
            self._emulator_fd = None
        self._bury()
        if self._process.stderr is not None and not self._process.stderr.closed:
            self.last_words()
            self._process.stderr.close()
            os.close(self._process_fd)


def _read_to_end(pipe: int, seconds: float) -> bytes:
    """Read all that bubblewrap tells; closing the pipe between two of its writes would kill it half-way."""
    deadline = time.monotonic() + seconds
    text = b""
    while len(text) < MAX_INFO and select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(pipe, 4096)
        if not piece:
            break
        text += piece
    return text


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def open_kvm() -> int:
    """Open the KVM device for a machine; raises MachineError."""
    try:
        return os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MachineError(f"/dev/kvm cannot be opened: {error.strerror}.") from None


def _filter_file() -> int:
    program = seccomp_filter(os.uname().machine)
    file = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    os.write(file, program)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def spawn_machine(
    config: MachineConfig, jail: Jail, *, uid: int | None = None, cgroup: Path | None = None
) -> Machine:
    """Start QEMU in the jail and return at once; ``uid`` is its own user where the caller is root.

    The machine runs in ``cgroup`` where given. Raises MachineError.
    The configuration's descriptors are inherited and stay open here: close them.
    """
    if config.gate_fd is not None and uid is not None:
        os.fchown(config.gate_fd, uid, uid)  # QEMU opens it by its name
    info_read, info_write = os.pipe()
    seccomp = _filter_file()
    words = jail_command_line(str(jail.directory) if uid is None else STAGE, seccomp_fd=seccomp)
    words[1:1] = ["--info-fd", str(info_write)]
    try:
        process = subprocess.Popen(
            [*words, *command_line(config)],
            pass_fds=(*config.descriptors, info_write, seccomp),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            process_group=0,
            preexec_fn=_prepare(uid, jail.directory, cgroup),  # noqa: PLW1509 -- no threads yet
        )
    except (OSError, subprocess.SubprocessError) as error:
        os.close(info_read)
        raise MachineError(
            f"QEMU's jail cannot be started: {error}; is bubblewrap (bwrap) installed?"
        ) from None
    finally:
        os.close(info_write)
        os.close(seccomp)
    return Machine(process, info_read)


@asynccontextmanager
async def start_machine(
    config: MachineConfig, jail: Jail, *, uid: int | None = None
) -> AsyncIterator[Machine]:
    """Start a machine and make sure that nothing of it is left afterwards."""
    machine = spawn_machine(config, jail, uid=uid)
    try:
        yield machine
    finally:
        machine.close()


def _prepare(uid: int | None, root: Path, cgroup: Path | None) -> Callable[[], None]:
    """Prepare a child: its cgroup, its own user where the caller is root, its starter's death as its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    starter = os.getpid()

    def prepare() -> None:
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text("0")
        if uid is not None:
            _become(libc, uid, root)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != starter:  # it died before its death could be noticed
            os._exit(1)

    return prepare


def _become(libc: ctypes.CDLL, uid: int, root: Path) -> None:
    """Mount the jail's root where any user may reach it, then give up being root."""
    steps = (
        libc.unshare(_CLONE_NEWNS),
        libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None),
        libc.mount(str(root).encode(), STAGE.encode(), None, _MS_BIND, None),
    )
    if any(steps):
        raise OSError(ctypes.get_errno(), "cannot enter a mount namespace of its own")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
