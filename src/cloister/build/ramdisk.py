"""The two ramdisks of an enclave image: the kit's, which boots, and the customer's, which holds the tree.

Spec: nitro-tools 3 (AWS's layout) and 4 (who reads it). ``workdir`` and ``user`` beside ``cmd`` and ``env``
are ours; AWS's init does not look at them, and they are there only when an image asks for them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloister.build.content import BuildError, Literal
from cloister.build.cpio import CpioArchive
from cloister.build.tree import Kind, Node

_MOUNT_POINTS: Final = (b"dev", b"run", b"sys", b"var", b"proc", b"tmp")
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
    root = Node(Kind.DIRECTORY)
    root.children[b"dev"] = Node(Kind.DIRECTORY)
    root.children[b"init"] = Node(Kind.FILE, 0o755, content=Literal(program))
    return CpioArchive.of_tree(root)


def customer_ramdisk(
    rootfs: Node, command: Sequence[str], env: Sequence[str], *, workdir: str = "", user: str = ""
) -> CpioArchive:
    """Return the second ramdisk around a tree, adding the mount points it lacks; raises BuildError."""
    for name in _MOUNT_POINTS:
        found = rootfs.children.setdefault(name, Node(Kind.DIRECTORY))
        if found.kind not in (Kind.DIRECTORY, Kind.SYMLINK):
            raise BuildError(
                f"The image has /{name.decode()}, which is no directory: nothing can be mounted there."
            )
    root = Node(Kind.DIRECTORY)
    root.children[b"rootfs"] = rootfs
    root.children[b"cmd"] = _lines("command", command)
    root.children[b"env"] = _lines("environment", env)
    if workdir.strip("/"):
        if not workdir.startswith("/") or len(workdir.encode()) > 4095:
            raise BuildError(
                f"The image's working directory is {workdir[:100]!r}; expected an absolute path."
            )
        root.children[b"workdir"] = _lines("working directory", [workdir])
    if user not in ("", "root", "0", "0:0", "root:root"):
        if len(user.encode()) > _MAX_USER:
            raise BuildError(f"The image's user is {user[:100]!r}; expected at most {_MAX_USER} bytes.")
        root.children[b"user"] = _lines("user", [user])
    return CpioArchive.of_tree(root)


def _lines(what: str, items: Sequence[str]) -> Node:
    """Return a file of one item a line, which is why an item may not hold a line's end."""
    for item in items:
        if "\n" in item or "\0" in item:
            raise BuildError(
                f"The image's {what} holds a line break or NUL, which an enclave cannot be given: {item!r}."
            )
    text = "".join(f"{item}\n" for item in items).encode("utf-8", "surrogateescape")
    if len(text) >= MAX_TEXT or len(items) > MAX_LINES:
        raise BuildError(
            f"The image's {what} is {len(text)} bytes in {len(items)} parts; "
            f"expected less than {MAX_TEXT} and at most {MAX_LINES}."
        )
    return Node(Kind.FILE, 0o644, content=Literal(text))
