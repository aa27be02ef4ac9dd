"""``nitro-cli describe-eif``: what an image holds, in AWS's JSON. Spec: nitro-tools 1.3, 1.4, 2.3."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from cloister.build import BuildError, FileError, measure_image
from cloister.cli.image_progress import shown_progress
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.eif import EifError, Image, ImageMetadata, PayloadMismatchError, SignatureError
from cloister.measure import Measurements

_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905 - reads as it prints
_TEXTS: Final = {
    "E35": "Failed to get signature payload.",
    "E48": "EIF building error.",
    "E57": "Hasher error.",
    "E60": "EIF signing error.",
}
_ALGORITHMS: Final = {
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.3.101.112": "ED25519",
}
"""OpenSSL's names (objects.txt) of the algorithms a certificate may be signed with."""
_ATTRIBUTES: Final = {
    "0.9.2342.19200300.100.1.1": "userId",
    "0.9.2342.19200300.100.1.25": "domainComponent",
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.9": "streetAddress",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
}
"""OpenSSL's long names of a name's attributes, as AWS prints them (tried with image-format 0.8.1)."""


OPTIONS = (Option("eif-path", "Path to the EIF to describe.", "eif-path", required=True),)


def run(args: Arguments) -> int:
    """Print the description; a damaged image is described as far as it can be, and then refused with E35."""
    with nitro_errors("Failed to describe EIF", "E35"):
        with shown_progress() as progress:
            image, measurements = measure_image(
                Path(args.eif_path), check_crc=False, check_signature_size=False, progress=progress
            )
        print(json.dumps(describe(image, measurements), indent=2))
    if image.stale_signature_size is not None:
        print(
            f"The header says the signature has {image.stale_signature_size} bytes, but it has "
            f"{len(image.sections[-1].payload)}: nitro-cli leaves that when it signs anew. "
            "No enclave starts from this file here until it is signed with this sign-eif.",
            file=sys.stderr,
        )
    if not image.crc_ok:
        raise NitroCliError(
            "E35", "EIF parsing error. The file's checksum is wrong: it was damaged or changed."
        )
    return 0


def describe(image: Image, measurements: Measurements) -> dict[str, Any]:
    """Return AWS's object; raises SignatureError when a signature is not merely for another image."""
    shown: dict[str, Any] = {
        "EifVersion": 4,
        "Measurements": measurements.to_json(),
        "IsSigned": image.signature is not None,
    }
    if image.signature is not None:
        shown["SigningCertificate"] = _certificate(image.signature.certificate)
    shown["CheckCRC"] = image.crc_ok
    if image.signature is not None:
        try:
            image.signature.verify(measurements.pcr0)
            shown["SignatureCheck"] = True
        except PayloadMismatchError:
            shown["SignatureCheck"] = False
    if image.metadata is not None:
        shown["ImageName"] = image.metadata.image_name
        shown["ImageVersion"] = image.metadata.image_version
        shown["Metadata"] = _metadata(image.metadata)
    return shown


@contextmanager
def nitro_errors(action: str, code: str) -> Iterator[None]:
    """Translate errors to nitro-cli's: E19 for files, E35 for images, ``code`` for the rest."""
    try:
        yield
    except FileError as error:
        text = f"File operation failure. {error}\nFile: '{error.path}', failing operation: 'Open'."
        raise NitroCliError("E19", text, action=action) from error
    except SignatureError as error:
        raise NitroCliError(code, f"{_TEXTS[code]} {error}", action=action) from error
    except EifError as error:
        raise NitroCliError("E35", f"EIF parsing error. {error}", action=action) from error
    except BuildError as error:
        raise NitroCliError(code, f"{_TEXTS[code]} {error}", action=action) from error


def _metadata(metadata: ImageMetadata) -> dict[str, Any]:
    """Return AWS's keys with the custom ones beside them, which never replace them."""
    own = {
        "BuildTime": metadata.build.build_time,
        "BuildTool": metadata.build.build_tool,
        "BuildToolVersion": metadata.build.build_tool_version,
        "OperatingSystem": metadata.build.operating_system,
        "KernelVersion": metadata.build.kernel_version,
        "DockerInfo": metadata.docker_info,
    }
    custom = metadata.custom if isinstance(metadata.custom, dict) else {}
    return own | {key: value for key, value in custom.items() if key not in own}


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    oid = certificate.signature_algorithm_oid.dotted_string
    return {
        "IssuerName": {
            name: str(value)
            for name, value in sorted(  # of several with one name the last is shown, as by AWS
                ((_long_name(attribute), attribute.value) for attribute in certificate.issuer),
                key=lambda item: item[0],
            )
        },
        "Algorithm": _ALGORITHMS.get(oid, oid),
        "NotBefore": _openssl_time(certificate.not_valid_before_utc),
        "NotAfter": _openssl_time(certificate.not_valid_after_utc),
        "Signature": certificate.signature.hex(":").upper(),
    }


def _long_name(attribute: x509.NameAttribute[Any]) -> str:
    oid = attribute.oid.dotted_string
    return _ATTRIBUTES.get(oid, oid)


def _openssl_time(moment: datetime) -> str:
    """Render as ASN1_TIME_print does, whatever the locale."""
    return f"{_MONTHS[moment.month - 1]} {moment.day:2d} {moment:%H:%M:%S} {moment.year} GMT"
