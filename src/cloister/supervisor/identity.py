"""An enclave's names: slot, module id, enclave id (nitro-tools 1.5, 5.4)."""

from dataclasses import dataclass


def make_slot(*, unix_ms: int, random: bytes) -> int:
    """Make a slot from the time in milliseconds and two random bytes: unique on this host."""
    return (unix_ms << 16) | int.from_bytes(random[:2], "big")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells an enclave from every other one."""

    instance_id: str
    slot: int

    @property
    def slot_hex(self) -> str:
        """As in the enclave id: not padded."""
        return f"{self.slot:x}"

    @property
    def enclave_id(self) -> str:
        """What nitro-cli prints."""
        return f"{self.instance_id}-enc{self.slot_hex}"

    @property
    def module_id(self) -> str:
        """What the security module says: the slot padded to 16 digits."""
        return f"{self.instance_id}-enc{self.slot:016x}"
