"""The security module: all seven requests, its limits, and what a hostile guest gets."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from cloister.attestation import Document, Expected, verify
from cloister.cose import Sign1, encode_cbor
from cloister.errors import CloisterError
from cloister.nsm import (
    MAX_REQUEST,
    MAX_RESPONSE,
    Attest,
    Credentials,
    DescribeNsm,
    DescribePcr,
    ErrorCode,
    ExtendPcr,
    GetRandom,
    LockPcr,
    LockPcrs,
    ModuleDescription,
    PcrExtended,
    PcrLocked,
    PcrsLocked,
    PcrState,
    RandomBytes,
    Refusal,
    Request,
    Response,
    SecurityModule,
    SignedDocument,
    decode_response,
    encode_request,
)
from cloister.pcrs import ZERO_PCR, PcrBank, extend
from simulators.local_chain import MODULE_ID, NOW, local_chain

CHAIN = local_chain()
VALUES = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 4: b"\x14" * 48}


_BYTES = cycle(range(256))


def counting(size: int) -> bytes:
    """Return the next bytes of a generator that a test can predict."""
    return bytes([next(_BYTES)]) * size


class Issuer:
    """Credentials from the local chain, counted, which can be made to fail."""

    def __init__(self) -> None:
        self.issued: list[datetime] = []
        self.failure: Exception | None = None

    def __call__(self, now: datetime) -> Credentials:
        """Issue, or fail as told."""
        if self.failure is not None:
            raise self.failure
        self.issued.append(now)
        return CHAIN.credentials(now)


@pytest.fixture
def issuer() -> Issuer:
    """Return a working issuer of credentials."""
    return Issuer()


@pytest.fixture
def module(issuer: Issuer) -> SecurityModule:
    """Return the module of an enclave that has just started."""
    return SecurityModule(module_id=MODULE_ID, bank=PcrBank(VALUES), credentials=issuer)


def ask(
    module: SecurityModule, request: Request, now: datetime = NOW, random: Callable[[int], bytes] = counting
) -> Response:
    """Send a request as bytes and read the answer's."""
    return decode_response(module.handle(encode_request(request), now=now, random=random))


def attested(module: SecurityModule, request: Attest, now: datetime = NOW) -> Document:
    """Ask for a document and verify it against the local root."""
    answer = ask(module, request, now)
    assert isinstance(answer, SignedDocument)
    expect = Expected(pcrs={0: VALUES[0]}, max_age=timedelta(0))
    return verify(answer.document, roots=[CHAIN.root.certificate], now=now, expect=expect)


def test_it_describes_itself(module: SecurityModule, shared_vectors: Path) -> None:
    """DescribeNSM says version 1.0.0, the module id, 32 registers, and which are locked."""
    answer = ask(module, DescribeNsm())
    assert answer == ModuleDescription(1, 0, 0, MODULE_ID, 32, tuple(range(16)), "SHA384")
    vectors = json.loads((shared_vectors / "nsm-and-eif-vectors.json").read_text())
    named = SecurityModule(
        module_id="i-0123456789abcdef0-enc0123456789abcdef", bank=PcrBank(), credentials=CHAIN.credentials
    )
    raw = named.handle(bytes.fromhex(vectors["nsm_requests"]["DescribeNSM"]), now=NOW, random=counting)
    assert raw.hex() == vectors["nsm_responses"]["DescribeNSM"]


def test_registers_are_extended_and_locked(module: SecurityModule) -> None:
    """The life of a register: open and zero, extended, locked, read-only."""
    assert ask(module, DescribePcr(16)) == PcrState(lock=False, data=ZERO_PCR)
    value = extend(ZERO_PCR, b"data")
    assert ask(module, ExtendPcr(16, b"data")) == PcrExtended(value)
    assert ask(module, LockPcr(16)) == PcrLocked()
    assert ask(module, DescribePcr(16)) == PcrState(lock=True, data=value)
    assert ask(module, LockPcr(16)) == Refusal(ErrorCode.READ_ONLY_INDEX)
    assert ask(module, ExtendPcr(16, b"data")) == Refusal(ErrorCode.READ_ONLY_INDEX)
    assert ask(module, ExtendPcr(0, b"data")) == Refusal(ErrorCode.READ_ONLY_INDEX)
    assert ask(module, LockPcr(0)) == Refusal(ErrorCode.READ_ONLY_INDEX)


def test_registers_that_do_not_exist(module: SecurityModule) -> None:
    """Number 32 and above, and ranges beyond the bank, are InvalidIndex."""
    for request in (DescribePcr(32), ExtendPcr(32, b""), LockPcr(65535), LockPcrs(33)):
        assert ask(module, request) == Refusal(ErrorCode.INVALID_INDEX)


def test_ranges_are_locked(module: SecurityModule) -> None:
    """LockPCRs locks from 0, over locked registers, again and again."""
    for count in (0, 20, 20, 32):
        assert ask(module, LockPcrs(count)) == PcrsLocked()
        description = ask(module, DescribeNsm())
        assert isinstance(description, ModuleDescription)
        assert description.locked_pcrs == tuple(range(max(count, 16)))


def test_random_bytes_come_from_the_given_source(module: SecurityModule) -> None:
    """GetRandom returns 256 bytes of the host's generator, other ones each time."""
    answers = {ask(module, GetRandom()) for _ in range(16)}
    assert len(answers) == 16
    assert all(isinstance(answer, RandomBytes) and len(answer.random) == 256 for answer in answers)


def test_documents_state_the_request_and_the_locked_registers(module: SecurityModule) -> None:
    """A document carries the fields of its request, and an open register only once it is locked."""
    ask(module, ExtendPcr(17, b"config"))
    content = attested(module, Attest(b"data", b"nonce", b"key"))
    assert (content.user_data, content.nonce, content.public_key) == (b"data", b"nonce", b"key")
    assert content.module_id == MODULE_ID
    assert content.pcrs == PcrBank(VALUES).locked()
    ask(module, LockPcr(17))
    assert attested(module, Attest()).pcrs[17] == extend(ZERO_PCR, b"config")


@pytest.mark.parametrize(("form", "first", "last"), [("indefinite", 0xBF, 0xFF), ("definite", 0xA9, 0xF6)])
def test_both_forms_of_documents_can_be_had(issuer: Issuer, form: str, first: int, last: int) -> None:
    """The payload's map is as AWS has written it since June 2025, or as before; both verify."""
    module = SecurityModule(module_id=MODULE_ID, bank=PcrBank(VALUES), credentials=issuer, document_map=form)
    answer = ask(module, Attest())
    assert isinstance(answer, SignedDocument)
    payload = Sign1.from_bytes(answer.document).payload
    assert (payload[0], payload[-1]) == (first, last)
    assert payload[1:11] == b"\x69module_id"
    assert attested(module, Attest()).pcrs == PcrBank(VALUES).locked()


def test_fields_of_1024_bytes_fit_together_and_larger_ones_do_not(module: SecurityModule) -> None:
    """Each of the three fields may have 1024 bytes at once; 1025 are InputTooLarge; all PCRs still fit."""
    full = bytes(1024)
    ask(module, LockPcrs(32))
    assert attested(module, Attest(full, full, full)).public_key == full
    for request in (Attest(user_data=bytes(1025)), Attest(nonce=bytes(1025)), Attest(public_key=bytes(1025))):
        assert ask(module, request) == Refusal(ErrorCode.INPUT_TOO_LARGE)
    too_long = bytes(MAX_REQUEST + 1)
    answer = module.handle(too_long, now=NOW, random=counting)
    assert decode_response(answer) == Refusal(ErrorCode.INPUT_TOO_LARGE)


def test_credentials_are_kept_and_renewed(module: SecurityModule, issuer: Issuer) -> None:
    """One leaf serves many documents, until half an hour before its end, or when the clock went back."""
    first = attested(module, Attest())
    later = NOW + timedelta(hours=2)
    assert attested(module, Attest(), later).certificate == first.certificate
    much_later = NOW + timedelta(hours=2, minutes=45)
    renewed = attested(module, Attest(), much_later)
    assert renewed.certificate != first.certificate
    serials = [x509.load_der_x509_certificate(c.certificate).serial_number for c in (first, renewed)]
    assert serials[0] >> 64 == serials[1] >> 64
    attested(module, Attest(), NOW + timedelta(minutes=1))
    assert issuer.issued == [NOW, much_later, NOW + timedelta(minutes=1)]


def test_a_host_in_trouble_is_an_internal_error(module: SecurityModule, issuer: Issuer) -> None:
    """Without credentials or randomness the guest reads InternalError; valid credentials still serve."""
    issuer.failure = CloisterError("no root of trust")
    assert ask(module, Attest()) == Refusal(ErrorCode.INTERNAL_ERROR)
    issuer.failure = None
    first = attested(module, Attest())
    issuer.failure = OSError("disk full")
    last_minutes = NOW + timedelta(hours=2, minutes=50)
    assert attested(module, Attest(), last_minutes).certificate == first.certificate
    assert ask(module, Attest(), NOW + timedelta(hours=4)) == Refusal(ErrorCode.INTERNAL_ERROR)

    def broken(size: int) -> bytes:
        raise OSError(size)

    assert ask(module, GetRandom(), random=broken) == Refusal(ErrorCode.INTERNAL_ERROR)


def test_a_debug_bank_gives_a_debug_document(issuer: Issuer) -> None:
    """With zero image registers the document says debug, and keeps the host's identity."""
    module = SecurityModule(module_id=MODULE_ID, bank=PcrBank({4: VALUES[4]}), credentials=issuer)
    answer = ask(module, Attest())
    assert isinstance(answer, SignedDocument)
    expect = Expected(pcrs={4: VALUES[4]}, allow_debug=True)
    assert verify(answer.document, roots=[CHAIN.root.certificate], now=NOW, expect=expect).debug


HOSTILE = SecurityModule(module_id=MODULE_ID, bank=PcrBank(VALUES), credentials=CHAIN.credentials)
NAMES = st.sampled_from(
    [
        "DescribePCR",
        "ExtendPCR",
        "LockPCR",
        "LockPCRs",
        "DescribeNSM",
        "GetRandom",
        "Attestation",
        "Error",
        "",
    ]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=50)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "data", "range", "nonce", "user_data", "public_key"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)


@given(st.binary(max_size=100) | st.builds(lambda name, fields: encode_cbor({name: fields}), NAMES, ANYTHING))
def test_a_hostile_guest_gets_an_answer(request: bytes) -> None:
    """Whatever bytes come in, a well-formed answer of bounded size goes out."""
    answer = HOSTILE.handle(request, now=NOW, random=counting)
    assert len(answer) <= MAX_RESPONSE
    decode_response(answer)
