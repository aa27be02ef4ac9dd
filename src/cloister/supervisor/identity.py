"""An enclave's names: slot, module id, enclave id (nitro-tools 1.5, 5.4)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Unique on this host: a slot is made of the time and 16 random bits."""

    instance_id: str
    slot: int

    @classmethod
    def make(cls, instance_id: str, *, unix_ms: int, random: bytes) -> "Identity":
        """Make an identity from the time in milliseconds and two random bytes."""
        return cls(instance_id, (unix_ms << 16) | int.from_bytes(random[:2], "big"))

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
