"""One vsock connection as the device sees it: state, credit both ways, half close.

Follows virtio 1.2 section 5.10.6. A primer:

- **Connect.** REQUEST is answered by RESPONSE, or by RST when refused.
- **Credit** (5.10.6.3). Every header carries ``buf_alloc``, the size of its sender's receive buffer, and
  ``fwd_cnt``, how many bytes its sender has taken out of it so far (both 32 bits, wrapping). Having sent
  ``tx_cnt`` bytes, one may send ``peer_buf_alloc - (tx_cnt - peer_fwd_cnt)`` more and no byte beyond.
  CREDIT_REQUEST asks for a CREDIT_UPDATE.
- **End.** SHUTDOWN says what its sender will not do any more (receive, send, both). Both: the peer answers
  RST when it has dealt with what is on the way. An RST at any other time is an abrupt end.

What a received packet means is read from ``TABLE``; a packet that is not in it breaks the protocol.
"""

from collections import deque
from enum import Enum, auto

from cloister.vsock.packet import TYPE_STREAM, Header, Op, Shutdown

COUNTER = 0xFFFFFFFF
MAX_WINDOW = 8 << 20  # bytes; a larger ``buf_alloc`` is not believed, so that what we remember stays bounded
PACKET_CHARGE = 1024  # bytes of the peer's buffer that a packet may cost it beyond its payload, see `credit`


class State(Enum):
    """Where a connection stands."""

    REQUESTED = auto()
    """We asked the guest and wait for its answer."""
    ESTABLISHED = auto()
    CLOSED = auto()


class Effect(Enum):
    """What the owner of a connection has to do about a packet."""

    NOTHING = auto()
    ACCEPTED = auto()
    """The guest took our connection."""
    DELIVER = auto()
    """Hand the payload on, and call ``consumed`` as it goes."""
    CREDIT = auto()
    """There may be room to send now."""
    SEND_CREDIT = auto()
    """Answer with a CREDIT_UPDATE."""
    SHUTDOWN = auto()
    """Look at ``peer_shutdown``: the guest ended one or both directions."""
    RESET = auto()
    """The guest ended the connection; answer nothing."""
    VIOLATION = auto()
    """The guest broke the protocol: answer RST and forget the connection."""


TABLE: dict[tuple[State, int], tuple[State, Effect]] = {
    (State.REQUESTED, Op.RESPONSE): (State.ESTABLISHED, Effect.ACCEPTED),
    (State.REQUESTED, Op.RST): (State.CLOSED, Effect.RESET),
    (State.ESTABLISHED, Op.RW): (State.ESTABLISHED, Effect.DELIVER),
    (State.ESTABLISHED, Op.CREDIT_UPDATE): (State.ESTABLISHED, Effect.CREDIT),
    (State.ESTABLISHED, Op.CREDIT_REQUEST): (State.ESTABLISHED, Effect.SEND_CREDIT),
    (State.ESTABLISHED, Op.SHUTDOWN): (State.ESTABLISHED, Effect.SHUTDOWN),
    (State.ESTABLISHED, Op.RST): (State.CLOSED, Effect.RESET),
}
"""(state, op received) -> (next state, effect); anything else is a violation."""


class Connection:
    """The counters and the state of one stream; no bytes pass through here."""

    __slots__ = (
        "_in_flight",
        "_told_fwd",
        "buf_alloc",
        "fwd_cnt",
        "guest_cid",
        "guest_port",
        "local_cid",
        "local_port",
        "local_shutdown",
        "peer_buf_alloc",
        "peer_fwd_cnt",
        "peer_shutdown",
        "rx_cnt",
        "state",
        "tx_cnt",
    )

    def __init__(
        self,
        *,
        guest_cid: int,
        guest_port: int,
        local_cid: int,
        local_port: int,
        state: State,
        buf_alloc: int,
    ) -> None:
        self.guest_cid = guest_cid
        self.guest_port = guest_port
        self.local_cid = local_cid
        self.local_port = local_port
        self.state = state
        self.buf_alloc = buf_alloc
        self.rx_cnt = 0  # bytes the guest has sent
        self.fwd_cnt = 0  # of these, bytes handed on
        self._told_fwd = 0  # fwd_cnt as the guest last heard it
        self.tx_cnt = 0  # bytes sent to the guest
        self.peer_buf_alloc = 0
        self.peer_fwd_cnt = 0
        self.peer_shutdown = Shutdown.NONE
        self.local_shutdown = Shutdown.NONE
        self._in_flight: deque[int] = deque()  # tx_cnt after each packet the guest has not taken yet

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells connections of one guest apart: our CID, our port, the guest's port."""
        return self.local_cid, self.local_port, self.guest_port

    @property
    def credit(self) -> int:
        """Bytes that may be sent to the guest now.

        Beyond the specification, the packets on the way are bounded too: Linux since 6.12.92 resets a
        connection whose queued packets cost more than ``buf_alloc`` in overhead, however small their payload.
        """
        if len(self._in_flight) * PACKET_CHARGE >= self.peer_buf_alloc:
            return 0
        return max(0, self.peer_buf_alloc - ((self.tx_cnt - self.peer_fwd_cnt) & COUNTER))

    def receive(self, header: Header) -> Effect:
        """Take note of a packet's header and say what has to be done about it."""
        entry = TABLE.get((self.state, header.op))
        if entry is None:
            self.state = State.CLOSED
            return Effect.VIOLATION
        self.state, effect = entry
        if not self._note_credit(header.buf_alloc, header.fwd_cnt):
            self.state = State.CLOSED
            return Effect.VIOLATION
        if effect is Effect.DELIVER:
            return self._note_payload(header.length)
        if header.length:
            self.state = State.CLOSED
            return Effect.VIOLATION
        if effect is Effect.SHUTDOWN:
            self.peer_shutdown |= Shutdown(header.flags & Shutdown.BOTH)
        return effect

    def header(self, op: Op, *, length: int = 0, flags: int = 0) -> Header:
        """Return the header of a packet to the guest; it carries our credit, so the guest is told by it."""
        self._told_fwd = self.fwd_cnt
        return Header(
            self.local_cid,
            self.guest_cid,
            self.local_port,
            self.guest_port,
            length,
            TYPE_STREAM,
            op,
            flags,
            self.buf_alloc,
            self.fwd_cnt,
        )

    def sent(self, length: int) -> None:
        """Count a packet of payload that was sent to the guest; never more than ``credit``."""
        self.tx_cnt = (self.tx_cnt + length) & COUNTER
        self._in_flight.append(self.tx_cnt)

    def consumed(self, length: int) -> bool:
        """Count payload handed on; return True when the guest should hear of it by a CREDIT_UPDATE."""
        self.fwd_cnt = (self.fwd_cnt + length) & COUNTER
        return ((self.fwd_cnt - self._told_fwd) & COUNTER) * 2 >= self.buf_alloc

    def shut(self, flags: Shutdown) -> Shutdown:
        """Note that we end directions; return those that are news to the guest."""
        news = flags & ~self.local_shutdown
        self.local_shutdown |= flags
        return news

    def _note_credit(self, buf_alloc: int, fwd_cnt: int) -> bool:
        """Take the peer's credit; False when it claims to have taken bytes that were never sent."""
        advance = (fwd_cnt - self.peer_fwd_cnt) & COUNTER
        if advance > ((self.tx_cnt - self.peer_fwd_cnt) & COUNTER):
            return False
        self.peer_buf_alloc = min(buf_alloc, MAX_WINDOW)
        if advance:
            self.peer_fwd_cnt = fwd_cnt
            in_flight = self._in_flight
            outstanding = (self.tx_cnt - fwd_cnt) & COUNTER
            while in_flight and ((self.tx_cnt - in_flight[0]) & COUNTER) >= outstanding:
                in_flight.popleft()
        return True

    def _note_payload(self, length: int) -> Effect:
        """Take payload into account; a violation when it exceeds our credit or comes after its end."""
        self.rx_cnt = (self.rx_cnt + length) & COUNTER
        if ((self.rx_cnt - self.fwd_cnt) & COUNTER) > self.buf_alloc or self.peer_shutdown & Shutdown.SEND:
            self.state = State.CLOSED
            return Effect.VIOLATION
        return Effect.DELIVER
