"""Answer the parent's requests for attestation documents, beside whatever else the enclave does.

One connection after the other, each with a time limit, none but the parent's: whoever stays silent makes the
others wait that long, and only the parent could, which may stop the enclave as well.
"""

import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from cloister.sdk.attestation_protocol import (
    ATTESTATION_PORT,
    AttestationRequestError,
    receive_nonce,
    send_document,
    send_refusal,
)
from cloister.sdk.device import NsmError, attest
from cloister.sdk.streams import StreamError, comes_from_parent
from cloister.transport import listen

CONNECTION_SECONDS: Final = 5.0
"""What a whole connection may take."""
MAX_WAITING: Final = 16
"""Connections that wait for their turn; further ones are refused."""
_BREATH: Final = 0.1


@dataclass(frozen=True, slots=True)
class Binding:
    """What this enclave states in its documents: each at most 1024 bytes, or None.

    A public key whose private half never leaves the enclave is what makes a channel the enclave's own.
    """

    user_data: bytes | None = None
    public_key: bytes | None = None


class Attest(Protocol):
    """What signs a document: ``cloister.sdk.attest``."""

    def __call__(self, *, nonce: bytes | None, user_data: bytes | None, public_key: bytes | None) -> bytes:
        """Return a document; raise NsmError."""


@contextmanager
def serve_attestation(
    bind: Callable[[], Binding] = Binding,
    *,
    port: int = ATTESTATION_PORT,
    from_anyone: bool = False,
    attest: Attest = attest,
    listener: socket.socket | None = None,
    seconds: float = CONNECTION_SECONDS,
) -> Iterator[None]:
    """Answer requests in a thread of its own for as long as the context lasts.

    ``bind`` is asked for each document, so that a key may change. ``listener`` is used, and closed, in place
    of one on ``port``. Raises what ``listen`` raises; what goes wrong later is told on standard error.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, listener or listen(port, backlog=MAX_WAITING) as listening:
        listening.setblocking(False)

        def serve() -> None:
            for stream in _connections(listening, theirs, from_anyone=from_anyone):
                with stream:
                    _answer(stream, bind, attest, seconds)

        thread = threading.Thread(target=serve, name="attestation", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ours.close()
            thread.join()


def _connections(
    listener: socket.socket, stop: socket.socket, *, from_anyone: bool
) -> Iterator[socket.socket]:
    """Yield connections until ``stop`` ends; those that do not come from the parent are closed unheard."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is stop for key, _ in selector.select()):
                return
            try:
                stream, address = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # out of descriptors, or the caller has gone
                _tell(error)
                time.sleep(_BREATH)
                continue
            if from_anyone or comes_from_parent(stream, address):
                yield stream
            else:
                stream.close()


def _answer(stream: socket.socket, bind: Callable[[], Binding], sign: Attest, seconds: float) -> None:
    """Read one request and answer it: a document or why there is none."""
    deadline = time.monotonic() + seconds
    with suppress(StreamError):  # the caller has gone, or is too slow: nobody is left to be told
        try:
            nonce = receive_nonce(stream, deadline=deadline)
            binding = bind()
            document = sign(nonce=nonce, user_data=binding.user_data, public_key=binding.public_key)
        except (AttestationRequestError, NsmError) as error:
            send_refusal(stream, error.message, deadline=deadline)
        except StreamError:
            raise
        except Exception as error:  # noqa: BLE001 -- the program's own, which must not end the service
            _tell(error)
            send_refusal(stream, "the program could not say what to state", deadline=deadline)
        else:
            send_document(stream, document, deadline=deadline)


def _tell(error: Exception) -> None:
    with suppress(OSError, ValueError):
        print(f"attestation: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201 -- the console
