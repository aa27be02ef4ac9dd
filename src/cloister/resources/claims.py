"""Claims: what one enclave has of the CPUs and the memory, for as long as its supervisor lives.

A claim is a file in ``<run>/claims`` that its supervisor holds locked (flock(2)): a killed supervisor's lock
is gone, and whoever comes next removes the file and the cgroup. Claims are made under one lock, so that
enclaves which start at once cannot get the same. Without a pool, and from a relaxed one, CPUs are shared.
"""

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from cloister.errors import CloisterError
from cloister.resources.cgroups import make_enclave_group, remove_enclave_group
from cloister.resources.pool import Pool, load_pool

CLAIMS: Final = "claims"
MAX_CLAIM: Final = 1 << 16
MEMINFO: Final = Path("/proc/meminfo")


class ClaimError(CloisterError):
    """The resources cannot be claimed."""


class CpusTakenError(ClaimError):
    """The pool has the CPUs, but not for this enclave."""


class MemoryShortError(ClaimError):
    """There is not enough memory."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an enclave asks for: ``cpu_ids``, or ``cpu_count`` of any."""

    memory_mib: int
    cpu_ids: tuple[int, ...] | None = None
    cpu_count: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What a claim holds, as its file says."""

    cpus: tuple[int, ...]
    memory_mib: int
    huge_page_kib: int | None = None
    """The page size of its memory; None is ordinary pages."""
    cgroup: str | None = None

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a claim's file; raises ValueError, TypeError, KeyError."""
        fields = json.loads(content)
        size, cgroup = fields["huge_page_kib"], fields["cgroup"]
        return cls(
            tuple(int(cpu) for cpu in fields["cpus"]),
            int(fields["memory_mib"]),
            None if size is None else int(size),
            None if cgroup is None else str(cgroup),
        )


class ResourceClaim:
    """An enclave's share, held until ``close`` or the end of the process."""

    def __init__(self, path: Path, lock: int, share: Share) -> None:
        self._path = path
        self._lock = lock
        self._share = share

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPU ids, in the order of the vCPUs."""
        return self._share.cpus

    @property
    def memory_mib(self) -> int:
        """What is really given: on huge pages, rounded up to whole ones."""
        return self._share.memory_mib

    @property
    def huge_page_kib(self) -> int | None:
        """The page size reserved for the memory; None is ordinary pages."""
        return self._share.huge_page_kib

    @property
    def cgroup(self) -> Path | None:
        """The cgroup for the machine's processes, in which other CPUs than its own cannot be had."""
        return None if self._share.cgroup is None else Path(self._share.cgroup)

    def close(self) -> None:
        """Give everything back, after the machine's end; safe to call again."""
        if self._lock < 0:
            return
        if self.cgroup is None or remove_enclave_group(self.cgroup):
            with suppress(OSError):
                self._path.unlink()
        os.close(self._lock)
        self._lock = -1


@contextmanager
def locked_claims(run: Path) -> Iterator[Path]:
    """Hold the lock of the claims and yield their directory; raises ClaimError."""
    directory = run / CLAIMS
    mode = 0o755 if os.geteuid() == 0 else 0o700
    try:
        run.mkdir(parents=True, exist_ok=True, mode=mode)
        directory.mkdir(exist_ok=True, mode=mode)
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ClaimError(f"The claims in {directory} cannot be locked: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(lock)


def live_claims(directory: Path) -> list[Share]:
    """Return the claims whose holders live, and remove what dead ones left; the caller holds the lock."""
    shares = (_read(path) for path in sorted(directory.iterdir()) if path.name != ".lock")
    return [share for share in shares if share is not None]


def _read(path: Path) -> Share | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Share.from_bytes(os.read(handle, MAX_CLAIM))
        with suppress(OSError):
            _bury(path, os.read(handle, MAX_CLAIM))
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    finally:
        os.close(handle)


def _bury(path: Path, content: bytes) -> None:
    """Remove a dead claim, its cgroup first: the file is how the next one finds what is left."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        cgroup = Share.from_bytes(content).cgroup
        # only what a claim of this name can have made: the file decides what root removes
        if cgroup is not None and Path(cgroup).name == path.name and not remove_enclave_group(Path(cgroup)):
            return
    path.unlink(missing_ok=True)


def sweep_dead_claims(run: Path) -> None:
    """Remove what killed supervisors left of their claims; does nothing where nobody claimed anything."""
    if (run / CLAIMS).is_dir():
        with suppress(CloisterError), locked_claims(run) as directory:
            live_claims(directory)


def claim_resources(
    run: Path, wish: Wish, usable: Collection[int], *, meminfo: Path = MEMINFO
) -> ResourceClaim:
    """Claim CPUs and memory of the pool, or, without one, of the ``usable`` CPUs and the host's memory.

    Raises CpusTakenError, MemoryShortError, and ClaimError where claims cannot be kept.
    """
    with locked_claims(run) as directory:
        pool = load_pool(run)
        others = live_claims(directory)
        memory_mib, page = _choose_memory(wish.memory_mib, pool, others, meminfo)
        cpus = _choose_cpus(wish, pool, others, usable)
        name = os.urandom(8).hex()
        share = Share(cpus, memory_mib, page)
        if pool is not None and pool.cgroup is not None:
            group = make_enclave_group(Path(pool.cgroup), name, cpus, memory_mib)
            share = Share(cpus, memory_mib, page, None if group is None else str(group))
        return _enter(directory / name, share)


def _enter(path: Path, share: Share) -> ResourceClaim:
    lock = -1
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(lock, "w", closefd=False) as file:
            json.dump(asdict(share), file)
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        with suppress(OSError):
            path.unlink()
        if share.cgroup is not None:
            remove_enclave_group(Path(share.cgroup))
        raise ClaimError(f"The claim {path} cannot be written: {error.strerror}.") from None
    return ResourceClaim(path, lock, share)


def _choose_memory(
    wanted: int, pool: Pool | None, others: Collection[Share], meminfo: Path
) -> tuple[int, int | None]:
    """Return MiB and the page size, or raise MemoryShortError."""
    taken = sum(share.memory_mib for share in others)
    if pool is None:
        _check_host(wanted, taken, meminfo)
        return wanted, None
    if taken + wanted > pool.memory_mib:
        left = max(0, pool.memory_mib - taken)
        raise MemoryShortError(f"The pool has {left} of its {pool.memory_mib} MiB left, not {wanted} MiB.")
    free = {size: count - _pages_taken(size, others) for size, count in pool.pages}
    exact = [size for size in free if wanted * 1024 % size == 0]
    # the largest page that divides the memory; else the smallest, which wastes least
    for size in (*sorted(exact, reverse=True), *sorted(free)):
        needed = -(-wanted * 1024 // size)
        if 0 < needed <= free[size]:
            return needed * size // 1024, size
    if pool.pages:  # the pool's pages do not add up to this size: ordinary ones, where the host has them
        _check_host(wanted, 0, meminfo)
    return wanted, None


def _pages_taken(size: int, others: Collection[Share]) -> int:
    return sum(share.memory_mib * 1024 // size for share in others if share.huge_page_kib == size)


def _check_host(wanted: int, promised: int, meminfo: Path) -> None:
    """Raise MemoryShortError unless memory is there: guests touch theirs late, so promises count too."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available, total = (int(fields[key].split()[0]) // 1024 for key in ("MemAvailable", "MemTotal"))
    left = min(available, total - promised)
    if wanted > left:
        raise MemoryShortError(f"This host has {max(0, left)} MiB of memory left, not {wanted} MiB.")


def _choose_cpus(
    wish: Wish, pool: Pool | None, others: Collection[Share], usable: Collection[int]
) -> tuple[int, ...]:
    """Return the CPU ids, or raise CpusTakenError."""
    if pool is not None and pool.exclusive:
        return _choose_exclusive(wish, pool, {cpu for share in others for cpu in share.cpus})
    there = set(usable if pool is None else pool.cpus)
    if wish.cpu_ids is not None:
        if not set(wish.cpu_ids) <= there:
            raise CpusTakenError(f"CPU(s) {sorted(set(wish.cpu_ids) - there)} are not in the pool any more.")
        return wish.cpu_ids
    if wish.cpu_count > len(there):
        raise CpusTakenError(f"There are {len(there)} CPUs, not {wish.cpu_count}.")
    enclaves = {cpu: sum(cpu in share.cpus for share in others) for cpu in there}
    # those with the fewest enclaves; of these the highest, for CPU 0 is busiest with the host
    ranked = sorted(there, key=lambda cpu: (enclaves[cpu], -cpu))
    return tuple(sorted(ranked[: wish.cpu_count]))


def _choose_exclusive(wish: Wish, pool: Pool, taken: Collection[int]) -> tuple[int, ...]:
    free = [core for core in pool.cores if not set(core) & set(taken)]
    if wish.cpu_ids is not None:
        used = sorted(set(wish.cpu_ids) & set(taken))
        if used:
            raise CpusTakenError(f"The provided vCPU is already used: CPU(s) {used} are another enclave's.")
        cores = [core for core in free if set(core) & set(wish.cpu_ids)]
        chosen = wish.cpu_ids
    else:
        cores, chosen = [], ()
        for core in free:
            if len(chosen) < wish.cpu_count:
                cores.append(core)
                chosen += core
        if len(chosen) < wish.cpu_count:
            raise CpusTakenError(
                f"No CPUs are available in the pool: {len(chosen)} of {len(pool.cpus)} are free, "
                f"{wish.cpu_count} were asked for."
            )
        chosen = chosen[: wish.cpu_count]
    if set(chosen) != {cpu for core in cores for cpu in core}:
        raise CpusTakenError(
            "The enclave cannot start because full CPU cores have not been set: its CPUs are "
            f"{sorted(chosen)}, the cores {[list(core) for core in cores]}."
        )
    return tuple(chosen)
