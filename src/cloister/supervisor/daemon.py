"""From a command to a supervisor of its own: forked twice, without a terminal, speaking through one socket.

Forked and not executed anew: the program's modules are loaded already. Process model: nitro-tools 1.6.
"""

import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Final, NoReturn

from cloister.control import (
    EnclaveFailure,
    Register,
    decode_line,
    encode_line,
    mark_children,
    receive_line,
)
from cloister.errors import CloisterError, root_of
from cloister.places import Places
from cloister.resources import PoolError, load_pool
from cloister.supervisor.identity import make_slot
from cloister.supervisor.journal import Journal
from cloister.supervisor.request import (
    RunRequest,
    boot_seconds,
    check_cpus,
    check_memory,
    claim,
    open_image,
)

MAX_NEWS: Final = 1 << 16
HEARD: Final = b"heard"
"""What the command answers when it knows that the enclave runs: from then on it is not needed."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What asks a supervisor to end."""
PREPARE_SECONDS: Final = 300.0
"""Beyond the boot time: copying, measuring, and once per host the accelerator probe."""


@dataclass(frozen=True, slots=True)
class News:
    """One thing a starting supervisor tells: a line for people, or that the enclave runs."""

    text: str | None = None
    description: dict[str, Any] | None = None
    enclave_id: str | None = None
    """Once the enclave is in the register, so that it can be found before it has booted."""


@dataclass(frozen=True, slots=True)
class _Launch:
    request: RunRequest
    file_fd: int
    places: Places


def launch(request: RunRequest, places: Places) -> Iterator[News]:
    """Start an enclave under a supervisor of its own and yield what it tells; raises EnclaveFailure."""
    file_fd = open_image(request.eif_path)
    try:
        size = os.fstat(file_fd).st_size
        check_cpus(request, cpu_pool(places))
        check_memory(request.memory_mib, size)
        ours, theirs = news_channel()
        with ours:
            child = os.fork()
            if child == 0:
                _detach(_Launch(request, file_fd, places), theirs)
            theirs.close()
            os.waitpid(child, 0)
            deadline = time.monotonic() + boot_seconds(size, request.memory_mib) + PREPARE_SECONDS
            yield from _listen(ours, deadline)
    finally:
        os.close(file_fd)


def cpu_pool(places: Places) -> Collection[int]:
    """Return the CPUs for enclaves: the pool's, or without one those this process may use; raises E19."""
    try:
        pool = load_pool(places.run)
    except PoolError as error:
        raise EnclaveFailure(
            "E19",
            f"File operation failure. {error}\nFile: '{places.run}', failing operation: 'Read'.",
            action="Read CPU pool",
        ) from None
    return os.sched_getaffinity(0) if pool is None else pool.cpus


def news_channel() -> tuple[socket.socket, socket.socket]:
    """Return the command's end and the supervisor's; each message arrives alone, however late it is read."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _listen(channel: socket.socket, deadline: float) -> Iterator[News]:
    while True:
        try:
            fields = decode_line(receive_line(channel, limit=MAX_NEWS, deadline=deadline))
        except CloisterError as error:
            raise EnclaveFailure(
                "E36", f"Enclave boot failure. {error}", action="Start enclave process"
            ) from None
        if "failure" in fields:
            failure = fields["failure"]
            raise EnclaveFailure(
                failure["code"], failure["message"], action=failure["action"], where=failure.get("where", "")
            )
        if "started" in fields:
            with suppress(OSError):
                channel.sendall(HEARD)
            yield News(description=fields["started"])
            return
        yield News(text=str(fields.get("say")), enclave_id=fields.get("enclave"))


class Channel:
    """The supervisor's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(5)

    def say(self, text: str, enclave_id: str | None = None) -> None:
        """Tell a line for people, and which enclave in the register it is about."""
        self._send({"say": text, "enclave": enclave_id})

    def started(self, description: dict[str, Any]) -> None:
        """Tell that the enclave runs; the last message."""
        self._send({"started": description})

    async def deserted(self) -> bool:
        """Wait until the command knows that the enclave runs (False), or is gone without knowing (True)."""
        import asyncio  # noqa: PLC0415 -- the command itself needs none of it

        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        loop.add_reader(self._sock, lambda: None if answer.done() else answer.set_result(None))
        try:
            await answer
        finally:
            loop.remove_reader(self._sock)
        try:
            return self._sock.recv(len(HEARD)) != HEARD
        except OSError:
            return True
        finally:
            self._sock.close()

    def failed(self, failure: EnclaveFailure) -> None:
        """Tell what went wrong; the last message."""
        told = {"code": failure.code, "message": failure.message, "action": failure.action}
        self._send({"failure": told | {"where": failure.where or root_of(failure)}})
        self._sock.close()

    def _send(self, fields: dict[str, Any]) -> None:
        with suppress(OSError):
            self._sock.sendall(encode_line(fields))


def _detach(order: _Launch, channel: socket.socket) -> NoReturn:
    """Leave the command's session; never returns to its frames."""
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _let_go(keep={order.file_fd, channel.fileno()})
        _supervise(order, Channel(channel))
    except BaseException:  # noqa: BLE001 -- the last line of a process of its own; told below
        os._exit(1)
    os._exit(0)


def _let_go(keep: set[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 -- names are numbers here
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):
                os.close(int(name))


def _supervise(order: _Launch, report: Channel) -> None:
    journal = Journal(order.places.logs, os.environ.get("RUST_LOG"))
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        _run(order, report, journal)
    except EnclaveFailure as failure:
        journal.write("ERROR", f"[ {failure.code} ] {failure.message}")
        report.failed(failure)
    except (CloisterError, OSError) as error:
        journal.write("ERROR", f"{type(error).__name__}: {error}")
        report.failed(
            EnclaveFailure(
                "E29",
                f"The enclave cannot be started: {error}",
                action="Start enclave",
                where=root_of(error),
            )
        )
    except Exception as error:
        # a fault of ours: whoever mends it needs to know where
        journal.write("ERROR", traceback.format_exc())
        text = f"Unspecified error. {type(error).__name__} in the supervisor; its log says where."
        report.failed(EnclaveFailure("E00", text, action="Run enclave", where=root_of(error)))
        raise


def _run(order: _Launch, report: Channel, journal: Journal) -> None:
    from cloister.supervisor.starting import (  # noqa: PLC0415 -- the command itself needs none of it
        limit_process,
        load_and_check,
        start,
    )
    from cloister.vmm import TickRate  # noqa: PLC0415 -- as above

    gc.disable()  # importing makes much that is never garbage
    locked = limit_process()
    ticks = TickRate()
    slot = make_slot(unix_ms=time.time_ns() // 1_000_000, random=os.urandom(2))
    place = Register(order.places.run).reserve(f"{slot:x}")
    # the place is the last to go: until then whoever finds this process dead cleans up
    with closing(place), ExitStack() as stack:
        mark_children(place.slot)
        report.say("Start allocating memory...")
        share = claim(order.request, order.places.run)
        stack.callback(share.close)  # noted first, undone last: nobody gets what a machine still has
        # what is really given is what is told
        request = replace(order.request, memory_mib=share.memory_mib)
        loaded = load_and_check(request, order.file_fd)
        os.close(order.file_fd)
        started = start(request, share, loaded, order.places, stack, lock_memory=locked, ticks=ticks)
        # what serves QEMU its devices loads while QEMU starts and, beside both, the kernel is unpacked
        import asyncio  # noqa: PLC0415 -- the command itself needs none of it

        from cloister.supervisor.enclave import Enclave  # noqa: PLC0415 -- as above

        loaded.await_kernel()

        gc.freeze()  # modules live as long as the process
        gc.enable()

        async def live() -> None:
            enclave = Enclave(request, share.cpus, started, places=order.places, journal=journal, place=place)
            try:
                await enclave.run(report, stack)
            finally:
                try:
                    stack.close()
                finally:
                    enclave.conclude()

        asyncio.run(live())


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for other in SIGNALS:  # what is undone from here on is undone whole
        signal.signal(other, signal.SIG_IGN)
    sys.exit(f"signal {number}")
