"""KMS keys: their value, their state, and what DescribeKey says of them.

States and texts follow the AWS KMS developer guide, "Key states of AWS KMS keys".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cloister.aws import Fault
from cloister.kms.policy import PolicyDocument
from cloister.kms.specs import ALGORITHM_MEMBERS, SPECS, SYMMETRIC


class KeyState(StrEnum):
    """Where a key is in its life."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"


@dataclass(frozen=True, slots=True)
class Material:
    """One generation of a key's secret bytes; ciphertexts name the generation."""

    generation: int
    material_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """A KMS key as the store holds it, secrets opened."""

    key_id: str
    arn: str
    account: str
    region: str
    spec: str
    usage: str
    origin: str
    description: str
    state: KeyState
    created: datetime
    deletion: datetime | None
    policy: PolicyDocument
    materials: Mapping[int, Material]
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    multi_region: bool = False

    @property
    def current(self) -> Material:
        """The material that encrypts: the latest."""
        return self.materials[max(self.materials)]

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What this key can be asked to do, by the API's names."""
        return SPECS[self.spec].algorithms[self.usage]

    def algorithm_members(self) -> dict[str, list[str]]:
        """Return the one member, named after the usage, in which the API lists a key's algorithms."""
        return {ALGORITHM_MEMBERS[self.usage]: list(self.algorithms)}

    def metadata(self) -> dict[str, Any]:
        """Return the KeyMetadata structure."""
        metadata: dict[str, Any] = {
            "AWSAccountId": self.account,
            "KeyId": self.key_id,
            "Arn": self.arn,
            "CreationDate": self.created.timestamp(),
            "Enabled": self.state is KeyState.ENABLED,
            "Description": self.description,
            "KeyUsage": self.usage,
            "KeyState": self.state.value,
            "Origin": self.origin,
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": self.spec,
            "KeySpec": self.spec,
            **self.algorithm_members(),
            "MultiRegion": self.multi_region,
        }
        if self.spec == SYMMETRIC:
            metadata["CurrentKeyMaterialId"] = self.current.material_id
        if self.deletion is not None:
            metadata["DeletionDate"] = self.deletion.timestamp()
        return metadata

    def require_usable(self) -> None:
        """Refuse cryptography with a key that is not enabled; raises Fault."""
        if self.state is KeyState.DISABLED:
            raise Fault("DisabledException", f"{self.arn} is disabled.")
        self.require_not_pending_deletion()

    def require_not_pending_deletion(self) -> None:
        """Refuse to touch a key that is about to go; raises Fault."""
        if self.state is KeyState.PENDING_DELETION:
            raise Fault("KMSInvalidStateException", f"{self.arn} is pending deletion.")

    def require_usage(self, usage: str, operation: str) -> None:
        """Refuse an operation the key was not made for; raises Fault."""
        if self.usage != usage:
            raise Fault(
                "InvalidKeyUsageException",
                f"{self.arn} key usage is {self.usage} which is not valid for {operation}.",
            )


def key_arn(region: str, account: str, key_id: str) -> str:
    """Return a key's ARN."""
    return f"arn:aws:kms:{region}:{account}:key/{key_id}"


def alias_arn(region: str, account: str, name: str) -> str:
    """Return an alias's ARN; ``name`` begins with ``alias/``."""
    return f"arn:aws:kms:{region}:{account}:{name}"
