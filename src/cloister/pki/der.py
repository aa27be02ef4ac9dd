"""A certificate's parts as raw DER, read strictly before any library interprets them.

ITU-T X.690 (DER) and RFC 5280 section 4.1, version 3 alone and without unique identifiers: what the genuine
profile has. Names stay bytes, so that comparing them needs no opinion about their text.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

_SEQUENCE, _INTEGER, _BIT_STRING, _OCTET_STRING = 0x30, 0x02, 0x03, 0x04
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_VERSION_3 = b"\x02\x01\x02"
_TBS_TAGS = (_VERSION, _INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE, _EXTENSIONS)
_MAX_SERIAL = 20  # bytes of the number itself (RFC 5280, section 4.1.2.2)


class DerError(ValueError):
    """The bytes are not a certificate in DER of the kind we read."""


Element = tuple[int, bytes, bytes]
"""One tagged value: its tag, its content, and the whole of it; a plain tuple, for a chain has hundreds."""


@dataclass(frozen=True, slots=True)
class CertificateParts:
    """What the checks of a chain compare, as it stands in the certificate."""

    signed: bytes
    """The TBSCertificate, over which the signature is."""
    signature: bytes
    serial: int
    inner_algorithm: bytes
    outer_algorithm: bytes
    issuer: bytes
    begins: datetime
    """The first second of its life, notBefore (UTC)."""
    ends: datetime
    """The last second of its life, notAfter (UTC)."""
    subject: bytes
    key: bytes
    """SubjectPublicKeyInfo."""
    extensions: dict[bytes, tuple[bool, bytes]]
    """By object identifier (its DER content): whether critical, and the value."""

    @classmethod
    def from_bytes(cls, der: bytes) -> Self:
        """Read a certificate; raise DerError for anything that is not one complete version 3 certificate."""
        ((_, certificate, _),) = _expect(der, _SEQUENCE)
        signed, algorithm, signature = _expect(certificate, _SEQUENCE, _SEQUENCE, _BIT_STRING)
        if signature[1][:1] != b"\x00":
            raise DerError("its signature is not a whole number of bytes")
        fields = _elements(signed[1])
        if tuple([tag for tag, _, _ in fields]) not in (_TBS_TAGS, _TBS_TAGS[:-1]):
            raise DerError("its fields are not those of a version 3 certificate")
        version, serial, inner, issuer, validity, subject, key = fields[:7]
        if version[1] != _VERSION_3:
            raise DerError("it is not a version 3 certificate")
        if not (issuer[1] and subject[1]):
            raise DerError("its issuer or its subject has no name")
        begins, ends = _validity(validity[1])
        return cls(
            signed=signed[2],
            signature=signature[1][1:],
            serial=_serial(serial[1]),
            inner_algorithm=inner[2],
            outer_algorithm=algorithm[2],
            issuer=issuer[2],
            begins=begins,
            ends=ends,
            subject=subject[2],
            key=key[2],
            extensions=_extensions(fields[7][1]) if len(fields) > 7 else {},
        )


def _elements(data: bytes) -> list[Element]:
    """Split bytes into the elements that fill them."""
    elements = []
    position, limit = 0, len(data)
    while position < limit:
        tag, start = data[position], position + 2
        if tag & 0x1F == 0x1F or start > limit:
            raise DerError("a tag is too large or has no length")
        size = data[start - 1]
        if size >= 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[start : start + count], "big")
            start += count
            if not 1 <= count <= 2 or size < 0x80 or size >> (8 * (count - 1)) == 0:
                raise DerError("a length is not in its shortest form")
        end = start + size
        if end > limit:
            raise DerError("an element goes beyond its container")
        elements.append((tag, data[start:end], data[position:end]))
        position = end
    return elements


def _expect(data: bytes, *tags: int) -> list[Element]:
    elements = _elements(data)
    if tuple([tag for tag, _, _ in elements]) != tags:
        raise DerError("its structure is not that of a certificate")
    return elements


def _serial(content: bytes) -> int:
    """Read the serial number: a positive integer in its shortest form (RFC 5280, section 4.1.2.2)."""
    padded = content[:1] == b"\x00" and content[1:2] < b"\x80"
    if not content or content[0] >= 0x80 or padded or len(content.lstrip(b"\x00")) > _MAX_SERIAL:
        raise DerError("its serial number is not positive, not in its shortest form, or over 20 bytes")
    return int.from_bytes(content, "big")


def _validity(content: bytes) -> tuple[datetime, datetime]:
    times = _elements(content)
    if len(times) != 2:
        raise DerError("its validity is not two times")
    return _time(*times[0]), _time(*times[1])


def _time(tag: int, content: bytes, _: bytes) -> datetime:
    """Read a time in the one form that its year has (RFC 5280, section 4.1.2.5); raise DerError."""
    if not (content[:-1].isdigit() and content[-1:] == b"Z"):
        raise DerError("a time of its validity is not digits and a Z")
    if tag == _UTC_TIME and len(content) == 13:
        digits = (b"20" if content < b"50" else b"19") + content
    elif tag == _GENERALIZED_TIME and len(content) == 15 and content >= b"2050":
        digits = content
    else:
        raise DerError("a time of its validity is not UTCTime up to 2049 or GeneralizedTime from 2050")
    try:
        return datetime(
            int(digits[:4]),
            int(digits[4:6]),
            int(digits[6:8]),
            int(digits[8:10]),
            int(digits[10:12]),
            int(digits[12:14]),
            tzinfo=UTC,
        )
    except ValueError as error:
        raise DerError("a time of its validity is not on any calendar or clock") from error


def _extensions(content: bytes) -> dict[bytes, tuple[bool, bytes]]:
    ((_, sequence, _),) = _expect(content, _SEQUENCE)
    extensions: dict[bytes, tuple[bool, bytes]] = {}
    for tag, extension, _ in _elements(sequence):
        match _elements(extension) if tag == _SEQUENCE else []:
            case [(6, oid, _), (4, value, _)]:
                critical = False
            case [(6, oid, _), (1, b"\xff", _), (4, value, _)]:
                critical = True
            case _:
                raise DerError("an extension is malformed")
        if oid in extensions:
            raise DerError("an extension stands there twice")
        extensions[oid] = (critical, value)
    return extensions


@dataclass(frozen=True, slots=True)
class BasicConstraints:
    """Whether a certificate may issue others, and how many authorities may follow (RFC 5280, 4.2.1.9)."""

    ca: bool
    path_length: int | None

    @classmethod
    def from_bytes(cls, value: bytes) -> Self:
        """Read the extension's value; raise DerError."""
        ((_, sequence, _),) = _expect(value, _SEQUENCE)
        match _elements(sequence):
            case []:
                return cls(ca=False, path_length=None)
            case [(1, b"\xff", _)]:
                return cls(ca=True, path_length=None)
            case [(1, b"\xff", _), (2, number, _)]:
                if len(number) == 1 and number[0] < 0x80:
                    return cls(ca=True, path_length=number[0])
        raise DerError("its basicConstraints extension is malformed")


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What a certificate's key may do, as far as a chain is concerned (RFC 5280, 4.2.1.3)."""

    digital_signature: bool
    key_cert_sign: bool

    @classmethod
    def from_bytes(cls, value: bytes) -> Self:
        """Read the extension's value; raise DerError."""
        ((_, bits, _),) = _expect(value, _BIT_STRING)
        unused, flags = bits[:1], bits[1:]
        if (
            not 1 <= len(flags) <= 2
            or unused > b"\x07"
            or flags[-1] & -flags[-1] != 1 << unused[0]  # DER ends the list with its last bit that is set
        ):
            raise DerError("its keyUsage extension is malformed")
        return cls(digital_signature=bool(flags[0] & 0x80), key_cert_sign=bool(flags[0] & 0x04))


def key_identifier(value: bytes, *, of_issuer: bool) -> bytes:
    """Read a subject's or, in its plain form, an issuer's key identifier; raise DerError (4.2.1.1 and 2)."""
    if not of_issuer:
        return _expect(value, _OCTET_STRING)[0][1]
    ((_, sequence, _),) = _expect(value, _SEQUENCE)
    return _expect(sequence, 0x80)[0][1]
