"""The root of every error this project raises.

Each room defines its leaves next to the code that raises them. Two borders translate them: the commands
(``cli``), to exit codes, and the KMS wire (``kms``), to faults.
"""


class CloisterError(Exception):
    """One sentence for the person at the keyboard: what, which value, and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
