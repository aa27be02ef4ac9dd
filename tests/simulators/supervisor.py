"""A supervisor as the commands see it: registered, at its control socket, answering as it is told."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloister.control import MAX_REQUEST, ControlError, Register, Reply, Request, receive_line

INSTANCE = "i-0123456789abcdef0"


@contextmanager
def supervisor(
    run: Path, slot: str, *, name: str = "hello", reply: Reply | None, cid: int = 16
) -> Iterator[dict[str, Any]]:
    """Stand in for one enclave, and give its name and id; without ``reply`` it hangs up on whoever asks."""
    enclave_id = f"{INSTANCE}-enc{slot}"
    registration = Register(run).enter(slot, enclave_id, name, cid)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(registration.socket_path))
    listener.listen()
    serving = threading.Thread(target=_serve, args=(listener, reply), daemon=True)
    serving.start()
    try:
        yield {"EnclaveName": registration.record.name, "EnclaveID": enclave_id}
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()
        listener.close()
        registration.close()


def _serve(listener: socket.socket, reply: Reply | None) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # shut down
            return
        with client:
            try:
                Request.from_bytes(receive_line(client, limit=MAX_REQUEST, deadline=time.monotonic() + 5))
            except ControlError:
                continue
            if reply is not None:
                with suppress(OSError):  # whoever asked may have left
                    client.sendall(reply.to_bytes())
