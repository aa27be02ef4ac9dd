"""One certificate of a signed document changed, and nothing signed again."""

from dataclasses import replace
from random import Random

from cloister.cose import encode_cbor
from mutations.byte_edits import EDITS
from mutations.content_kinds import open_document
from mutations.corpus import Corpus, Subject
from mutations.der_edits import edited_certificate


def in_certificate(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Edit the structure of the leaf or of an authority."""
    return _changed(rng, subject, structure=True)


def bytes_in_certificate(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Edit the bytes of the leaf or of an authority; the CBOR around it stays right."""
    return _changed(rng, subject, structure=False)


def _changed(rng: Random, subject: Subject, *, structure: bool) -> tuple[str, bytes]:
    envelope, fields = open_document(subject.document)
    chain = [*fields["cabundle"], fields["certificate"]]
    place = rng.randrange(len(chain))
    if structure:
        what, chain[place] = edited_certificate(rng, chain[place])
    else:
        what, chain[place] = rng.choice(EDITS)(rng, chain[place], rng.choice(chain))
    fields["cabundle"], fields["certificate"] = chain[:-1], chain[-1]
    return f"certificate {place}: {what}", replace(envelope, payload=encode_cbor(fields)).to_bytes()
