"""The pool: what the allocator has set aside, kept in ``<run>/pool.json`` until cleared or a reboot.

Everybody may read it; who believes it checks that root or the reader owns it.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from cloister.errors import CloisterError

POOL: Final = "pool.json"
MAX_POOL: Final = 1 << 20


class PoolError(CloisterError):
    """The pool's file is not one, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Pool:
    """CPUs and memory for enclaves."""

    cores: tuple[tuple[int, ...], ...]
    """CPU ids, those of a physical core together."""
    node: int
    """The NUMA node of CPUs and memory."""
    memory_mib: int
    pages: tuple[tuple[int, int], ...] = ()
    """Reserved huge pages: (size in KiB, number), largest first; none where the budget is ordinary memory."""
    relaxed: tuple[str, ...] = ()
    """The rules it breaks. CPUs of a relaxed pool are shared: by enclaves, and with the host."""
    cgroup: str | None = None
    """The cgroup of the pool's own cpuset partition, which keeps all other processes off."""
    notes: tuple[str, ...] = ()
    """What could not be had, one sentence each."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """Every CPU of the pool, ascending."""
        return tuple(sorted(cpu for core in self.cores for cpu in core))

    @property
    def exclusive(self) -> bool:
        """Whether a CPU serves one enclave at a time."""
        return not self.relaxed

    def to_json(self) -> dict[str, Any]:
        """Return JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> Self:
        """Read what `to_json` wrote; raises ValueError, TypeError, KeyError."""
        cores = tuple(tuple(_whole(cpu) for cpu in core) for core in fields["cores"])
        pages = tuple((_whole(size), _whole(count)) for size, count in fields["pages"])
        if not all(size for size, _ in pages):
            raise ValueError("a page of 0 KiB is none")
        cgroup = fields["cgroup"]
        return cls(
            cores,
            _whole(fields["node"]),
            _whole(fields["memory_mib"]),
            pages,
            tuple(map(str, fields["relaxed"])),
            None if cgroup is None else str(cgroup),
            tuple(map(str, fields["notes"])),
        )


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number")
    return value


def load_pool(run: Path) -> Pool | None:
    """Return the pool, None where none is reserved; raises PoolError."""
    path = run / POOL
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PoolError(f"The pool {path} cannot be read: {error.strerror}.") from None
    try:
        if os.fstat(handle).st_uid not in (0, os.geteuid()):
            raise PoolError(f"The pool {path} belongs to another user; expected root or this user.")
        return Pool.from_json(json.loads(os.read(handle, MAX_POOL)))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise PoolError(f"The pool {path} is damaged; run nitro-enclaves-allocator again.") from None
    finally:
        os.close(handle)


def save_pool(run: Path, pool: Pool) -> None:
    """Write the pool, whole or not at all, under the lock of the claims; raises PoolError."""
    draft = run / f".{POOL}"
    try:
        with suppress(FileNotFoundError):
            draft.unlink()
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(handle, "w") as file:
            json.dump(pool.to_json(), file)
            file.flush()
            os.fchmod(handle, 0o644)  # whatever the umask: every user's commands ask how big the pool is
        draft.rename(run / POOL)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise PoolError(f"The pool {run / POOL} cannot be written: {error.strerror}.") from None


def remove_pool(run: Path) -> None:
    """Forget the pool; raises PoolError."""
    try:
        (run / POOL).unlink(missing_ok=True)
    except OSError as error:
        raise PoolError(f"The pool {run / POOL} cannot be removed: {error.strerror}.") from None
