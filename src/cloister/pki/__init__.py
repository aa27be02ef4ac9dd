"""Issue and validate the certificate chain that stands behind attestation."""

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
)

__all__ = [
    "CHAIN_CHECKS",
    "Authority",
    "ChainError",
    "PkiError",
    "check_instance_id",
    "check_region",
    "issue_instance",
    "issue_leaf",
    "issue_regional",
    "issue_root",
    "issue_zonal",
    "local_name",
    "validate_chain",
]
