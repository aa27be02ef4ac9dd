"""An operation: its name in the API and what carries it out; its request is the service model's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloister.kms.call import Call


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the API index."""

    name: str
    run: Callable[[Call, dict[str, Any]], dict[str, Any]]
