"""Set-up keeps a kit that a person chose, and one that this version's guest sources made; no other."""

import pytest

from cloister.kit import Kit, Origin, origin_of, use_kit
from cloister.kit.cmdline import CMDLINE
from cloister.kit.origin import guest_sources
from cloister.places import Places
from cloister.setup.steps import usable_kit


def test_a_chosen_kit_stays_whatever_this_version_would_build(places: Places, kit: Kit) -> None:
    """What import and use put in use says nothing of our sources, and set-up leaves it."""
    assert origin_of(places, kit) is Origin.CHOSEN
    assert usable_kit(places, "x86_64") == kit


def test_a_built_kit_is_out_of_date_when_the_guest_sources_differ(
    places: Places, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed word of the command line is enough."""
    use_kit(places, kit, built_from=guest_sources("x86_64"))
    assert origin_of(places, kit) is Origin.OURS
    assert usable_kit(places, "x86_64") == kit
    monkeypatch.setitem(CMDLINE, "x86_64", "panic=0")
    assert origin_of(places, kit) is Origin.OUTDATED
    assert usable_kit(places, "x86_64") is None


def test_each_architecture_has_sources_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed command line of one leaves the kits of the other alone."""
    before = guest_sources("aarch64")
    assert before != guest_sources("x86_64")
    monkeypatch.setitem(CMDLINE, "x86_64", "panic=0")
    assert guest_sources("aarch64") == before


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"kit": "another", "sources": null}'],
    ids=["empty", "list", "number", "none", "other"],
)
def test_a_kit_of_unknown_origin_is_out_of_date(places: Places, kit: Kit, text: str) -> None:
    """So is one that a version put in use which noted nothing, or whose note is damaged or of another kit."""
    note = places.kits / "origin-x86_64.json"
    note.write_text(text)
    assert origin_of(places, kit) is Origin.OUTDATED
    note.unlink()
    assert origin_of(places, kit) is Origin.OUTDATED
    assert usable_kit(places, "x86_64") is None


def test_choosing_the_kit_that_setup_built_leaves_it_to_setup(places: Places, kit: Kit) -> None:
    """Importing the very kit that is in use and current does not keep set-up from replacing it one day."""
    use_kit(places, kit, built_from=guest_sources("x86_64"))
    use_kit(places, kit)
    assert origin_of(places, kit) is Origin.OURS
