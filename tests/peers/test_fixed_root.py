"""Evervault's library, whose root is AWS's, agrees on its documents and misses but the root in ours."""

import importlib.util
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from cloister.cose import Sign1, decode_cbor
from cloister.nsm import Attest
from peers.building import Peers
from peers.conftest import AT, SHAPES, OwnRoot, time_of
from peers.verifiers import IDENTITY, EvervaultVerifier

LIBRARY = "evervault_attestation_bindings"
CHAIN = "Failed to validate the trust chain for the provided cert \N{EM DASH} UnknownIssuer"
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
LONGEST = 512
"""Bytes of user_data and nonce that it takes; AWS's module and ours make documents with up to 1024."""
WITHIN_ITS_LIMITS = [name for name, (attest, _) in SHAPES.items() if len(attest.user_data or b"") <= LONGEST]
CONNECTION_KEY = ec.derive_private_key(7, ec.SECP256R1()).public_key()


@pytest.fixture(scope="module")
def evervault(peers: Peers) -> EvervaultVerifier:
    """Return the library as it comes."""
    return EvervaultVerifier(peers.clock)


@pytest.fixture(scope="module")
def with_our_root(peers: Peers, ours: OwnRoot, tmp_path_factory: pytest.TempPathFactory) -> EvervaultVerifier:
    """Return the library with the bytes of AWS's root, and no others, replaced by our root's name and key."""
    place = tmp_path_factory.mktemp("library")
    found = importlib.util.find_spec(LIBRARY)
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, place / LIBRARY, ignore=shutil.ignore_patterns("__pycache__"))
    library = next((place / LIBRARY).glob("*.so"))
    content = library.read_bytes()
    begin, end = content.index(BEGIN), content.index(END) + len(END)
    assert content.count(BEGIN) == 1
    theirs = x509.load_pem_x509_certificate(content[begin:end])
    assert "aws.nitro-enclaves" in theirs.subject.rfc4514_string()
    size = len(theirs.public_bytes(Encoding.DER))
    anchor = anchor_of(ours.trust.root_certificate, size).public_bytes(Encoding.PEM).strip()
    assert len(anchor) == end - begin
    library.write_bytes(content[:begin] + anchor + content[end:])
    return EvervaultVerifier(peers.clock, place)


def anchor_of(root: x509.Certificate, size: int) -> x509.Certificate:
    """Return a certificate of exactly so many bytes with a root's name and key: all a trust anchor is."""
    key = ec.derive_private_key(1, ec.SECP256R1())
    public_key = root.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    padding = 0
    for _ in range(1000):  # the signature's length varies by a few bytes
        builder = (
            x509.CertificateBuilder()
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
            .subject_name(root.subject)
            .public_key(public_key)
            .serial_number(1)
            .not_valid_before(root.not_valid_before_utc)
            .not_valid_after(root.not_valid_after_utc)
            .add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), bytes(padding)), critical=False
            )
        )
        made = builder.sign(key, hashes.SHA256())
        missing = size - len(made.public_bytes(Encoding.DER))
        if missing == 0:
            return made
        padding = max(0, padding + missing)
    raise AssertionError("no certificate of that size came out")


def test_agrees_about_genuine_documents(
    evervault: EvervaultVerifier, genuine: list[tuple[dict[str, Any], bytes]]
) -> None:
    """It accepts all at their time but the bad signature and empty fields, which it does not take."""
    for entry, document in genuine:
        content = decode_cbor(Sign1.from_bytes(document).payload)
        empty = b"" in (content["public_key"], content["user_data"], content["nonce"])
        verdict = evervault.judge(document, at=time_of(entry))
        assert verdict.accepted == (entry["cose_signature_ok"] and not empty), (entry["file"], verdict)
        if not entry["cose_signature_ok"]:
            assert "COSE signature does not match" in verdict.reason
        elif empty:
            assert verdict.reason.endswith("length in the attestation doc was invalid")


def test_accepts_a_genuine_document_in_full(
    evervault: EvervaultVerifier, genuine: list[tuple[dict[str, Any], bytes]]
) -> None:
    """The one that names its connection's key is accepted without any reservation."""
    verdicts = [
        evervault.judge(document, at=time_of(entry))
        for entry, document in genuine
        if entry["user_data"] == 91  # the length of a P-256 key in DER
    ]
    assert [(verdict.accepted, verdict.reason) for verdict in verdicts] == [(True, "")]


def test_judges_at_the_time_it_is_given(
    evervault: EvervaultVerifier, genuine: list[tuple[dict[str, Any], bytes]]
) -> None:
    """The clock that is set for it is the one it looks at: a minute after the leaf's end it refuses."""
    entry, document = genuine[0]
    end = datetime.fromisoformat(entry["verify_until"]).astimezone(UTC)
    assert evervault.judge(document, at=end - timedelta(minutes=1)).accepted
    verdict = evervault.judge(document, at=end + timedelta(minutes=1))
    assert not verdict.accepted
    assert "CertExpired" in verdict.reason


@pytest.mark.parametrize("document_map", ["indefinite", "definite"])
@pytest.mark.parametrize("shape", WITHIN_ITS_LIMITS)
def test_refuses_ours_at_the_trust_chain(
    evervault: EvervaultVerifier, ours: OwnRoot, shape: str, document_map: str
) -> None:
    """A document of ours is read, found well-formed, and refused because its root is unknown."""
    attest, before = SHAPES[shape]
    document = ours.attest(attest, document_map=document_map, before=before)
    verdict = evervault.judge(document, at=AT)
    assert not verdict.accepted
    assert verdict.reason.endswith(CHAIN)


@pytest.mark.parametrize("document_map", ["indefinite", "definite"])
@pytest.mark.parametrize("shape", WITHIN_ITS_LIMITS)
def test_holds_nothing_else_against_ours(
    with_our_root: EvervaultVerifier, ours: OwnRoot, shape: str, document_map: str
) -> None:
    """With its root's bytes replaced by ours it accepts the same documents, and nobody else's."""
    attest, before = SHAPES[shape]
    document = ours.attest(attest, document_map=document_map, before=before)
    verdict = with_our_root.judge(document, at=AT)
    assert verdict.accepted
    assert verdict.reason.endswith(IDENTITY)


def test_with_our_root_it_is_still_a_verifier(
    with_our_root: EvervaultVerifier, ours: OwnRoot, foreign: OwnRoot
) -> None:
    """It accepts in full what names the connection's key, and refuses a flipped bit and a foreign root."""
    named = Attest(
        user_data=CONNECTION_KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        nonce=b"n" * 20,
    )
    document = ours.attest(named)
    verdict = with_our_root.judge(document, at=AT)
    assert (verdict.accepted, verdict.reason) == (True, "")
    changed = document[:-1] + bytes([document[-1] ^ 1])
    assert "COSE signature does not match" in with_our_root.judge(changed, at=AT).reason
    assert with_our_root.judge(foreign.attest(named), at=AT).reason.endswith(CHAIN)


def test_its_limits_are_its_own(evervault: EvervaultVerifier, ours: OwnRoot) -> None:
    """1024 bytes of user_data, which AWS's module grants, it finds too long before it looks at the chain."""
    verdict = evervault.judge(ours.attest(SHAPES["1024 bytes each"][0]), at=AT)
    assert verdict.reason.endswith("length in the attestation doc was invalid")
