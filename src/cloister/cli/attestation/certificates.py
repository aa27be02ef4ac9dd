"""Certificates as people and programs read them, also those that break every rule."""

import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.cli.table import plain

AWS_ROOT: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
"""SHA-256 of the DER of AWS's Nitro Enclaves root, which AWS publishes."""
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TROUBLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises, early or late, about a certificate that it does not like."""
_USAGES: Final = (
    ("digital_signature", "digitalSignature"),
    ("content_commitment", "nonRepudiation"),
    ("key_encipherment", "keyEncipherment"),
    ("data_encipherment", "dataEncipherment"),
    ("key_agreement", "keyAgreement"),
    ("key_cert_sign", "keyCertSign"),
    ("crl_sign", "cRLSign"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """What a certificate says of itself; unreadable ones have a ``problem`` and a fingerprint alone."""

    fingerprint: str
    """SHA-256 of the DER, in hex."""
    size: int
    problem: str | None = None
    subject: str = ""
    issuer: str = ""
    common_name: str = "unreadable"
    serial: int = 0
    not_before: datetime = _NEVER
    not_after: datetime = _NEVER
    key: str = ""
    signature_algorithm: str = ""
    ca: bool | None = None
    path_length: int | None = None
    key_usage: tuple[str, ...] = ()

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Return everything, for programs."""
        known: dict[str, Any] = {"Fingerprint": self.fingerprint, "Size": self.size, "Problem": self.problem}
        if self.problem is not None:
            return known
        return {
            "Subject": self.subject,
            "Issuer": self.issuer,
            "Serial": f"{self.serial:x}",
            "NotBefore": self.not_before.isoformat(),
            "NotAfter": self.not_after.isoformat(),
            "Valid": self.not_before <= now.replace(microsecond=0) <= self.not_after,
            "Key": self.key,
            "SignatureAlgorithm": self.signature_algorithm,
            "CA": self.ca,
            "PathLength": self.path_length,
            "KeyUsage": list(self.key_usage),
            **known,
        }

    def lines(self, now: datetime) -> list[str]:
        """Return the lines for people: the name first, then what belongs under it."""
        known = "  (AWS's own root)" if self.fingerprint == AWS_ROOT else ""
        fingerprint = f"SHA-256 {self.fingerprint}{known}"
        if self.problem is not None:
            return [f"cannot be read: {self.problem} ({self.size} bytes)", fingerprint]
        kind = "not a CA" if not self.ca else "CA"
        if self.path_length is not None:
            kind += f", {self.path_length} more may follow"
        usage = ", ".join(self.key_usage) or "no key usage"
        return [
            self.common_name,
            f"subject {self.subject}",
            f"valid   {self.not_before:%Y-%m-%d %H:%M:%S} to {self.not_after:%Y-%m-%d %H:%M:%S} UTC, "
            + self._validity(now),
            f"serial  {self.serial:x}",
            f"key     {self.key}, signed with {self.signature_algorithm}; {kind}; {usage}",
            fingerprint,
        ]

    def _validity(self, now: datetime) -> str:
        moment = now.replace(microsecond=0)
        if moment < self.not_before:
            return f"begins in {span(self.not_before - moment)}"
        if moment > self.not_after:
            return f"EXPIRED {span(moment - self.not_after)} ago"
        return f"{span(moment - self.not_before)} old, {span(self.not_after - moment)} left"


def view_certificate(der: bytes) -> CertificateView:
    """Read a certificate as far as it can be read; never raises for what it holds."""
    fingerprint = hashlib.sha256(der).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of what is shown here anyway, as of odd serials
        return _view(der, fingerprint)


def _view(der: bytes, fingerprint: str) -> CertificateView:
    try:
        certificate = x509.load_der_x509_certificate(der)
        constraints, usage = _extensions(certificate)
        return CertificateView(
            fingerprint=fingerprint,
            size=len(der),
            subject=plain(certificate.subject.rfc4514_string()),
            issuer=plain(certificate.issuer.rfc4514_string()),
            common_name=common_name(certificate),
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            key=_key(certificate),
            signature_algorithm=plain(str(getattr(certificate.signature_algorithm_oid, "_name", "unknown"))),
            ca=None if constraints is None else constraints.ca,
            path_length=None if constraints is None else constraints.path_length,
            key_usage=() if usage is None else tuple(word for bit, word in _USAGES if getattr(usage, bit)),
        )
    except _TROUBLE as error:
        reason = plain(str(error).partition("\n")[0][:120]) or type(error).__name__
        return CertificateView(fingerprint=fingerprint, size=len(der), problem=reason)


def common_name(certificate: x509.Certificate) -> str:
    """Return the name that people call a certificate by, safe to print."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return plain(str(names[0].value) if names else certificate.subject.rfc4514_string())


def span(length: timedelta) -> str:
    """Say how long something is, in its two largest units."""
    seconds = int(length.total_seconds())
    if length < timedelta(minutes=1) and seconds:
        return f"{length.total_seconds():.3g} s"
    if seconds == 0:
        return f"{length / timedelta(milliseconds=1):.0f} ms"
    parts: list[str] = []
    for unit, size in (("y", 31_557_600), ("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size or parts:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def _extensions(
    certificate: x509.Certificate,
) -> tuple[x509.BasicConstraints | None, x509.KeyUsage | None]:
    constraints, usage = None, None
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            constraints = extension.value
        elif isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
    return constraints, usage


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except _TROUBLE:
        return "a key that cannot be read"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"{'P-384' if isinstance(key.curve, ec.SECP384R1) else key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey").strip("_")
