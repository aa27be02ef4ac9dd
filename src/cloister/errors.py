"""The root of every error this project raises.

Each room defines its leaves next to the code that raises them. Two borders translate them: the commands
(``cli``), to exit codes, and the KMS wire (``kms``), to faults.
"""


class CloisterError(Exception):
    """One sentence for the person at the keyboard: what, which value, and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def root_of(error: BaseException) -> str:
    """Return ``file:line`` of where an error was raised, the file from the package on; ``?:0`` if never."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?:0"
    file = trace.tb_frame.f_code.co_filename
    return f"{file[file.rfind('/cloister/') + 1 :]}:{trace.tb_lineno}"
