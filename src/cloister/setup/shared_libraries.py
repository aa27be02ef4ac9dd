"""Which shared libraries a program needs, read from the ELF files themselves.

System V ABI (ELF-64, little endian) and its dynamic section; search order as in ld.so(8) without a cache.
Nothing is run, so a program can be examined before it is trusted. Left out: DT_RPATH inheritance, $PLATFORM.
"""

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import CloisterError

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 0, 1, 5, 15, 29
MAX_PROGRAM_HEADERS = 128
MAX_DYNAMIC_ENTRIES = 4096


class LibraryError(CloisterError):
    """A program or a library it needs cannot be read."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one ELF file asks of the dynamic loader."""

    interpreter: str
    libraries: tuple[str, ...]
    search: tuple[str, ...]


def read_needs(path: Path) -> Needs:
    """Read the dynamic section of an ELF-64 file; LibraryError if it is not one."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            return _parse(memoryview(bytes(image)))
    except (OSError, ValueError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise LibraryError(f"{path} is not a readable ELF program: {error}") from error


def _parse(image: memoryview) -> Needs:
    if bytes(image[:6]) != b"\x7fELF\x02\x01":
        raise ValueError("expected a 64-bit little-endian ELF header")
    offset, size, count = (*struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54))
    if count > MAX_PROGRAM_HEADERS or size < 56:
        raise ValueError(f"{count} program headers of {size} bytes")
    loads: list[tuple[int, int, int]] = []
    dynamic, interpreter = b"", ""
    for index in range(count):
        kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", image, offset + index * size)
        if kind == PT_LOAD:
            loads.append((address, at, length))
        elif kind == PT_DYNAMIC:
            dynamic = bytes(image[at : at + length])
        elif kind == PT_INTERP:
            interpreter = bytes(image[at : at + length]).rstrip(b"\0").decode()
    entries = list(struct.iter_unpack("<QQ", dynamic[: 16 * MAX_DYNAMIC_ENTRIES]))
    table = next((value for tag, value in entries if tag == DT_STRTAB), 0)
    strings = next(
        (at + table - address for address, at, length in loads if address <= table < address + length), 0
    )

    def text(value: int) -> str:
        return bytes(image[strings + value : strings + value + 4096]).partition(b"\0")[0].decode()

    search = [text(value) for tag, value in entries if tag in (DT_RPATH, DT_RUNPATH)]
    return Needs(
        interpreter=interpreter,
        libraries=tuple(text(value) for tag, value in entries if tag == DT_NEEDED),
        search=tuple(part for joined in search for part in joined.split(":") if part),
    )


def library_closure(
    programs: Sequence[Path], *, root: Path, directories: Sequence[str]
) -> Iterator[tuple[str, Path]]:
    """Yield (path inside the root, file on disk) of everything the programs load, the loader included.

    ``root`` is where the programs' own ``/`` lies; ``directories`` are searched after a file's own RUNPATH.
    Raises LibraryError for a library that is nowhere.
    """
    seen: set[str] = set()
    waiting = list(programs)
    while waiting:
        program = waiting.pop()
        needs = read_needs(program)
        if needs.interpreter and needs.interpreter not in seen:
            seen.add(needs.interpreter)
            loader = root / needs.interpreter.lstrip("/")
            if not loader.exists():
                raise LibraryError(f"{program.name} needs the loader {needs.interpreter}, which is not there")
            yield needs.interpreter, loader.resolve()
        origin = "/" + str(program.parent.relative_to(root))
        own = [part.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for part in needs.search]
        for name in needs.libraries:
            if name in seen:
                continue
            seen.add(name)
            where = next((d for d in [*own, *directories] if (root / d.lstrip("/") / name).exists()), None)
            if where is None:
                raise LibraryError(
                    f"{program.name} needs {name}, which is in none of {', '.join(directories)}"
                )
            found = root / where.lstrip("/") / name
            yield f"{where}/{name}", found.resolve()
            waiting.append(found)
