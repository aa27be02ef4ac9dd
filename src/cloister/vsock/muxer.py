"""All connections of one guest: which packet belongs to which, and what answers a packet of none.

Follows virtio 1.2 section 5.10.6.4 to 5.10.6.6: unknown connections are answered by RST, a source other than
the guest's own CID is dropped, only streams are offered.
"""

from enum import Enum, auto

from cloister.vsock.connection import MAX_WINDOW, Connection, State
from cloister.vsock.packet import TYPE_STREAM, Header, Op

FIRST_LOCAL_PORT = 1 << 30  # our end of connections into the guest: far from ports that people choose
LAST_LOCAL_PORT = (1 << 32) - 2

Key = tuple[int, int, int]


class Route(Enum):
    """Where a packet goes when it is not one of a known connection."""

    KNOWN = auto()
    """It belongs to the connection that came with the answer."""
    CONNECT = auto()
    """The guest asks for a new connection."""
    REPLACE = auto()
    """The guest asks for a connection it has already: forget the old one and refuse this packet."""
    REFUSE = auto()
    """Answer RST."""
    DROP = auto()
    """Answer nothing."""


class Muxer:
    """The table of connections of one guest, bounded."""

    def __init__(self, guest_cid: int, *, limit: int) -> None:
        self.guest_cid = guest_cid
        self._limit = limit
        self._connections: dict[Key, Connection] = {}
        self._next_port = FIRST_LOCAL_PORT

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def full(self) -> bool:
        """Whether no further connection is taken."""
        return len(self._connections) >= self._limit

    def route(self, header: Header) -> tuple[Route, Connection | None]:
        """Say where a packet from the guest goes."""
        connection = self._connections.get((header.dst_cid, header.dst_port, header.src_port))
        if header.src_cid != self.guest_cid:
            return Route.DROP, None
        if header.type != TYPE_STREAM:
            return (Route.DROP if header.op == Op.RST else Route.REFUSE), None
        if connection is not None:
            return (Route.REPLACE if header.op == Op.REQUEST else Route.KNOWN), connection
        if header.op == Op.RST:
            return Route.DROP, None
        if header.op != Op.REQUEST or header.length or self.full:
            return Route.REFUSE, None
        return Route.CONNECT, None

    def accept(self, header: Header, *, buf_alloc: int) -> Connection:
        """Make the connection a REQUEST asked for."""
        connection = Connection(
            guest_cid=self.guest_cid,
            guest_port=header.src_port,
            local_cid=header.dst_cid,
            local_port=header.dst_port,
            state=State.ESTABLISHED,
            buf_alloc=buf_alloc,
        )
        connection.peer_buf_alloc = min(header.buf_alloc, MAX_WINDOW)
        self._connections[connection.key] = connection
        return connection

    def connect(self, local_cid: int, guest_port: int, *, buf_alloc: int) -> Connection | None:
        """Make a connection into the guest, from a free port of ours; None when the table is full."""
        if self.full:
            return None
        while (local_cid, self._next_port, guest_port) in self._connections:
            self._advance()
        connection = Connection(
            guest_cid=self.guest_cid,
            guest_port=guest_port,
            local_cid=local_cid,
            local_port=self._next_port,
            state=State.REQUESTED,
            buf_alloc=buf_alloc,
        )
        self._connections[connection.key] = connection
        self._advance()
        return connection

    def forget(self, connection: Connection) -> None:
        """Drop a connection; its ports may be used again."""
        connection.state = State.CLOSED
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]

    def _advance(self) -> None:
        self._next_port = FIRST_LOCAL_PORT if self._next_port >= LAST_LOCAL_PORT else self._next_port + 1
