"""Losing power half-way through any change of the root of trust leaves one that can be used."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cloister.attestation import Expected, sign, verify
from cloister.trust import TrustError, TrustMissingError, load_root, look, open_trust, trusted_roots
from simulators.power_loss import MODULE_ID, NOW, SCENARIOS, SPAN

PCRS = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48}
KILLED = ("init", "rotate")
"""Where a killed process leaves what a lost power does not: files half written, none of them in place."""
OFFLINE_AFTERWARDS = ("init --offline", "rotate --offline", "take-offline", "import bundle")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Make a directory in memory, where there is any: what was synced is in the simulator's books."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


def issues_and_verifies(directory: Path, now: datetime = NOW) -> None:
    """Let the root of trust sign a document and verify it under the root that it had published before."""
    published = open_trust(directory).root_certificate
    credentials = open_trust(directory).enclave_credentials(MODULE_ID, now)
    document = sign(credentials, module_id=MODULE_ID, now=now, pcrs=PCRS)
    verify(document, roots=[published], now=now, expect=Expected(pcrs=PCRS))
    assert trusted_roots(directory, now)[0] == published


def places_after_each_cut(name: str, directory: Path) -> Iterator[Path]:
    """Yield the state after every possible cut."""
    kinds = ("kill", "power") if name in KILLED else ("power",)
    driver = Path(__file__).parents[1] / "simulators/power_loss.py"
    done = subprocess.run(
        [sys.executable, driver, name, directory, *kinds],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10 * len(kinds)
    yield from sorted(path for path in directory.iterdir() if path.name != "start")


def check_secrecy(directory: Path) -> None:
    """Only the owner can read a key, finished or not, though the umask was 0."""
    for path in directory.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes() and path.name != "bundle":
            assert path.stat().st_mode & 0o777 == 0o600, path
    if (directory / "pki").exists():
        assert (directory / "pki").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_any_cut_leaves_a_usable_root_of_trust(name: str, scratch: Path) -> None:
    """It opens, issues and verifies after every cut; only ``init`` may have to be run again."""
    _, act = SCENARIOS[name]
    for place in places_after_each_cut(name, scratch):
        pki = place / "pki"
        check_secrecy(place)
        try:
            before = look(pki, NOW) if pki.exists() else None
        except TrustMissingError:
            before = None
        assert before is not None or name.startswith("init")
        if before is not None:
            issues_and_verifies(pki)
            keys = [pki / "root.key", place / "usb.key"]
            if not before.key_here and name != "import bundle":
                assert load_root(keys[1], None).certificate == before.trust.root_certificate
        if name == "take-offline" and not (pki / "root.key").exists():  # the cut came after all that counts
            with pytest.raises(TrustError, match="not on this host"):
                act(place)
        else:
            act(place)
        issues_and_verifies(pki)
        assert (pki / "root.key").exists() == (name not in OFFLINE_AFTERWARDS)
        assert not list(pki.glob(".*.new"))
    if name in OFFLINE_AFTERWARDS:
        issues_and_verifies(pki, NOW + SPAN - timedelta(minutes=1))
