"""Claims: nobody gets what another has, and the dead keep nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.resources import (
    CpusTakenError,
    MemoryShortError,
    Pool,
    PoolError,
    Wish,
    claim_resources,
    live_claims,
    load_pool,
    locked_claims,
    sweep_dead_claims,
)
from cloister.resources.pool import save_pool

GIB, MIB2 = 1 << 20, 2048
SMT_POOL = Pool(((1, 5), (2, 6)), 0, 1024)


def with_pool(run: Path, pool: Pool) -> Path:
    """Make a run directory with a pool."""
    run.mkdir(exist_ok=True)
    save_pool(run, pool)
    return run


def files(run: Path) -> list[str]:
    """Return the claims' files."""
    return sorted(path.name for path in (run / "claims").iterdir() if path.name != ".lock")


def test_pool_cpus_serve_one_enclave_at_a_time(tmp_path: Path) -> None:
    """Cores are handed out whole and once; closing a claim frees them."""
    run = with_pool(tmp_path, SMT_POOL)
    first = claim_resources(run, Wish(64, cpu_count=2), ())
    second = claim_resources(run, Wish(64, cpu_count=2), ())
    assert (first.cpus, second.cpus) == ((1, 5), (2, 6))
    with pytest.raises(CpusTakenError, match="No CPUs are available in the pool: 0 of 4 are free"):
        claim_resources(run, Wish(64, cpu_count=2), ())
    with pytest.raises(CpusTakenError, match="already used"):
        claim_resources(run, Wish(64, cpu_ids=(5, 1)), ())
    first.close()
    first.close()
    assert claim_resources(run, Wish(64, cpu_ids=(5, 1)), ()).cpus == (5, 1)


@pytest.mark.parametrize("wish", [Wish(64, cpu_count=1), Wish(64, cpu_ids=(1,)), Wish(64, cpu_ids=(1, 2))])
def test_part_of_a_core_is_refused(tmp_path: Path, wish: Wish) -> None:
    """An enclave has full cores, as the Nitro driver demands."""
    with pytest.raises(CpusTakenError, match="full CPU cores have not been set"):
        claim_resources(with_pool(tmp_path, SMT_POOL), wish, ())


def test_memory_comes_from_the_budget(tmp_path: Path) -> None:
    """What others claimed is gone; what is asked beyond the rest is refused with both numbers."""
    run = with_pool(tmp_path, Pool(((1,), (2,)), 0, 512))
    claim_resources(run, Wish(300, cpu_count=1), ())
    with pytest.raises(MemoryShortError, match="has 212 of its 512 MiB left, not 213 MiB"):
        claim_resources(run, Wish(213, cpu_count=1), ())
    assert claim_resources(run, Wish(212, cpu_count=1), ()).memory_mib == 212


@pytest.mark.parametrize(
    ("wanted", "given", "page"),
    [(1024, 1024, GIB), (256, 256, MIB2), (129, 130, MIB2), (300, 300, MIB2), (514, 1024, GIB)],
)
def test_memory_is_on_the_largest_pages_that_divide_it(
    tmp_path: Path, wanted: int, given: int, page: int
) -> None:
    """Of 1 GiB and 256 pages of 2 MiB each size gets what fits best; what does not divide is rounded up."""
    run = with_pool(tmp_path, Pool(((1,),), 0, 1536, ((GIB, 1), (MIB2, 256))))
    claim = claim_resources(run, Wish(wanted, cpu_count=1), ())
    assert (claim.memory_mib, claim.huge_page_kib) == (given, page)


def test_pages_that_others_have_are_not_counted(tmp_path: Path) -> None:
    """When the large page is taken the small ones serve, and the other way about."""
    run = with_pool(tmp_path, Pool(((1,), (2,), (3,)), 0, 3072, ((GIB, 1), (MIB2, 1024))))
    pages = [claim_resources(run, Wish(1024, cpu_count=1), ()).huge_page_kib for _ in range(3)]
    assert pages == [GIB, MIB2, MIB2]


def test_without_a_pool_cpus_are_shared_evenly(tmp_path: Path) -> None:
    """The CPUs with the fewest enclaves are taken, from the highest down; ids are taken as given."""
    claims = [claim_resources(tmp_path, Wish(64, cpu_count=1), {0, 1, 2}) for _ in range(4)]
    assert [claim.cpus for claim in claims] == [(2,), (1,), (0,), (2,)]
    assert claim_resources(tmp_path, Wish(64, cpu_ids=(2, 0)), {0, 1, 2}).cpus == (2, 0)
    assert claims[0].huge_page_kib is None


def test_relaxed_pool_is_shared(tmp_path: Path) -> None:
    """Enclaves of a relaxed pool share its CPUs and no others."""
    run = with_pool(tmp_path, Pool(((1,),), 0, 512, relaxed=("a rule",)))
    claims = [claim_resources(run, Wish(64, cpu_count=1), {0, 1, 2, 3}) for _ in range(2)]
    assert [claim.cpus for claim in claims] == [(1,), (1,)]


def test_memory_promised_to_others_is_not_available(tmp_path: Path) -> None:
    """Without a pool an enclave needs memory that is there and that no other was promised."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1048576 kB\nMemAvailable: 819200 kB\n")
    claim_resources(tmp_path, Wish(700, cpu_count=1), {0}, meminfo=meminfo)
    with pytest.raises(MemoryShortError, match="has 324 MiB of memory left, not 325 MiB"):
        claim_resources(tmp_path, Wish(325, cpu_count=1), {0}, meminfo=meminfo)
    claim_resources(tmp_path, Wish(324, cpu_count=1), {0}, meminfo=meminfo)


HOLDER = """
import sys, os
from pathlib import Path
from cloister.resources import CpusTakenError, Wish, claim_resources
sys.stdin.readline()
try:
    claim = claim_resources(Path(sys.argv[1]), Wish(64, cpu_count=1), ())
    print(claim.cpus[0], flush=True)
except CpusTakenError:
    print("none", flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""


def test_sixteen_at_once_get_different_cpus_and_the_killed_keep_none(tmp_path: Path) -> None:
    """Sixteen processes claim at the same moment from a pool of twelve; killed, they leave nothing behind."""
    run = with_pool(tmp_path, Pool(tuple((cpu,) for cpu in range(1, 13)), 0, 4096))
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(16)
    ]
    for holder in holders:
        assert holder.stdin is not None
        holder.stdin.write("go\n")
        holder.stdin.flush()
    got = [holder.stdout.readline().strip() for holder in holders if holder.stdout is not None]
    assert sorted(int(cpu) for cpu in got if cpu != "none") == list(range(1, 13))
    with locked_claims(run) as directory:
        assert len(live_claims(directory)) == 12
    for holder in holders:
        holder.communicate("end\n", timeout=30)
        assert holder.returncode == -9
    assert len(files(run)) == 12
    sweep_dead_claims(run)
    assert files(run) == []


def test_sweeping_leaves_the_living_alone(tmp_path: Path) -> None:
    """A claim whose holder lives stays; a dead one goes, and a cgroup it never had is not touched."""
    claim = claim_resources(tmp_path, Wish(64, cpu_count=1), {0})
    innocent = tmp_path / "innocent"
    innocent.mkdir()
    forged = tmp_path / "claims/0123456789abcdef"
    forged.write_text(
        json.dumps({"cpus": [1], "memory_mib": 1, "huge_page_kib": None, "cgroup": str(innocent)})
    )
    (tmp_path / "claims/garbage").write_bytes(b"\xff{")
    sweep_dead_claims(tmp_path)
    assert len(files(tmp_path)) == 1
    assert innocent.is_dir()
    claim.close()
    assert files(tmp_path) == []


def test_sweeping_where_nothing_was_claimed_makes_nothing(tmp_path: Path) -> None:
    """Looking for the dead creates no directory."""
    sweep_dead_claims(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_everybody_reads_the_pool_and_only_its_owner_writes(tmp_path: Path) -> None:
    """The pool's file is 0644 whatever the umask, and comes back as it was."""
    pool = Pool(((1, 5), (2, 6)), 1, 1536, ((GIB, 1), (MIB2, 256)), ("a rule",), "/a/group", ("a note",))
    before = os.umask(0o077)
    try:
        save_pool(tmp_path, pool)
    finally:
        os.umask(before)
    assert (tmp_path / "pool.json").stat().st_mode & 0o777 == 0o644
    assert load_pool(tmp_path) == pool
    assert load_pool(tmp_path / "none") is None


def damage(pool: Path, kind: str) -> None:
    """Spoil a pool's file."""
    if kind == "link":
        pool.rename(pool.with_name("other"))
        pool.symlink_to("other")
    elif kind == "stranger":
        os.chown(pool, 12345, 12345)
    elif kind == "pages of nothing":
        pool.write_text(json.dumps(json.loads(pool.read_text()) | {"pages": [[0, 1]]}))
    else:
        pool.write_text(
            {"text": "pool", "list": "[]", "negative": pool.read_text().replace("1024", "-1")}[kind]
        )


@pytest.mark.parametrize("kind", ["text", "list", "negative", "pages of nothing", "link", "stranger"])
def test_damaged_pool_is_refused(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """A pool that is not one, is a link, or belongs to somebody else is not believed."""
    if kind == "stranger" and os.geteuid() != 0:
        kind = "link"  # only root can give files away
    save_pool(tmp_path, SMT_POOL)
    damage(tmp_path / "pool.json", kind)
    with pytest.raises(PoolError, match="pool"):
        load_pool(tmp_path)


def test_claims_closed_out_of_order_free_what_they_had(tmp_path: Path) -> None:
    """Each claim frees its own CPUs, whichever ends first."""
    run = with_pool(tmp_path, Pool(((1,), (2,), (3,)), 0, 512))
    claims = [claim_resources(run, Wish(64, cpu_count=1), ()) for _ in range(3)]
    claims[1].close()
    assert claim_resources(run, Wish(64, cpu_count=1), ()).cpus == (2,)
