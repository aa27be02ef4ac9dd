"""Names as bytes, shown as text: whatever is not printable UTF-8 is spelled out, unambiguously."""


def shown_name(name: bytes) -> str:
    r"""Return a name for people or JSON; a backslash is ``\\``, other bytes are ``\xNN`` or ``\uNNNN``."""
    text = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def normal_name(name: bytes) -> bytes:
    """Return a name as the kernel resolves it from the root: without ``/`` at the ends, ``.`` or ``//``."""
    if not name.startswith((b"/", b".")) and b"//" not in name and b"/." not in name and name[-1:] != b"/":
        return name
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))
