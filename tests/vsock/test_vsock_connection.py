"""The pure parts of vsock: headers, lines, credit, routing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.vsock import (
    AddressError,
    Connection,
    Effect,
    Header,
    Muxer,
    Op,
    Route,
    Shutdown,
    State,
    connect_line,
    ok_line,
    parse_connect,
    parse_ok,
)

WRAP = 1 << 32
headers = st.builds(
    Header,
    *[st.integers(0, (1 << 64) - 1)] * 2,
    *[st.integers(0, WRAP - 1)] * 3,
    *[st.integers(0, 65535)] * 2,
    *[st.integers(0, WRAP - 1)] * 3,
)


def connection(state: State = State.ESTABLISHED, buf_alloc: int = 4096) -> Connection:
    """Return a connection between (16, 40000) and (3, 5000)."""
    return Connection(
        guest_cid=16, guest_port=40000, local_cid=3, local_port=5000, state=state, buf_alloc=buf_alloc
    )


def packet(op: int, *, length: int = 0, flags: int = 0, buf_alloc: int = 8192, fwd_cnt: int = 0) -> Header:
    """Return a header from the guest."""
    return Header(16, 3, 40000, 5000, length, 1, op, flags, buf_alloc, fwd_cnt)


@given(header=headers)
def test_headers_survive_the_wire(header: Header) -> None:
    """Parsing is the inverse of writing, in 44 bytes."""
    assert len(header.to_bytes()) == 44
    assert header == Header.from_bytes(header.to_bytes())


def test_header_layout() -> None:
    """Fields lie where virtio 1.2 section 5.10.6 puts them, little-endian."""
    expected = (
        "1000000000000000 0300000000000000 409c0000 88130000 07000000 0100 0500 02000000 00200000 09000000"
    )
    assert bytes.fromhex(expected) == packet(Op.RW, length=7, flags=2, fwd_cnt=9).to_bytes()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("op", [*Op, 8, 255])
def test_only_the_table_moves_a_connection(state: State, op: int) -> None:
    """A packet that the specification does not foresee in a state is a violation and closes."""
    legal = {
        State.REQUESTED: {Op.RESPONSE, Op.RST},
        State.ESTABLISHED: {Op.RW, Op.CREDIT_UPDATE, Op.CREDIT_REQUEST, Op.SHUTDOWN, Op.RST},
        State.CLOSED: set(),
    }[state]
    one = connection(state)
    assert (one.receive(packet(op)) is not Effect.VIOLATION) == (op in legal)
    assert (one.state is State.CLOSED) == (op not in legal or op == Op.RST)


@given(start=st.integers(0, WRAP - 1), sizes=st.lists(st.integers(1, 3000), max_size=40))
def test_credit_is_exact_across_the_wrap(start: int, sizes: list[int]) -> None:
    """What may be sent is the peer's buffer minus what it has not taken, wherever the counters stand."""
    one = connection()
    one.tx_cnt = one.peer_fwd_cnt = start
    one.receive(packet(Op.CREDIT_UPDATE, buf_alloc=1 << 16, fwd_cnt=start))
    outstanding = 0
    for number, size in enumerate(sizes):
        if size <= one.credit:
            one.sent(size)
            outstanding += size
        if number % 3 == 2:
            taken = outstanding // 2
            outstanding -= taken
            fwd_cnt = (one.peer_fwd_cnt + taken) % WRAP
            assert one.receive(packet(Op.CREDIT_UPDATE, buf_alloc=1 << 16, fwd_cnt=fwd_cnt)) is Effect.CREDIT
        assert one.credit == (1 << 16) - outstanding


def test_a_shrunken_buffer_gives_no_credit() -> None:
    """A peer may make its buffer smaller than what is on the way; that is no negative credit."""
    one = connection()
    one.receive(packet(Op.CREDIT_UPDATE))
    one.sent(8000)
    one.receive(packet(Op.CREDIT_UPDATE, buf_alloc=100))
    assert one.credit == 0


def test_small_packets_count_as_much_as_they_cost() -> None:
    """Packets on the way are bounded by the peer's buffer, and freed as it takes them."""
    one = connection()
    one.receive(packet(Op.CREDIT_UPDATE, buf_alloc=4096))
    for _ in range(4):
        assert one.credit > 0
        one.sent(1)
    assert one.credit == 0
    one.receive(packet(Op.CREDIT_UPDATE, buf_alloc=4096, fwd_cnt=1))
    assert one.credit == 4093


def test_the_guest_may_not_exceed_our_credit() -> None:
    """Payload up to the window is delivered, one byte more is a violation."""
    one = connection(buf_alloc=4096)
    assert one.receive(packet(Op.RW, length=4096)) is Effect.DELIVER
    one.consumed(100)
    assert one.receive(packet(Op.RW, length=100)) is Effect.DELIVER
    assert one.receive(packet(Op.RW, length=1)) is Effect.VIOLATION


def test_nothing_follows_the_end() -> None:
    """Payload after the guest said that it sends no more is a violation."""
    one = connection()
    assert one.receive(packet(Op.SHUTDOWN, flags=2)) is Effect.SHUTDOWN
    assert one.peer_shutdown == Shutdown.SEND
    assert one.receive(packet(Op.RW, length=1)) is Effect.VIOLATION


def test_credit_is_told_when_half_the_window_is_news() -> None:
    """``consumed`` asks for an update at half a window since the guest last heard of it."""
    one = connection(buf_alloc=4096)
    one.receive(packet(Op.RW, length=4000))
    assert not one.consumed(2047)
    assert one.consumed(1)
    assert one.header(Op.RW).fwd_cnt == 2048
    assert not one.consumed(1000)


def test_the_muxer_keeps_ports_apart_and_reuses_them() -> None:
    """Connections are told apart by all three numbers; a forgotten one is unknown again."""
    muxer = Muxer(16, limit=3)
    header = packet(Op.REQUEST)
    assert muxer.route(header) == (Route.CONNECT, None)
    one = muxer.accept(header, buf_alloc=4096)
    assert muxer.route(packet(Op.RW)) == (Route.KNOWN, one)
    assert muxer.route(header) == (Route.REPLACE, one)
    assert muxer.route(header._replace(src_port=1)) == (Route.CONNECT, None)
    two = muxer.connect(3, 7000, buf_alloc=4096)
    three = muxer.connect(3, 7000, buf_alloc=4096)
    assert two is not None
    assert three is not None
    assert two.key != three.key
    assert muxer.connect(3, 7000, buf_alloc=4096) is None
    assert muxer.route(header._replace(src_port=1)) == (Route.REFUSE, None)
    muxer.forget(one)
    assert muxer.route(packet(Op.RW)) == (Route.REFUSE, None)
    assert muxer.route(packet(Op.RST)) == (Route.DROP, None)
    assert muxer.route(header._replace(src_cid=17)) == (Route.DROP, None)


@given(port=st.integers(0, WRAP - 2))
def test_lines_survive_the_wire(port: int) -> None:
    """Each side of the multiplexer understands the other for every port."""
    assert port == parse_connect(connect_line(port))
    assert port == parse_ok(ok_line(port))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"CONNECT 5000",
        b"connect 5000\n",
        b"CONNECT 5000 \n",
        b"CONNECT  5000\n",
        b"CONNECT -1\n",
        b"CONNECT +1\n",
        b"CONNECT 0x10\n",
        b"CONNECT 5000\r\n",
        b"CONNECT 4294967295\n",
        b"CONNECT 99999999999\n",
        "CONNECT \N{ARABIC-INDIC DIGIT FIVE}\n".encode(),
        b"OK 5000\n",
    ],
)
def test_other_lines_are_refused(line: bytes) -> None:
    """Only ``CONNECT <port>`` and a newline is a request."""
    with pytest.raises(AddressError):
        parse_connect(line)
