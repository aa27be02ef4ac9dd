"""Write the corpus: documents, roots, manifest and birth certificate, the same bytes every time.

    python -m corpus.attestation.generate --date 2026-11-25 [DIRECTORY]

Everything follows from one seed, fixed times and deterministic signatures (RFC 6979);
the date of birth is an argument.
"""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cryptography

from corpus.attestation.generator.cases import entry
from corpus.attestation.generator.certificates import to_pem
from corpus.attestation.generator.collection import every_case
from corpus.attestation.generator.draft import Draft
from corpus.attestation.generator.keys import SEED

HERE = Path(__file__).resolve().parent
FORMAT = 1
LICENSE = "Apache-2.0"


def files() -> dict[str, bytes]:
    """Return the corpus but its birth certificate: paths and contents."""
    plain = Draft("plain").root()
    made: dict[str, bytes] = {"roots/root.pem": to_pem(plain).encode()}
    cases: list[dict[str, Any]] = []
    for case in every_case():
        draft = case.draft()
        document, root = draft.build(), draft.root()
        roots = "roots/root.pem" if root == plain else f"roots/{case.id}.pem"
        described = entry(case, draft, hashlib.sha256(document).hexdigest(), roots)
        made[described["file"]] = document
        made[roots] = to_pem(root).encode()
        cases.append(described)
    manifest = {"format": FORMAT, "license": LICENSE, "cases": cases}
    made["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    return made


def digest_of(made: dict[str, bytes]) -> str:
    """Return the digest of all files: SHA-256 over the lines that `sha256sum` prints, sorted by path."""
    lines = (f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in sorted(made.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def birth_certificate(made: dict[str, bytes], date: str) -> bytes:
    """Say what made the corpus, from what, and what came out."""
    cases = json.loads(made["manifest.json"])["cases"]
    born = {
        "script": "python -m corpus.attestation.generate",
        "seed": SEED,
        "date": date,
        "cryptography": cryptography.__version__,
        "documents": len(cases),
        "refused": sum(case["verdict"] == "refuse" for case in cases),
        "accepted": sum(case["verdict"] == "accept" for case in cases),
        "digest": digest_of(made),
        "license": LICENSE,
    }
    return (json.dumps(born, indent=1) + "\n").encode()


def write(directory: Path, date: str) -> None:
    """Write the corpus into a directory, in the place of what the last run wrote."""
    made = files()
    made["birth.json"] = birth_certificate(made, date)
    for name in ("documents", "roots"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for path, data in made.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)


def main(argv: list[str]) -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--date", required=True, help="the day of birth, as in 2026-11-25")
    parser.add_argument(
        "directory", nargs="?", type=Path, default=HERE, help="where to write (beside this file)"
    )
    options = parser.parse_args(argv)
    write(options.directory, options.date)


if __name__ == "__main__":
    main(sys.argv[1:])
