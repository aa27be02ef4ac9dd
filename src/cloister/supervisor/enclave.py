"""One enclave, from a started machine to its end; what undoes it is left to the caller's stack."""

import asyncio
import os
import signal
import traceback
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cloister.control import EnclaveFailure, Registration
from cloister.devices import CidError, Claim, HostNetwork, NsmDevice, VsockDevice, serve_mux
from cloister.errors import CloisterError
from cloister.flight import FlightRecorder
from cloister.measure import Measurements, measure
from cloister.places import Places
from cloister.supervisor.console import PORT_OFFSET, Console
from cloister.supervisor.control_socket import ControlSocket
from cloister.supervisor.daemon import SIGNALS
from cloister.supervisor.description import Description, metadata_json
from cloister.supervisor.ending import Ending, Remains, explain, explain_silence
from cloister.supervisor.identity import Identity
from cloister.supervisor.journal import Journal
from cloister.supervisor.preparing import Preparation
from cloister.supervisor.request import RunRequest, boot_seconds
from cloister.supervisor.services import GuestServices
from cloister.supervisor.starting import Started
from cloister.transport import listen, listener_path
from cloister.vhost import Device, DeviceError, serve_device
from cloister.vmm import MachineError, pin_processors

HYPERVISOR_CID: Final = 0
END_SECONDS: Final = 3.0
"""How long the last output may take to reach the console's readers."""
HANDSHAKE_SECONDS: Final = 0.03
"""How long QEMU has this process to itself at its start: loading libraries meanwhile would slow both."""
RELEASE_SECONDS: Final = 0.5
"""How long after the heartbeat the image's memory is given back."""
CONSOLE_SECONDS: Final = 1.0
"""How long after a machine's end its last output may take to be read."""
EXAMINED: Final = 1 << 18
"""Bytes of the console's end in which the reason for the enclave's end is looked for."""


class Report(Protocol):
    """What the command that waits for the enclave is told."""

    def say(self, text: str, enclave_id: str | None = None) -> None:
        """Tell a line for people, and which enclave in the register it is about."""

    def started(self, description: dict[str, Any]) -> None:
        """Tell that the enclave runs."""

    async def deserted(self) -> bool:
        """Wait until it knows that the enclave runs (False), or is gone without knowing (True)."""


class Enclave:
    """A machine with its devices, its console, its security module and its control socket."""

    def __init__(
        self,
        request: RunRequest,
        cpus: tuple[int, ...],
        started: Started,
        *,
        places: Places,
        journal: Journal,
        place: Registration,
    ) -> None:
        self._request = request
        self._machine = started.machine
        self._started = started
        self._places = places
        self._journal = journal
        self._place = place
        loaded = started.loaded
        self._metadata = loaded.image.metadata
        self._boot_seconds = boot_seconds(loaded.image.size, request.memory_mib)
        self._description = Description("", "", os.getpid(), 0, cpus, request.memory_mib, request.debug)
        self._control: ControlSocket | None = None
        self._console: Console | None = None
        self._console_task: asyncio.Task[None] | None = None
        self._device_fault: DeviceError | None = None
        self._recorder: FlightRecorder | None = None
        self._ending: Ending | None = None
        self._over = asyncio.Event()

    async def run(self, report: Report, stack: ExitStack) -> None:
        """Boot, report, and return when the enclave is to end, whatever the reason; raises EnclaveFailure.

        The caller closes the stack and then concludes.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._tell_fault)
        for number in SIGNALS:
            why = Ending("terminated", f"The supervisor was told to end by {signal.Signals(number).name}.")
            loop.add_signal_handler(number, self._end, why)
        self._claim = stack.enter_context(_claim_cid(self._request, self._places))
        self._services = GuestServices(HostNetwork(self._places.run).dial)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=2))
        measuring = pool.submit(measure, self._started.loaded.image)
        self._measured: asyncio.Future[Measurements] = asyncio.wrap_future(measuring)

        slot = int(self._place.slot, 16)
        preparation = Preparation(
            self._places, slot, measuring, self._request, pool=pool, complain=self._warn
        )
        vsock = VsockDevice(guest_cid=self._claim.cid, dial=self._services.dial)
        nsm = NsmDevice(preparation.handle, ready=preparation.ready)
        # QEMU waits for its devices: they are served before anything else is looked at
        tasks = self._serve_devices(vsock, nsm)
        tasks += self._start(self._await_desertion(report))
        try:
            await asyncio.sleep(HANDSHAKE_SECONDS)
            self._machine.settle()
            identity, _ = await asyncio.wrap_future(preparation.prepared)
            self._recorder = recorder = self._record(identity)
            pool.submit(recorder.retire_others)
            self._control = control = self._register(identity, recorder, stack)
            tasks += self._serve_host(vsock, control, recorder, stack)
            await self._boot(report)
            tasks += self._start(self._pin())
            await self._over.wait()
        except Exception as error:
            self._end(_failed_start(error))
            raise
        finally:
            await self._finish(tasks)

    def conclude(self) -> None:
        """Record the end, give up the place, and tell everybody who asked for the end that it has come.

        In this order: killed in between, whoever finds the place still knows what to do.
        """
        if self._recorder is not None and self._ending is not None:
            self._recorder.update(ended=datetime.now(UTC), **asdict(self._ending), **self._registers())
            self._recorder.close()
        self._place.close()
        if self._control is not None:
            self._control.farewell(self._description.terminated_json())

    def _warn(self, text: str) -> None:
        self._journal.write("WARN", text)

    def _record(self, identity: Identity) -> FlightRecorder:
        recorder = FlightRecorder(self._places.logs, identity.enclave_id, complain=self._warn)
        self._journal.name(identity.slot_hex, recorder.event)
        recorder.update(
            enclave_name=self._request.wanted_name,
            cid=self._claim.cid,
            cpu_ids=self._description.cpus,
            memory_mib=self._request.memory_mib,
            debug=self._request.debug,
            image=str(self._request.eif_path),
        )
        return recorder

    def _registers(self) -> dict[str, Any]:
        """Return the image's registers for the record, once they are known."""
        done = self._measured.done() and not self._measured.cancelled() and self._measured.exception() is None
        return {"measurements": self._measured.result().to_json()} if done else {}

    def _register(self, identity: Identity, recorder: FlightRecorder, stack: ExitStack) -> ControlSocket:
        record = self._place.enter(
            identity.enclave_id, self._request.wanted_name, self._claim.cid, logs=self._places.logs
        )
        control = ControlSocket(self._place.socket_path, self._describe)
        stack.callback(control.close)
        stack.callback(self._place.leave)
        self._description = replace(
            self._description, name=record.name, enclave_id=identity.enclave_id, cid=self._claim.cid
        )
        recorder.update(enclave_name=record.name)
        self._journal.write("INFO", f"enclave {identity.enclave_id} on CID {self._claim.cid} is starting")
        return control

    def _serve_devices(self, vsock: VsockDevice, nsm: NsmDevice) -> list["asyncio.Task[None]"]:
        """Serve what QEMU needs to start and what tells of its end."""
        steps = [
            self._await_machine(),
            self._run_device("vsock", self._started.vsock, vsock),
            self._run_device("NSM", self._started.nsm, nsm),
        ]
        return self._start(*steps)

    def _start(self, *steps: Coroutine[Any, Any, None]) -> list["asyncio.Task[None]"]:
        """Run parts of the enclave; one that fails ends it, for it would go on without what it promises."""
        tasks = [asyncio.create_task(step) for step in steps]
        for task in tasks:
            task.add_done_callback(self._notice)
        return tasks

    def _notice(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self._ending is None:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            self._end(Ending("machine-failed", f"A part of the enclave's supervisor failed ({said})."))

    async def _pin(self) -> None:
        """Pin each vCPU; where that may not be, they still run on no other CPUs than the enclave's."""
        try:
            await pin_processors(self._machine, self._description.cpus)
        except MachineError as error:
            self._journal.write("WARN", f"the vCPUs share the enclave's CPUs: {error}")

    def _serve_host(
        self, vsock: VsockDevice, control: ControlSocket, recorder: FlightRecorder, stack: ExitStack
    ) -> list["asyncio.Task[None]"]:
        """Serve this host's programs: connections to the enclave, control, the console."""
        mux = self._claim.listen_mux()
        stack.callback(mux.close)
        steps = [
            serve_mux(mux, vsock.attach),
            control.serve(),
            self._watch(control),
            self._await_termination(control),
        ]
        if self._started.console_fd is not None:
            port = self._claim.cid + PORT_OFFSET
            listener = listen(port, cid=HYPERVISOR_CID)
            stack.callback(listener_path(port, cid=HYPERVISOR_CID).unlink, missing_ok=True)
            self._console = Console(self._started.console_fd, listener, record=recorder.console)
            self._console_task = asyncio.create_task(self._console.serve())
        return self._start(*steps)

    async def _boot(self, report: Report) -> None:
        """Wait for the guest's heartbeat, then tell the command; raises EnclaveFailure E36."""
        shown = self._description
        report.say(
            f"Started enclave with enclave-cid: {shown.cid}, memory: {shown.memory_mib} MiB, "
            f"cpu-ids: {list(shown.cpus)}",
            shown.enclave_id,
        )
        over = asyncio.create_task(self._over.wait())
        waiting: list[asyncio.Future[Any]] = [self._services.ready, over]
        await asyncio.wait(waiting, timeout=self._boot_seconds, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if not self._services.ready.done():
            self._end(explain_silence(self._boot_seconds, self._seen()))
        if self._ending is not None and not self._services.ready.done():
            raise EnclaveFailure(
                "E36",
                f"Enclave boot failure. {self._ending.reason}",
                action="Waiting for the `ready` signal from a freshly booted enclave",
            )
        await self._measured
        # the guest has unpacked its own copy long before its heartbeat; now its program has the right of way
        asyncio.get_running_loop().call_later(RELEASE_SECONDS, self._started.loaded.release)
        self._description = self._description.with_state("RUNNING")
        self._journal.write("INFO", "the enclave has booted")
        if self._recorder is not None:
            self._recorder.update(booted=datetime.now(UTC), **self._registers())
        report.started(self._description.run_json())

    async def _await_machine(self) -> None:
        status = await self._machine.wait()
        await self._services.drain()
        if self._console is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._console.complete.wait(), CONSOLE_SECONDS)
        remains = Remains(
            status,
            complaint=self._machine.complaint,
            device_fault=None if self._device_fault is None else str(self._device_fault),
            wait_status=self._services.wait_status,
            init_failure=self._services.init_failure,
            console=self._seen(),
        )
        self._end(explain(remains))

    def _seen(self) -> bytes | None:
        """Return the last that the guest has printed; None where nobody may listen."""
        if not self._request.debug:
            return None
        return b"" if self._console is None else self._console.log.tail(EXAMINED)

    async def _run_device(self, name: str, sock: Any, device: Device) -> None:
        try:
            await serve_device(sock, device)
        except DeviceError as error:
            self._device_fault = DeviceError(f"the {name} device was misused: {error}")
            self._machine.kill()
        except Exception as error:  # noqa: BLE001 -- a fault of ours: without its device the guest cannot go on
            self._device_fault = DeviceError(f"the {name} device failed: {type(error).__name__}: {error}")
            self._journal.write("ERROR", traceback.format_exc())
            self._machine.kill()

    def _tell_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what nobody caught: there is no standard error to print it to."""
        error = context.get("exception")
        told = "".join(traceback.format_exception(error)) if error is not None else ""
        self._journal.write("ERROR", f"{context['message']} {told}")

    async def _watch(self, control: ControlSocket) -> None:
        await control.watch()
        self._end(Ending("socket-removed", "Its control socket was removed."))

    async def _await_termination(self, control: ControlSocket) -> None:
        await control.terminate_requested.wait()
        self._end(Ending("terminated", "Its end was asked for."))

    async def _await_desertion(self, report: Report) -> None:
        if await report.deserted():
            self._end(Ending("terminated", "The command that started it was stopped before it had booted."))

    def _end(self, why: Ending) -> None:
        if self._ending is None:
            self._ending = why
            self._description = self._description.with_state("TERMINATING")
            self._journal.write("INFO", f"the enclave ends ({why.cause}): {why.reason}")
        self._over.set()

    async def _finish(self, tasks: list["asyncio.Task[None]"]) -> None:
        self._machine.kill()
        if self._console_task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._console_task, END_SECONDS)
        for task in tasks:
            task.cancel()
        self._services.close()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self._journal.write("ERROR", f"{type(outcome).__name__}: {outcome}")

    async def _describe(self, metadata: bool) -> dict[str, Any]:
        shown = self._description.describe_json(await asyncio.shield(self._measured))
        return shown | metadata_json(self._metadata) if metadata else shown


def _failed_start(error: Exception) -> Ending:
    """Return the end of an enclave that has not come to run, with nitro-cli's code."""
    match error:
        case EnclaveFailure():
            reason = f"[ {error.code} ] {error.message}"
        case CloisterError() | OSError():
            reason = f"[ E29 ] The enclave cannot be started: {error}"
        case _:
            reason = f"[ E00 ] {type(error).__name__} in the supervisor; its log says where."
    return Ending("start-failed", " ".join(reason.split()))


def _claim_cid(request: RunRequest, places: Places) -> Claim:
    try:
        return HostNetwork(places.run).claim_cid(request.cid)
    except CidError as error:
        raise EnclaveFailure(
            "E29", f"The enclave cannot be started: {error}.", action="Start enclave"
        ) from None
