"""An operation: its name in the API, the shape of its request, and what carries it out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloister.kms.call import Call
from cloister.kms.requests.shapes import Structure


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the API index."""

    name: str
    request: Structure
    run: Callable[[Call, dict[str, Any]], dict[str, Any]]
