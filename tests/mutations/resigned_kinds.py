"""Documents and certificates changed and then signed again with the right keys, which only we hold.

They reach the steps behind the signatures. Some say what a true document may say: those are accepted, and the
oracle reads them a second way.
"""

from collections.abc import Sequence
from random import Random

from cloister.cose import IndefiniteMap, encode_cbor
from mutations.byte_edits import EDITS
from mutations.cbor_edits import edit_cbor
from mutations.cbor_tree import Item
from mutations.content_kinds import HEADERS, UNPROTECTED, changed_fields, open_document
from mutations.corpus import Corpus, Subject, issuer_of, own_certificates
from mutations.der_edits import edit_der, edited_certificate
from mutations.der_tree import Node
from mutations.keys import key_of, rsa_spki, sign_certificate, sign_payload


def fields_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Sign other fields."""
    _, fields = open_document(subject.document)
    what = changed_fields(rng, fields)
    return what, sign_payload(encode_cbor(fields), key_of("leaf"))


def structure_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Sign a payload of another structure."""
    envelope, _ = open_document(subject.document)
    root = Item.read(envelope.payload)
    what = " and ".join(edit_cbor(rng, root) for _ in range(rng.choice((1, 1, 2))))
    return what, sign_payload(root.write(), key_of("leaf"))


def bytes_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Sign a payload with its bytes edited."""
    envelope, _ = open_document(subject.document)
    other, _ = open_document(rng.choice(corpus.subjects).document)
    what, payload = rng.choice(EDITS)(rng, envelope.payload, other.payload)
    return what, sign_payload(payload, key_of("leaf"))


def headers_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Sign other headers with the payload."""
    envelope, _ = open_document(subject.document)
    protected = rng.choice(list(HEADERS))
    unprotected = rng.choice(list(UNPROTECTED)) if rng.random() < 0.3 else ""
    document = sign_payload(
        envelope.payload,
        key_of("leaf"),
        protected=bytes.fromhex(HEADERS[protected]),
        unprotected=bytes.fromhex(UNPROTECTED[unprotected]) if unprotected else b"\xa0",
    )
    return f"headers: {protected}, {unprotected or 'none'}", document


def certificate_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Let a certificate's issuer sign other fields."""
    chain = own_certificates(corpus)
    place = rng.choice((0, 1, 2, 3, 3, 4, 4, 4))
    (tbs,) = Node.read(corpus.tbs[place])
    what = " and ".join(edit_der(rng, tbs) for _ in range(rng.choice((1, 1, 2))))
    chain[place] = sign_certificate(tbs.write(), key_of(issuer_of(place)))
    if rng.random() < 0.1:
        more, chain[place] = rng.choice(EDITS)(rng, chain[place], corpus.tbs[place])
        what += f", and around it {more}"
    return f"certificate {place}: {what}", _with_chain(subject, chain)


def key_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Edit or exchange the RSA key for answers, which the key service reads next."""
    _, fields = open_document(subject.document)
    what, key = (
        f"{(bits := rng.choice((512, 1024, 2048, 2056, 3072, 4096)))} bits",
        rsa_spki("recipient", bits),
    )
    if rng.random() < 0.7:
        what, key = edited_certificate(rng, key) if rng.random() < 0.5 else rng.choice(EDITS)(rng, key, key)
    fields["public_key"] = key
    return f"public_key: {what}", sign_payload(encode_cbor(fields), key_of("leaf"))


def chain_signed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Build a chain of another shape, each signed by the one before it, or by a stranger."""
    name, places = rng.choice(
        (
            ("instance skipped", (0, 1, 2, 4)),
            ("zonal skipped", (0, 1, 3, 4)),
            ("leaf under the root", (0, 4)),
            ("instance twice", (0, 1, 2, 3, 3, 4)),
            ("leaf under a leaf", (0, 1, 2, 3, 4, 4)),
            ("root twice", (0, 0, 1, 2, 3, 4)),
            ("no leaf", (0, 1, 2, 3)),
            ("root alone", (0,)),
            ("root as leaf", (0, 0)),
            ("zonal before regional", (0, 2, 1, 3, 4)),
            ("unchanged", (0, 1, 2, 3, 4)),
            ("seven instances", (0, 1, 2, 3, 3, 3, 3, 3, 3, 4)),
        )
    )
    signers = [places[max(0, at - 1)] for at in range(len(places))]
    stranger = rng.randrange(len(places)) if rng.random() < 0.2 else -1
    chain = []
    for at, place in enumerate(places):
        (tbs,) = Node.read(corpus.tbs[place])
        (above,) = Node.read(corpus.tbs[signers[at]])
        tbs.children[3] = above.children[5]  # issuer is the signer's subject
        key = key_of("stranger" if at == stranger else _name(signers[at]))
        chain.append(sign_certificate(tbs.write(), key))
    if places[0] == 0 and stranger != 0:
        chain[0] = own_certificates(corpus)[0]
    return f"{name}, stranger {stranger}", _with_chain(subject, chain, _name(places[-1]))


def look_alikes(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Give all authorities one name and one key, so that any order of them is a path."""
    count, own_key = rng.randrange(1, 8), rng.random() < 0.5
    (root,), (instance,), (leaf,) = (Node.read(corpus.tbs[place]) for place in (0, 3, 4))
    name = root.children[5] if rng.random() < 0.7 else instance.children[5]
    spki = Node.read(corpus.tbs[3])[0].children[6]
    instance.children[3], instance.children[5], instance.children[6] = name, name, spki
    extensions = instance.children[7].children[0]
    extensions.children = extensions.children[:2]  # no key identifiers
    extensions.children[0].children[-1] = Node(0x04, bytes.fromhex("30060101ff02017f"))
    leaf.children[3] = name
    chain = [own_certificates(corpus)[0]]
    for number in range(count):
        instance.children[1].content = bytes((number + 1,))
        signer = "root" if number == 0 and own_key else "instance"
        chain.append(sign_certificate(instance.write(), key_of(signer)))
    chain.append(sign_certificate(leaf.write(), key_of("instance")))
    return f"{count} authorities of one name, the first {'' if own_key else 'not '}signed", _with_chain(
        subject, chain
    )


def _name(place: int) -> str:
    return ("root", "regional", "zonal", "instance", "leaf")[place]


def _with_chain(subject: Subject, chain: Sequence[bytes], signer: str = "leaf") -> bytes:
    _, fields = open_document(subject.document)
    fields["certificate"], fields["cabundle"] = chain[-1], list(chain[:-1])
    return sign_payload(encode_cbor(IndefiniteMap(fields)), key_of(signer))
