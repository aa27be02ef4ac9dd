"""Documents verified per second, against the bare signature checks that no verifier can do without.

Cold: nothing is remembered from one call to the next; the floor is five P-384 verifications with keys that
are ready: the document's, over its Sig_structure, and those of the leaf, instance, zonal and regional
certificates (the root is pinned, so its own signature is not checked). Warm: a certificate cache knows the
chains; the floor is the document's signature alone.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.attestation import CertificateCache, Document, Expected, sign, verify
from cloister.cose import Sign1, encode_cbor
from cloister.pcrs import PcrBank
from cloister.trust import Trust, initialise
from rates import alternating_rates

CHAINS = 16
"""How many documents, each of another enclave under another leaf, take turns."""
ROUNDS, SECONDS = 25, 0.2
_ECDSA = ec.ECDSA(hashes.SHA384())

Check = tuple[ec.EllipticCurvePublicKey, bytes, bytes]
"""A key, a DER signature and the message."""


def bench_verifications() -> None:
    """Print the rates and their ratios, cold and warm."""
    now = datetime.now(UTC)
    pcrs = PcrBank({index: os.urandom(48) for index in range(5)}).locked()
    expect = Expected(pcrs={index: pcrs[index] for index in range(3)})
    with tempfile.TemporaryDirectory() as directory:
        trust = initialise(
            Path(directory) / "pki", region="local-1", instance_id="i-0123456789abcdef0", now=now
        )
        documents = [_document(trust, number, now, pcrs) for number in range(CHAINS)]
    roots = [trust.root_certificate]
    cache = CertificateCache()
    checks = [_checks(document) for document in documents]
    for name, kept, floor in (("cold", None, checks), ("warm", cache, [every[:1] for every in checks])):
        calls = [
            partial(verify, document, roots=roots, now=now, expect=expect, cache=kept)
            for document in documents
        ]
        ours, bare = alternating_rates(
            _in_turn(calls),
            _in_turn([partial(_check_all, every) for every in floor]),
            rounds=ROUNDS,
            seconds=SECONDS,
        )
        print(
            f"verifications, {name}: {ours:.0f}/s; {len(floor[0])} bare P-384 verifications: {bare:.0f}/s; "
            f"ratio {ours / bare:.2f}"
        )


def _document(trust: Trust, number: int, now: datetime, pcrs: Mapping[int, bytes]) -> bytes:
    module_id = f"i-0123456789abcdef0-enc{number:016x}"
    return sign(
        trust.enclave_credentials(module_id, now),
        module_id=module_id,
        now=now,
        pcrs=pcrs,
        nonce=os.urandom(32),
        public_key=os.urandom(294),
    )


def _checks(document: bytes) -> list[Check]:
    """Return every signature to check: the document's own first, then its certificates', leaf to regional."""
    envelope = Sign1.from_bytes(document)
    content = Document.from_bytes(envelope.payload)
    chain = [x509.load_der_x509_certificate(der) for der in (content.certificate, *content.cabundle[::-1])]
    keys = [cast("ec.EllipticCurvePublicKey", certificate.public_key()) for certificate in chain]
    r, s = (int.from_bytes(envelope.signature[at : at + 48], "big") for at in (0, 48))
    message = encode_cbor(["Signature1", envelope.protected, b"", envelope.payload])
    checks = [(keys[0], encode_dss_signature(r, s), message)]
    for certificate, issuer_key in zip(chain, keys[1:], strict=False):
        checks.append((issuer_key, certificate.signature, certificate.tbs_certificate_bytes))
    return checks


def _check_all(checks: list[Check]) -> None:
    for key, signature, message in checks:
        key.verify(signature, message, _ECDSA)


def _in_turn(actions: Sequence[Callable[[], object]]) -> Callable[[], object]:
    turns = itertools.cycle(actions)
    return lambda: next(turns)()  # noqa: PLW0108  # not next(turns), which would do one item for ever
