"""Verifiers that take a root take our documents under ours, and refuse what is not whole or not ours."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cloister.cose import Sign1, decode_cbor
from peers.building import Peers
from peers.conftest import AT, SHAPES, OwnRoot, time_of
from peers.verifiers import Verifier, pinned_verifiers

NAMES = ("nitrite", "veracruz", "openssl")
CHAIN = {
    "nitrite": "x509: certificate signed by unknown authority",
    "veracruz": "AuthenticateDocument: Failed to verify certificate chain:x509: ",
    "openssl": "chain: ",
}
"""How each begins to say that the chain does not lead to the root."""


@pytest.fixture(scope="module", params=NAMES)
def verifier(request: pytest.FixtureRequest, peers: Peers) -> Verifier:
    """Return one of them."""
    return next(one for one in pinned_verifiers(peers) if one.name == request.param)


@pytest.mark.parametrize("document_map", ["indefinite", "definite"])
@pytest.mark.parametrize("shape", SHAPES)
def test_accepts_our_documents(verifier: Verifier, ours: OwnRoot, shape: str, document_map: str) -> None:
    """Every shape of document that the security module makes, in both encodings of the map."""
    attest, before = SHAPES[shape]
    document = ours.attest(attest, document_map=document_map, before=before)
    verdict = verifier.judge(document, root=ours.root, at=AT)
    assert (verdict.accepted, verdict.reason) == (True, "")


def test_refuses_a_flipped_bit(verifier: Verifier, ours: OwnRoot) -> None:
    """One bit of what was said, of the signature, or of the leaf is enough, and nothing crashes."""
    document = ours.attest(SHAPES["all three"][0])
    envelope = Sign1.from_bytes(document)
    said = document.index(b"n" * 20)
    leaf = document.index(decode_cbor(envelope.payload)["certificate"]) + 400
    for place in (said, leaf, len(document) - 1):
        changed = bytearray(document)
        changed[place] ^= 1
        verdict = verifier.judge(bytes(changed), root=ours.root, at=AT)
        assert (verdict.accepted, verdict.crashed) == (False, False), verdict


def test_refuses_a_foreign_root(verifier: Verifier, ours: OwnRoot, foreign: OwnRoot) -> None:
    """A document of another host's root is refused though both roots have one name."""
    assert ours.trust.root_certificate.subject == foreign.trust.root_certificate.subject
    document = foreign.attest(SHAPES["nonce"][0])
    assert verifier.judge(document, root=foreign.root, at=AT).accepted
    verdict = verifier.judge(document, root=ours.root, at=AT)
    assert (verdict.accepted, verdict.crashed) == (False, False)
    assert verdict.reason.startswith(CHAIN[verifier.name])


def test_refuses_beyond_the_leafs_life(verifier: Verifier, ours: OwnRoot) -> None:
    """A leaf is good from its first second to its last, which openssl alone does not count in."""
    document = ours.attest(SHAPES["nothing asked"][0])
    leaf = x509.load_der_x509_certificate(decode_cbor(Sign1.from_bytes(document).payload)["certificate"])
    second = timedelta(seconds=1)
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    for moment in (begin, end - second, end):
        accepted = verifier.judge(document, root=ours.root, at=moment).accepted
        assert accepted == (moment != end or verifier.name != "openssl"), moment
    for moment in (begin - second, end + second):
        assert not verifier.judge(document, root=ours.root, at=moment).accepted, moment


def test_agrees_about_genuine_documents(
    verifier: Verifier, genuine: list[tuple[dict[str, Any], bytes]], shared_vectors: Path
) -> None:
    """At their own time AWS's documents are accepted, but the one with a bad signature: the harness works."""
    root = shared_vectors / "aws-nitro-root-g1.pem"
    for entry, document in genuine:
        verdict = verifier.judge(document, root=root, at=time_of(entry))
        assert verdict.accepted == entry["cose_signature_ok"], (entry["file"], verdict)
        assert not verdict.crashed
