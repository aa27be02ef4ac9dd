"""The host's identity, ``host.json``: what its enclaves' certificates and documents say of it."""

import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cloister.errors import CloisterError
from cloister.nsm import DOCUMENT_MAPS
from cloister.pki import check_instance_id, check_region
from cloister.trust.files import (
    TrustDamagedError,
    TrustError,
    TrustMissingError,
    read,
    was_in_use,
    write,
)
from cloister.trust.keyed import name_of, read_keyed

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Host:
    """Who this host is."""

    region: str
    instance_id: str
    """What PCR4 is made of."""
    role_arn: str | None = None
    """What PCR3 is made of, if the host has a role."""
    document_map: str = DOCUMENT_MAPS[0]

    def check(self) -> None:
        """Refuse what certificates and registers cannot be made of; raise CloisterError."""
        check_region(self.region)
        check_instance_id(self.instance_id)
        if self.role_arn is not None:
            check_role_arn(self.role_arn)
        if self.document_map not in DOCUMENT_MAPS:
            raise TrustError(
                f"'{self.document_map}' is no form of a map: expected {' or '.join(DOCUMENT_MAPS)}"
            )


def check_role_arn(role_arn: str) -> None:
    """Refuse what does not look like an IAM role's ARN; raise TrustError."""
    if not _ROLE_ARN.fullmatch(role_arn):
        raise TrustError(f"'{role_arn}' is not a role ARN such as arn:aws:iam::123456789012:role/name")


def new_instance_id() -> str:
    """Make an instance id that nobody else has."""
    return f"i-{secrets.token_hex(9)[:17]}"


def read_host(directory: Path) -> Host | None:
    """Read the host's identity; None when there is none; raise TrustDamagedError for one that makes no sense.

    It was written whole: what makes no sense is not left by an interruption, and nobody replaces it unasked.
    """
    path = directory / "host.json"
    content = read(path)
    if content is None:
        return None
    try:
        members = json.loads(content)
        host = Host(
            members["region"],
            members["instance_id"],
            members["role_arn"],
            members.get("document_map", DOCUMENT_MAPS[0]),
        )
        host.check()
    except (ValueError, TypeError, KeyError, CloisterError) as error:
        remedy = f"restore it, or remove it and {_say_who(directory)}"
        raise TrustDamagedError(path, "this host's identity", remedy) from error
    return host


def known_host(directory: Path) -> Host:
    """Return the host's identity beside a root that is there; raise TrustMissingError, TrustDamagedError."""
    host = read_host(directory)
    if host is not None:
        return host
    if not was_in_use(directory):
        raise TrustMissingError(f"the root of trust in {directory} is half made: run 'cloister setup'")
    remedy = f"restore it, or {_say_who(directory)}"
    raise TrustDamagedError(directory / "host.json", "this host's identity", remedy)


def _say_who(directory: Path) -> str:
    last = read_keyed(directory / "instance.pem")
    hint = f"; instance.pem was issued to {name_of(last[0].certificate)}" if len(last) == 1 else ""
    return f"say who this host is with 'cloister pki init --instance-id ID --region REGION'{hint}"


def write_host(directory: Path, host: Host) -> None:
    """Put the host's identity in place; called under the lock."""
    write(directory / "host.json", (json.dumps(asdict(host), indent=2) + "\n").encode())
