"""A naive reader of ramdisks, written from cpio(5) and not from the writer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RamdiskEntry:
    """One name of a newc archive."""

    name: bytes
    inode: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    device: tuple[int, int]
    body: bytes


def ramdisk_entries(data: bytes) -> list[RamdiskEntry]:
    """Return what stands before the trailer, which must be followed by zeros alone."""
    found, offset = list[RamdiskEntry](), 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        inode, mode, uid, gid, links, mtime, size, _, _, major, minor, length, _ = fields
        name = data[offset + 110 : offset + 110 + length - 1]
        body = -(-(offset + 110 + length) // 4) * 4
        if name == b"TRAILER!!!":
            assert not data[body:].strip(b"\0")
            return found
        content = data[body : body + size]
        found.append(RamdiskEntry(name, inode, mode, uid, gid, links, mtime, (major, minor), content))
        offset = -(-(body + size) // 4) * 4
