"""The doctor and set-up on a host where nothing is ready yet: one sentence each, and the right exit code."""

import json
import os
import re
from pathlib import Path

import pytest

from cloister.cli.main import main
from cloister.kit import ARCHITECTURES
from cloister.places import Places, own_architecture
from cloister.setup import Finding, SystemPackagesError, Wishes, examine, missing_packages, setup_steps
from cloister.setup import system_packages as module


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Give every test places of its own."""
    return Places.from_environment({}, root=False, home=tmp_path / "home")


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the commands see a user who has nothing."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    monkeypatch.setenv("NITRO_CLI_LOGS_PATH", str(tmp_path / "logs"))
    return tmp_path


def by_name(places: Places) -> dict[str, Finding]:
    """Index the findings by what was checked."""
    return {finding.check: finding for finding in examine(places)}


def test_on_an_empty_host_everything_missing_is_named_with_its_cure(places: Places) -> None:
    """Jail, kit, root of trust, KMS account and accelerator are missing; each says what to run."""
    findings = by_name(places)
    for name in ("jail root", "QEMU in its jail", "guest kit", "root of trust", "KMS account", "accelerator"):
        assert not findings[name].ok
        assert findings[name].needed
        assert "cloister setup" in findings[name].fix
    assert findings["python"].ok
    assert all(finding.fix or finding.ok for finding in findings.values())
    assert all("\n" not in finding.found for finding in findings.values())


def test_the_other_architecture_is_looked_at_but_not_needed(places: Places) -> None:
    """One finding for all that its enclaves need, with the command that prepares them."""
    other = next(name for name in ARCHITECTURES if name != own_architecture())
    finding = by_name(places)[f"{other} enclaves"]
    assert not finding.ok
    assert not finding.needed
    assert finding.fix == f"run 'cloister setup --arch {other}'"


def test_the_cross_compiler_is_needed_for_the_other_architecture_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever prepares only the host's own enclaves is spared it."""
    monkeypatch.setattr("cloister.setup.system_packages._search_path", lambda: "")
    monkeypatch.setattr("cloister.setup.system_packages.own_architecture", lambda: "aarch64")
    assert "gcc-x86-64-linux-gnu" not in missing_packages(building=True, architectures=["aarch64"])
    assert "gcc-x86-64-linux-gnu" in missing_packages(building=False, architectures=["aarch64", "x86_64"])


def test_setup_steps_of_the_other_architecture_come_last(places: Places) -> None:
    """By default there are none; asked for, they follow what every enclave needs."""
    other = next(name for name in ARCHITECTURES if name != own_architecture())
    plain = [step.title for step in setup_steps(places, Wishes())]
    both = [step.title for step in setup_steps(places, Wishes(architectures=ARCHITECTURES))]
    assert not [title for title in plain if other in title]
    assert both == [
        *plain,
        *(f"{what} for {other}" for what in ("jail root with QEMU", "guest kit", "accelerator")),
    ]


def test_examining_changes_nothing(places: Places, tmp_path: Path) -> None:
    """The doctor only looks."""
    list(examine(places))
    assert not (tmp_path / "home").exists()


def test_a_directory_of_somebody_else_is_reported(tmp_path: Path) -> None:
    """A place that cannot be written is a finding, not a traceback."""
    (tmp_path / "file").write_text("in the way")
    blocked = Places(
        run=tmp_path / "file/run", logs=tmp_path, state=tmp_path, cache=tmp_path, artifacts=tmp_path
    )
    assert not by_name(blocked)["run directory"].ok
    assert by_name(blocked)["log directory"].ok


def test_doctor_prints_findings_and_exits_1(empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people and as JSON."""
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^FAIL  guest kit: no guest kit for x86_64$", printed, re.MULTILINE)
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"check", "ok", "needed", "found", "fix"} == set(findings[0])


def test_setup_offline_with_an_empty_cache_says_what_to_do(
    empty_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails at the first step that needs the network, in one sentence, with exit code 1."""
    assert main(["setup", "--offline", "--no-packages"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("cloister: ")
    assert "without --offline" in errors[-1] or "apt-get install" in errors[-1]


@pytest.mark.parametrize(
    "words", [["show"], ["use", "00"], ["import", "/etc/hostname"], ["export", "/tmp/none.tar"]]
)
def test_kit_commands_without_a_kit_fail_with_one_sentence(
    empty_home: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Exit code 1, nothing on standard output."""
    assert main(["kit", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("cloister: ")


def test_missing_packages_are_named_with_the_command_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user gets one sentence to hand to whoever is root."""
    absent = module.Requirement("no-such-package", program="no-such-program")
    monkeypatch.setattr(module, "RUNNING", (absent,))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    missing = missing_packages(building=False)
    assert missing == ["no-such-package"]
    with pytest.raises(SystemPackagesError, match=r"run 'sudo apt-get install .* no-such-package'"):
        module.install_packages(missing, lambda *_: None, offline=False)


def test_offline_never_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SystemPackagesError, match="offline"):
        module.install_packages(["no-such-package"], lambda *_: None, offline=True)


def test_an_identity_is_made_once_and_stays(places: Places) -> None:
    """The step can be repeated; another identity than the first is refused."""

    def trust(wishes: Wishes) -> str:
        step = next(step for step in setup_steps(places, wishes) if step.title == "local root of trust")
        return step.run(lambda *_: None)

    assert trust(Wishes(instance_id="i-0123456789abcdef0")) == "made for i-0123456789abcdef0 in us-east-1"
    assert trust(Wishes()) == "i-0123456789abcdef0 in us-east-1"
    with pytest.raises(Exception, match="cloister host set"):
        trust(Wishes(instance_id="i-0fedcba9876543210"))
