"""Issue and validate the certificate chain that stands behind attestation."""

from cloister.pki.cache import CertificateCache
from cloister.pki.chain import CHAIN_CHECKS, ChainError, validate_chain
from cloister.pki.issue import (
    Authority,
    PkiError,
    check_instance_id,
    check_region,
    issue_instance,
    issue_leaf,
    issue_regional,
    issue_root,
    issue_zonal,
    local_name,
    regional_subject,
    root_subject,
)
from cloister.pki.revocation import Revocation
from cloister.pki.roots import RootsError, load_roots

__all__ = [
    "CHAIN_CHECKS",
    "Authority",
    "CertificateCache",
    "ChainError",
    "PkiError",
    "Revocation",
    "RootsError",
    "check_instance_id",
    "check_region",
    "issue_instance",
    "issue_leaf",
    "issue_regional",
    "issue_root",
    "issue_zonal",
    "load_roots",
    "local_name",
    "regional_subject",
    "root_subject",
    "validate_chain",
]
