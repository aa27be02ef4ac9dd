"""Asks supervisors: all at once, with one time limit, and none that is slow holds up the others' answers."""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.control.messages import MAX_REPLY, ControlError, Reply, Request, receive_line
from cloister.control.records import Record, Register

ANSWER_SECONDS: Final = 3.0
"""nitro-cli's wait for a broadcast (nitro-tools 1.6)."""
TERMINATE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One enclave's reply, or None where its supervisor could not be reached."""

    record: Record
    reply: Reply | None


def ask(
    run: Path, records: Sequence[Record], request: Request, *, seconds: float = ANSWER_SECONDS
) -> list[Answer]:
    """Send a request to these enclaves and return their answers in the same order."""
    deadline = time.monotonic() + seconds
    sockets = [_send(run, record, request) for record in records]
    answers = []
    for record, sock in zip(records, sockets, strict=True):
        reply = None
        if sock is not None:
            with sock, contextlib.suppress(ControlError):
                reply = Reply.from_bytes(receive_line(sock, limit=MAX_REPLY, deadline=deadline))
        answers.append(Answer(record, reply))
    return answers


def ask_all(run: Path, request: Request) -> list[Answer]:
    """Send a request to every enclave of this host's user; one that ends meanwhile is left out."""
    register = Register(run)
    answers = ask(run, register.live(), request)
    if all(answer.reply is not None for answer in answers):
        return answers
    living = register.live()
    return [answer for answer in answers if answer.reply is not None or answer.record in living]


def terminate(run: Path, record: Record) -> Answer:
    """End an enclave and wait until its supervisor is gone, at most 30 s."""
    try:
        supervisor = os.pidfd_open(record.pid)
    except OSError:
        return Answer(record, None)
    try:
        (answer,) = ask(run, [record], Request("terminate"), seconds=TERMINATE_SECONDS)
        if answer.reply is not None and answer.reply.status == 0:
            select.select([supervisor], [], [], TERMINATE_SECONDS)
    finally:
        os.close(supervisor)
    return answer


def _send(run: Path, record: Record, request: Request) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.settimeout(ANSWER_SECONDS)
    try:
        handle = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a socket's path has at most 107 bytes (unix(7))
            sock.connect(f"/proc/self/fd/{handle}/{record.slot}.sock")
        finally:
            os.close(handle)
        sock.sendall(request.to_bytes())
    except OSError:
        sock.close()
        return None
    return sock


NOT_PERMITTED: Final = errno.EACCES
"""The status of a request that this user may not make."""
