"""A host's sysfs as a directory tree, and a user's run directory."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


@pytest.fixture
def make_sysfs(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of sysfs trees: NUMA nodes of cores of CPU ids, and huge page sizes in KiB."""

    def make(*nodes: Sequence[Sequence[int]], pages: Sequence[int] = (2048, 1048576)) -> Path:
        top = tmp_path / "sys"
        cpus = top / "devices/system/cpu"
        online = [cpu for cores in nodes for core in cores for cpu in core]
        for number, cores in enumerate(nodes):
            node = top / f"devices/system/node/node{number}"
            for size in pages:
                directory = node / f"hugepages/hugepages-{size}kB"
                directory.mkdir(parents=True)
                (directory / "nr_hugepages").write_text("0\n")
            node.mkdir(parents=True, exist_ok=True)
            (node / "cpulist").write_text(",".join(str(cpu) for core in cores for cpu in core) + "\n")
            for core in cores:
                for cpu in core:
                    topology = cpus / f"cpu{cpu}/topology"
                    topology.mkdir(parents=True)
                    (topology / "thread_siblings_list").write_text(",".join(map(str, core)) + "\n")
        (cpus / "online").write_text(",".join(map(str, sorted(online))) + "\n")
        return top

    return make
