"""This host's root of trust on disk: made once, renewed in time, asked for each enclave's credentials."""

from cloister.nsm import DOCUMENT_MAPS
from cloister.trust.files import TrustDamagedError, TrustError, TrustMissingError, check_elsewhere, save_text
from cloister.trust.homes import MAX_SPAN, OFFLINE_SPAN, Home, InFile, Offline, OnToken, load_root, make_root
from cloister.trust.host import Host, check_role_arn, new_instance_id, read_host
from cloister.trust.keyed import name_of as common_name
from cloister.trust.lifecycle import (
    LEVELS,
    bring_in,
    delegate,
    establish,
    rotate_below,
    rotate_root,
    take_offline,
)
from cloister.trust.overview import Link, Overview, look
from cloister.trust.roots import OVERLAP, NewRoot, fingerprint, trusted_roots
from cloister.trust.state import Trust, initialise, open_trust, set_host
from cloister.trust.token import PIN_VARIABLE

__all__ = [
    "DOCUMENT_MAPS",
    "LEVELS",
    "MAX_SPAN",
    "OFFLINE_SPAN",
    "OVERLAP",
    "PIN_VARIABLE",
    "Home",
    "Host",
    "InFile",
    "Link",
    "NewRoot",
    "Offline",
    "OnToken",
    "Overview",
    "Trust",
    "TrustDamagedError",
    "TrustError",
    "TrustMissingError",
    "bring_in",
    "check_elsewhere",
    "check_role_arn",
    "common_name",
    "delegate",
    "establish",
    "fingerprint",
    "initialise",
    "load_root",
    "look",
    "make_root",
    "new_instance_id",
    "open_trust",
    "read_host",
    "rotate_below",
    "rotate_root",
    "save_text",
    "set_host",
    "take_offline",
    "trusted_roots",
]
