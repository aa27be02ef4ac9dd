"""The real key service in a process of its own, and a notary that signs documents as an NSM would."""

import configparser
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mypy_boto3_kms import KMSClient

from cloister.attestation import sign
from cloister.kms import initialise_kms
from cloister.trust import Trust

INSTANCE = "i-00000000000000001"
MODULE = f"{INSTANCE}-enc0123456789abcdef"
RECIPIENT = rsa.generate_private_key(public_exponent=65537, key_size=2048)
START_TIMEOUT = 20


def public_key_info(key: rsa.RSAPrivateKey) -> bytes:
    """Return a public key as a document holds it."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Notary:
    """A host's root of trust that signs documents as its NSM would."""

    trust: Trust
    recipient: rsa.RSAPrivateKey

    def document(
        self,
        *,
        pcrs: Mapping[int, bytes] | None = None,
        at: datetime | None = None,
        public_key: bytes | None = None,
    ) -> bytes:
        """Sign a document, for the recipient's key unless another is given."""
        moment = at or datetime.now(UTC)
        return sign(
            self.trust.enclave_credentials(MODULE, moment),
            module_id=MODULE,
            now=moment,
            pcrs={index: bytes(48) for index in range(16)} | dict(pcrs or {}),
            public_key=public_key_info(self.recipient) if public_key is None else public_key,
        )


@dataclass(frozen=True)
class Server:
    """A running service and how to reach it."""

    process: subprocess.Popen[str]
    endpoint: str
    state: Path
    logs: Path

    def credentials(self, name: str) -> tuple[str, str]:
        """Return access key and secret of the administrator or the enclave."""
        parser = configparser.ConfigParser()
        parser.read(self.credentials_file(name))
        return parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]

    def credentials_file(self, name: str) -> Path:
        """Return the shared-credentials file of the administrator or the enclave."""
        return self.state / "cloister/kms/credentials" / name

    def client(self, name: str = "administrator") -> KMSClient:
        """Return a boto3 client, without retries so that failures are seen at once."""
        access, secret = self.credentials(name)
        return boto3.client(
            "kms",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10),
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which ``cloister`` finds this service's state."""
        return environment(self.state, self.logs)

    @property
    def decision_log(self) -> Path:
        """The decision log."""
        return self.logs / "kms-decisions.jsonl"


def environment(state: Path, logs: Path) -> dict[str, str]:
    """Return an environment that keeps all state in temporary directories."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"XDG_STATE_HOME": str(state), "NITRO_CLI_LOGS_PATH": str(logs)}


@contextmanager
def running(directory: Path, root: Path | None, *options: str) -> Iterator[Server]:
    """Run ``cloister kms serve`` until the block ends; it must end well unless it was killed.

    Without a root it trusts that of its own host, in ``state/cloister/pki``.
    """
    state, logs = directory / "state", directory / "logs"
    initialise_kms(state / "cloister/kms")
    ready, announce = os.pipe()
    words = [sys.executable, "-m", "cloister.cli.main", "kms", "serve"]
    if root is not None:
        words += ["--root", str(root)]
    listening = () if "--uds" in options else ("--port", "0")
    process = subprocess.Popen(
        [*words, *listening, "--ready-fd", str(announce), *options],
        pass_fds=(announce,),
        env=environment(state, logs),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(announce)
    try:
        with os.fdopen(ready) as pipe:
            assert select.select([pipe], [], [], START_TIMEOUT)[0], "the server did not become ready"
            endpoint = pipe.readline().strip()
        assert endpoint, process.communicate(timeout=5)[0]
        yield Server(process, endpoint, state, logs)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=15)[0]
            assert process.returncode == 0, output
            assert "Traceback" not in output, output
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=5)
