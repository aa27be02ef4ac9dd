"""The enclave's view of the security module, against the real state machine in the same process."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from cloister.attestation import Expected, verify
from cloister.nsm import ErrorCode, Refusal, SecurityModule, encode_response
from cloister.pcrs import PcrBank
from cloister.sdk import NsmDevice, NsmError, attest, open_nsm
from cloister.trust import Trust, initialise

MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef"
PCRS = {0: bytes([1]) * 48, 1: bytes([2]) * 48, 2: bytes([3]) * 48}
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """Make a root of trust."""
    directory = tmp_path_factory.mktemp("pki")
    return initialise(directory, region="us-east-1", instance_id="i-0123456789abcdef0", now=NOW)


@pytest.fixture
def device(trust: Trust) -> NsmDevice:
    """Join the library's device to a security module of our own."""
    module = SecurityModule(
        module_id=MODULE_ID,
        bank=PcrBank(PCRS),
        credentials=lambda now: trust.enclave_credentials(MODULE_ID, now),
    )
    return NsmDevice(lambda request: module.handle(request, now=NOW, random=os.urandom))


def test_module_describes_itself(device: NsmDevice) -> None:
    """Id, register count, locked registers and digest come back as the module gave them."""
    description = device.describe()
    assert description.module_id == MODULE_ID
    assert description.max_pcrs == 32
    assert description.locked_pcrs == tuple(range(16))
    assert description.digest == "SHA384"


def test_open_register_is_extended_and_locked(device: NsmDevice) -> None:
    """An open register changes when it is extended, and never again once it is locked."""
    value = device.extend(16, b"configuration")
    assert value != bytes(48)
    assert device.describe_pcr(16).data == value
    device.lock(16)
    assert device.describe_pcr(16).lock
    with pytest.raises(NsmError, match="refused ExtendPcr: ReadOnlyIndex") as caught:
        device.extend(16, b"more")
    assert caught.value.code is ErrorCode.READ_ONLY_INDEX


def test_lock_range_locks_all_below(device: NsmDevice) -> None:
    """Locking the range of 20 locks register 19 and leaves 20 open."""
    device.lock_range(20)
    assert device.describe_pcr(19).lock
    assert not device.describe_pcr(20).lock


def test_document_holds_what_was_given(device: NsmDevice, trust: Trust) -> None:
    """A document made through the library verifies against the root and carries nonce, data and key."""
    document = device.attest(nonce=b"n" * 16, user_data=b"u", public_key=b"k")
    root = x509.load_pem_x509_certificate(trust.root_pem_path.read_bytes())
    expected = Expected(pcrs=PCRS, nonce=b"n" * 16, user_data=b"u", public_key=b"k")
    assert verify(document, roots=[root], now=NOW, expect=expected).module_id == MODULE_ID


def test_random_bytes_are_as_many_as_asked_and_differ(device: NsmDevice) -> None:
    """More bytes than one answer holds are gathered, and two calls differ."""
    first, second = device.random(1000), device.random(1000)
    assert len(first) == len(second) == 1000
    assert first != second


def test_oversized_request_never_reaches_the_device() -> None:
    """A request above 4096 bytes is refused by the library with the module's own word."""

    def exchange(_: bytes) -> bytes:
        pytest.fail("the request went out")

    with pytest.raises(NsmError, match="longer than the module's 4096") as caught:
        NsmDevice(exchange).attest(user_data=bytes(4096))
    assert caught.value.code is ErrorCode.INPUT_TOO_LARGE


def test_answer_to_another_question_is_refused() -> None:
    """A device that answers with the wrong kind of message is not believed."""
    device = NsmDevice(lambda _: b"\x67LockPCR")
    with pytest.raises(NsmError, match="answered DescribeNsm with PcrLocked"):
        device.describe()


def test_refusal_carries_its_code() -> None:
    """Every error code of the module arrives as itself."""
    for code in ErrorCode:
        with pytest.raises(NsmError) as caught:
            NsmDevice(lambda _, code=code: encode_response(Refusal(code))).random(1)  # type: ignore[misc]
        assert caught.value.code is code


def test_outside_an_enclave_the_sentence_says_so(tmp_path: Path) -> None:
    """Without /dev/nsm the error asks whether this is an enclave."""
    with pytest.raises(NsmError, match="is this an enclave"), open_nsm(tmp_path / "nsm"):
        pass


def test_file_that_is_no_device_is_refused(tmp_path: Path) -> None:
    """A plain file in the device's place fails with one sentence."""
    (tmp_path / "nsm").touch()
    with (
        pytest.raises(NsmError, match="/dev/nsm refused a request of 12 bytes"),
        open_nsm(tmp_path / "nsm") as device,
    ):
        device.describe()


@pytest.mark.skipif(Path("/dev/nsm").exists(), reason="this machine has a security module")
def test_attest_needs_a_device() -> None:
    """The one-line form fails as clearly."""
    with pytest.raises(NsmError, match="/dev/nsm cannot be opened"):
        attest()
