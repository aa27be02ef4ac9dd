"""Wrong as a chain: root, order, who may issue, who may sign, validity, signatures (RFC 5280, section 6)."""

from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives import hashes

from corpus.attestation.generator.cases import Case, flaw, having, together
from corpus.attestation.generator.certificates import (
    AUTHORITY_KEY,
    BASIC_CONSTRAINTS,
    SUBJECT_KEY,
    public_key_info,
)
from corpus.attestation.generator.draft import AUTHORITIES, Draft, Link, chain
from corpus.attestation.generator.encodings import SEQUENCE, content, der, elements, integer
from corpus.attestation.generator.keys import key
from corpus.attestation.generator.reissue import (
    add_authority,
    authorities,
    changed,
    dropped,
    extended,
    may_issue,
    sign_leaf_by,
)

_AWS = "AWS attestation_process 3.2.3"
_ORDER = "AWS attestation_process 3.2: cabundle = [root, ..., issuer of the leaf]"
_RFC = "RFC 5280 6.1"


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _roots()
    yield from _orders()
    yield from _strangers()
    yield from _signatures()


def _foreign(draft: Draft) -> None:
    """Sign everything below a root of the same name and another key."""
    draft.trusted = draft.der("root")
    draft.chain = chain("foreign/")


def _below_true_root(draft: Draft) -> None:
    _foreign(draft)
    draft.bundle[0] = draft.root()


def _between(draft: Draft) -> None:
    _foreign(draft)
    draft.bundle.insert(0, draft.root())


def _look_alikes(draft: Draft) -> None:
    stranger = key("stranger")
    names = [f"look-alike{place}" for place in range(6)]
    for place, name in enumerate(names):
        root = draft.chain["root"].certificate.without(SUBJECT_KEY)
        own = replace(root, serial=integer(place + 2), public_key=public_key_info(stranger))
        draft.chain[name] = Link(own, stranger, name)
        extended(name, BASIC_CONSTRAINTS, may_issue(9))(draft)
    draft.bundle = ["root", *names]
    sign_leaf_by(draft, names[-1])


def _renewed_root(draft: Draft) -> None:
    draft.trusted = draft.der("root")
    draft.change("root", serial=integer(2))


def _roots() -> Iterator[Case]:
    pinned = "AWS attestation_process 3.2: the pinned root alone; pitfall: trusting cabundle[0]"
    yield flaw(
        "foreign-root", "the root has the pinned one's name, and another key", pinned, "root", _foreign
    )
    yield flaw(
        "foreign-below-true-root",
        "the chain of a root of the same name stands below the pinned root",
        pinned,
        "order",
        _below_true_root,
    )
    yield flaw(
        "foreign-without-key-id",
        "the chain of a root of the same name stands below the pinned root, and names no issuer's key",
        pinned,
        "chain signatures",
        together(_below_true_root, dropped("regional", AUTHORITY_KEY)),
    )
    yield flaw(
        "self-made-root-inside",
        "a self-made root of the same name stands between the pinned root and its own chain",
        pinned,
        "authorities",
        _between,
    )
    yield flaw(
        "look-alikes",
        "below the root stand 6 self-made authorities of its name and of one key",
        "pitfall: a path builder that tries every path",
        "chain signatures",
        _look_alikes,
    )
    strict = "decision: the bundle starts with the pinned root, byte for byte"
    yield flaw(
        "root-left-out",
        "the bundle starts with the regional authority",
        strict,
        "root",
        having(bundle=list(AUTHORITIES[1:])),
        "strictness",
    )
    yield flaw(
        "root-renewed",
        "the root has the pinned one's name and key, and another serial number",
        strict,
        "root",
        _renewed_root,
        "strictness",
    )


def _orders() -> Iterator[Case]:
    for missing in AUTHORITIES[1:]:
        yield flaw(
            f"{missing}-missing",
            f"the {missing} authority is missing from the bundle",
            _RFC,
            "order",
            having(bundle=[name for name in AUTHORITIES if name != missing]),
        )
    for name, wrong, bundle, step in (
        ("reversed", "the bundle is reversed: the root stands last", list(AUTHORITIES[::-1]), "root"),
        ("swapped", "two authorities are swapped", ["root", "zonal", "regional", "instance"], "order"),
    ):
        yield flaw(
            f"bundle-{name}",
            wrong,
            f"{_ORDER}; decision: exact order",
            step,
            having(bundle=bundle),
            "strictness",
        )
    yield flaw(
        "bundle-with-stranger",
        "an authority that issued nothing here stands at the bundle's end",
        f"{_ORDER}; decision: exact order",
        "order",
        _with_stranger,
        "strictness",
    )
    yield flaw(
        "bundle-of-nine",
        "the bundle holds 9 authorities, each in order",
        "decision: at most 8",
        "certificates",
        authorities(9),
        "strictness",
        mended=authorities(8),
    )
    yield flaw(
        "leaf-by-zonal",
        "the zonal authority issued the leaf, and the instance's stands between them",
        f"{_ORDER}; decision: exact order",
        "order",
        lambda draft: sign_leaf_by(draft, "zonal"),
        "strictness",
    )


def _with_stranger(draft: Draft) -> None:
    add_authority(draft, "stranger", "zonal", 0)
    draft.bundle.append("stranger")


def _strangers() -> Iterator[Case]:
    for name in ("leaf", "instance"):
        yield flaw(
            f"{name}-other-issuer",
            f"the {name} certificate names an issuer that is not there",
            f"{_RFC}.3",
            "order",
            changed(name, issuer=chain()["root"].certificate.subject),
        )
    wrong_key = der(SEQUENCE, der(0x80, bytes(20)))
    yield flaw(
        "zonal-other-key-id",
        "the zonal certificate's authority key identifier is another than its issuer's",
        "RFC 5280 4.2.1.1; decision: compared where both are there",
        "order",
        extended("zonal", AUTHORITY_KEY, wrong_key, b""),
        "strictness",
    )


def _flipped(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


def _signatures() -> Iterator[Case]:
    source, step = "RFC 5280 6.1.3", "chain signatures"
    for name in (*AUTHORITIES[1:], "leaf"):
        yield flaw(
            f"{name}-signature-bit",
            f"one bit of the {name} certificate's signature is flipped",
            source,
            step,
            changed(name, signed=_flipped),
        )
    for name in ("instance", "leaf"):
        issuer = {"instance": "regional", "leaf": "zonal"}[name]

        def wrong_key(draft: Draft, name: str = name, issuer: str = issuer) -> None:
            draft.chain[name].issuer = issuer

        yield flaw(
            f"{name}-by-{issuer}-key",
            f"the {name} certificate names its issuer, and the {issuer} authority's key signed it",
            source,
            step,
            wrong_key,
        )
        yield flaw(
            f"{name}-altered",
            f"one bit of the {name} certificate's serial number was changed after it was signed",
            source,
            step,
            changed(name, final=_other_serial),
        )
    yield from _leaf_signatures()


def _leaf_signatures() -> Iterator[Case]:
    source, step = "RFC 5280 6.1.3", "chain signatures"
    yield flaw(
        "leaf-self-signed",
        "the leaf names its issuer, and its own key signed it",
        source,
        step,
        lambda draft: setattr(draft.chain["leaf"], "issuer", "leaf"),
    )
    yield flaw(
        "leaf-signature-zero",
        "r and s of the leaf's signature are 0 (CVE-2022-21449)",
        source,
        step,
        changed("leaf", signed=lambda _: der(SEQUENCE, integer(0), integer(0))),
    )
    yield flaw(
        "leaf-hashed-with-sha256",
        "the leaf's signature is made with SHA-256, and it says ecdsa-with-SHA384",
        source,
        step,
        changed("leaf", hash=hashes.SHA256),
    )


def _other_serial(certificate: bytes) -> bytes:
    """Change the last bit of the serial number."""
    body, *rest = elements(content(certificate))
    version, serial, *fields = elements(content(body))
    return der(SEQUENCE, der(SEQUENCE, version, serial[:-1] + bytes([serial[-1] ^ 1]), *fields), *rest)
