"""Signatures with a key's current material: ECDSA (FIPS 186-5) over a digest, in DER as KMS has them."""

from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from cloister.aws import Fault
from cloister.kms.call import Call, signing_conditions
from cloister.kms.keys import Key
from cloister.kms.outcome import check_algorithm
from cloister.kms.specs import SIGN_VERIFY

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "ECDSA_SHA_256": hashes.SHA256(),
    "ECDSA_SHA_384": hashes.SHA384(),
    "ECDSA_SHA_512": hashes.SHA512(),
}


def permitted_key(call: Call, members: dict[str, Any], name: str) -> Key:
    """Return the key of a Sign or Verify once policy, state, usage and algorithm allow it; raises Fault."""
    key = call.find_key(members["KeyId"])
    call.authorise(f"kms:{name}", key, conditions=signing_conditions(members))
    key.require_usable()
    key.require_usage(SIGN_VERIFY, name)
    check_algorithm(key, members["SigningAlgorithm"])
    return key


def digest_of(members: dict[str, Any]) -> bytes:
    """Return the digest that a request's Message is, or has; raises Fault ValidationException."""
    algorithm, message = members["SigningAlgorithm"], members["Message"]
    kind = members.get("MessageType", "RAW")
    if kind == "RAW":
        context = hashes.Hash(_HASHES[algorithm])
        context.update(message)
        return context.finalize()
    if kind != "DIGEST":
        raise Fault("ValidationException", f"MessageType {kind} is not compatible with {algorithm}.")
    if len(message) != _HASHES[algorithm].digest_size:
        raise Fault("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
    digest: bytes = message
    return digest


def sign_digest(key: Key, algorithm: str, digest: bytes) -> bytes:
    """Return the signature over a digest."""
    return _private_key(key).sign(digest, ec.ECDSA(Prehashed(_HASHES[algorithm])))


def verify_digest(key: Key, algorithm: str, digest: bytes, signature: bytes) -> None:
    """Check a signature over a digest; raises Fault KMSInvalidSignatureException, as AWS without text."""
    try:
        public_key = _private_key(key).public_key()
        public_key.verify(signature, digest, ec.ECDSA(Prehashed(_HASHES[algorithm])))
    except InvalidSignature:
        raise Fault("KMSInvalidSignatureException") from None


def public_key_info(key: Key) -> bytes:
    """Return the public key as SubjectPublicKeyInfo (RFC 5280), in DER."""
    return _private_key(key).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_key(key: Key) -> ec.EllipticCurvePrivateKey:
    private_key = load_der_private_key(key.current.secret, password=None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)  # the only ones that SPECS makes
    return private_key
