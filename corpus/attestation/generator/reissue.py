"""Changes of a chain: other extensions, other lives, further authorities, exact sizes."""

from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from corpus.attestation.generator.cases import Change
from corpus.attestation.generator.certificates import (
    AUTHORITY_KEY,
    BASIC_CONSTRAINTS,
    SUBJECT_KEY,
    TRUE,
    Extension,
    public_key_info,
)
from corpus.attestation.generator.draft import Draft, Link, milliseconds
from corpus.attestation.generator.encodings import SEQUENCE, der, integer, utc_time
from corpus.attestation.generator.keys import ORDER, digest, key

UNKNOWN = bytes.fromhex("883701")  # 2.999.1, the arc for examples (X.660)
SECOND = timedelta(seconds=1)


def changed(name: str, **parts: object) -> Change:
    """Exchange parts of one certificate."""
    return lambda draft: draft.change(name, **parts)


def extended(name: str, oid: bytes, value: bytes, critical: bytes = TRUE) -> Change:
    """Exchange or add an extension."""

    def change(draft: Draft) -> None:
        link = draft.chain[name]
        link.certificate = link.certificate.with_extension(Extension(oid, critical, value))

    return change


def dropped(name: str, *oids: bytes) -> Change:
    """Leave extensions out."""

    def change(draft: Draft) -> None:
        for oid in oids:
            draft.chain[name].certificate = draft.chain[name].certificate.without(oid)

    return change


def may_issue(path_length: int | None) -> bytes:
    """Write the basicConstraints of an authority."""
    return der(SEQUENCE, TRUE, b"" if path_length is None else integer(path_length))


def ends(name: str, offset: timedelta) -> Change:
    """Let a certificate end that long after the time of verification."""
    return lambda draft: draft.change(name, not_after=utc_time(draft.now + offset))


def begins(name: str, offset: timedelta) -> Change:
    """Let a certificate begin that long after the time of verification, and the document after its signer."""

    def change(draft: Draft) -> None:
        draft.change(name, not_before=utc_time(draft.now + offset))
        if name == "leaf":
            draft.fields["timestamp"] = milliseconds(draft.now + offset)

    return change


def negated_der(signature: bytes) -> bytes:
    """Return the other of the two signatures of the same message, (r, n - s)."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, ORDER - s)


def padded(name: str, size: int) -> Change:
    """Add an extension that gives a certificate exactly that many bytes."""

    def change(draft: Draft) -> None:
        plain = draft.chain[name].certificate
        start = size - len(draft.der(name))
        for attempt in range(400):  # the signature's length varies with what it signs
            value = digest(f"padding/{attempt}", start - 25 + attempt % 20)
            draft.chain[name].certificate = plain.with_extension(Extension(UNKNOWN, b"", value))
            if len(draft.der(name)) == size:
                return
        raise AssertionError(f"no padding gives {name} a size of {size} bytes")

    return change


def add_authority(draft: Draft, name: str, issuer: str, path_length: int) -> None:
    """Let a link issue a further authority."""
    own = key(name)
    certificate = replace(
        draft.chain["instance"].certificate,
        issuer=draft.chain[issuer].certificate.subject,
        subject=_renamed(draft.chain["instance"].certificate.subject, name),
        serial=integer(int.from_bytes(digest(f"serial/{name}", 15), "big")),
        public_key=public_key_info(own),
    )
    for oid in (SUBJECT_KEY, AUTHORITY_KEY):
        certificate = certificate.without(oid)
    certificate = certificate.with_extension(Extension(BASIC_CONSTRAINTS, TRUE, may_issue(path_length)))
    draft.chain[name] = Link(certificate, own, issuer)


def _renamed(subject: bytes, name: str) -> bytes:
    """Write a name whose last part says which authority it is."""
    return subject.replace(b"i-0c0ffee0c0ffee000", name.ljust(19, "0").encode())


def sign_leaf_by(draft: Draft, issuer: str) -> None:
    """Let another link issue the leaf."""
    draft.chain["leaf"].issuer = issuer
    draft.change("leaf", issuer=draft.chain[issuer].certificate.subject)


def authorities(count: int) -> Change:
    """Make it a chain of that many authorities, every pathLen as large as it must be."""

    def change(draft: Draft) -> None:
        names = ["root", "regional", "zonal", "instance", *(f"sub{index}" for index in range(count - 4))]
        for place in range(1, count):
            below = count - 1 - place
            if place < 4:
                extended(names[place], BASIC_CONSTRAINTS, may_issue(below))(draft)
            else:
                add_authority(draft, names[place], names[place - 1], below)
        sign_leaf_by(draft, names[-1])
        draft.bundle = list(names)

    return change
