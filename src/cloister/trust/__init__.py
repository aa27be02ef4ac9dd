"""This host's root of trust on disk: made once, renewed in time, asked for each enclave's credentials."""

from cloister.trust.files import TrustError
from cloister.trust.host import DOCUMENT_MAPS
from cloister.trust.state import Trust, TrustMissingError, initialise, open_trust, set_host

__all__ = [
    "DOCUMENT_MAPS",
    "Trust",
    "TrustError",
    "TrustMissingError",
    "initialise",
    "open_trust",
    "set_host",
]
