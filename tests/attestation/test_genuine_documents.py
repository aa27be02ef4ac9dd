"""AWS's own documents under AWS's own root."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cloister.attestation import Expected, VerificationError, verify
from cloister.cose import Sign1, decode_cbor

ANY = Expected(any_pcrs=True, allow_debug=True)


@pytest.fixture(scope="module")
def roots(shared_vectors: Path) -> list[x509.Certificate]:
    """Return AWS's root."""
    return [x509.load_pem_x509_certificate((shared_vectors / "aws-nitro-root-g1.pem").read_bytes())]


@pytest.fixture(scope="module")
def documents(shared_vectors: Path) -> list[tuple[dict[str, Any], bytes]]:
    """Return every genuine document with its manifest entry."""
    entries = json.loads((shared_vectors / "attestation/manifest.json").read_text())
    return [(entry, (shared_vectors / entry["file"]).read_bytes()) for entry in entries]


def test_each_verifies_at_its_own_time(
    documents: list[tuple[dict[str, Any], bytes]], roots: list[x509.Certificate]
) -> None:
    """All verify but the one with a bad signature, which fails at the signature."""
    outcomes = []
    for entry, document in documents:
        if entry["cose_signature_ok"]:
            content = verify(document, roots=roots, now=None, expect=ANY)
            assert content.module_id == entry["module_id"]
            assert content.timestamp == entry["timestamp_ms"]
            assert [i for i, value in content.pcrs.items() if any(value)] == entry["nonzero_pcrs"]
        else:
            with pytest.raises(VerificationError) as caught:
                verify(document, roots=roots, now=None, expect=ANY)
            assert caught.value.name == "signature"
        outcomes.append(entry["cose_signature_ok"])
    assert (outcomes.count(True), outcomes.count(False)) == (19, 1)


def test_debug_documents_are_refused_by_default(
    documents: list[tuple[dict[str, Any], bytes]], roots: list[x509.Certificate]
) -> None:
    """Those with zero PCR0 to PCR2 fail at the debug step, and only those."""
    for entry, document in documents:
        if not entry["cose_signature_ok"]:
            continue
        if 0 in entry["nonzero_pcrs"]:
            assert not verify(document, roots=roots, now=None, expect=Expected(any_pcrs=True)).debug
        else:
            with pytest.raises(VerificationError) as caught:
                verify(document, roots=roots, now=None, expect=Expected(any_pcrs=True))
            assert caught.value.name == "debug"


def test_each_fails_a_second_beyond_its_leaf(
    documents: list[tuple[dict[str, Any], bytes]], roots: list[x509.Certificate]
) -> None:
    """Validity is inclusive, and one second more on either side is refused."""
    for entry, document in documents:
        if not entry["cose_signature_ok"]:
            continue
        payload = decode_cbor(Sign1.from_bytes(document).payload)
        leaf = x509.load_der_x509_certificate(payload["certificate"])
        assert leaf.not_valid_after_utc.isoformat() == entry["verify_until"]
        second = timedelta(seconds=1)
        for moment in (leaf.not_valid_after_utc + second, leaf.not_valid_before_utc - second):
            with pytest.raises(VerificationError) as caught:
                verify(document, roots=roots, now=moment, expect=ANY)
            assert caught.value.name == "validity"


def test_our_encoder_writes_what_aws_writes(
    documents: list[tuple[dict[str, Any], bytes]], roots: list[x509.Certificate]
) -> None:
    """A genuine document read and written again is the same, byte for byte, in its own encoding."""
    for entry, document in documents:
        if entry["cose_signature_ok"]:
            content = verify(document, roots=roots, now=None, expect=ANY)
            envelope = Sign1.from_bytes(document)
            assert content.to_bytes(indefinite=entry["indefinite_map"]) == envelope.payload
            assert envelope.to_bytes() == document
