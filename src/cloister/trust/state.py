"""This host's root of trust on disk: made once, renewed as it runs out, asked for each enclave's credentials.

Follows ``kms-and-attestation.md`` section 3.3 for the chain and ``DESIGN.md`` section 4 for its place. Every
file is written whole or not at all and each key lies in one file with its certificate, so that a crash leaves
nothing torn: what is missing or unusable is issued again, except the root once its certificate is out.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.nsm import DOCUMENT_MAPS, Credentials
from cloister.pki import issue_leaf
from cloister.trust.files import TrustError, locked, reporting
from cloister.trust.homes import InFile, make_root
from cloister.trust.host import Host, known_host, read_host, write_host
from cloister.trust.incoming import region_of
from cloister.trust.keyed import read_keyed
from cloister.trust.lifecycle import establish
from cloister.trust.renewal import new_key, renew, root_entry
from cloister.trust.roots import read_root


@dataclass(frozen=True, slots=True)
class Trust:
    """A host's root of trust and the identity that its enclaves carry."""

    directory: Path
    region: str
    instance_id: str
    """What PCR4 is made of."""
    role_arn: str | None
    """What PCR3 is made of, if the host has a role."""
    root_certificate: x509.Certificate
    document_map: str = DOCUMENT_MAPS[0]
    """The form of payload maps: ``indefinite``, as AWS since June 2025, or ``definite``, as before."""

    @property
    def root_pem_path(self) -> Path:
        """The root certificate as a file, for verifiers."""
        return self.directory / "root.pem"

    def enclave_credentials(self, module_id: str, now: datetime) -> Credentials:
        """Issue a signing key and certificate for an enclave, good for 3 hours; raise TrustError.

        Root and region are the host's of now, the instance is that of this Trust, as PCR4 is.
        Authorities that have run out, or are about to, are renewed first.
        """
        with reporting(self.directory), locked(self.directory):
            root = read_root(self.directory)  # it may have been replaced since this was opened
            host = read_host(self.directory)
            region = host.region if host is not None else self.region
            chain = renew(self.directory, root, region=region, instance_id=self.instance_id, now=now)
        instance = chain[-1]
        key = new_key()
        leaf = issue_leaf(instance, key.public_key(), module_id=module_id, region=region, now=now)
        issuers = (root, *(authority.certificate for authority in chain))
        return Credentials(
            key=key,
            certificate=leaf.public_bytes(Encoding.DER),
            cabundle=tuple(certificate.public_bytes(Encoding.DER) for certificate in issuers),
            not_after=leaf.not_valid_after_utc,
        )


def initialise(
    directory: Path, *, region: str, instance_id: str, now: datetime, role_arn: str | None = None
) -> Trust:
    """Make the root of trust or complete it; an existing root and identity stay; raise TrustError."""
    host = Host(region, instance_id, role_arn)
    establish(directory, host, lambda: make_root(InFile(), region=region, now=now), now)
    return open_trust(directory)


def open_trust(directory: Path) -> Trust:
    """Open the root of trust; raise TrustMissingError, TrustDamagedError, TrustError."""
    with reporting(directory):
        root = read_root(directory)
        host = known_host(directory)
    return Trust(
        directory, host.region, host.instance_id, host.role_arn, root, document_map=host.document_map
    )


def set_host(
    directory: Path,
    *,
    region: str | None = None,
    instance_id: str | None = None,
    role_arn: str | None = None,
    no_role: bool = False,
    document_map: str | None = None,
) -> Trust:
    """Change the identity that enclaves started from now on carry; None leaves a part as it is.

    Raises TrustError also for a region that nothing here can issue certificates for.
    """
    with reporting(directory):
        trust = open_trust(directory)
        with locked(directory):
            host = known_host(directory)
            wishes = {
                "region": region,
                "instance_id": instance_id,
                "role_arn": role_arn,
                "document_map": document_map,
            }
            host = replace(host, **{name: wish for name, wish in wishes.items() if wish is not None})
            if no_role:
                host = replace(host, role_arn=None)
            host.check()
            if host.region != trust.region and root_entry(directory, trust.root_certificate) is None:
                served = {region_of(entry.certificate) for entry in read_keyed(directory / "regional.pem")}
                if host.region not in served:
                    raise TrustError(
                        f"the root's key is elsewhere, and this host's regional authorities are for "
                        f"{', '.join(sorted(served)) or 'no region'}: none can serve {host.region}"
                    )
            write_host(directory, host)
    return open_trust(directory)
