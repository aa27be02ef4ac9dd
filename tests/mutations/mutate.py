"""From (seed, index) to one mutation: the table of kinds, and the die."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from cloister.cose import Sign1
from mutations import byte_edits, cbor_edits
from mutations.bulk_kinds import bulk
from mutations.cbor_tree import Item
from mutations.certificate_kinds import bytes_in_certificate, in_certificate
from mutations.content_kinds import (
    certificates_exchanged,
    equivalent_form,
    fields_changed,
    headers_changed,
    re_encoded,
    signature_changed,
)
from mutations.corpus import Corpus, Subject
from mutations.resigned_kinds import (
    bytes_signed,
    certificate_signed,
    chain_signed,
    fields_signed,
    headers_signed,
    key_signed,
    look_alikes,
    structure_signed,
)

Make = Callable[[Random, Corpus, Subject], tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A document that is not what it was."""

    kind: str
    description: str
    document: bytes
    subject: Subject
    resigned: bool
    own_time: bool
    """Whether certificates are to be judged at the time that the document states."""


def _bytes_edited(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    return rng.choice(byte_edits.EDITS)(rng, subject.document, rng.choice(corpus.subjects).document)


def _payload_bytes_edited(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    envelope = Sign1.from_bytes(subject.document)
    other = Sign1.from_bytes(rng.choice(corpus.subjects).document).payload
    what, payload = rng.choice(byte_edits.EDITS)(rng, envelope.payload, other)
    return what, replace(envelope, payload=payload).to_bytes()


def _envelope_structure(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    root = Item.read(subject.document)
    return cbor_edits.edit_cbor(rng, root), root.write()


def _payload_structure(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    envelope = Sign1.from_bytes(subject.document)
    root = Item.read(envelope.payload)
    what = cbor_edits.edit_cbor(rng, root)
    return what, replace(envelope, payload=root.write()).to_bytes()


KINDS: dict[str, tuple[int, Make]] = {
    "bytes": (22, _bytes_edited),
    "payload bytes": (12, _payload_bytes_edited),
    "envelope structure": (8, _envelope_structure),
    "payload structure": (16, _payload_structure),
    "equivalent form": (1, equivalent_form),
    "fields": (3, fields_changed),
    "re-encoded": (1, re_encoded),
    "certificates exchanged": (4, certificates_exchanged),
    "signature": (3, signature_changed),
    "headers": (2, headers_changed),
    "bulk": (1, bulk),
    "certificate structure": (10, in_certificate),
    "certificate bytes": (6, bytes_in_certificate),
}
RESIGNED: dict[str, tuple[int, Make]] = {
    "signed: fields": (1, fields_signed),
    "signed: structure": (3, structure_signed),
    "signed: bytes": (2, bytes_signed),
    "signed: headers": (1, headers_signed),
    "signed: certificate": (4, certificate_signed),
    "signed: key": (1, key_signed),
    "signed: chain": (1, chain_signed),
    "signed: look-alikes": (1, look_alikes),
}
_TABLE = {**KINDS, **RESIGNED}
_NAMES = list(_TABLE)
_WEIGHTS = [weight for weight, _ in _TABLE.values()]


def mutate(seed: int, index: int, corpus: Corpus) -> Mutation:
    """Return the mutation of this number in this campaign: always the same one for the same corpus."""
    rng = Random(f"{seed}/{index}")
    kind = rng.choices(_NAMES, _WEIGHTS)[0]
    subjects = corpus.ours if kind in RESIGNED else corpus.subjects
    while True:
        subject = rng.choice(subjects)
        description, document = _TABLE[kind][1](rng, corpus, subject)
        if document != subject.document:
            break
    return Mutation(kind, description, document, subject, kind in RESIGNED, own_time=rng.random() < 0.2)
