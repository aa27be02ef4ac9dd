"""AWS's own documents under AWS's own root."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.attestation import CertificateCache, Expected, Revocation, VerificationError, load_roots, verify
from cloister.cose import Sign1, decode_cbor
from simulators.local_chain import reissue

ANY = Expected(any_pcrs=True, allow_debug=True)


@pytest.fixture(scope="module")
def roots(shared_vectors: Path) -> tuple[x509.Certificate, ...]:
    """Return AWS's root."""
    return load_roots((shared_vectors / "aws-nitro-root-g1.pem").read_bytes())


@pytest.fixture(scope="module")
def documents(shared_vectors: Path) -> list[tuple[dict[str, Any], bytes]]:
    """Return every genuine document with its manifest entry."""
    entries = json.loads((shared_vectors / "attestation/manifest.json").read_text())
    return [(entry, (shared_vectors / entry["file"]).read_bytes()) for entry in entries]


def test_each_verifies_at_its_own_time(
    documents: list[tuple[dict[str, Any], bytes]], roots: tuple[x509.Certificate, ...]
) -> None:
    """All verify but the one with a bad signature, which fails at the signature."""
    outcomes = []
    for entry, document in documents:
        if entry["cose_signature_ok"]:
            content = verify(document, roots=roots, now=None, expect=ANY)
            at_its_time = verify(document, roots=roots, now=content.time, expect=ANY)
            assert at_its_time == content
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
    documents: list[tuple[dict[str, Any], bytes]], roots: tuple[x509.Certificate, ...]
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
    documents: list[tuple[dict[str, Any], bytes]], roots: tuple[x509.Certificate, ...]
) -> None:
    """Validity is inclusive at both ends, and one second more on either side is refused, cached or not."""
    second = timedelta(seconds=1)
    cache = CertificateCache()
    for entry, document in documents:
        if not entry["cose_signature_ok"]:
            continue
        leaf = leaf_of(document)
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        assert ends.isoformat() == entry["verify_until"]
        made = verify(document, roots=roots, now=None, expect=ANY).time
        for kept in (None, cache):
            assert verify(document, roots=roots, now=ends, expect=ANY, cache=kept).time == made
            verify(document, roots=roots, now=begins, expect=ANY, cache=kept)
            for moment in (ends + second, begins - second):
                assert refusal(document, roots, moment, kept) == "validity"


def leaf_of(document: bytes) -> x509.Certificate:
    """Return the certificate that signed a document."""
    payload = decode_cbor(Sign1.from_bytes(document).payload)
    return x509.load_der_x509_certificate(payload["certificate"])


def refusal(
    document: bytes,
    roots: tuple[x509.Certificate, ...],
    now: datetime | None,
    cache: CertificateCache | None = None,
    expect: Expected = ANY,
) -> str:
    """Return the step that refuses a document."""
    with pytest.raises(VerificationError) as caught:
        verify(document, roots=roots, now=now, expect=expect, cache=cache)
    return caught.value.name


def test_each_meets_what_it_shows_and_nothing_else(
    documents: list[tuple[dict[str, Any], bytes]], roots: tuple[x509.Certificate, ...]
) -> None:
    """Its own registers and fields, expected in full and written anew, are met; any other value is not."""
    for entry, document in documents:
        if not entry["cose_signature_ok"]:
            continue
        content = verify(document, roots=roots, now=None, expect=ANY)
        expect = Expected(
            pcrs=content.pcrs,
            nonce=content.nonce or None,
            user_data=content.user_data or None,
            public_key=content.public_key or None,  # one genuine document has an empty one
            allow_debug=content.debug,
            reconstruct=True,
        )
        assert verify(document, roots=roots, now=None, expect=expect) == content
        if content.debug:
            assert refusal(document, roots, None, expect=replace(expect, allow_debug=False)) == "debug"
        for index in content.pcrs:
            other = dict(content.pcrs) | {index: b"\x01" * 48}
            assert refusal(document, roots, None, expect=replace(expect, pcrs=other)) == "pcrs"
        assert refusal(document, roots, None, expect=replace(expect, nonce=b"\x01" * 16)) == "nonce"
        assert (
            refusal(document, roots, None, expect=replace(expect, signer=leaf_of(document), pcrs=None))
            == "pcrs"
        )
        revoked = {Revocation.of(leaf_of(document))}
        assert refusal(document, roots, None, expect=replace(expect, revoked=revoked)) == "revocation"


def test_each_is_refused_under_another_root_of_the_same_name(
    documents: list[tuple[dict[str, Any], bytes]], roots: tuple[x509.Certificate, ...]
) -> None:
    """A root is known by its bytes, not by its name."""
    key = ec.generate_private_key(ec.SECP384R1())
    stranger = reissue(roots[0], key, public_key=key.public_key())
    assert stranger.subject == roots[0].subject
    for _, document in documents:
        assert refusal(document, (stranger,), None) == "root"
        assert refusal(document, (), None) == "root"


def test_our_encoder_writes_what_aws_writes(
    documents: list[tuple[dict[str, Any], bytes]], roots: tuple[x509.Certificate, ...]
) -> None:
    """A genuine document read and written again is the same, byte for byte, in its own encoding."""
    for entry, document in documents:
        if entry["cose_signature_ok"]:
            content = verify(document, roots=roots, now=None, expect=ANY)
            envelope = Sign1.from_bytes(document)
            assert content.to_bytes(indefinite=entry["indefinite_map"]) == envelope.payload
            assert envelope.to_bytes() == document
