"""What a liar without keys would do to a signed document: other content, certificates, signatures."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.cose import IndefiniteMap, Sign1, decode_cbor, encode_cbor
from mutations.corpus import Corpus, Subject
from mutations.keys import ORDER

Edit = Callable[[Random, Corpus, Subject], tuple[str, bytes]]
TAG_18 = b"\xd2"


def open_document(document: bytes) -> tuple[Sign1, dict[str, Any]]:
    """Return a good document's envelope and fields."""
    envelope = Sign1.from_bytes(document)
    fields = decode_cbor(envelope.payload)
    return envelope, fields


def other_s(document: bytes) -> bytes:
    """Return the same statement with the other of its two signatures, n - s."""
    envelope = Sign1.from_bytes(document)
    s = int.from_bytes(envelope.signature[48:], "big")
    return replace(envelope, signature=envelope.signature[:48] + (ORDER - s).to_bytes(48, "big")).to_bytes()


def equivalents(document: bytes) -> set[bytes]:
    """Return the four forms of one signed statement that all verify: tag 18 or none, s or n - s."""
    return {tag + form for tag in (b"", TAG_18) for form in (document, other_s(document))}


def equivalent_form(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Write the statement in another of its named forms."""
    name, tag, swap = rng.choice(
        (("tag 18", 1, 0), ("s made n - s", 0, 1), ("tag 18, and s made n - s", 1, 1))
    )
    return name, TAG_18 * tag + (other_s(subject.document) if swap else subject.document)


def changed_fields(rng: Random, fields: dict[str, Any]) -> str:
    """Change one or two of a document's fields in place to values of the right kind."""
    description = []
    for name in rng.sample(list(fields), rng.choice((1, 1, 2))):
        value = fields[name]
        if isinstance(value, dict):
            index = rng.choice([*value, 0, 4, 8, 16, 31])
            value = {**value, index: rng.choice((bytes(48), rng.randbytes(48)))}
            if rng.random() < 0.3:
                del value[index]
            fields[name] = value
        elif isinstance(value, int):
            fields[name] = max(
                0, value + rng.choice((1, -1)) * rng.choice((1, 999, 300_000, 10_800_000, 1 << 40))
            )
        elif isinstance(value, str):
            fields[name] = rng.choice(
                (value[:-1], value + "0", value.upper(), "SHA256", "SHA384", "i-0", "é" * 9)
            )
        elif value is None or name in {"nonce", "user_data", "public_key"}:
            fields[name] = rng.choice((None, b"", b"other", rng.randbytes(32), bytes(1024), bytes(1025)))
        else:
            continue
        description.append(name)
    return f"{' and '.join(description) or 'no field'} changed"


def fields_changed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Keep the old signature over other content."""
    envelope, fields = open_document(subject.document)
    description = changed_fields(rng, fields)
    return description, replace(envelope, payload=encode_cbor(fields)).to_bytes()


def re_encoded(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Say the same in the other map encoding, or in another order of keys."""
    envelope, fields = open_document(subject.document)
    if rng.random() < 0.5:
        entries = list(fields.items())
        rng.shuffle(entries)
        fields = type(fields)(entries)
        return "keys in another order", replace(envelope, payload=encode_cbor(fields)).to_bytes()
    other = dict(fields) if isinstance(fields, IndefiniteMap) else IndefiniteMap(fields)
    return "the other map encoding", replace(envelope, payload=encode_cbor(other)).to_bytes()


def certificates_exchanged(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Take certificate, bundle or single authorities from another document; reorder, drop, repeat."""
    envelope, fields = open_document(subject.document)
    _, others = open_document(rng.choice(corpus.subjects).document)
    bundle = list(fields["cabundle"])
    place = rng.randrange(len(bundle))
    match rng.randrange(8):
        case 0:
            fields["certificate"], what = others["certificate"], "certificate of another document"
        case 1:
            bundle, what = list(others["cabundle"]), "bundle of another document"
        case 2:
            bundle, fields["certificate"] = list(others["cabundle"]), others["certificate"]
            what = "bundle and certificate of another document"
        case 3:
            bundle[place], what = (
                others["cabundle"][place % len(others["cabundle"])],
                f"authority {place} of another",
            )
        case 4:
            del bundle[place]
            what = f"authority {place} dropped"
        case 5:
            bundle.insert(place, rng.choice((bundle[place], fields["certificate"], others["certificate"])))
            what = f"a certificate inserted at {place}"
        case 6:
            rng.shuffle(bundle)
            what = "bundle in another order"
        case _:
            bundle[place], fields["certificate"] = fields["certificate"], bundle[place]
            what = f"certificate and authority {place} exchanged"
    fields["cabundle"] = bundle
    return what, replace(envelope, payload=encode_cbor(fields)).to_bytes()


def signature_changed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Put another signature: another document's, degenerate numbers, other sizes and forms."""
    envelope = Sign1.from_bytes(subject.document)
    r, s = (int.from_bytes(envelope.signature[at : at + 48], "big") for at in (0, 48))
    top = (1 << 384) - 1
    numbers = {
        "r = 0": (0, s),
        "s = 0": (r, 0),
        "both 0": (0, 0),
        "r = n": (ORDER, s),
        "s = n": (r, ORDER),
        "r and s exchanged": (s, r),
        "r = n - r": (ORDER - r, s),
        "all ones": (top, top),
        "s + 1": (r, s + 1),
        "r + n": ((r + ORDER) & top, s),
        "s + n": (r, (s + ORDER) & top),
        "1, 1": (1, 1),
        "s = 2^384 - s": (r, top + 1 - s),
    }
    forms = {
        "of another document": Sign1.from_bytes(rng.choice(corpus.subjects).document).signature,
        "as DER": encode_dss_signature(r, s),
        "with leading zeros": b"\x00" + envelope.signature[:48] + b"\x00" + envelope.signature[48:],
        "twice": envelope.signature * 2,
        "its half": envelope.signature[:48],
        "empty": b"",
        "random": rng.randbytes(96),
    }
    name = rng.choice([*numbers, *forms])
    if name in numbers:
        r, s = numbers[name]
        forms[name] = (r & top).to_bytes(48, "big") + (s & top).to_bytes(48, "big")
    return f"signature {name}", replace(envelope, signature=forms[name]).to_bytes()


HEADERS = {
    "ES256": "a10126",
    "ES512": "a1013823",
    "a kid beside": "a201382204413100",
    "kid first": "a2044131013822",
    "long number": "a101390022",
    "long key": "a118013822",
    "long count": "b801013822",
    "indefinite": "bf013822ff",
    "empty": "",
    "empty map": "a0",
    "text": "a101654553333834",
    "duplicate": "a2013822013822",
    "trailing": "a101382200",
    "tagged": "a101c13822",
    "critical": "a2013822028101",
}
UNPROTECTED = {
    "a kid": "a1044131",
    "indefinite": "bfff",
    "long count": "b800",
    "two bytes": "b90000",
    "null": "f6",
    "an array": "80",
    "bytes": "40",
    "algorithm": "a1013822",
    "a tag": "d2a0",
    "deep": "a1008181818100",
    "a float": "a100f90000",
    "a map of 16": "b000",
}


def headers_changed(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Change the headers, of which only the protected one is signed."""
    envelope = Sign1.from_bytes(subject.document)
    protected, unprotected, what = encode_cbor(envelope.protected), b"\xa0", ""
    if rng.random() < 0.5:
        what = rng.choice(list(HEADERS))
        protected = encode_cbor(bytes.fromhex(HEADERS[what]))
    else:
        what = rng.choice(list(UNPROTECTED))
        unprotected = bytes.fromhex(UNPROTECTED[what])
    parts = (protected, unprotected, encode_cbor(envelope.payload), encode_cbor(envelope.signature))
    return f"header: {what}", b"\x84" + b"".join(parts)
