"""``nitro-enclaves-allocator``, from its file to the pool, on hosts made of files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.allocator import main
from cloister.resources import Wish, claim_resources, load_pool

FOUR = [(0,), (1,), (2,), (3,)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a run directory."""
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    return tmp_path / "run"


def words(tmp_path: Path, text: str, *more: str) -> list[str]:
    """Return the command's words for a configuration and the test's host."""
    config = tmp_path / "allocator.yaml"
    config.write_text(text)
    return ["--config", str(config), "--sysfs", str(tmp_path / "sys"), "--cgroups", str(tmp_path), *more]


def pages(sysfs: Path, size: int = 2048, node: int = 0) -> int:
    """Return how many huge pages are reserved."""
    path = sysfs / f"devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages"
    return int(path.read_text())


def test_pool_is_made_told_shown_and_cleared(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The output is AWS's line by line, with a note on what this host cannot do; --clear undoes it all."""
    sysfs = make_sysfs(FOUR)
    command = words(tmp_path, "---\nmemory_mib: 512\ncpu_count: 2\n")
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Auto-generating the enclave CPU pool by using the CPU count...",
        "Will try to reserve 512 MB of memory on node 0.",
        "Configuring the huge page memory...",
        "- Reserved 256 pages of type: 2048kB.",
        "Done.",
        "Auto-generated the enclave CPU pool: 1,2.",
        "Configuring the enclave CPU pool...",
        "Done.",
        f"Note: Other processes are not kept off the pool's CPUs: {tmp_path} is not a cgroup v2 hierarchy.",
        "Successfully allocated Nitro Enclaves resources: 512 MiB, 2 CPUs",
    ]
    assert main(["--show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["Pool"]["CPUIDs"] == [1, 2]
    assert shown["Pool"]["HugePages"] == {"2048": 256}
    assert shown["Pool"]["Exclusive"] is True
    assert shown["Claims"] == []
    assert main([*command, "--clear"]) == 0
    assert pages(sysfs) == 0
    assert load_pool(run) is None


def test_allocating_again_replaces_the_pool(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run gives back what the first had reserved before it reserves anew."""
    sysfs = make_sysfs(FOUR)
    assert main(words(tmp_path, "---\nmemory_mib: 512\ncpu_count: 2\n")) == 0
    assert main(words(tmp_path, "---\nmemory_mib: 100\ncpu_pool: 3\n")) == 0
    assert "Successfully allocated Nitro Enclaves resources: 100 MiB, CPU pool: 3" in capsys.readouterr().out
    assert pages(sysfs) == 50
    pool = load_pool(run)
    assert pool is not None
    assert pool.cpus == (3,)


def test_change_is_refused_while_an_enclave_runs(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As long as a claim lives, neither a new pool nor --clear goes through, and the pool stays."""
    make_sysfs(FOUR)
    command = words(tmp_path, "---\nmemory_mib: 512\ncpu_count: 2\n")
    assert main(command) == 0
    before = load_pool(run)
    claim = claim_resources(run, Wish(64, cpu_count=1), ())
    capsys.readouterr()
    for more in ([], ["--clear"]):
        assert main([*command, *more]) == 1
        assert capsys.readouterr().out == (
            "Error: Could not re-online CPUs because there is at least one enclave currently running. Make "
            "sure you stop all enclaves prior to re-starting the nitro-enclaves-allocator.service.\n"
        )
    assert load_pool(run) == before
    claim.close()
    assert main([*command, "--clear"]) == 0


def test_small_host_is_refused_and_relaxed_on_demand(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two cores have none to spare for two: AWS's error and a hint; --relaxed makes a pool that says so."""
    make_sysfs([(0,), (1,)])
    command = words(tmp_path, "---\nmemory_mib: 64\ncpu_count: 2\n")
    assert main(command) == 1
    told = capsys.readouterr().out
    assert "Error: Failed to find suitable CPUs for the Nitro Enclaves CPU pool after checking all" in told
    assert "--relaxed" in told
    assert load_pool(run) is None
    assert main([*command, "--relaxed"]) == 0
    told = capsys.readouterr().out
    assert "Relaxed: CPU 0 and its siblings belong to the host, the pool has CPU(s) [0]." in told
    pool = load_pool(run)
    assert pool is not None
    assert not pool.exclusive


def test_host_without_huge_pages_has_a_budget_of_ordinary_memory(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the kernel has no huge pages the budget is ordinary memory, and that is said."""
    make_sysfs(FOUR, pages=())
    assert main(words(tmp_path, "---\nmemory_mib: 64\ncpu_count: 2\n")) == 0
    assert "the budget is 64 MiB of ordinary memory" in capsys.readouterr().out
    claim = claim_resources(run, Wish(64, cpu_count=2), ())
    assert (claim.memory_mib, claim.huge_page_kib) == (64, None)
    claim.close()


def test_more_memory_than_there_is_fails(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither huge nor ordinary pages: the allocator fails with exit code 1 and there is no pool."""
    make_sysfs(FOUR, pages=())
    assert main(words(tmp_path, "---\nmemory_mib: 99999999999\ncpu_count: 2\n")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "Error: The kernel has no huge pages."
    assert load_pool(run) is None


def test_wrong_file_and_usage(
    run: Path, tmp_path: Path, make_sysfs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file is named, a mistake has its line, unknown options are usage errors."""
    assert main(["--config", str(tmp_path / "none.yaml")]) == 1
    assert f"Error: {tmp_path}/none.yaml cannot be read: No such file" in capsys.readouterr().out
    assert main(words(tmp_path, "---\nfoo: 1\n")) == 1
    assert capsys.readouterr().out == f"Error: Error in {tmp_path}/allocator.yaml:2 - unexpected: foo\n"
    for usage in (["--nothing"], ["--json"], ["--show", "--clear"]):
        with pytest.raises(SystemExit) as left:
            main(usage)
        assert left.value.code == 2


def test_prefix_of_the_installation_counts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is looked for under $NITRO_CLI_INSTALL_DIR, as AWS's allocator does."""
    monkeypatch.setenv("NITRO_CLI_INSTALL_DIR", str(tmp_path))
    assert main([]) == 1
    assert f"{tmp_path}/etc/nitro_enclaves/allocator.yaml cannot be read" in capsys.readouterr().out
