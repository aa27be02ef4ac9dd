"""CMS EnvelopedData: seal a secret to a recipient's RSA key, and open it again.

``seal`` writes the bytes of KMS's ``CiphertextForRecipient``: RFC 5652 section 6 in BER, indefinite lengths
outside and definite ones inside, one KeyTransRecipientInfo named by subjectKeyIdentifier, RSAES-OAEP with
SHA-256 (RFC 4055 section 4.1), AES-256-CBC, content in OCTET STRINGs of at most 1000 bytes.
``open_envelope`` reads that form and the older one with primitive content, with definite or indefinite
lengths. Nothing in this envelope authenticates the sender; see SECURITY.md.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from cloister.errors import CloisterError

KEY_SIZE = 32
IV_SIZE = 16
SEGMENT_SIZE = 1000
MAX_ENVELOPE = 6144  # CiphertextType, KMS service model
MAX_DEPTH = 12

_INTEGER, _OCTET_STRING, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_CONTEXT_0, _CONTEXT_0_CONSTRUCTED = 0x80, 0xA0
_CONSTRUCTED = 0x20
_END = b"\x00\x00"

_ENVELOPED_DATA = bytes.fromhex("2A864886F70D010703")
_DATA = bytes.fromhex("2A864886F70D010701")
_AES_256_CBC = bytes.fromhex("60864801650304012A")
_RSAES_OAEP = bytes.fromhex("2A864886F70D010107")
_MGF1 = bytes.fromhex("2A864886F70D010108")
_SHA_256 = bytes.fromhex("608648016503040201")


class EnvelopeError(CloisterError):
    """The bytes are not an envelope of this shape, or it does not open with this key."""


def seal(
    plaintext: bytes,
    recipient: RSAPublicKey,
    *,
    spki: bytes,
    key: bytes,
    iv: bytes,
    constructed: bool = True,
) -> bytes:
    """Return the envelope, as KMS writes it, of a secret for the holder of one RSA key.

    ``spki`` is the SubjectPublicKeyInfo as the recipient gave it (its SHA-256 names the recipient), ``key``
    32 and ``iv`` 16 fresh random bytes. Without ``constructed`` the content is primitive, as KMS wrote it
    until 2022.
    """
    if len(key) != KEY_SIZE or len(iv) != IV_SIZE:
        raise EnvelopeError(
            f"a content key of {len(key)} and an IV of {len(iv)} bytes were given; 32 and 16 are needed"
        )
    padder, cipher = PKCS7(128).padder(), Cipher(AES(key), CBC(iv)).encryptor()
    ciphertext = cipher.update(padder.update(plaintext) + padder.finalize()) + cipher.finalize()
    version = _tlv(_INTEGER, b"\x02")
    recipient_info = _tlv(
        _SEQUENCE,
        version
        + _tlv(_CONTEXT_0, hashlib.sha256(spki).digest())
        + _OAEP_ALGORITHM
        + _tlv(_OCTET_STRING, recipient.encrypt(key, _OAEP_PADDING)),
    )
    content_algorithm = _tlv(_SEQUENCE, _tlv(_OID, _AES_256_CBC) + _tlv(_OCTET_STRING, iv))
    return _indefinite(
        _SEQUENCE,
        _tlv(_OID, _ENVELOPED_DATA),
        _indefinite(
            _CONTEXT_0_CONSTRUCTED,
            _indefinite(
                _SEQUENCE,
                version,
                _tlv(_SET, recipient_info),
                _indefinite(
                    _SEQUENCE,
                    _tlv(_OID, _DATA),
                    content_algorithm,
                    _content(ciphertext, constructed=constructed),
                ),
            ),
        ),
    )


def open_envelope(blob: bytes, private_key: RSAPrivateKey) -> bytes:
    """Return the secret inside; raises EnvelopeError, with one text for every failed decryption."""
    envelope = _Envelope.from_bytes(blob)
    failure = EnvelopeError(
        "the envelope does not open with this key: it was sealed to another one, or was altered"
    )
    try:
        key = private_key.decrypt(envelope.encrypted_key, _OAEP_PADDING)
    except ValueError as error:
        raise failure from error
    if len(key) != KEY_SIZE:
        raise failure
    cipher, unpadder = Cipher(AES(key), CBC(envelope.iv)).decryptor(), PKCS7(128).unpadder()
    padded = cipher.update(envelope.ciphertext) + cipher.finalize()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise failure from error


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The variable parts of an EnvelopedData of the one shape KMS writes."""

    encrypted_key: bytes
    iv: bytes
    ciphertext: bytes

    @classmethod
    def from_bytes(cls, blob: bytes) -> "_Envelope":
        """Parse BER; raises EnvelopeError."""
        if not 0 < len(blob) <= MAX_ENVELOPE:
            raise EnvelopeError(f"the envelope has {len(blob)} bytes; 1 to {MAX_ENVELOPE} were expected")
        root, end = _parse(blob, 0, len(blob), depth=0)
        if end != len(blob):
            raise EnvelopeError(f"{len(blob) - end} bytes follow the envelope")
        content_type, wrapper = root.members(_SEQUENCE, _OID, _CONTEXT_0_CONSTRUCTED)
        _expect(content_type.content == _ENVELOPED_DATA, "its content type is not envelopedData")
        _expect(len(wrapper.children) == 1, "it does not hold exactly one EnvelopedData")
        version, recipients, info = wrapper.children[0].members(_SEQUENCE, _INTEGER, _SET, _SEQUENCE)
        _expect(version.content == b"\x02", "its version is not 2")
        _expect(len(recipients.children) == 1, f"it has {len(recipients.children)} recipients, not one")
        recipient = recipients.children[0].members(_SEQUENCE, _INTEGER, _CONTEXT_0, _SEQUENCE, _OCTET_STRING)
        _expect(recipient[0].content == b"\x02", "its recipient is not named by subjectKeyIdentifier")
        _check_oaep(recipient[2])
        _expect(len(info.children) == 3, "its content info does not have three members")
        data_type, algorithm, content = info.children
        _expect(data_type.content == _DATA, "its inner content type is not data")
        cipher, iv = algorithm.members(_SEQUENCE, _OID, _OCTET_STRING)
        _expect(cipher.content == _AES_256_CBC, "its content cipher is not AES-256-CBC")
        _expect(len(iv.content) == IV_SIZE, f"its IV has {len(iv.content)} bytes, not 16")
        _expect(content.tag in (_CONTEXT_0, _CONTEXT_0_CONSTRUCTED), "its content is not tagged [0]")
        ciphertext = b"".join(content.segments())
        _expect(
            len(ciphertext) > 0 and len(ciphertext) % IV_SIZE == 0,
            "its ciphertext is not in whole AES blocks",
        )
        return cls(encrypted_key=recipient[3].content, iv=iv.content, ciphertext=ciphertext)


def _check_oaep(algorithm: "_Node") -> None:
    """Insist on RSAES-OAEP with SHA-256 for both hash and MGF1 and an empty label (RFC 4055 section 4.1)."""
    name, parameters = algorithm.members(_SEQUENCE, _OID, _SEQUENCE)
    _expect(name.content == _RSAES_OAEP, "its key algorithm is not RSAES-OAEP")
    hash_wrapper, mask_wrapper = parameters.members(_SEQUENCE, _CONTEXT_0_CONSTRUCTED, 0xA1)
    _expect(
        len(hash_wrapper.children) == 1 and len(mask_wrapper.children) == 1,
        "its OAEP parameters are malformed",
    )
    _expect(_is_sha_256(hash_wrapper.children[0]), "its OAEP hash is not SHA-256")
    mask, mask_hash = mask_wrapper.children[0].members(_SEQUENCE, _OID, _SEQUENCE)
    _expect(mask.content == _MGF1 and _is_sha_256(mask_hash), "its OAEP mask is not MGF1 with SHA-256")


def _is_sha_256(algorithm: "_Node") -> bool:
    """Tell whether an AlgorithmIdentifier is SHA-256, with parameters NULL or absent."""
    names = algorithm.children
    return (
        bool(names)
        and names[0].content == _SHA_256
        and all(n.tag == 0x05 and not n.content for n in names[1:])
    )


def _expect(condition: bool, complaint: str) -> None:
    if not condition:
        raise EnvelopeError(f"the envelope is not one that KMS writes: {complaint}")


@dataclass(frozen=True, slots=True)
class _Node:
    """One BER value: its identifier octet, and either its content or its children."""

    tag: int
    content: bytes
    children: tuple["_Node", ...]

    def members(self, tag: int, *tags: int) -> tuple["_Node", ...]:
        """Return the children when this value and they have exactly these tags."""
        found = tuple(child.tag for child in self.children)
        _expect(self.tag == tag and found == tags, f"tags {found} stand where {tags} were expected")
        return self.children

    def segments(self) -> Iterator[bytes]:
        """Yield the pieces of a string, primitive or constructed of OCTET STRINGs."""
        if not self.tag & _CONSTRUCTED:
            yield self.content
        for child in self.children:
            _expect(
                child.tag & ~_CONSTRUCTED == _OCTET_STRING, "a piece of its content is not an OCTET STRING"
            )
            yield from child.segments()


def _parse(blob: bytes, start: int, limit: int, *, depth: int) -> tuple[_Node, int]:
    """Read one BER value before ``limit``; return it and where it ends."""
    _expect(depth <= MAX_DEPTH, f"it is nested deeper than {MAX_DEPTH}")
    _expect(start + 2 <= limit, "it ends early")
    tag, first = blob[start], blob[start + 1]
    _expect(tag & 0x1F != 0x1F, "it has a multi-byte tag")
    position = start + 2
    if first == 0x80:
        _expect(bool(tag & _CONSTRUCTED), "a primitive value has an indefinite length")
        children = []
        while blob[position : position + 2] != _END:
            child, position = _parse(blob, position, limit, depth=depth + 1)
            children.append(child)
        _expect(position + 2 <= limit, "it ends early")
        return _Node(tag, b"", tuple(children)), position + 2
    length = first
    if first & 0x80:
        size = first & 0x7F
        _expect(size <= 2 and position + size <= limit, "a length is longer than the envelope")
        length = int.from_bytes(blob[position : position + size])
        position += size
    end = position + length
    _expect(end <= limit, "a length is longer than what follows")
    if not tag & _CONSTRUCTED:
        return _Node(tag, blob[position:end], ()), end
    children = []
    while position < end:
        child, position = _parse(blob, position, end, depth=depth + 1)
        children.append(child)
    return _Node(tag, b"", tuple(children)), end


def _tlv(tag: int, content: bytes) -> bytes:
    """Encode one value with a definite length (X.690 8.1.3.3 to 8.1.3.5)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _indefinite(tag: int, *members: bytes) -> bytes:
    """Encode one constructed value with an indefinite length (X.690 8.1.3.6)."""
    return bytes((tag, 0x80)) + b"".join(members) + _END


def _content(ciphertext: bytes, *, constructed: bool) -> bytes:
    if not constructed:
        return _tlv(_CONTEXT_0, ciphertext)
    pieces = (ciphertext[i : i + SEGMENT_SIZE] for i in range(0, len(ciphertext), SEGMENT_SIZE))
    return _indefinite(_CONTEXT_0_CONSTRUCTED, *(_tlv(_OCTET_STRING, piece) for piece in pieces))


_SHA_256_WITH_NULL = _tlv(_SEQUENCE, _tlv(_OID, _SHA_256) + b"\x05\x00")
_OAEP_ALGORITHM = _tlv(
    _SEQUENCE,
    _tlv(_OID, _RSAES_OAEP)
    + _tlv(
        _SEQUENCE,
        _tlv(_CONTEXT_0_CONSTRUCTED, _SHA_256_WITH_NULL)
        + _tlv(0xA1, _tlv(_SEQUENCE, _tlv(_OID, _MGF1) + _SHA_256_WITH_NULL)),
    ),
)
_OAEP_PADDING = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
