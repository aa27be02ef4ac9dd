"""vsock-proxy: its allow list, its messages, and what it does to streams."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cloister.cli.vsock_proxy import main
from cloister.proxy import Destination, Entry, Proxy, ProxyError, find_destination, load_allowlist
from cloister.transport import listener_path, open_stream

LIST = (Entry("kms.eu-west-1.amazonaws.com", 443), Entry("10.0.0.1", 8000), Entry("alias.example", 8000))


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own address tree."""
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    return tmp_path


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, with a time limit."""
    asyncio.run(asyncio.wait_for(coroutine, 20))


def fake_resolver(names: Mapping[str, Sequence[str]]) -> Callable[[str], Sequence[str]]:
    """Resolve what the test says; anything else fails as DNS does."""

    def resolve(host: str) -> Sequence[str]:
        if host not in names:
            raise ProxyError("DNS lookup failed!")
        return names[host]

    return resolve


def test_a_name_in_the_list_needs_no_dns() -> None:
    """The same text and port are allowed without a look at DNS."""
    expected = Destination("kms.eu-west-1.amazonaws.com", 443)
    assert find_destination(LIST, "kms.eu-west-1.amazonaws.com", 443, fake_resolver({})) == expected


def test_another_name_of_an_allowed_ip_is_pinned_to_it() -> None:
    """A name that is not in the list is allowed by its IP, and then only that IP."""
    names = {"mine.example": ["10.0.0.1", "10.0.0.2"], "10.0.0.1": ["10.0.0.1"]}
    expected = Destination("mine.example", 8000, pinned="10.0.0.1")
    assert find_destination(LIST, "mine.example", 8000, fake_resolver(names)) == expected


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("kms.eu-west-1.amazonaws.com", 8000, "DNS lookup failed!"),
        ("kms.eu-west-1.amazonaws.com", 80, "The given address and port are not allowed"),
        ("evil.example", 8000, "The given address and port are not allowed"),
        ("KMS.eu-west-1.amazonaws.com.evil.example", 443, "DNS lookup failed!"),
    ],
)
def test_everything_else_is_not_allowed(host: str, port: int, message: str) -> None:
    """Another port, another name, another IP: AWS's sentence."""
    names = {"evil.example": ["6.6.6.6"], "10.0.0.1": ["10.0.0.1"]}
    with pytest.raises(ProxyError) as caught:
        find_destination(LIST, host, port, fake_resolver(names))
    assert message == str(caught.value)


BAD_LISTS = {
    "no file": (None, "Could not open the file"),
    "not YAML": ("allowlist: [", "Bad yaml format"),
    "a bomb": ("a: &a [x]\nb: !!python/object:os.system {}", "Bad yaml format"),
    "empty": ("", "No allowlist field"),
    "another field": ("whitelist: []", "No allowlist field"),
    "no list": ("allowlist: 5", "No allowlist field"),
    "no address": ("allowlist: [{port: 443}]", "No address field"),
    "address is a number": ("allowlist: [{address: 5, port: 443}]", "No address field"),
    "no port": ("allowlist: [{address: a}]", "No port field or invalid type"),
    "port is text": ("allowlist: [{address: a, port: '443'}]", "No port field or invalid type"),
    "port too large": ("allowlist: [{address: a, port: 65979}]", "No port field or invalid type"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_bad_lists_are_refused_in_awss_words(name: str, tmp_path: Path) -> None:
    """Each way to get the file wrong has its message."""
    content, message = BAD_LISTS[name]
    if content is not None:
        (tmp_path / "list.yaml").write_text(content)
    with pytest.raises(ProxyError) as caught:
        load_allowlist(tmp_path / "list.yaml")
    assert message == str(caught.value)


CALLS = {
    "local port": (["x", "127.0.0.1", "80"], 'Error: "Local port is not valid"'),
    "local port too large": (["4294967296", "127.0.0.1", "80"], 'Error: "Local port is not valid"'),
    "remote port": (["8000", "127.0.0.1", "65536"], 'Error: "Remote port is not valid"'),
    "workers": (["-w", "many", "8000", "127.0.0.1", "80"], 'Error: "Number of workers is not valid"'),
    "no workers": (["-w", "0", "8000", "127.0.0.1", "80"], 'Error: "Number of workers must not be 0"'),
    "no file": (
        ["--config", "/nonexistent", "8000", "127.0.0.1", "80"],
        'Error: "Error at checking the allowlist: Could not open the file"',
    ),
    "not allowed": (
        ["--config", "list.yaml", "8000", "127.0.0.1", "80"],
        'Error: "Error at checking the allowlist: The given address and port are not allowed"',
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_errors_end_with_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong value ends with exit code 1 and AWS's text on stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("allowlist: [{address: kms, port: 443}]")
    words, text = CALLS[name]
    assert main(words) == 1
    assert capsys.readouterr().err == text + "\n"


@pytest.mark.parametrize(
    "words", [[], ["8000"], ["-4", "-6", "8000", "a", "80"], ["--nope", "8000", "a", "80"]]
)
def test_wrong_usage_ends_with_two(words: list[str]) -> None:
    """A call outside the grammar ends with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


@contextlib.asynccontextmanager
async def proxied(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> Any:
    """Run a TCP server and a proxy to it on port 8000."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = Proxy(8000, Destination("127.0.0.1", port), family=socket.AF_UNSPEC)
    serving = asyncio.create_task(proxy.serve())
    try:
        yield proxy, server
    finally:
        serving.cancel()
        await proxy.close()
        server.close()
        await server.wait_closed()
    assert not listener_path(8000).exists()


async def client() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as an enclave would."""
    return await asyncio.open_connection(sock=await asyncio.to_thread(open_stream, 3, 8000))


def test_bytes_and_half_closes_pass_both_ways() -> None:
    """The server sees the client's end, and its answer after that arrives whole."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        await writer.drain()
        writer.close()

    async def test() -> None:
        async with proxied(answer) as (_proxy, _):
            reader, writer = await client()
            payload = os.urandom(1 << 20)
            writer.write(payload)
            writer.write_eof()
            assert await reader.read() == payload[::-1]
            writer.close()

    run(test())


def test_connections_do_not_wait_for_each_other() -> None:
    """Thirty open connections do not keep the thirty-first from being served (AWS's wait for a worker)."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def test() -> None:
        async with proxied(echo) as (proxy, _):
            clients = [await client() for _ in range(31)]
            for number, (reader, writer) in reversed(list(enumerate(clients))):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
            assert proxy.connections == 31
            for _, writer in clients:
                writer.close()
            async with asyncio.timeout(2):
                while proxy.connections:  # noqa: ASYNC110 -- no event to wait for
                    await asyncio.sleep(0.01)

    run(test())


def test_a_destination_that_is_down_costs_one_connection() -> None:
    """A failed connect closes that client; the proxy lives, and works when the destination does."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def test() -> None:
        async with proxied(greet) as (_proxy, server):
            port = server.sockets[0].getsockname()[1]
            server.close()
            await server.wait_closed()
            reader, writer = await client()
            assert await reader.read() == b""
            writer.close()
            again = await asyncio.start_server(greet, "127.0.0.1", port)
            reader, writer = await client()
            assert await reader.read() == b"hello"
            writer.close()
            again.close()
            await again.wait_closed()

    run(test())


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, int]]:
    """Listen on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, listener.getsockname()[1]


def test_the_command_serves_until_sigterm(tmp_path: Path, listening: tuple[socket.socket, int]) -> None:
    """The command, from its start to SIGTERM: it serves, ends with 0 and leaves no socket."""
    listener, port = listening
    (tmp_path / "list.yaml").write_text(f"allowlist:\n  - {{address: 127.0.0.1, port: {port}}}\n")
    words = ["--config", str(tmp_path / "list.yaml"), "-w", "1", "8000", "127.0.0.1", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cloister.cli.vsock_proxy", *words],
        stderr=subprocess.PIPE,
        env=os.environ | {"RUST_LOG": "info"},
    )
    with process:
        assert process.stderr is not None
        deadline = time.monotonic() + 20
        while b"listening state" not in process.stderr.readline():
            assert time.monotonic() < deadline
        with open_stream(3, 8000) as stream:
            server, _ = listener.accept()
            with server:
                stream.sendall(b"through")
                assert server.recv(10) == b"through"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not listener_path(8000).exists()
