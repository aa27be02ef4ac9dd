"""nitro-cli's error model: a code from E00 to E60 that is also the exit code.

Follows nitro-cli 1.5.0: AWS's text for the code on stderr, the link to AWS's page, and an error log file with
the action that failed and where. Beyond it: our own sentence, which says what happened (decision 0081).
"""

from collections.abc import Sequence

from cloister.errors import CloisterError, root_of

DOCUMENTATION = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html"
TOOL_VERSION = "1.5.0"
_FILE = "\nFile: '"
_OTHER_TITLES = ("EIF parsing error",)


class NitroCliError(CloisterError):
    """A failure with one of nitro-cli's numbers; ``action`` and ``subactions`` go to the error log.

    The message is our sentence, after the code's title if one likes; for the codes whose text has parameters
    it is the whole text. A file's error ends with the line ``File: '…', failing operation: '…'.``
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        action: str = "",
        subactions: Sequence[str] = (),
        where: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.action = action
        self.subactions = tuple(subactions)
        self.where = where
        """``file:line`` of the root error, when it is not where this was raised."""

    @property
    def exit_code(self) -> int:
        """The number in the code: E19 exits with 19. E00 exits with 1: a failure is no success."""
        return int(self.code.removeprefix("E")) or 1

    def to_detail(self) -> str:
        """Render what follows the code: AWS's text, the file if there is one, then our own sentence."""
        from cloister.cli.nitro.codes import PARAMETRISED, TEXTS  # noqa: PLC0415 -- most commands succeed

        if self.code in PARAMETRISED:
            return self.message
        own, _, file = self.message.partition(_FILE)
        title, stop, rest = own.partition(". ")
        if stop and title in (TEXTS[self.code].partition(". ")[0], *_OTHER_TITLES):
            own = rest
        shown = TEXTS[self.code] + (_FILE + file if file else "")
        return shown if own in shown else f"{shown}\n{own}"

    def to_text(self, log_path: str | None, *, backtrace: str | None) -> str:
        """Render what stderr shows; ``backtrace`` where ``BACKTRACE=1`` asks for it."""
        parts = [
            f"[ {self.code} ] {self.to_detail()}",
            f"For more details, please visit {DOCUMENTATION}#{self.code}",
        ]
        if backtrace is not None:
            parts.append(f"Backtrace:\n{backtrace}")
        if log_path is not None:
            parts.append(f'If you open a support ticket, please provide the error log found at "{log_path}"')
        return "\n\n".join(parts)

    def to_backtrace(self, action: str) -> str:
        """Render the error log of a command's ``action``: what it was doing, most recent first, and where."""
        own = " ".join(self.message.split("\n"))
        doing = [*self.subactions, *([self.action] if self.action else []), own]
        file, _, line = (self.where or root_of(self)).rpartition(":")
        return "\n".join([
            f"  Action: {action}",
            "  Subactions:",
            *(f"    {step}" for step in doing),
            f"  Root error file: {file}",
            f"  Root error line: {line}",
            f"  Version: {TOOL_VERSION}",
        ])  # fmt: skip
