"""As much work as fits into a document: thousands of small things where few are expected."""

from random import Random

from cloister.cose import encode_cbor
from mutations.content_kinds import open_document
from mutations.corpus import Corpus, Subject
from mutations.der_tree import wrap

_SMALL = (b"\x00", b"\x80", b"\xa0", b"\xbf\xff", b"\x40", b"\x60", b"\xf6", b"\x81\x80", b"\x61a")


def bulk(rng: Random, corpus: Corpus, subject: Subject) -> tuple[str, bytes]:
    """Fill the document, a header, the payload, a field or a certificate with small values."""
    envelope, fields = open_document(subject.document)
    count, small = rng.choice((9, 33, 1000, 2500, 3900)), rng.choice(_SMALL)
    array = b"\x99" + count.to_bytes(2, "big") + small * count
    entries = b"".join(encode_cbor(key) + small for key in range(count))
    pairs = rng.choice((b"\xbf" + entries + b"\xff", b"\xb9" + count.to_bytes(2, "big") + entries))
    many = rng.choice((array, pairs))
    place = rng.choice(
        ("document", "unprotected header", "payload", "cabundle", "pcrs", "new field", "certificates")
    )
    parts = [encode_cbor(envelope.protected), b"\xa0", envelope.payload, encode_cbor(envelope.signature)]
    match place:
        case "document":
            return f"a document of {count} small values", many
        case "unprotected header":
            parts[1:3] = [pairs, b"\x40"]
        case "payload":
            parts[2] = many
        case "certificates":
            element = wrap(rng.choice((0x02, 0x06, 0x30, 0x04)), rng.choice((b"", b"\x01")))
            certificate = wrap(0x30, element * (1000 // len(element)))
            fields["cabundle"], fields["certificate"] = [certificate] * rng.choice((1, 8, 9)), certificate
            parts[2] = encode_cbor(fields)
        case _:
            name = "bulk" if place == "new field" else place
            rest = {key: value for key, value in fields.items() if key not in {name, "cabundle"}}
            parts[2] = b"\xbf" + encode_cbor(rest)[1:] + encode_cbor(name) + many + b"\xff"
    if place != "unprotected header":
        parts[2] = encode_cbor(parts[2])
    return f"{place}: {count} small values", b"\x84" + b"".join(parts)
