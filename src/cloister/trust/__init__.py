"""This host's root of trust on disk: made once, renewed in time, asked for each enclave's credentials."""

from cloister.nsm import DOCUMENT_MAPS
from cloister.trust.files import TrustError
from cloister.trust.host import check_role_arn
from cloister.trust.state import Trust, TrustMissingError, initialise, open_trust, set_host

__all__ = [
    "DOCUMENT_MAPS",
    "Trust",
    "TrustError",
    "TrustMissingError",
    "check_role_arn",
    "initialise",
    "open_trust",
    "set_host",
]
