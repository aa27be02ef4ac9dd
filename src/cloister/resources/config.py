"""What the administrator reserves for enclaves: ``allocator.yaml``, read line by line; pure.

Follows nitro-cli's allocator to its messages (nitro-tools 6.3): its file is YAML to look at, but only lines
of ``key: value`` after the first ``---`` count. Leaves out: a last line without
a newline gets lost.
"""

import re
from dataclasses import dataclass
from typing import Final

from cloister.errors import CloisterError

CONFIG: Final = "etc/nitro_enclaves/allocator.yaml"
"""Under the installation's prefix, ``/`` by default."""
MAX_CONFIG: Final = 1 << 16
KEYS: Final = ("memory_mib", "cpu_count", "cpu_pool")
MAX_DIGITS: Final = 12


class AllocatorError(CloisterError):
    """The reservation cannot be made; the text is what the allocator prints after ``Error: ``."""


class RuleError(AllocatorError):
    """The reservation breaks a rule for CPUs, which a relaxed pool may."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is to be reserved: either ``cpu_count`` or ``cpu_pool``."""

    memory_mib: int
    cpu_count: int | None = None
    cpu_pool: str | None = None
    """A list of CPU ids as the kernel writes them: ``2,3,6-9``."""

    @property
    def cpus_text(self) -> str:
        """How the success message names the CPUs."""
        return f"CPU pool: {self.cpu_pool}" if self.cpu_count is None else f"{self.cpu_count} CPUs"


def parse_config(text: str, path: str) -> Reservation:
    """Read the file's text, ``path`` being what messages call it; raises AllocatorError."""
    fields = dict.fromkeys(KEYS, "")
    begun = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line == "---":
            begun = True
            continue
        if not begun:
            continue
        match = re.match(r"[-_a-z0-9]+", line.partition(":")[0], re.IGNORECASE | re.ASCII)
        key = match[0] if match else ""
        if key not in fields:
            raise AllocatorError(f"Error in {path}:{number} - unexpected: {key[:80]}")
        value = re.sub(r'"?$', "", re.sub(r'\s+"?', "", line.rpartition(":")[2], count=1), count=1)
        if not value:
            raise AllocatorError(f"Error in {path}:{number} - missing value for {key}")
        fields[key] = value
    return _checked(fields)


def _checked(fields: dict[str, str]) -> Reservation:
    if not fields["memory_mib"]:
        raise AllocatorError("Config error: missing memory reservation (`memory_mib`).")
    if not fields["cpu_count"] and not fields["cpu_pool"]:
        raise AllocatorError("Config error: missing CPU reservation (either `cpu_count` or `cpu_pool`).")
    if fields["cpu_count"] and fields["cpu_pool"]:
        raise AllocatorError("Config error: `cpu_count` conflicts with `cpu_pool`.")
    count = _number(fields["cpu_count"], "CPU count value") if fields["cpu_count"] else None
    if count == 0:
        raise AllocatorError("Provided CPU count is not higher than 0.")
    memory = _number(fields["memory_mib"], "needed memory amount")
    if memory == 0:
        raise AllocatorError("The needed memory amount (0) is invalid.")
    return Reservation(memory, count, fields["cpu_pool"] or None)


def _number(text: str, name: str) -> int:
    if re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text.strip(), re.ASCII) is None:
        raise AllocatorError(f"The {name} ({text[:80]}) is invalid.")
    return int(text)
