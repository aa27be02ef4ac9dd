"""``nitro-cli pcr``: the register that a file or a signing certificate makes. Spec: nitro-tools 1.3, 1.4."""

import argparse
import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from cloister.build import read_bounded
from cloister.cli.nitro.describe_eif import nitro_errors
from cloister.eif import load_signing_certificate
from cloister.measure import measure_bytes

HELP = "Return the PCR value of a given signing certificate or file."
_MAX_INPUT = 1 << 30
_MAX_PEM = 64 << 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's options, of which one must be given."""
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--signing-certificate", metavar="CERTIFICATE", type=Path)
    either.add_argument("--input", metavar="FILE", type=Path)


def run(args: argparse.Namespace) -> int:
    """Print ``PCR8`` for a certificate, ``PCR`` for a file's own bytes."""
    with nitro_errors("Failed to compute the PCR", "E57"):
        if args.input is not None:
            shown = {"PCR": measure_bytes(read_bounded(args.input, _MAX_INPUT)).hex()}
        else:
            certificate = load_signing_certificate(read_bounded(args.signing_certificate, _MAX_PEM))
            shown = {"PCR8": measure_bytes(certificate.public_bytes(Encoding.DER)).hex()}
    print(json.dumps(shown, indent=2))
    return 0
