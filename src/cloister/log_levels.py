"""What goes into nitro-cli's log: the levels, and ``RUST_LOG`` as flexi_logger reads it (nitro-tools 1.2).

Levels, alone or for a module (``nitro_cli=debug``), separated by commas; the part that fits best counts.
"""

from typing import Final

from cloister.errors import CloisterError

LOG_NAME: Final = "nitro_enclaves.log"
LEVELS: Final = ("OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")
DEFAULT_LEVEL: Final = "INFO"
_PROGRAM: Final = "nitro_cli"


class LogLevelError(CloisterError):
    """``RUST_LOG`` cannot be read."""


def level_from(specification: str | None, *, strict: bool) -> str:
    """Return the level that ``RUST_LOG`` asks for.

    Where a part makes no sense it is skipped, or, ``strict``, LogLevelError is raised.
    """
    if specification is None:
        return DEFAULT_LEVEL
    level, most = "OFF", -1
    for part in specification.partition("/")[0].split(","):
        module, equals, word = part.strip().partition("=")
        if not module:
            continue
        if not equals and module.upper() in LEVELS:
            module, word = "", module
        word = word.strip().upper() or LEVELS[-1]
        if word not in LEVELS or any(letter.isspace() for letter in module):
            if strict:
                raise LogLevelError(
                    f"RUST_LOG is {specification!r}; expected levels such as info or nitro_cli=debug, "
                    "separated by commas."
                )
            continue
        if _PROGRAM.startswith(module) and len(module) > most:
            level, most = word, len(module)
    return level
