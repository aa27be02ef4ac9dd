"""How machines run here, by architecture: which jail, which accelerator, and what is remembered of it."""

import json
import os
from pathlib import Path

import pytest

from cloister.places import Places
from cloister.vmm import Footing, Jail, JailMissingError, MachineError, find_footing, find_jail, jail_link
from cloister.vmm import accelerator as module


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Give every test places of its own."""
    return Places.from_environment({}, root=False, home=tmp_path / "home")


def make_jail(places: Places, architecture: str) -> None:
    """Lay out what find_jail looks for."""
    emulator = places.jails / f"digest-{architecture}/usr/bin/qemu-system-{architecture}"
    emulator.parent.mkdir(parents=True)
    emulator.touch()
    jail_link(places, architecture).symlink_to(f"digest-{architecture}")


@pytest.mark.parametrize(("host", "other"), [("x86_64", "aarch64"), ("aarch64", "x86_64")])
def test_a_missing_jail_names_the_command_that_makes_it(
    places: Places, monkeypatch: pytest.MonkeyPatch, host: str, other: str
) -> None:
    """The host's own architecture needs no option, the other does."""
    monkeypatch.setattr("cloister.vmm.jail.own_architecture", lambda: host)
    with pytest.raises(JailMissingError, match=r"run 'cloister setup'\.$"):
        find_jail(places)
    with pytest.raises(
        JailMissingError, match=rf"{other} enclaves .* run 'cloister setup --arch {other}'\.$"
    ):
        find_jail(places, other)
    make_jail(places, host)
    assert find_jail(places).architecture == host
    with pytest.raises(JailMissingError, match=other):
        find_jail(places, other)
    make_jail(places, other)
    assert find_jail(places, other) == Jail(places.jails / f"digest-{other}", other)  # type: ignore[arg-type]


def test_the_jail_of_x86_64_is_found_where_former_versions_left_it(places: Places) -> None:
    """Its link keeps its name."""
    assert jail_link(places, "x86_64") == places.jails / "current"


def test_answers_for_both_architectures_are_remembered_beside_each_other(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enclaves of both, in turn, probe once each; what is damaged is asked again."""
    probed: list[str] = []

    def probe(jail: Jail, _kernel: int) -> Footing:
        probed.append(jail.architecture)
        return Footing("tcg", own_user=False)

    monkeypatch.setattr(module, "probe_footing", probe)
    jails = [Jail(Path("/jails/one"), "x86_64"), Jail(Path("/jails/two"), "aarch64")]
    for jail in jails * 2:
        assert find_footing(places, jail, int, environ={}) == Footing("tcg", own_user=False)
    assert probed == ["x86_64", "aarch64"]
    (places.cache / "accelerator.json").write_text("[]")
    find_footing(places, jails[0], int, environ={})
    assert probed == ["x86_64", "aarch64", "x86_64"]


def test_only_so_many_answers_are_remembered(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jails of former QEMUs are forgotten, the oldest first."""
    monkeypatch.setattr(module, "probe_footing", lambda *_: Footing("tcg", own_user=False))
    for number in range(12):
        find_footing(places, Jail(Path(f"/jails/{number}")), int, environ={})
    known = json.loads((places.cache / "accelerator.json").read_text())
    assert [key.split()[0] for key in known] == [str(number) for number in range(4, 12)]


def test_kvm_runs_the_hosts_own_architecture_alone(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name it is refused for the other, and a probe does not try it."""
    monkeypatch.setattr(module, "own_architecture", lambda: "x86_64")
    foreign = Jail(Path("/jails/two"), "aarch64")
    with pytest.raises(MachineError, match="here runs x86_64 alone; got aarch64"):
        find_footing(places, foreign, int, environ={"CLOISTER_ACCEL": "kvm"})
    tried: list[tuple[str, str]] = []

    def boots(jail: Jail, _kernel: int, accelerator: str, _uid: int | None) -> tuple[bool, str]:
        tried.append((jail.architecture, accelerator))
        return accelerator == "tcg", ""

    monkeypatch.setattr(module, "_boots", boots)
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    module.probe_footing(foreign, 0)
    module.probe_footing(Jail(Path("/jails/one")), 0)
    assert tried == [("aarch64", "tcg"), ("x86_64", "kvm"), ("x86_64", "tcg")]


def test_what_spoke_against_kvm_is_remembered(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line of the complaint is kept beside the answer, and given again without a probe."""
    monkeypatch.setattr(module, "own_architecture", lambda: "x86_64")
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    answers = iter([(False, "KVM internal error. Suberror: 1\nRAX=0"), (True, "")])
    monkeypatch.setattr(module, "_boots", lambda *_: next(answers))
    found = Footing("tcg", own_user=False, refused="kvm: KVM internal error. Suberror: 1")
    for _ in range(2):
        assert find_footing(places, Jail(Path("/jails/one"), "x86_64"), int, environ={}) == found
