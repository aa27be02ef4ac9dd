"""Attestation documents per second, of the module and of a guest, against raw P-384 signatures per second."""

import os
import statistics
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from typing import TextIO
from unittest.mock import patch

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from boot import EnclaveBench
from cloister.build import Recipe, build_image
from cloister.kit import find_kit
from cloister.nsm import Attest, SecurityModule, encode_request
from cloister.pcrs import PcrBank
from cloister.places import current_places
from cloister.transport import listen
from cloister.trust import initialise
from rates import alternating_rates, rate

MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef"
HERE = Path(__file__).parent
GUESTS = HERE.parent / "tests/vm/guest"
PORT = 6011
ROUNDS = 7


class RawSigner:
    """The floor under every document: one P-384 signature of as many bytes."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP384R1())
        self._message = os.urandom(4500)

    def __call__(self) -> bytes:
        """Sign once."""
        return self._key.sign(self._message, ec.ECDSA(hashes.SHA384()))


def bench_documents() -> None:
    """Print the rates and their ratios, of the module alone and from the guest."""
    sign = RawSigner()
    _bench_module(sign)
    with tempfile.TemporaryDirectory() as directory:
        _bench_guest(sign, Path(directory))


def _bench_module(sign: RawSigner) -> None:
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as directory:
        trust = initialise(Path(directory) / "pki", region="local-1", instance_id=MODULE_ID[:19], now=now)
        module = SecurityModule(
            module_id=MODULE_ID,
            bank=PcrBank({index: os.urandom(48) for index in range(5)}),
            credentials=lambda moment: trust.enclave_credentials(MODULE_ID, moment),
        )
        request = encode_request(Attest(user_data=bytes(64), nonce=bytes(32), public_key=bytes(294)))
        ours, rival = alternating_rates(lambda: module.handle(request, now=now, random=os.urandom), sign)
    print(f"documents: {ours:.0f}/s; raw P-384 signatures: {rival:.0f}/s; ratio {ours / rival:.2f}")


def _bench_guest(sign: RawSigner, scratch: Path) -> None:
    program = scratch / "root/program"
    program.parent.mkdir()
    subprocess.run(["gcc", "-static", "-O2", f"-I{GUESTS}", "-o", program, HERE / "nsm_rates.c"], check=True)
    image = scratch / "bench.eif"
    build_image(program.parent, image, kit=find_kit(current_places()), recipe=Recipe(cmd=["/program"]))
    bench = EnclaveBench(scratch, image)
    own = {"NITRO_CLI_SOCKETS_PATH": str(bench.run)}  # this process is the parent's program
    with patch.dict(os.environ, own), listen(PORT) as listener:
        listener.settimeout(60)
        try:
            bench.nitro_cli("run-enclave", "--eif-path", str(image), "--cpu-count", "1", "--memory", "128")
            guest, _ = listener.accept()
            with guest, guest.makefile("r") as told:
                rounds = [_one_round(sign, guest, told) for _ in range(ROUNDS)]
        finally:
            bench.nitro_cli("terminate-enclave", "--all")
    documents, random, raw = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"           from the guest: {documents:.0f}/s; raw P-384 signatures: {raw:.0f}/s; "
        f"ratio {documents / raw:.2f}\n"
        f"           GetRandom from the same guest: {random:.0f}/s, so that driver, rings and emulation are "
        f"{documents / random:.0%} of a document's time"
    )


def _one_round(sign: RawSigner, guest: socket, told: TextIO) -> tuple[float, float, float]:
    """Measure one after the other, so that noise hits all; return documents, GetRandoms, signatures."""
    raw = rate(sign, seconds=0.5)
    guest.sendall(b"g")
    return _told_rate(told), _told_rate(told), raw


def _told_rate(told: TextIO) -> float:
    """Return how many a second the guest says it got."""
    count, nanoseconds = told.readline().split()
    return int(count) / int(nanoseconds) * 1e9
