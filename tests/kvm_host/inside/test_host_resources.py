"""What root can partition here and a container seldom allows: CPUs by cpuset, memory by huge pages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.vmm import MemoryFile

HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
CGROUP = Path("/sys/fs/cgroup")


@pytest.fixture
def partition() -> Iterator[Path]:
    """Make a control group whose CPU nobody else may use, and take it apart again."""
    group = CGROUP / "pool"
    group.mkdir()
    (group / "cpuset.cpus").write_text("1")
    (group / "cpuset.cpus.partition").write_text("root")
    try:
        yield group
    finally:
        group.rmdir()


def test_cpuset_partition_takes_a_cpu_from_everybody_else(partition: Path) -> None:
    """A process in the partition runs on its CPU alone, and we do not run on it any more."""
    assert (partition / "cpuset.cpus.partition").read_text() == "root\n"
    program = "import os; print(sorted(os.sched_getaffinity(0)))"
    shell = f'echo $$ > {partition}/cgroup.procs && exec "$0" -c "$1"'
    words = ["sh", "-c", shell, sys.executable, program]
    inside = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert inside.stdout == "[1]\n"
    assert 1 not in os.sched_getaffinity(0)


@pytest.fixture
def huge_pages() -> Iterator[int]:
    """Reserve 64 huge pages and give them back."""
    before = HUGE_PAGES.read_text()
    HUGE_PAGES.write_text("64")
    try:
        yield int(HUGE_PAGES.read_text())
    finally:
        HUGE_PAGES.write_text(before)


def free_huge_pages() -> tuple[int, int]:
    """Return the free huge pages and, of these, the promised ones."""
    text = Path("/proc/meminfo").read_text()
    values = dict(re.findall(r"^HugePages_(\w+): +(\d+)", text, re.MULTILINE))
    return int(values["Free"]), int(values["Rsvd"])


def test_guest_memory_is_made_of_huge_pages(huge_pages: int) -> None:
    """A guest's memory file comes out of the reserve, is there to write to, and goes back when let go."""
    assert huge_pages == 64
    memory = MemoryFile(64, huge_page_kib=2048)
    memory.scrub()  # touches all of it
    assert free_huge_pages()[0] == 32
    memory.close()
    assert free_huge_pages()[0] == 64
