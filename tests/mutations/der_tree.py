"""DER as a tree that writes back what it read, and anything else it is told to.

ITU-T X.690, section 8. The value of an extension, an OCTET STRING that holds DER, is read into as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

CONSTRUCTED = 0x20
_OCTET_STRING = 0x04


def wrap(tag: int, content: bytes) -> bytes:
    """Return an element with the shortest length."""
    return bytes((tag,)) + _length(len(content), 0) + content


@dataclass(slots=True)
class Node:
    """One element; a node with children has no content of its own."""

    tag: int
    content: bytes = b""
    children: list["Node"] = field(default_factory=list)
    surplus: int = 0
    """Bytes by which the length is written longer than needed."""
    claim: int = 0
    """How much more than the truth the length says."""
    indefinite: bool = False
    trailer: bytes = b""
    """Bytes that follow the content, inside."""

    @classmethod
    def read(cls, data: bytes) -> "list[Node]":
        """Split bytes into elements; raise ValueError where they are none (for bytes known to be good)."""
        nodes = []
        position = 0
        while position < len(data):
            tag, size = data[position], data[position + 1]
            position += 2
            if size >= 0x80:
                count = size & 0x7F
                size = int.from_bytes(data[position : position + count], "big")
                position += count
            content = data[position : position + size]
            if len(content) != size:
                raise ValueError("an element goes beyond its container")
            position += size
            nodes.append(cls._of(tag, content))
        return nodes

    @classmethod
    def _of(cls, tag: int, content: bytes) -> "Node":
        if tag & CONSTRUCTED:
            return cls(tag, children=cls.read(content))
        if tag == _OCTET_STRING and content[:1] in (b"\x30", b"\x03", b"\x04") and len(content) > 2:
            try:
                inner = cls.read(content)
            except (ValueError, IndexError):
                return cls(tag, content)
            if len(inner) == 1 and b"".join(node.write() for node in inner) == content:
                return cls(tag, children=inner)
        return cls(tag, content)

    def write(self) -> bytes:
        """Return the bytes."""
        content = b"".join(child.write() for child in self.children) if self.children else self.content
        content += self.trailer
        if self.indefinite:
            return bytes((self.tag & 0xFF, 0x80)) + content + b"\x00\x00"
        length = _length(max(0, len(content) + self.claim), self.surplus)
        return bytes((self.tag & 0xFF,)) + length + content

    def walk(self) -> Iterator[tuple["Node", "Node | None"]]:
        """Yield every node with its parent, this one first."""
        yield self, None
        for child in self.children:
            for node, parent in child.walk():
                yield node, parent or self


def _length(size: int, surplus: int) -> bytes:
    if size < 0x80 and not surplus:
        return bytes((size,))
    count = max(1, (size.bit_length() + 7) // 8) + surplus - (1 if size < 0x80 else 0)
    count = max(count, (size.bit_length() + 7) // 8, 1)
    return bytes((0x80 | count,)) + size.to_bytes(count, "big")
