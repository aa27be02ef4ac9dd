"""The VM tests under KVM, which this machine may not have: inside a machine that has it.

See docs/decisions/0100 to 0102. TASKS is what runs inside.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cloister.kit import KitMissingError, find_kit
from cloister.places import current_places
from cloister.vmm import JailMissingError, find_jail
from kvm_host.kernel import fetch_kernel
from kvm_host.machine import command_line, run_to_the_end

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path("tests/kvm_host")
SESSION = HERE / "guest/session.py"
SECONDS = 900.0
"""Ten times what an idle machine needs."""
RESOURCES = "tests/vm/test_resources.py"
SLOW = f"{RESOURCES}::test_memory_is_overwritten_at_every_ending"
"""It does not depend on KVM, cpusets or huge pages, and takes a minute in here."""
EVERYBODY = [
    str(HERE / "inside/test_enclave_under_kvm.py"),
    str(HERE / "inside/test_real_vsock.py"),
    "tests/vm/test_enclave_lifecycle.py::test_debug_enclave_runs_shows_its_console_and_ends_without_trace",
]
ROOT = [str(HERE / "inside/test_host_resources.py"), RESOURCES, "--deselect", SLOW]
TASKS = {"root": [*EVERYBODY, *ROOT], "user": EVERYBODY}
"""What root and the ordinary user run inside: pytest's arguments."""


@dataclass(frozen=True)
class Report:
    """What one session of tests inside came to: each test's name and, where it did not pass, why."""

    results: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read a JUnit report."""
        results = {}
        for case in ET.parse(path).iter("testcase"):
            troubles = [child for child in case if child.tag in ("failure", "error", "skipped")]
            results[case.attrib["name"]] = "\n".join(
                f"{trouble.tag}: {trouble.attrib.get('message', '')}\n{trouble.text}" for trouble in troubles
            )
        return cls(results)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Boot the test host once, let it run both sessions and return what they came to."""
    if platform.machine() != "x86_64":
        pytest.skip("the test host needs an x86_64 QEMU that emulates AMD's SVM")
    places = current_places()
    try:
        jail = find_jail(places)
        find_kit(places)
    except (JailMissingError, KitMissingError) as error:
        pytest.skip(str(error))
    kernel = fetch_kernel(places)
    exchange = tmp_path_factory.mktemp("exchange")
    build_image(exchange)
    session = {
        "repository": str(REPOSITORY),
        "python": sys.executable,
        "python_home": sys.base_prefix,
        "path": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "cache": str(places.cache),
    }
    (exchange / "session.json").write_text(json.dumps(session | TASKS))
    start = shlex.join([sys.executable, str(REPOSITORY / SESSION)])
    (exchange / "start").write_text(f"exec {start}\n")
    started = time.monotonic()
    run_to_the_end(command_line(jail, kernel, exchange), seconds=SECONDS)
    print(f"the test host ran for {time.monotonic() - started:.0f} s")
    return {
        name: Report.read(exchange / f"{name}.xml") for name in TASKS if (exchange / f"{name}.xml").is_file()
    }


def build_image(exchange: Path) -> None:
    """Build the hello example out here, where the processor is real."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is absent, which compiles the guest's program")
    words = [sys.executable, "-m", "cloister.cli.main", "image", "build", str(REPOSITORY / "examples/hello")]
    words += ["--output", str(exchange / "hello.eif"), "--json"]
    built = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    (exchange / "hello.json").write_text(built.stdout)
    for path in (exchange, *exchange.iterdir()):
        path.chmod(0o755)  # the ordinary user inside reads them too


@pytest.mark.parametrize("who", ["root", "user"])
def test_vm_tests_pass_under_kvm(reports: dict[str, Report], who: str) -> None:
    """Every test that was asked for ran and passed, none was skipped."""
    assert who in reports, "the test host ended before its tests: its console, above, says how far it came"
    results = reports[who].results
    assert len(results) >= len(EVERYBODY)
    assert not {name: trouble for name, trouble in results.items() if trouble}
