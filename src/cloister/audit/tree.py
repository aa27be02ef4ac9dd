"""Judging the files in the ramdisks as the kernel unpacks them: one pass, nothing kept but names' hashes."""

import stat
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from cloister.audit.findings import Findings
from cloister.audit.naming import normal_name, shown_name
from cloister.audit.secrets import SecretScanner
from cloister.cpio import (
    CompressedError,
    CpioEntry,
    CpioError,
    CpioTrailer,
    Expand,
    compression_of,
    read_cpio,
)

Progress = Callable[[str, int, int], None]
"""What is being done, bytes done, bytes in all."""
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)
_REPORTED: Final = 1 << 22


class TreeJudge:
    """Goes through the ramdisks one after the other."""

    def __init__(self, findings: Findings, progress: Progress, expand: Expand) -> None:
        self._findings = findings
        self._progress = progress
        self._expand = expand
        self._secrets = SecretScanner(findings)
        self._seen = dict[bytes, int]()
        """Hash of a name: twice the number of the ramdisk it came from, plus 1 if names can be below it."""
        self._found_init = False
        self.unpacked = 0
        """Bytes of all files, each rounded up to pages, as the root of tmpfs takes them."""

    def judge(self, ramdisks: Sequence[memoryview]) -> None:
        """Judge them all."""
        total, before = sum(map(len, ramdisks)), 0
        for number, ramdisk in enumerate(ramdisks, 1):
            self._judge_ramdisk(number, ramdisk, before, total)
            before += len(ramdisk)
            if number == 1 and not self._found_init:
                self._findings.add("L407", "ramdisk 1", "There is no file init.")
        self._progress("examining", total, total)

    def _judge_ramdisk(self, number: int, ramdisk: memoryview, before: int, total: int) -> None:
        where, archives, reported = f"ramdisk {number}", 0, 0
        try:
            expanded = self._expand(ramdisk)
            if expanded is not ramdisk:
                sizes = f"{len(ramdisk)} bytes are {len(expanded)} when they are unpacked"
                self._findings.add("L409", where, f"{sizes}; what is told of it counts those.")
            for item in read_cpio(expanded):
                if isinstance(item, CpioTrailer):
                    archives += 1
                    continue
                self._judge_entry(number, item)
                if item.offset - reported >= _REPORTED:
                    reported = item.offset
                    self._progress("examining", before + min(reported, len(ramdisk)), total)
        except CompressedError as error:
            self._found_init |= number == 1  # or so one must suppose
            self._findings.add("L402", where, error.message)
        except CpioError as error:
            self._findings.add("L401", where, error.message)
        start = bytes(ramdisk[:6])
        if start not in (b"070701", b"070702") and compression_of(ramdisk) is None:
            self._findings.add("L118", where, f"It starts with {start!r}, not with 070701.")
        if archives > 1:
            self._findings.add("L403", where, f"It holds {archives} archives.")

    def _judge_entry(self, number: int, entry: CpioEntry) -> None:
        where = f"ramdisk {number}: {shown_name(entry.name)}"
        name = normal_name(entry.name)
        if entry.name.startswith(b"/") or b".." in entry.name.split(b"/"):
            self._findings.add("L406", where, "Its name leads outside a directory it is unpacked in.")
        self._judge_place(number, name, entry, where)
        self._judge_mode(name, entry, where)
        self._found_init |= number == 1 and name == b"init"
        self._secrets.judge_name(name, entry.kind == stat.S_IFDIR, where)
        if entry.kind == stat.S_IFREG:
            self.unpacked += -(-len(entry.content) // 4096) * 4096
            self._secrets.scan(entry.content, where)
            if b"/" not in name and name == b"env":
                self._secrets.judge_variables(entry.content, where)

    def _judge_place(self, number: int, name: bytes, entry: CpioEntry, where: str) -> None:
        """Compare with the names before: replaced files, and files without a directory to be in."""
        parent, _, _ = name.rpartition(b"/")
        if parent and not self._seen.get(_hash(parent), 0) & 1:
            self._findings.add("L408", where, f"There is no directory {shown_name(parent)} before it.")
        key, directory = _hash(name), entry.kind == stat.S_IFDIR
        known = self._seen.get(key, 0)
        if known and not (directory and known & 1):
            if number > 1 and known >> 1 == 1:
                self._findings.add("L405", where, "It replaces what the first ramdisk brought.")
            else:
                self._findings.add("L404", where, "It replaces an earlier entry of the same name.")
        # a link may stand for a directory: what follows below it is put where it points
        self._seen[key] = (known >> 1 or number) << 1 | (directory or entry.kind == stat.S_IFLNK)

    def _judge_mode(self, name: bytes, entry: CpioEntry, where: str) -> None:
        permissions = f"{stat.filemode(entry.mode)}, owner {entry.uid}:{entry.gid}"
        if entry.kind == stat.S_IFREG and entry.mode & (stat.S_ISUID | stat.S_ISGID):
            self._findings.add("L501", where, permissions)
        if entry.mode & stat.S_IWOTH:
            if entry.kind == stat.S_IFREG:
                self._findings.add("L502", where, permissions)
            elif entry.kind == stat.S_IFDIR and not entry.mode & stat.S_ISVTX:
                self._findings.add("L503", where, permissions)
        if entry.kind in _DEVICES and not name.startswith((b"dev/", b"rootfs/dev/")):
            self._findings.add("L504", where, f"{permissions}, device {entry.node[0]}:{entry.node[1]}")


def _hash(name: bytes) -> bytes:
    """Return 8 bytes for a name: half a million long names must not fill the memory."""
    return blake2b(name, digest_size=8).digest()
