"""``nitro-cli pcr``: the register that a file or a signing certificate makes. Spec: nitro-tools 1.3, 1.4."""

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from cloister.build import open_region, read_bounded
from cloister.cli.nitro.describe_eif import nitro_errors
from cloister.cli.nitro.grammar import Arguments, Option
from cloister.eif import load_signing_certificate
from cloister.pcrs import ZERO_PCR, extend, measure_bytes

_MAX_PEM = 64 << 10


OPTIONS = (
    Option(
        "signing-certificate",
        "Takes the path to the '.pem' signing certificate and returns PCR8. Can be used to identify the "
        "certificate used to sign an EIF",
        "signing-certificate",
        unless=("input",),
        conflicts=("input",),
    ),
    Option(
        "input",
        "Given a path to a file, returns the PCR hash of the bytes it contains",
        "input",
        unless=("signing-certificate",),
        conflicts=("signing-certificate",),
    ),
)


def run(args: Arguments) -> int:
    """Print ``PCR8`` for a certificate, ``PCR`` for a file's own bytes."""
    with nitro_errors("Failed to compute the PCR", "E57"):
        if args.input is not None:
            shown = {"PCR": _measure_file(Path(args.input)).hex()}
        else:
            certificate = load_signing_certificate(read_bounded(Path(args.signing_certificate), _MAX_PEM))
            shown = {"PCR8": measure_bytes(certificate.public_bytes(Encoding.DER)).hex()}
    print(json.dumps(shown, indent=2))
    return 0


def _measure_file(path: Path) -> bytes:
    """Return the register of a file of any size; raises FileError, or BuildError when it is cut short."""
    file, region = open_region(path)
    digest = hashlib.sha384()
    with file:
        for chunk in region.chunks():
            digest.update(chunk)
    return extend(ZERO_PCR, digest.digest())
