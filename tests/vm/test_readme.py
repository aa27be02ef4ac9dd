"""The README's first screen is a real session: what it shows is what `make demo` prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

REPOSITORY = Path(__file__).resolve().parents[2]
VOLATILE = (
    (r"i-[0-9a-f]{17}-enc[0-9a-f]{15,16}", "ENCLAVE"),
    (r"\b[0-9a-f]{16,}\b", "HEX"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\b\d+ while they ran", "N while they ran"),
)


def mask(line: str) -> str:
    """Replace what differs from run to run: ids, hashes, ports, counts."""
    for pattern, word in VOLATILE:
        line = re.sub(pattern, word, line)
    return line.rstrip()


def shows(readme_line: str, printed: str) -> bool:
    """Whether the README's line is the printed one; an ellipsis stands for anything."""
    parts = [re.escape(mask(part)) for part in re.sub(r"[0-9a-f]{16}…", "…", readme_line).split("…")]
    return re.fullmatch(".*".join(parts), mask(printed)) is not None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Run the demo as a newcomer does, in an empty directory."""
    return subprocess.run(
        [Path(sys.executable).with_name("cloister"), "demo"],
        cwd=tmp_path_factory.mktemp("empty"),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_demo_ends_well(demo: subprocess.CompletedProcess[str]) -> None:
    """The demo exits 0 and its last line says so."""
    assert (demo.returncode, demo.stdout.splitlines()[-1:]) == (0, ["demo: ok"]), demo.stdout + demo.stderr


def test_readme_shows_what_the_demo_prints(demo: subprocess.CompletedProcess[str]) -> None:
    """Every line of the README's session is printed by the demo, in that order."""
    readme = (REPOSITORY / "README.md").read_text()
    session = readme.split("```console\n", 1)[1].split("```", 1)[0].splitlines()
    assert session[0] == "$ make demo"
    assert len(session) > 20
    printed = iter(demo.stdout.splitlines())
    for line in session[1:]:
        assert any(shows(line, candidate) for candidate in printed), f"the demo does not print: {line}"
