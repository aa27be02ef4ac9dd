"""Hosts on which no cpuset partition can be had say why; where it can, see ``tests/vm/test_resources.py``."""

from pathlib import Path

import pytest

from cloister.resources.cgroups import NoPartitionError, make_partition, remove_enclave_group


def test_cgroup_v1_is_told(tmp_path: Path) -> None:
    """A directory without cgroup.controllers is no unified hierarchy."""
    with pytest.raises(NoPartitionError, match="is not a cgroup v2 hierarchy"):
        make_partition(tmp_path, (1,), None)


def test_missing_controller_is_told(tmp_path: Path) -> None:
    """A hybrid host's unified hierarchy has no cpuset controller."""
    (tmp_path / "cgroup.controllers").write_text("pids memory\n")
    with pytest.raises(NoPartitionError, match="has no cpuset controller"):
        make_partition(tmp_path, (1,), None)


def test_another_pools_partition_is_left_alone(tmp_path: Path) -> None:
    """The pool of another run directory keeps its CPUs."""
    (tmp_path / "cgroup.controllers").write_text("cpuset memory\n")
    group = tmp_path / "nitro_enclaves"
    group.mkdir()
    with pytest.raises(NoPartitionError, match="is another pool's"):
        make_partition(tmp_path, (1,), None)
    assert list(group.iterdir()) == []


def test_absent_group_counts_as_removed(tmp_path: Path) -> None:
    """Removing a cgroup that is gone already is no failure."""
    assert remove_enclave_group(tmp_path / "none")
