"""An attestation document read a second time, by other libraries and other rules than the product's.

cbor2 reads the CBOR, asn1crypto the certificates; only the elliptic curve arithmetic is shared. What is here
restates the profile (``kms-and-attestation.md`` sections 3.1 to 3.3, ``security-checklist.md`` section 5.8)
from its text: whatever was accepted must be found right here as well.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO
from itertools import pairwise
from typing import Any

import cbor2
from asn1crypto import parser
from asn1crypto import x509 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.attestation import Document
from mutations.der_tree import wrap
from mutations.keys import ES384

_FIELDS = ("module_id", "timestamp", "certificate", "public_key", "user_data", "nonce")
_KNOWN = {*_FIELDS, "digest", "cabundle", "pcrs", "nitrotpm_pcrs"}
_ECDSA = ec.ECDSA(hashes.SHA384())
_READ = {bytes.fromhex("551d13"), bytes.fromhex("551d0f")}  # basicConstraints, keyUsage
_NARROWING = {bytes.fromhex(oid) for oid in ("551d1e", "551d24", "551d36", "551d25")}
_SUBJECT_KEY, _AUTHORITY_KEY = bytes.fromhex("551d0e"), bytes.fromhex("551d23")


def breaches(document: bytes, returned: Document, root: bytes, now: datetime | None) -> Iterator[str]:
    """Yield what is wrong with having accepted a document as this content."""
    untagged = document.removeprefix(b"\xd2")
    envelope = _load(untagged)
    if not isinstance(envelope, list) or len(envelope) != 4 or envelope[0] != ES384 or envelope[1] != {}:
        yield "the envelope is not an ES384 COSE_Sign1 with an empty unprotected header"
        return
    if cbor2.dumps(envelope) != untagged:
        yield "the envelope is not in its shortest form"
    fields = _load(envelope[2])
    yield from _field_breaches(fields, envelope[2])
    yield from _differences(fields, returned)
    at = returned.time if now is None else now
    chain = [*fields["cabundle"], fields["certificate"]]
    yield from _chain_breaches(chain, root, at)
    leaf = asn1.Certificate.load(chain[-1])
    if not _signed(_key(leaf), _sig_structure(envelope), _der_signature(envelope[3])):
        yield "the leaf did not sign the document"
    made, validity = returned.time.replace(microsecond=0), leaf["tbs_certificate"]["validity"]
    if not validity["not_before"].native <= made <= validity["not_after"].native:
        yield "the document was made outside its leaf's life"


def _load(data: bytes) -> Any:
    stream = BytesIO(data)
    value = cbor2.load(stream, allow_duplicate_keys=False)
    if stream.tell() != len(data) and stream.read():
        raise ValueError("bytes follow the CBOR")
    return value


def _field_breaches(fields: Any, payload: bytes) -> Iterator[str]:
    """Yield which rules of section 3.2 the fields break."""
    if set(fields) - _KNOWN or len(set(fields) & {"pcrs", "nitrotpm_pcrs"}) != 1:
        yield f"the fields are {sorted(fields)}"
    if payload not in _encodings(fields):
        yield "the payload is not in its shortest form"
    if fields["digest"] != "SHA384":
        yield "the digest is not SHA384"
    if not (isinstance(fields["module_id"], str) and fields["module_id"]):
        yield "the module id is empty or no text"
    if not (type(fields["timestamp"]) is int and fields["timestamp"] > 0):
        yield "the timestamp is not a positive number"
    bank, count = fields.get("pcrs"), 32
    if bank is None:
        bank, count = fields["nitrotpm_pcrs"], 24
    if not 1 <= len(bank) <= count or any(type(i) is not int or not 0 <= i < count for i in bank):
        yield "the PCR numbers are out of range"
    if any(type(value) is not bytes or len(value) != 48 for value in bank.values()):
        yield "a PCR does not have 48 bytes"
    for name in ("public_key", "user_data", "nonce"):
        value = fields.get(name)
        if value is not None and (type(value) is not bytes or len(value) > 1024):
            yield f"{name} is neither null nor a string of up to 1024 bytes"
    certificates = [fields["certificate"], *fields["cabundle"]]
    if any(type(der) is not bytes or not 1 <= len(der) <= 1024 for der in certificates):
        yield "a certificate does not have 1 to 1024 bytes"


def _encodings(fields: dict[str, Any]) -> Iterator[bytes]:
    """Yield the two encodings that AWS has used for these fields in their order."""
    entries = [cbor2.dumps(key) + cbor2.dumps(value) for key, value in fields.items()]
    yield bytes((0xA0 | len(entries),)) + b"".join(entries)
    yield b"\xbf" + b"".join(entries) + b"\xff"


def _differences(fields: dict[str, Any], returned: Document) -> Iterator[str]:
    said = {name: fields.get(name) for name in _FIELDS}
    got = {name: getattr(returned, name) for name in _FIELDS}
    if said != got or fields["cabundle"] != list(returned.cabundle):
        yield "the content returned is not what the document says"
    bank = fields["nitrotpm_pcrs" if returned.nitrotpm else "pcrs"]
    if dict(returned.pcrs) != bank:
        yield "the PCRs returned are not those of the document"


def _chain_breaches(chain: Sequence[bytes], root: bytes, at: datetime) -> Iterator[str]:
    """Yield which rules of sections 3.1 and 3.3 the chain breaks."""
    if chain[0] != root:
        yield "the chain does not start at the root"
    readings = [_Reading(der) for der in chain]
    for number, reading in enumerate(readings):
        found = [*_certificate_breaches(reading, at.replace(microsecond=0))]
        found += _role_breaches(reading, len(chain) - 2 - number)
        yield from (f"certificate {number}: {breach}" for breach in found)
    for issuer, reading in pairwise(readings):
        if reading.issuer != issuer.subject:
            yield "a certificate is not issued by the one before it"
        named, held = reading.value_of(_AUTHORITY_KEY), issuer.value_of(_SUBJECT_KEY)
        if named and held and named != wrap(0x30, wrap(0x80, held[2:])):
            yield "a certificate names another key than that of the one before it"
        if not _signed(_key(issuer.certificate), reading.tbs, reading.certificate["signature_value"].native):
            yield "a certificate is not signed by the one before it"


class _Reading:
    """A certificate read by asn1crypto without what stays opaque: names, extensions that nobody reads."""

    def __init__(self, der: bytes) -> None:
        self.tbs, *rest = _split(_content(der))
        fields = _split(_content(self.tbs))
        self.issuer, self.subject = fields[3], fields[5]
        fields[3] = fields[5] = wrap(0x30, b"")
        self.extensions: list[tuple[bytes, bool, bytes]] = []
        read = b""
        listed = _split(_content(_content(fields[7]))) if len(fields) > 7 else []
        for extension in listed:
            oid, *flag, value = _split(_content(extension))
            self.extensions.append((_content(oid), flag != [], _content(value)))
            read += extension if _content(oid) in _READ else b""
        rewritten = wrap(0xA3, wrap(0x30, b"".join(listed)))
        elements = [self.issuer, self.subject, *listed, self.tbs, der, *fields[7:]]
        self.canonical = all(wrap(element[0], _content(element)) == element for element in elements)
        self.canonical &= fields[7:] in ([], [rewritten])
        if len(fields) > 7:
            fields[7] = wrap(0xA3, wrap(0x30, read))
        stripped = wrap(0x30, wrap(0x30, b"".join(fields)) + b"".join(rest))
        self.certificate = asn1.Certificate.load(stripped, strict=True)
        self.canonical &= self.certificate.copy().dump(force=True) == stripped

    def value_of(self, oid: bytes) -> bytes | None:
        """Return an extension's value."""
        return next((value for found, _, value in self.extensions if found == oid), None)


def _content(element: bytes) -> bytes:
    return bytes(parser.parse(element, strict=True)[4])


def _split(content: bytes) -> list[bytes]:
    parts = []
    while content:
        whole = b"".join(parser.parse(content)[3:])
        parts.append(whole)
        content = content[len(whole) :]
    return parts


def _certificate_breaches(reading: _Reading, at: datetime) -> Iterator[str]:
    certificate = reading.certificate
    tbs = certificate["tbs_certificate"]
    if not reading.canonical:
        yield "it is not in the one form that DER gives it"
    algorithms = (certificate["signature_algorithm"], tbs["signature"])
    if any(one.dump() != bytes.fromhex("300a06082a8648ce3d040303") for one in algorithms):
        yield "it is not signed with ecdsa-with-SHA384"
    if tbs["version"].native != "v3" or tbs["serial_number"].native <= 0:
        yield "its version or serial number is wrong"
    if certificate.public_key.algorithm != "ec" or certificate.public_key.curve != ("named", "secp384r1"):
        yield "its key is not on P-384"
    validity = tbs["validity"]
    for moment in (validity["not_before"], validity["not_after"]):
        if (moment.name == "utc_time") != (moment.native.year < 2050):
            yield "a time is in the form that RFC 5280 keeps for other years"
    if not validity["not_before"].native <= at <= validity["not_after"].native:
        yield "it is not valid at the time"
    if len({oid for oid, _, _ in reading.extensions}) != len(reading.extensions):
        yield "an extension stands there twice"
    if any(oid in _NARROWING or (critical and oid not in _READ) for oid, critical, _ in reading.extensions):
        yield "it has an extension that must be refused"


def _role_breaches(reading: _Reading, below: int) -> Iterator[str]:
    """Yield what forbids a certificate its role: the leaf has nothing below it, not even itself."""
    certificate = reading.certificate
    constraints, usage = certificate.basic_constraints_value, certificate.key_usage_value
    allowed = usage.native if usage is not None else set()
    authority = constraints is not None and constraints["ca"].native
    if below < 0:
        if authority or "digital_signature" not in allowed or "key_cert_sign" in allowed:
            yield "it is not a leaf"
        return
    if (
        not authority
        or "key_cert_sign" not in allowed
        or "basic_constraints" not in certificate.critical_extensions
    ):
        yield "it is not an authority"
    elif constraints["path_len_constraint"].native is not None:
        if constraints["path_len_constraint"].native < below:
            yield "it has more authorities below it than it may"
    elif reading.issuer != reading.subject:
        yield "it sets no limit to the authorities below it"


def _key(certificate: Any) -> ec.EllipticCurvePublicKey:
    point = certificate.public_key["public_key"].native
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)


def _der_signature(raw: bytes) -> bytes:
    if len(raw) != 96:
        raise ValueError("a signature has 96 bytes")
    return encode_dss_signature(int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big"))


def _sig_structure(envelope: Any) -> bytes:
    return cbor2.dumps(["Signature1", envelope[0], b"", envelope[2]])


def _signed(key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, data, _ECDSA)
    except Exception:  # noqa: BLE001 -- whatever it is, the signature does not hold
        return False
    return True
