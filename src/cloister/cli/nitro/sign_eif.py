"""``nitro-cli sign-eif``: sign an image, or sign it anew. Spec: nitro-tools 1.3, 1.4, 2.3."""

import json
import sys
from pathlib import Path

from cloister.build import sign_image
from cloister.cli.image import load_signer, terminable
from cloister.cli.image_progress import shown_progress
from cloister.cli.nitro.describe_eif import nitro_errors
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.grammar import Arguments, Option

SIGNING_OPTIONS = (
    Option(
        "signing-certificate",
        "Local path to developer's X509 signing certificate.",
        "signing-certificate",
        requires=("private-key",),
    ),
    Option(
        "private-key",
        "Local path to developer's Eliptic Curve private key, or a KMS key ARN. Here also a PKCS#11 URI.",
        "private-key",
        requires=("signing-certificate",),
    ),
)
OPTIONS = (Option("eif-path", "Path to the EIF to sign.", "eif-path"), *SIGNING_OPTIONS)
"""The path is looked for only when the command runs (E01), as AWS does."""


def run(args: Arguments) -> int:
    """Sign in place: PCR0 to 2 stay, PCR8 names the certificate. A failure leaves the file as it was."""
    if args.eif_path is None:
        raise NitroCliError(
            "E01", "Missing mandatory argument. User did not provide the `eif-path` argument."
        )
    with nitro_errors("Failed to sign EIF", "E60"), terminable():
        signer = load_signer(args.signing_certificate, args.private_key)
        if signer is None:
            raise NitroCliError(
                "E60", "EIF signing error. Both --signing-certificate and --private-key are missing."
            )
        with shown_progress() as progress:
            measurements = sign_image(Path(args.eif_path), signer, progress=progress)
    print("Enclave Image successfully signed.", file=sys.stderr)
    print(json.dumps({"Measurements": measurements.to_json()}, indent=2))
    return 0
