"""Faults: what a service answers instead of a result.

Status codes follow the KMS service model: 400 for the caller's mistakes, 500 for the service's own.
"""

from cloister.errors import CloisterError

SERVER_FAULTS = frozenset(
    {"DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "InternalFailure"}
)


class Fault(CloisterError):  # noqa: N818 - the protocol's own word
    """A named error that crosses the wire; its message may be empty, as some of AWS's are."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code

    @property
    def status(self) -> int:
        """The HTTP status it travels under."""
        return 500 if self.code in SERVER_FAULTS else 400
