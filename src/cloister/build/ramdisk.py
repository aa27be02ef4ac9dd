"""The two ramdisks of an enclave image: the kit's, which boots, and the customer's, which holds the tree.

Spec: nitro-tools 3 (AWS's layout) and 4 (who reads it). ``workdir`` and ``user`` after ``cmd`` and ``env``
are ours; AWS's init does not look at them, and they are there only when an image asks for them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloister.build.content import BuildError, Literal, encode_text
from cloister.build.cpio import CpioArchive, CpioEntry
from cloister.build.linuxkit import directory_entry, file_entry, rootfs_entries
from cloister.build.tree import Node

MAX_TEXT: Final = 1 << 20
"""Bytes of ``cmd`` or ``env``, and ``MAX_LINES`` lines: what the kit's init reads."""
MAX_LINES: Final = 4096
_MAX_USER: Final = 256
_MAX_INIT: Final = 64 << 20


def boot_ramdisk(init: Path) -> CpioArchive:
    """Return the first ramdisk: ``/dev`` and ``/init``; raises BuildError."""
    try:
        program = init.read_bytes()
    except OSError as error:
        raise BuildError(f"The guest kit's init {init} cannot be read: {error.strerror}.") from error
    if not 0 < len(program) <= _MAX_INIT:
        raise BuildError(
            f"The guest kit's init {init} is {len(program)} bytes long; expected 1 to {_MAX_INIT}."
        )
    return CpioArchive([directory_entry(b"dev"), file_entry(b"init", 0o755, Literal(program))])


def customer_ramdisk(
    rootfs: Node, command: Sequence[str], env: Sequence[str], *, workdir: str = "", user: str = ""
) -> CpioArchive:
    """Return the second ramdisk around a tree, which is changed as Docker would; raises BuildError.

    The working directory is an absolute path, or empty where the image asks for none.
    """
    entries = [
        *rootfs_entries(rootfs),
        _lines("cmd", "command", command),
        _lines("env", "environment", env),
    ]
    if workdir not in ("", "/"):
        entries.append(_lines("workdir", "working directory", [workdir]))
    if user not in ("", "root", "0", "0:0", "root:root"):
        if len(encode_text(user, "The image's user")) > _MAX_USER:
            raise BuildError(f"The image's user is {user[:100]!r}; expected at most {_MAX_USER} bytes.")
        entries.append(_lines("user", "user", [user]))
    return CpioArchive(entries)


def _lines(name: str, what: str, items: Sequence[str]) -> CpioEntry:
    """Return a file of one item a line, which is why an item may not hold a line's end."""
    for item in items:
        if "\n" in item or "\0" in item:
            raise BuildError(
                f"The image's {what} holds a line break or NUL, which an enclave cannot be given: {item!r}."
            )
    text = encode_text("".join(f"{item}\n" for item in items), f"The image's {what}")
    if len(text) >= MAX_TEXT or len(items) > MAX_LINES:
        raise BuildError(
            f"The image's {what} is {len(text)} bytes in {len(items)} parts; "
            f"expected less than {MAX_TEXT} and at most {MAX_LINES}."
        )
    return file_entry(name.encode(), 0o644, Literal(text))
