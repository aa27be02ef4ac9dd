"""Ramdisks unpacked into a directory, whatever is in them: no link is followed, nothing is written elsewhere.

Every component of a name is opened from its parent's descriptor without following links, so a name can only
end below the directory. What the kernel would do by way of a link (a file below a link to a directory) is
refused and named instead.
"""

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cloister.audit import normal_name, shown_name
from cloister.cpio import CpioEntry, CpioError, Expand, as_it_is, read_files
from cloister.mapped import pieces

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ANY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""After these no other entry will do better."""
MAX_DEPTH: Final = 256
"""Directories above a file: deeper ones nobody needs, and few tools can remove."""
MAX_COMPLAINTS: Final = 20
_PERMISSIONS: Final = 0o777
"""The bits that are kept: no setuid, setgid or sticky."""


class _RefusedError(Exception):
    """This entry is left out; the text says why."""


class Extraction:
    """Unpacks into one directory; directories get their permissions at the end, when nothing more goes in."""

    def __init__(self, root: Path, *, devices: bool) -> None:
        self._root = os.open(root, _DIRECTORY)
        self._devices = devices
        self._parent = (b"", os.dup(self._root))
        """The directory last written to, which is mostly the next one's too."""
        self._modes = dict[bytes, int]()
        self._links = dict[tuple[str, int, tuple[int, int]], bytes]()
        """The first name of each file that has several."""
        self._link_modes = dict[tuple[str, int, tuple[int, int]], int]()
        """Their permissions, which they get when no more content comes."""
        self.count = 0
        self.devices_left_out = 0
        self.refused = 0
        self.complaints = list[str]()
        """A sentence about each of the first entries that were left out."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give linked files and then directories their permissions, the deepest first, and close."""
        try:
            if kind is None:
                for key, mode in self._link_modes.items():
                    self._set_mode(self._links[key], mode)
                for name in sorted(self._modes, reverse=True):
                    self._set_mode(name, self._modes[name])
        finally:
            os.close(self._parent[1])
            os.close(self._root)

    def unpack(self, archive: str, ramdisk: memoryview, expand: Expand = as_it_is) -> None:
        """Unpack one ramdisk over what is there; ``archive`` is its name in messages.

        Raises OSError when the file system takes nothing more.
        """
        try:
            for entry in read_files(expand(ramdisk)):
                try:
                    self._unpack(archive, entry)
                except _RefusedError as refusal:
                    self._refuse(f"{archive}: {shown_name(entry.name)} is left out: {refusal}.")
                except OverflowError:
                    self._refuse(f"{archive}: {shown_name(entry.name)} is left out: no such device.")
                except OSError as error:
                    if error.errno in _FULL:
                        raise
                    reason = (error.strerror or str(error)).lower()
                    self._refuse(f"{archive}: {shown_name(entry.name)} is left out: {reason}.")
        except CpioError as error:
            self._refuse(f"{archive} is not unpacked further. {error.message}")

    def _unpack(self, archive: str, entry: CpioEntry) -> None:
        name = normal_name(entry.name)
        if b".." in name.split(b"/"):
            raise _RefusedError("its name goes through '..'")
        if name.count(b"/") > MAX_DEPTH:
            raise _RefusedError(f"it lies more than {MAX_DEPTH} directories deep")
        if not name:  # the root itself
            return
        directory, _, last = name.rpartition(b"/")
        parent = self._open(directory)
        if entry.kind == stat.S_IFDIR:
            self._make_directory(parent, last, name, entry.mode)
        elif entry.kind == stat.S_IFREG:
            self._make_file(archive, parent, last, name, entry)
        elif entry.kind == stat.S_IFLNK:
            _clear(parent, last)
            os.symlink(entry.target, last, dir_fd=parent)
        elif entry.kind in _DEVICES and not self._devices:
            self.devices_left_out += 1
            return
        elif entry.kind in (*_DEVICES, stat.S_IFIFO, stat.S_IFSOCK):
            _clear(parent, last)
            os.mknod(last, entry.kind | entry.mode & _PERMISSIONS, os.makedev(*entry.node), dir_fd=parent)
        else:
            raise _RefusedError(f"its mode {entry.mode:06o} is of no known type")
        self.count += 1

    def _refuse(self, complaint: str) -> None:
        self.refused += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(complaint)

    def _open(self, directory: bytes) -> int:
        """Return the descriptor of a directory that has been unpacked before; raises _RefusedError."""
        if directory != self._parent[0]:
            found = self._walk(directory)
            os.close(self._parent[1])
            self._parent = (directory, found)
        return self._parent[1]

    def _walk(self, directory: bytes) -> int:
        found = os.dup(self._root)
        for part in directory.split(b"/") if directory else ():
            try:
                deeper = os.open(part, _DIRECTORY, dir_fd=found)
            except OSError as error:
                raise _RefusedError(
                    f"{shown_name(part)} in its name is no directory that was unpacked before"
                ) from error
            finally:
                os.close(found)
            found = deeper
        return found

    def _make_directory(self, parent: int, last: bytes, name: bytes, mode: int) -> None:
        try:
            os.mkdir(last, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode):
                _clear(parent, last)
                os.mkdir(last, 0o700, dir_fd=parent)
        self._modes[name] = mode & _PERMISSIONS

    def _make_file(self, archive: str, parent: int, last: bytes, name: bytes, entry: CpioEntry) -> None:
        """Write a file, or link it to the one with the same inode, whose content may come with either."""
        key = (archive, entry.inode, entry.device)
        first = self._links.get(key) if entry.links > 1 else None
        flags = _NEW
        if first is not None and first != name:
            _clear(parent, last)
            self._link(first, parent, last)
            flags = _OLD
        else:
            _clear(parent, last)
        if entry.links > 1:
            self._links.setdefault(key, name)
            self._link_modes[key] = entry.mode & _PERMISSIONS
        if flags == _OLD and not entry.content:
            return
        handle = os.open(last, flags, 0o600, dir_fd=parent)
        with open(handle, "wb", buffering=0) as out:  # noqa: PTH123 - a descriptor
            for piece in pieces(entry.content):
                rest = piece
                while rest:
                    rest = rest[out.write(rest) :]
            if entry.links <= 1:
                os.fchmod(handle, entry.mode & _PERMISSIONS)

    def _link(self, first: bytes, parent: int, last: bytes) -> None:
        directory, _, old = first.rpartition(b"/")
        holder = self._walk(directory)
        try:
            if not stat.S_ISREG(os.stat(old, dir_fd=holder, follow_symlinks=False).st_mode):
                raise _RefusedError(f"it is another name of {shown_name(first)}, which is no file any more")
            os.link(old, last, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(holder)

    def _set_mode(self, name: bytes, mode: int) -> None:
        directory, _, last = name.rpartition(b"/")
        try:
            parent = self._walk(directory)
        except _RefusedError:  # replaced by something else since
            return
        try:
            handle = os.open(last, _ANY, dir_fd=parent)
        except OSError:  # as above
            return
        finally:
            os.close(parent)
        try:
            if stat.S_IFMT(os.fstat(handle).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                os.fchmod(handle, mode)
        finally:
            os.close(handle)


def _clear(parent: int, last: bytes) -> None:
    """Make room for an entry; a directory stays, as the kernel leaves one that is not empty."""
    try:
        os.unlink(last, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _RefusedError("a directory of that name is there already") from error
