"""The back end's loop: one vhost-user connection, one device, inside the running asyncio loop.

Follows the vhost-user protocol, the back end's side: owner, features, memory table, rings. The peer is QEMU
in its jail and counts as hostile: any message out of order or out of bounds ends the device with DeviceError.
"""

import array
import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from cloister.vhost import messages
from cloister.vhost.doorbell import Doorbell
from cloister.vhost.faults import DeviceError
from cloister.vhost.memory import GuestMemory
from cloister.vhost.messages import Header, ProtocolFeature, Request
from cloister.vhost.ring import Ring
from cloister.vhost.virtqueue import Feature, Virtqueue

MESSAGES_A_TURN = 64
"""A peer that never stops talking must not keep the loop from everybody else."""
_F_PROTOCOL_FEATURES = 1 << 30  # vhost-user's own bit among the virtio features


class Device(Protocol):
    """What a device offers to the back end; its methods run in the asyncio loop and must not block."""

    @property
    def features(self) -> int:
        """Device-specific feature bits; the back end adds those of the ring."""

    @property
    def queue_count(self) -> int:
        """How many queues the back end serves."""

    @property
    def config(self) -> bytes:
        """The configuration space, empty if there is none."""

    def begin(self, fail: Callable[[DeviceError], None]) -> None:
        """Get ready for a peer; ``fail`` ends the device from a callback of its own."""

    def queue_started(self, index: int, queue: Virtqueue, /) -> None:
        """Use a queue from now on; called again with a new one when the guest's memory is remapped."""

    def queue_stopped(self, index: int, /) -> None:
        """Leave a queue alone from now on."""

    def kicked(self, index: int, /) -> None:
        """Look at a queue, the guest put something into it; may raise DeviceError."""

    def end(self) -> None:
        """Let go of everything: the peer is gone."""


async def serve_device(
    connection: socket.socket, device: Device, *, memory: GuestMemory | None = None
) -> None:
    """Serve one device over one end of a stream socket until the peer closes it; raises DeviceError.

    Takes the connection over. ``memory`` given by the caller stays open, for the caller to close.
    """
    own = GuestMemory() if memory is None else memory
    session = _Session(connection, device, own)
    try:
        await session.run()
    finally:
        session.close()
        if memory is None:
            own.close()


class _Session:
    def __init__(self, connection: socket.socket, device: Device, memory: GuestMemory) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._device = device
        self._memory = memory
        self._doorbell = Doorbell()
        self._rings = [
            Ring(i, device, memory, self._loop, fail=self.fail, doorbell=self._doorbell)
            for i in range(device.queue_count)
        ]
        # Plain integers: the complement of an IntFlag knows its named bits alone.
        self._offered = int(device.features | Feature.VERSION_1 | _F_PROTOCOL_FEATURES)
        self._protocol = int(ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.RESET_DEVICE)
        if device.config:
            self._protocol |= int(ProtocolFeature.CONFIG)
        self._features = 0
        self._acknowledge = False
        self._received = bytearray()
        self._files: list[int] = []
        self._over: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        self._connection.setblocking(False)
        self._device.begin(self.fail)
        self._loop.add_reader(self._connection, self._readable)
        await self._over

    def fail(self, error: DeviceError) -> None:
        """End the session with an error; the first one counts."""
        if not self._over.done():
            self._over.set_exception(error)

    def _close_down(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def close(self) -> None:
        self._loop.remove_reader(self._connection)
        for ring in self._rings:
            ring.close()
        self._doorbell.close()
        self._device.end()
        self._close_files()
        self._connection.close()

    def _close_files(self) -> None:
        for file in self._files:
            with suppress(OSError):
                os.close(file)
        self._files = []

    def _readable(self) -> None:
        try:
            for _ in range(MESSAGES_A_TURN):
                if self._over.done() or not self._receive():
                    break
        except DeviceError as error:
            self.fail(error)
        except (BrokenPipeError, ConnectionResetError):
            self._close_down()  # the peer is gone and did not wait for our answer
        except OSError as error:
            self.fail(DeviceError(f"the vhost-user connection broke: {error}"))

    def _receive(self) -> bool:
        """Read one message and act on it; return False when the rest of it is not there yet."""
        received = self._received
        while True:
            header = (
                Header.from_bytes(bytes(received[:12])) if len(received) >= messages.HEADER_SIZE else None
            )
            wanted = messages.HEADER_SIZE + (header.size if header else 0) - len(received)
            if header and not wanted:
                break
            try:
                piece = self._receive_piece(wanted)
            except BlockingIOError:
                return False
            if not piece:
                if received:
                    raise DeviceError("the vhost-user peer closed in the middle of a message")
                self._close_down()
                return False
            received += piece
        payload = bytes(received[messages.HEADER_SIZE :])
        received.clear()
        files, self._files = self._files, []
        self._act(header, payload, files)
        return True

    def _receive_piece(self, wanted: int) -> bytes:
        space = socket.CMSG_SPACE(messages.MAX_REGIONS * 4)
        piece, ancillary, flags, _ = self._connection.recvmsg(wanted, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files = array.array("i")
                files.frombytes(content[: len(content) - len(content) % files.itemsize])
                self._files += files
        if flags & socket.MSG_CTRUNC or len(self._files) > messages.MAX_REGIONS:
            raise DeviceError(f"a vhost-user message carries more than {messages.MAX_REGIONS} files")
        return piece

    def _act(self, header: Header, payload: bytes, files: list[int]) -> None:
        try:
            request = Request(header.request)
        except ValueError:
            _close_all(files)
            raise DeviceError(f"vhost-user request {header.request} was never offered") from None
        if files and request not in _WITH_FILES:
            _close_all(files)
            raise DeviceError(f"vhost-user request {request.name} carries {len(files)} files, expected none")
        answer = self._answer(request, payload, files)
        if answer is not None:
            self._send(messages.reply(request, answer))
        elif self._acknowledge and header.wants_reply:
            self._send(messages.reply(request, messages.u64(0)))

    def _send(self, message: bytes) -> None:
        try:
            sent = self._connection.send(message)
        except BlockingIOError:
            sent = 0
        if sent != len(message):
            raise DeviceError("the vhost-user peer does not read its answers")

    def _answer(self, request: Request, payload: bytes, files: list[int]) -> bytes | None:
        match request:
            case Request.GET_FEATURES:
                return messages.u64(self._offered)
            case Request.SET_FEATURES:
                self._set_features(messages.parse_u64(payload))
            case Request.GET_PROTOCOL_FEATURES:
                return messages.u64(self._protocol)
            case Request.SET_PROTOCOL_FEATURES:
                accepted = messages.parse_u64(payload)
                if accepted & ~self._protocol:
                    raise DeviceError(
                        f"the peer takes protocol features {accepted:#x}, offered {self._protocol:#x}"
                    )
                self._acknowledge = bool(accepted & ProtocolFeature.REPLY_ACK)
            case Request.GET_QUEUE_NUM:
                return messages.u64(len(self._rings))
            case Request.GET_CONFIG:
                access, _ = messages.parse_config(payload)
                config = self._device.config.ljust(messages.MAX_CONFIG, b"\0")
                content = config[access.offset : access.offset + access.size]
                return messages.config_payload(access, content)
            case Request.SET_CONFIG | Request.SET_OWNER:
                pass  # nothing in the configuration space is the guest's to write
            case Request.RESET_OWNER | Request.RESET_DEVICE:
                for ring in self._rings:
                    ring.stop()
            case Request.SET_MEM_TABLE:
                self._set_memory(payload, files)
            case _:
                return self._ring_request(request, payload, files)
        return None

    def _set_features(self, features: int) -> None:
        if features & ~self._offered:
            raise DeviceError(f"the peer takes features {features:#x}, offered {self._offered:#x}")
        self._features = features
        for ring in self._rings:
            ring.features = features
            ring.enabled = ring.enabled or not features & _F_PROTOCOL_FEATURES

    def _set_memory(self, payload: bytes, files: list[int]) -> None:
        try:
            regions = messages.parse_memory_table(payload)
        except DeviceError:
            _close_all(files)
            raise
        self._memory.replace(regions, files)
        for ring in self._rings:
            ring.remap()

    def _ring_request(self, request: Request, payload: bytes, files: list[int]) -> bytes | None:
        if request in _WITH_FILES:
            value = messages.parse_u64(payload) if len(payload) == 8 else _reject(payload, files)
            ring = self._ring(value & 0xFF, files)
            if request is Request.SET_VRING_KICK:
                ring.set_kick(_one_file(value, files))
            elif request is Request.SET_VRING_CALL:
                ring.set_call(_one_file(value, files))
            else:
                _close_all(files)  # SET_VRING_ERR: errors end the device, nobody is told through it
            return None
        if request is Request.SET_VRING_ADDR:
            address = messages.parse_ring_address(payload)
            self._ring(address.index).set_address(address)
            return None
        index, number = messages.parse_ring_state(payload)
        ring = self._ring(index)
        match request:
            case Request.SET_VRING_NUM:
                ring.size = number
            case Request.SET_VRING_BASE:
                ring.base = number & 0xFFFF
            case Request.SET_VRING_ENABLE:
                ring.set_enabled(bool(number))
            case Request.GET_VRING_BASE:
                return messages.ring_state(index, ring.stop(forget_kick=True))
        return None

    def _ring(self, index: int, files: Sequence[int] = ()) -> Ring:
        if index >= len(self._rings):
            _close_all(files)
            raise DeviceError(f"ring {index} does not exist, this device has {len(self._rings)}")
        return self._rings[index]


_WITH_FILES = {Request.SET_MEM_TABLE, Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR}


def _close_all(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def _reject(payload: bytes, files: Sequence[int]) -> int:
    _close_all(files)
    raise DeviceError(f"a vhost-user payload has {len(payload)} bytes, expected 8")


def _one_file(value: int, files: Sequence[int]) -> int | None:
    """Return the file of a kick or call message; bit 8 says that there is none."""
    without = bool(value & 0x100)
    if len(files) != (0 if without else 1):
        _close_all(files)
        raise DeviceError(
            f"a kick or call message carries {len(files)} files, expected {0 if without else 1}"
        )
    return None if without else files[0]
