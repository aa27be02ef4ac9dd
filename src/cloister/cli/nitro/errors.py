"""nitro-cli's error model: a code from E00 to E60 that is also the exit code.

Follows nitro-cli 1.5.0: the text on stderr, the link to AWS's page, and an error log file with the action
that failed. Leaves out source lines, which the original prints for its own developers.
"""

from collections.abc import Sequence

from cloister.errors import CloisterError

DOCUMENTATION = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html"
TOOL_VERSION = "1.5.0"


class NitroCliError(CloisterError):
    """A failure with one of nitro-cli's numbers; ``action`` and ``subactions`` go to the error log."""

    def __init__(self, code: str, message: str, *, action: str = "", subactions: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.action = action
        self.subactions = tuple(subactions)

    @property
    def exit_code(self) -> int:
        """The number in the code: E19 exits with 19."""
        return int(self.code.removeprefix("E"))

    def to_text(self, log_path: str, *, backtrace: bool) -> str:
        """Render what stderr shows; ``backtrace`` is ``BACKTRACE=1`` in the environment."""
        parts = [
            f"[ {self.code} ] {self.message}",
            f"For more details, please visit {DOCUMENTATION}#{self.code}",
        ]
        if backtrace:
            parts.append(f"Backtrace:\n{self.to_backtrace()}")
        parts.append(f'If you open a support ticket, please provide the error log found at "{log_path}"')
        return "\n\n".join(parts)

    def to_backtrace(self) -> str:
        """Render the error log: the action, then what it was part of, most recent first."""
        subactions = "".join(f"\n    {line}" for line in self.subactions)
        return (
            f"  Action: {self.action or self.message}\n  Subactions:{subactions}\n  Version: {TOOL_VERSION}"
        )
