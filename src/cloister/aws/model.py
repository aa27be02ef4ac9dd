"""Requests as a service model describes them: its shapes, read into the tables that requests are checked by.

The models are botocore's data files ("service-2.json"), which is where AWS publishes names, bounds, patterns
and enumerations; so no operation has a check of its own that could be forgotten.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cloister.aws.shapes import Blob, Boolean, Integer, List, Shape, String, StringMap, Structure, Timestamp

MAX_DEPTH: Final = 16
ENUMERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "MacAlgorithmSpec": ("HMAC_SHA_384", "HMAC_SHA_256", "HMAC_SHA_224", "HMAC_SHA_512"),
}
"""The order in which real KMS was seen to list an enumeration's values, where it is not the model's."""


class ServiceModel:
    """One service: what its operations are called and what their requests may hold."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._shapes: Mapping[str, Mapping[str, Any]] = description["shapes"]
        self._operations: Mapping[str, Mapping[str, Any]] = description["operations"]

    @property
    def operations(self) -> Sequence[str]:
        """The names of all operations, sorted."""
        return sorted(self._operations)

    def request(self, operation: str) -> Structure:
        """Return an operation's request; raises KeyError for one that the model does not have."""
        entry = self._operations[operation]
        if "input" not in entry:
            return Structure({})
        shape = self._shape(entry["input"]["shape"], 0)
        if not isinstance(shape, Structure):
            raise TypeError(operation)
        return shape

    def _shape(self, name: str, depth: int) -> Shape:
        if depth > MAX_DEPTH:
            raise RecursionError(name)
        entry = self._shapes[name]
        least, most = entry.get("min", 0), entry.get("max")
        sensitive = bool(entry.get("sensitive", False))
        match entry["type"]:
            case "structure":
                members = {
                    member: self._shape(reference["shape"], depth + 1)
                    for member, reference in entry["members"].items()
                }
                return Structure(members, tuple(entry.get("required", ())))
            case "list":
                return List(self._shape(entry["member"]["shape"], depth + 1), least, most)
            case "map":
                return StringMap()
            case "string":
                values = ENUMERATIONS.get(name, tuple(entry.get("enum", ())))
                return String(least, most, entry.get("pattern"), values, sensitive)
            case "blob":
                return Blob(least, most)
            case "integer" | "long":
                return Integer(entry.get("min"), most)
            case "boolean":
                return Boolean()
            case "timestamp":
                return Timestamp()
            case other:
                raise TypeError(f"{name}: {other}")
