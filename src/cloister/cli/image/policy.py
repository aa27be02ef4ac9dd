"""``cloister image policy``: a statement for a KMS key policy that this image alone may use."""

import argparse
import json
from pathlib import Path
from typing import Final

from cloister.audit import RECIPIENT_ACTIONS, key_policy_statement
from cloister.build import measure_image
from cloister.cli.image_progress import shown_progress
from cloister.cli.options import FILES
from cloister.eif import SignatureError
from cloister.pcrs import IMAGE_PCRS, SIGNER_PCR

SUMMARY: Final = "print a KMS key-policy statement for an image or its signer"
DESCRIPTION: Final = """Print a statement for a KMS key policy: who may use the key, and in which image alone.

  cloister image policy hello.eif --principal arn:aws:iam::111122223333:role/enclave
  cloister image policy signed.eif --signer --principal arn:aws:iam::111122223333:role/enclave

PCR0, PCR1 and PCR2 together are one image; PCR0 alone leaves open where its sections end. With --signer the
statement names PCR8 instead: every image that was signed with this certificate, also a later one.
Add it to the Statement list of the key's policy, beside the one that lets an administrator manage the key."""
PLACEHOLDER: Final = "arn:aws:iam::111122223333:role/EnclaveParentRole"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="FILE", type=Path).complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument(
        "--principal",
        metavar="ARN",
        action="append",
        help=f"who may use the key; repeatable (default: {PLACEHOLDER}, to be replaced)",
    )
    parser.add_argument(
        "--action",
        choices=RECIPIENT_ACTIONS,
        metavar="ACTION",
        action="append",
        help=f"what they may do: {', '.join(RECIPIENT_ACTIONS)}; repeatable (default: kms:Decrypt)",
    )
    parser.add_argument("--signer", action="store_true", help="name the signer (PCR8) instead of the image")
    parser.add_argument("--sid", metavar="NAME", help="the statement's name")


def run(args: argparse.Namespace) -> int:
    """Measure the image and print the statement."""
    with shown_progress() as progress:
        image, measurements = measure_image(args.file, progress=progress)
    registers = {index: measurements.registers()[index] for index in IMAGE_PCRS}
    if args.signer:
        if image.signature is None or measurements.pcr8 is None:
            raise SignatureError(f"{args.file} is not signed: there is no PCR8 to name.")
        image.signature.verify(measurements.pcr0)
        registers = {SIGNER_PCR: measurements.pcr8}
    statement = key_policy_statement(
        registers,
        sid=args.sid or ("OnlyImagesOfThisSigner" if args.signer else "OnlyThisImage"),
        principals=args.principal or [PLACEHOLDER],
        actions=args.action or ["kms:Decrypt"],
    )
    print(json.dumps(statement, indent=2))
    return 0
