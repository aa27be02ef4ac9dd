"""Wrong in what certificates may do and when: constraints, usage, pathLen, life (RFC 5280, 4.2.1, 6.1)."""

from collections.abc import Iterator
from dataclasses import replace

from corpus.attestation.generator.cases import Case, flaw, having, together
from corpus.attestation.generator.certificates import BASIC_CONSTRAINTS, KEY_USAGE, public_key_info
from corpus.attestation.generator.draft import AUTHORITIES, Draft, Link
from corpus.attestation.generator.encodings import BIT_STRING, SEQUENCE, der, integer
from corpus.attestation.generator.keys import key
from corpus.attestation.generator.reissue import (
    SECOND,
    add_authority,
    begins,
    dropped,
    ends,
    extended,
    may_issue,
    sign_leaf_by,
)

_AWS = "AWS attestation_process 3.2.3"


def flaws() -> Iterator[Case]:
    """Yield the cases."""
    yield from _issuers()
    yield from _path_lengths()
    yield from _leaves()
    yield from _lives()


def _issuers() -> Iterator[Case]:
    for name in AUTHORITIES:
        level = "strictness" if name == "root" else "document"
        length = {"root": None, "regional": 2, "zonal": 1, "instance": 0}[name]
        for case, wrong, change in (  # all of them for the instance, the main ones for the others
            (
                "no-constraints",
                f"the {name} certificate has no basicConstraints",
                dropped(name, BASIC_CONSTRAINTS),
            ),
            (
                "not-ca",
                f"the {name} certificate's basicConstraints do not say CA",
                extended(name, BASIC_CONSTRAINTS, der(SEQUENCE)),
            ),
            (
                "constraints-not-critical",
                f"the {name} certificate's basicConstraints are not critical",
                extended(name, BASIC_CONSTRAINTS, may_issue(length), b""),
            ),
            (
                "may-not-issue",
                f"the {name} certificate's keyUsage lacks keyCertSign",
                extended(name, KEY_USAGE, der(BIT_STRING, b"\x01\x82")),
            ),
        ):
            if name == "instance" or case == "not-ca" or (name, case) == ("regional", "may-not-issue"):
                yield flaw(
                    f"{name}-{case}",
                    wrong,
                    f"{_AWS}; RFC 5280 4.2.1.9, 4.2.1.3",
                    "authorities",
                    change,
                    level,
                )


def _path_lengths() -> Iterator[Case]:
    source = f"{_AWS}; RFC 5280 4.2.1.9"
    for name, length in (("root", 2), ("regional", 1), ("zonal", 0)):
        yield flaw(
            f"{name}-path-too-short",
            f"the {name} certificate allows {length} authorities below it, and one more follows",
            source,
            "authorities",
            extended(name, BASIC_CONSTRAINTS, may_issue(length)),
            "strictness" if name == "root" else "document",
            mended=extended(name, BASIC_CONSTRAINTS, may_issue(length + 1)),
        )
    yield flaw(
        "instance-issues-authority",
        "the instance's authority, whose pathLen is 0, issued another one, which issued the leaf",
        source,
        "authorities",
        _sub_authority,
    )
    yield flaw(
        "leaf-issues-leaf",
        "a true enclave's leaf issued the certificate that signs",
        f"{source}; pitfall: a leaf taken for an authority",
        "authorities",
        _leaf_issues,
    )
    yield flaw(
        "instance-no-path-length",
        "the instance certificate has no pathLen",
        "decision: every authority below the root is bounded, as genuine ones are",
        "authorities",
        extended("instance", BASIC_CONSTRAINTS, may_issue(None)),
        "strictness",
    )


def _sub_authority(draft: Draft) -> None:
    add_authority(draft, "sub", "instance", 0)
    sign_leaf_by(draft, "sub")
    draft.bundle.append("sub")


def _leaf_issues(draft: Draft) -> None:
    leaf = draft.chain["leaf"].certificate
    own = key("forged")
    forged = replace(leaf, issuer=leaf.subject, serial=integer(7), public_key=public_key_info(own))
    draft.chain["forged"] = Link(forged, own, "leaf")
    draft.bundle.append("leaf")
    draft.leaf = "forged"


def _leaves() -> Iterator[Case]:
    source = f"{_AWS}; RFC 5280 4.2.1.3, 4.2.1.9"

    def usage(value: bytes) -> bytes:
        return der(BIT_STRING, value)

    yield flaw(
        "leaf-is-ca-and-may-issue",
        "the leaf says CA, pathLen 0, and keyCertSign",
        source,
        "leaf",
        together(
            extended("leaf", BASIC_CONSTRAINTS, may_issue(0)),
            extended("leaf", KEY_USAGE, usage(b"\x02\x84"), b""),
        ),
    )
    yield flaw(
        "leaf-path-length",
        "the leaf is no CA and has a pathLen",
        f"{_AWS}: leaf without pathLen; RFC 5280 4.2.1.9",
        "certificates",
        extended("leaf", BASIC_CONSTRAINTS, der(SEQUENCE, integer(0))),
    )
    for name, value, wrong in (
        ("leaf-may-issue", b"\x02\x84", "the leaf's keyUsage has keyCertSign, and it is no CA"),
    ):
        yield flaw(name, wrong, source, "leaf", extended("leaf", KEY_USAGE, usage(value), b""))
    yield flaw("leaf-no-usage", "the leaf has no keyUsage", source, "leaf", dropped("leaf", KEY_USAGE))
    yield flaw(
        "instance-signs-document",
        "the instance's authority itself signed the document",
        source,
        "leaf",
        having(leaf="instance", bundle=list(AUTHORITIES[:3])),
    )


def _lives() -> Iterator[Case]:
    source = "RFC 5280 4.1.2.5: both ends are inclusive; AWS attestation_process 3.2.3"
    for name in (*AUTHORITIES, "leaf"):
        yield flaw(
            f"{name}-ended",
            f"the {name} certificate ended one second before the time of verification",
            source,
            "validity",
            ends(name, -SECOND),
            mended=ends(name, 0 * SECOND),
        )
        yield flaw(
            f"{name}-not-begun",
            f"the {name} certificate begins one second after the time of verification",
            source,
            "validity",
            begins(name, SECOND),
            mended=begins(name, 0 * SECOND),
        )
