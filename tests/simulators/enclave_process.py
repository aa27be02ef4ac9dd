"""A process that stands in the register and keeps a record as a supervisor does, with no machine behind it.

Run as a program; it says ``ready`` and ends when its control socket is asked for that, at SIGTERM, or when a
line comes on standard input: a JSON object, the last fields of its record. Manners: ``obedient``; ``deaf``,
without a control socket; ``stubborn``, which ignores SIGTERM too.
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloister.control import Register, Registration
from cloister.flight import FlightRecorder
from cloister.places import Places
from cloister.supervisor.control_socket import ControlSocket

CID = 16
MEASUREMENTS = {"HashAlgorithm": "Sha384 { ... }", "PCR0": "ab" * 48, "PCR1": "cd" * 48, "PCR2": "ef" * 48}


@contextmanager
def enclave_process(
    places: Places, name: str, *, slot: str = "a1", manner: str = "obedient", debug: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run one until it ends or the block does."""
    words = [str(places.run), str(places.logs), slot, name, manner, "debug" if debug else "production"]
    process = subprocess.Popen(
        [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str], **fields: Any) -> None:
    """Let it end by itself, with these fields of its record; returns at once."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(fields) + "\n")
    process.stdin.flush()


async def _live(registration: Registration, manner: str, *, debug: bool) -> dict[str, Any]:
    """Return the last fields of the record."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[dict[str, Any]] = loop.create_future()

    def finish(fields: dict[str, Any]) -> None:
        if not ended.done():
            ended.set_result(fields)

    loop.add_reader(sys.stdin, lambda: finish(json.loads(sys.stdin.readline())))
    told = {"cause": "terminated", "reason": "It was told to end."}
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, finish, told)

    async def describe(_: bool) -> dict[str, Any]:
        flags = "DEBUG_MODE" if debug else "NONE"
        return {"State": "RUNNING", "Flags": flags, "Measurements": MEASUREMENTS}

    control = ControlSocket(registration.socket_path, describe) if manner == "obedient" else None
    print("ready", flush=True)
    if control is None:
        return await ended
    serving = asyncio.create_task(control.serve())
    asked: asyncio.Future[Any] = asyncio.ensure_future(control.terminate_requested.wait())
    await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    control.farewell({"Terminated": True})
    control.close()
    return ended.result() if ended.done() else told


def main() -> None:
    """Stand in the register until the end."""
    run, logs, slot, name, manner, mode = sys.argv[1:]
    enclave_id = f"i-1-enc{slot}"
    registration = Register(Path(run)).enter(slot, enclave_id, name, CID)
    recorder = FlightRecorder(Path(logs), enclave_id)
    recorder.update(
        enclave_name=name,
        cid=CID,
        cpu_ids=(0, 1),
        memory_mib=256,
        debug=mode == "debug",
        image=f"{name}.eif",
        measurements=MEASUREMENTS,
    )
    fields = asyncio.run(_live(registration, manner, debug=mode == "debug"))
    recorder.update(ended=datetime.now(UTC), **fields)
    registration.close()


if __name__ == "__main__":
    main()
