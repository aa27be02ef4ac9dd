"""The security module through Linux's driver: what AWS's nsm-check and nsm-multithread assert, and the rest.

A guest program says of each claim whether it holds: in debug mode on its console, and always over vsock,
where it also sends what it got, to the byte, for judgement here.
"""

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation import Document, Expected, verify
from cloister.cose import Sign1
from cloister.kit import Kit
from cloister.nsm import ModuleDescription, decode_response, encode_response
from cloister.pcrs import extend
from cloister.signers import PemSigner
from cloister.trust import open_trust
from cloister.vmm import Jail
from simulators.signing_keys import write_signing_files
from vm.own_host import GUESTS, INSTANCE, OwnHost, own_host

pytestmark = pytest.mark.vm

TOLD = 6010
ZERO = bytes(48)
ROLE = "arn:aws:iam::123456789012:role/enclave"
OPEN = range(16, 32)
CLAIM = re.compile(r'^\t+(?:if \(is_debug\)\n\t+)?say\("([^"]+)"', re.MULTILINE)
TABLE = re.compile(r'^\t\t\{"([^"]+)", LITERAL', re.MULTILINE)
DESCRIPTIONS = {"description", "description with more locked"}


@pytest.fixture(scope="module")
def host(kit: Kit, jail: Jail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHost]:
    """Make a host for these tests."""
    with own_host(tmp_path_factory.mktemp("host")) as made:
        yield made


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> PemSigner:
    """Return somebody who signs images."""
    files = write_signing_files(tmp_path_factory.mktemp("signer"), ec.generate_private_key(ec.SECP384R1()))
    return PemSigner.load(files.certificate, files.private_key, datetime.now(UTC))


class Told:
    """What a guest has told over vsock: its claims, line by line, and what it has seen, by name."""

    def __init__(self, listener: socket.socket) -> None:
        stream, _ = listener.accept()
        with stream:
            stream.settimeout(120)
            lines = b"".join(iter(lambda: stream.recv(65536), b"")).decode().splitlines()
        self.claims = [line for line in lines if not line.startswith("seen ")]
        seen = (line.removeprefix("seen ").rpartition(" ") for line in lines if line.startswith("seen "))
        self.seen = {name: bytes.fromhex(value) for name, _, value in seen}

    def registers(self, when: str) -> list[bytes]:
        """Return the 32 registers as they were then."""
        return [self.seen[f"{when}{index}"] for index in range(32)]

    def documents(self, host: OwnHost) -> dict[str, Document]:
        """Return every document that the guest got, verified under the host's root."""
        root = open_trust(host.top / "state/cloister/pki").root_certificate
        measured = self.registers("initial")
        expect = Expected(
            pcrs={index: measured[index] for index in (0, 1, 2, 4)},
            max_age=timedelta(minutes=10),
            allow_debug=True,
        )
        return {
            name: verify(content, roots=[root], now=datetime.now(UTC), expect=expect)
            for name, content in self.seen.items()
            if content.startswith(b"\x84\x44")
        }


def claims(*, debug: bool) -> set[str]:
    """Return the names of all the claims of the guest program's source."""
    source = (GUESTS / "nsm_check.c").read_text()
    found = set(CLAIM.findall(source)) | set(TABLE.findall(source)) | DESCRIPTIONS
    return found if debug else found - {"LockPCRs 20"}


def listen(host: OwnHost, told: list[Told]) -> threading.Thread:
    """Receive what the next guest tells, while something else waits for its end."""
    listener = host.listen(TOLD)

    def receive() -> None:
        with listener, contextlib.suppress(TimeoutError):
            told.append(Told(listener))

    thread = threading.Thread(target=receive)
    thread.start()
    return thread


def check_registers(told: Told) -> None:
    """Every register of the guest's is what the requests it made give it."""
    first, last = told.registers("initial"), told.registers("final")
    full, crowded = extend(ZERO, b"\x5a" * (0x1000 - 28)), ZERO
    for _ in range(3 * 30 * 2):  # processes, threads, rounds: each extended once, in whatever order
        crowded = extend(crowded, b"one more")
    assert told.seen["crowded"] == crowded
    expected = first[:16] + [{29: full, 30: crowded}.get(index, ZERO) for index in OPEN]
    for index in OPEN:
        for _ in range(10):
            expected[index] = hashlib.sha384(expected[index] + b"\1\2\3").digest()
    assert last == expected


def check_answers(told: Told, *, locked: int) -> None:
    """Compare the descriptions with what our encoder, itself compared with AWS's bytes, makes of them."""
    for name, count in (("description", 16), ("description with more locked", locked)):
        description = decode_response(told.seen[name])
        assert isinstance(description, ModuleDescription)
        assert re.fullmatch(rf"{INSTANCE}-enc[0-9a-f]{{16}}", description.module_id)
        assert description == ModuleDescription(1, 0, 0, description.module_id, 32, tuple(range(count)))
        assert encode_response(description) == told.seen[name]


def check_documents(told: Told, documents: dict[str, Document], *, locked: int) -> None:
    """Documents hold what was asked for and the registers that were locked at the time."""
    full, last = b"\x80" * 1024, told.registers("final")
    fields = {name: (one.user_data, one.nonce, one.public_key) for name, one in documents.items()}
    assert fields == {
        **dict.fromkeys(("first", "open", "some", "none"), (None, None, None)),
        "text_nonce": (None, b"text", None),
        "user_data": (full, None, None),
        "nonce": (None, full, None),
        "public_key": (None, None, full),
        "two": (full, full, None),
        "three": (full, full, full),
        "empty": (b"", b"", b""),
    }
    assert list(documents["first"].pcrs) == list(documents["open"].pcrs) == list(range(16))
    assert list(documents["some"].pcrs) == list(range(locked))
    assert dict(documents["three"].pcrs) == dict(enumerate(last))


def test_all_that_can_be_asked_in_production(host: OwnHost, kit: Kit) -> None:
    """In a production enclave every claim holds, and what the guest got is right to the byte."""
    told: list[Told] = []
    receiver = listen(host, told)
    enclave = host.start(host.image(kit, "nsm_check.c"))
    receiver.join()
    (guest,) = told
    assert [line for line in guest.claims if not line.endswith(": ok")] == ["end"]
    assert sorted(guest.claims) == sorted([*(f"{name}: ok" for name in claims(debug=False)), "end"])
    check_registers(guest)
    check_answers(guest, locked=17)
    documents = guest.documents(host)
    check_documents(guest, documents, locked=17)
    measured = json.loads(host.nitro_cli("describe-eif", "--eif-path", host.image(kit, "nsm_check.c")))
    assert enclave["EnclaveID"].startswith(INSTANCE)
    first = {index: value.hex() for index, value in documents["first"].pcrs.items() if any(value)}
    assert first == {
        **{index: measured["Measurements"][f"PCR{index}"] for index in range(3)},
        4: extend(ZERO, INSTANCE.encode()).hex(),
    }


def test_all_that_can_be_asked_in_debug_mode(host: OwnHost, kit: Kit, signer: PemSigner) -> None:
    """In debug mode, signed and with a role, the same holds; the image's own registers are zero."""
    told: list[Told] = []
    receiver = listen(host, told)
    image = host.image(kit, "nsm_check.c", "debug", "role", "signed", signer=signer)
    options = ("--debug", "--role-arn", ROLE, "--document-map", "definite")
    printed = host.command("cloister.cli.main", "run", image, *options).stdout
    receiver.join()
    (guest,) = told
    expected = sorted([*(f"{name}: ok" for name in claims(debug=True)), "end"])
    assert sorted(guest.claims) == expected
    assert sorted(line for line in printed.splitlines() if line in expected) == expected
    check_registers(guest)
    check_answers(guest, locked=21)
    documents = guest.documents(host)
    check_documents(guest, documents, locked=21)
    host_own = {3: extend(ZERO, ROLE.encode()), 4: extend(ZERO, INSTANCE.encode())}
    assert documents["first"].debug
    assert dict(documents["first"].pcrs) == {index: host_own.get(index, ZERO) for index in range(16)}
    assert Sign1.from_bytes(guest.seen["first"]).payload[0] == 0xA9  # a definite map of 9


def test_registers_of_a_signed_image_with_a_role(host: OwnHost, kit: Kit, signer: PemSigner) -> None:
    """In production PCR0, 1, 2 and 8 are the image's as described, PCR3 the role's, PCR4 the host's."""
    told: list[Told] = []
    receiver = listen(host, told)
    image = host.image(kit, "nsm_check.c", "role", "signed", signer=signer)
    host.command("cloister.cli.main", "run", image, "--role-arn", ROLE)
    receiver.join()
    (guest,) = told
    assert [line for line in guest.claims if not line.endswith(": ok")] == ["end"]
    described = json.loads(host.nitro_cli("describe-eif", "--eif-path", image))["Measurements"]
    document = guest.documents(host)["first"]
    assert {index: value for index, value in document.pcrs.items() if any(value)} == {
        **{index: bytes.fromhex(described[f"PCR{index}"]) for index in (0, 1, 2, 8)},
        3: extend(ZERO, ROLE.encode()),
        4: extend(ZERO, INSTANCE.encode()),
    }
    assert Sign1.from_bytes(guest.seen["first"]).payload[0] == 0xBF  # an indefinite map


def test_the_claims_are_found_in_the_source() -> None:
    """The list that the guest's claims are compared with is that of its source, whole."""
    source = Path(GUESTS / "nsm_check.c").read_text()
    assert len(CLAIM.findall(source)) == len(re.findall(r'\bsay\("', source))
    assert len(claims(debug=True)) > 90
