"""The server from the outside: clients of every kind, wrong signatures, limits, starts and stops."""

import asyncio
import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mypy_boto3_kms import KMSClient
from uvicorn import Config
from uvicorn.server import ServerState

from cloister.aws import Request, sign
from cloister.cli.main import main
from cloister.kms import BindError, listen_tcp, listen_unix
from cloister.kms.server import BoundedProtocol
from simulators.key_service import Notary, Server, environment, running

AWS = Path(sys.executable).with_name("aws")


def connection(server: Server) -> http.client.HTTPConnection:
    parts = urlsplit(server.endpoint)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)


def call(
    server: Server,
    body: bytes = b"{}",
    *,
    operation: str = "ListKeys",
    access: str | None = None,
    secret: str | None = None,
    now: datetime | None = None,
    method: str = "POST",
    signed: bool = True,
) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    """Make one call by hand and return status, body and headers."""
    known = server.credentials("administrator")
    host = urlsplit(server.endpoint).netloc
    headers = (
        ("host", host),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", f"TrentService.{operation}"),
    )
    request = Request(method, "/", "", headers, body)
    if signed:
        request = sign(
            request,
            access_key=access or known[0],
            secret_key=secret or known[1],
            region="us-east-1",
            service="kms",
            now=now or datetime.now(UTC),
        )
    link = connection(server)
    try:
        link.request(method, "/", body=body, headers=dict(request.headers))
        response = link.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else {}, response.headers
    finally:
        link.close()


def test_headers_of_every_answer(server: Server) -> None:
    """Content type, request id and a correct date are on results and on faults."""
    for operation in ("ListKeys", "Nonsense"):
        _, _, headers = call(server, operation=operation)
        assert headers["content-type"] == "application/x-amz-json-1.1"
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", headers["x-amzn-RequestId"])
        assert abs(parsedate_to_datetime(headers["date"]) - datetime.now(UTC)) < timedelta(seconds=5)
        assert "server" not in headers


def test_wrong_callers_are_refused(server: Server) -> None:
    """No signature, a wrong one, an old one and an unknown key each have AWS's code."""
    old = datetime.now(UTC) - timedelta(minutes=6)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"signed": False}, "MissingAuthenticationTokenException"),
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"now": old}, "InvalidSignatureException"),
        ({"access": "AKIAAAAAAAAAAAAAAAAA"}, "UnrecognizedClientException"),
    ]
    for options, code in cases:
        status, fault, _ = call(server, **options)
        assert (status, fault["__type"]) == (400, code)
        record = json.loads(server.decision_log.read_text().splitlines()[-1])
        assert (record["outcome"], record["error"]["code"]) == ("refused", code)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"body": b"{"}, "SerializationException"),
        ({"body": b"[]"}, "SerializationException"),
        ({"operation": "Nonsense"}, "UnknownOperationException"),
        ({"method": "GET"}, "UnknownOperationException"),
        ({"operation": "DescribeKey"}, "ValidationException"),
        ({"operation": "DescribeKey", "body": b'{"KeyId": 1}'}, "SerializationException"),
        ({"operation": "Decrypt", "body": b'{"CiphertextBlob": "?"}'}, "SerializationException"),
    ],
)
def test_malformed_calls_are_refused(server: Server, options: dict[str, Any], code: str) -> None:
    """What cannot be read is told apart from what may not be."""
    status, fault, _ = call(server, **options)
    assert (status, fault["__type"]) == (400, code)


def test_large_bodies_are_refused(server: Server) -> None:
    """A body above half a mebibyte is not taken, and the service goes on."""
    status, fault, _ = call(server, b" " * (1 << 19) + b"{}")
    assert (status, fault["__type"]) == (413, "RequestEntityTooLargeException")
    assert call(server)[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(100)) + b"\r\n",
        b"POST / HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
        b"POST /" + b"y" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
    ids=["many headers", "long header", "long path", "TLS", "no HTTP"],
)
def test_hostile_heads_are_refused(server: Server, head: bytes) -> None:
    """A request's head is bounded; bytes that are no HTTP end the connection."""
    parts = urlsplit(server.endpoint)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as link:
        link.sendall(head)
        answer = b""
        while piece := link.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400") or not answer
    assert call(server)[0] == 200


async def patient(scope: Any, receive: Any, send: Any) -> None:
    """Wait for the rest of a request for ever."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(
    "part",
    [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"],
    ids=["silence", "part of a line", "part of a head", "part of a body"],
)
def test_slow_callers_are_cut_off(monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    """A request that does not arrive in its time ends the connection, at whatever point it stalls."""
    monkeypatch.setattr("cloister.kms.server.REQUEST_TIMEOUT", 0.05)

    async def stall() -> bytes:
        config = Config(patient, http=BoundedProtocol, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(part)
            try:
                return await asyncio.wait_for(reader.read(), 10)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    assert asyncio.run(stall()) == b""


def aws(server: Server, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the AWS CLI as somebody."""
    return subprocess.run(
        [str(AWS), "--endpoint-url", server.endpoint, "--region", "us-east-1", "kms", *words],
        env={
            "PATH": os.environ["PATH"],
            "AWS_SHARED_CREDENTIALS_FILE": str(server.credentials_file(name)),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_aws_cli_works(server: Server, kms: KMSClient) -> None:
    """The AWS CLI reads the credentials files as they are, and gets results and denials."""
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    found = aws(server, "administrator", "describe-key", "--key-id", key_id)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["KeyMetadata"]["KeyId"] == key_id
    denied = aws(server, "enclave", "describe-key", "--key-id", key_id)
    assert denied.returncode == 255
    assert "(AccessDeniedException)" in denied.stderr
    assert "assumed-role/enclave/cloister is not authorized to perform: kms:DescribeKey" in denied.stderr


def test_start_refusals_are_one_sentence(tmp_path: Path, notary: Notary) -> None:
    """A missing precondition is one sentence on stderr and exit code 1."""
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "cloister.cli.main",
            "kms",
            "serve",
            "--root",
            str(notary.trust.root_pem_path),
        ],
        env=environment(tmp_path / "state", tmp_path / "logs"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert re.fullmatch(r"cloister: there is no KMS state in .*: run 'cloister setup'\n", result.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--port", "65536"],
        ["serve", "--ready-fd", "99"],
        ["serve", "--max-age", "0"],
        ["decisions", "--last", "-1"],
        [],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    """Options that cannot be are a usage error, before anything is touched."""
    with pytest.raises(SystemExit) as caught:
        main(["kms", *words])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("host", "text"),
    [("0.0.0.0", "not a loopback address"), ("::", "not a loopback"), ("kms.example", "not an IP address")],
)
def test_exposed_addresses_are_refused(host: str, text: str) -> None:
    """Plain HTTP stays on loopback unless somebody insists."""
    with pytest.raises(BindError, match=text):
        listen_tcp(host, 0)
    listener = listen_tcp("localhost", 0)
    assert listener.proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle on, and answers wait 40 ms
    port = listener.getsockname()[1]
    with pytest.raises(BindError, match=f"cannot listen on 127.0.0.1 port {port}"):
        listen_tcp("127.0.0.1", port)
    listener.close()


@pytest.mark.parametrize("name", ["none/kms.sock", "x" * 200])
def test_impossible_socket_paths_are_refused(tmp_path: Path, name: str) -> None:
    """A path that no socket can have is one sentence."""
    with pytest.raises(BindError, match="cannot listen on"):
        listen_unix(tmp_path / name)


def test_unix_socket(tmp_path: Path, notary: Notary) -> None:
    """On a Unix socket only the owner can call, and the socket is gone afterwards."""
    path = tmp_path / "kms.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with running(tmp_path, notary.trust.root_pem_path, "--uds", str(path)) as server:
        assert server.endpoint == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(path))
            link.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            answer = b""
            while b"MissingAuthenticationToken" not in answer:
                piece = link.recv(65536)
                assert piece, answer
                answer += piece
    assert not path.exists()


@pytest.fixture
def mortal(tmp_path: Path, notary: Notary) -> Iterator[Server]:
    """Run a server that a test may kill."""
    with running(tmp_path, notary.trust.root_pem_path) as server:
        yield server


def test_unlogged_decisions_are_not_given_out(mortal: Server) -> None:
    """When the decision log cannot be written, the answer is an internal error."""
    limit = subprocess.run(
        ["prlimit", f"--pid={mortal.process.pid}", "--fsize=1"], check=False, capture_output=True
    )
    assert limit.returncode == 0
    status, fault, _ = call(mortal, operation="GenerateRandom", body=b'{"NumberOfBytes": 8}')
    assert (status, fault["__type"]) == (500, "KMSInternalException")


def write_until_killed(client: KMSClient, written: list[tuple[str, bytes, bytes]]) -> None:
    """Make keys and ciphertexts, and note what was acknowledged."""
    while True:
        plaintext = secrets.token_bytes(16)
        try:
            key_id = client.create_key()["KeyMetadata"]["KeyId"]
            blob = client.encrypt(KeyId=key_id, Plaintext=plaintext)["CiphertextBlob"]
        except Exception:  # noqa: BLE001 - the server dies in the middle, in any way
            return
        written.append((key_id, plaintext, blob))


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.soak)])
def test_nothing_acknowledged_is_lost(tmp_path: Path, notary: Notary, kills: int) -> None:
    """After ``kill -9`` amid writes every acknowledged key is there and decrypts what it encrypted."""
    written: list[tuple[str, bytes, bytes]] = []
    for _ in range(kills):
        with running(tmp_path, notary.trust.root_pem_path) as server:
            writer = threading.Thread(target=write_until_killed, args=(server.client(), written))
            before = len(written)
            writer.start()
            while len(written) < before + 3:
                assert writer.is_alive()
                writer.join(0.02)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)
            writer.join(20)
            assert not writer.is_alive()
    with running(tmp_path, notary.trust.root_pem_path) as server:
        client = server.client()
        for key_id, plaintext, blob in written:
            assert client.describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"] == "Enabled"
            assert client.decrypt(CiphertextBlob=blob)["Plaintext"] == plaintext
    assert len(written) >= 3 * kills
