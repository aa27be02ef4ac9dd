"""Every case of the corpus, in order, each id once."""

from corpus.attestation.generator import (
    flaws_authorities,
    flaws_certificates,
    flaws_chain,
    flaws_envelope,
    flaws_expectations,
    flaws_fields,
    flaws_header,
    flaws_payload,
    flaws_signature,
    sound,
)
from corpus.attestation.generator.cases import Case, in_category

_CATEGORIES = {
    "envelope": flaws_envelope.flaws,
    "header": flaws_header.flaws,
    "payload": flaws_payload.flaws,
    "fields": flaws_fields.flaws,
    "certificates": flaws_certificates.flaws,
    "chain": flaws_chain.flaws,
    "authorities": flaws_authorities.flaws,
    "signature": flaws_signature.flaws,
    "expectations": flaws_expectations.flaws,
    "sound": sound.cases,
}


def every_case() -> tuple[Case, ...]:
    """Return all cases."""
    cases = tuple(case for name, make in _CATEGORIES.items() for case in in_category(name, make()))
    if len({case.id for case in cases}) != len(cases):
        names = [case.id for case in cases]
        raise AssertionError(
            f"these ids stand there twice: {sorted({n for n in names if names.count(n) > 1})}"
        )
    return cases
