"""What enclaves may use of this host: a pool of CPUs and memory, and each enclave's claim on it.

The allocator's side is loaded on first use, for starting an enclave needs none of it. Spec: nitro-tools 6.1
to 6.3.
"""

from typing import TYPE_CHECKING, Any

from cloister.resources.claims import (
    ClaimError,
    CpusTakenError,
    MemoryShortError,
    ResourceClaim,
    Share,
    Wish,
    claim_resources,
    live_claims,
    locked_claims,
    sweep_dead_claims,
)
from cloister.resources.pool import Pool, PoolError, load_pool

if TYPE_CHECKING:
    from cloister.resources.allocator import HostView, allocate, clear
    from cloister.resources.config import (
        CONFIG,
        MAX_CONFIG,
        AllocatorError,
        Reservation,
        RuleError,
        parse_config,
    )

__all__ = [
    "CONFIG",
    "MAX_CONFIG",
    "AllocatorError",
    "ClaimError",
    "CpusTakenError",
    "HostView",
    "MemoryShortError",
    "Pool",
    "PoolError",
    "Reservation",
    "ResourceClaim",
    "RuleError",
    "Share",
    "Wish",
    "allocate",
    "claim_resources",
    "clear",
    "live_claims",
    "load_pool",
    "locked_claims",
    "parse_config",
    "sweep_dead_claims",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cloister.resources import allocator, config  # noqa: PLC0415 -- see above

    module = allocator if name in ("HostView", "allocate", "clear") else config
    return getattr(module, name)
