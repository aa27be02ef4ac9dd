"""Numbers as nitro-cli reads them from its options: Rust's unsigned integers. Spec: nitro-tools 1.3, 1.9."""

import re
import sys
from typing import Final

from cloister.cli.nitro.errors import NitroCliError

U32_MAX: Final = 0xFFFF_FFFF
U64_MAX: Final = (1 << 64) - 1
RESERVED_CIDS: Final = (1, 2, 3, U32_MAX)
MAX_DIGITS: Final = 64
_SUFFIXES: Final = {"": 1, "M": 1, "G": 1 << 10, "T": 1 << 20}


def parse_unsigned(name: str, text: str, *, most: int) -> int:
    """Return a number of ASCII digits, a plus sign allowed; raises NitroCliError E03."""
    if re.fullmatch(rf"\+?[0-9]{{1,{MAX_DIGITS}}}", text, re.ASCII) is None or int(text) > most:
        raise invalid(name, text, f"expected a whole number from 0 to {most}")
    return int(text)


def parse_memory(text: str) -> int:
    """Return MiB; the suffixes are M, G and T in either case; raises NitroCliError E03."""
    match = re.fullmatch(rf"([0-9]{{1,{MAX_DIGITS}}})([MmGgTt]?)", text, re.ASCII)
    mib = int(match[1]) * _SUFFIXES[match[2].upper()] if match else 0
    if match is None or mib > U64_MAX:
        raise invalid("memory", text, "expected MiB, or a number with the suffix M, G or T")
    return mib


def check_cid(cid: int | None) -> int | None:
    """Return the CID to ask for, None for an automatic one; raises NitroCliError E03."""
    if cid == 0:
        print("The enclave CID will be auto-generated as the provided CID is 0", file=sys.stderr)
        return None
    if cid is not None and (cid in RESERVED_CIDS or cid > U32_MAX):
        reserved = ", ".join(map(str, RESERVED_CIDS))
        raise invalid(
            "enclave-cid", str(cid), f"{reserved} and numbers above {U32_MAX} cannot be an enclave's CID"
        )
    return cid


def invalid(name: str, text: str, expected: str) -> NitroCliError:
    """Return the error for an option's value: AWS's sentence, then ours."""
    return NitroCliError(
        "E03",
        f"Invalid argument provided. The parameter `{name}` is not a valid integer (`{text}`)"
        f"\n{expected[0].upper()}{expected[1:]}.",
        action=f"Parse {name}",
    )
