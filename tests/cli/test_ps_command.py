"""``cloister ps``: the living and the dead, and what their documents say."""

import json
from datetime import timedelta

import pytest

from cloister.cli.ps import age
from cloister.places import Places
from simulators.enclave_process import MEASUREMENTS, enclave_process
from simulators.enclave_records import NOON, Cloister, remember


def test_living_and_dead_enclaves_are_listed(host: Places, cloister: Cloister) -> None:
    """Without -a only the living are listed; with it, the dead too, with how they ended."""
    remember(host, 1, "job", debug=True)
    with enclave_process(host, "web"):
        code, printed, _ = cloister("ps")
        assert code == 0
        assert [line.split()[0] for line in printed.splitlines()] == ["NAME", "web"]
        assert "running" in printed
        assert f"  {'ab' * 6}\n" in printed
        _, printed, _ = cloister("ps", "--all")
    assert [line.split()[0] for line in printed.splitlines()] == ["NAME", "job", "web"]
    assert "The program exited with status 7." in printed


def test_json_shows_what_the_document_says(host: Places, cloister: Cloister) -> None:
    """Whole registers: the image's own, and those of the document, which are zero in debug mode."""
    with enclave_process(host, "web", debug=True):
        shown = json.loads(cloister("ps", "--json")[1])
    (web,) = shown
    assert web["EnclaveName"] == "web"
    assert web["State"] == "RUNNING"
    assert web["Measurements"] == MEASUREMENTS
    assert web["Document"] == dict.fromkeys(("PCR0", "PCR1", "PCR2"), "0" * 96)


def test_ended_enclave_has_an_exit_code_and_an_explanation(host: Places, cloister: Cloister) -> None:
    """JSON of an ended enclave says what 'cloister wait' would exit with, and why it ended."""
    remember(host, 1, "job", cause="panic", reason=None, exit_status=None)
    (job,) = json.loads(cloister("ps", "-a", "--json")[1])
    assert (job["State"], job["ExitCode"]) == ("ENDED", 125)
    assert job["Explanation"] == "The guest's kernel panicked."


def test_supervisor_that_does_not_answer_is_listed(host: Places, cloister: Cloister) -> None:
    """An enclave whose control socket is gone is listed from its record, and said not to answer."""
    with enclave_process(host, "web", manner="deaf"):
        _, printed, _ = cloister("ps")
    assert "not answering" in printed
    assert "256 MiB" in printed


def test_killed_supervisor_is_told(host: Places, cloister: Cloister) -> None:
    """An enclave whose supervisor was killed is over, and its record says why."""
    with enclave_process(host, "web") as process:
        process.kill()
        process.wait()
        assert "supervisor was killed" in cloister("ps", "-a")[1]
        assert cloister("ps")[1].count("\n") == 1


def test_names_cannot_drive_a_terminal(host: Places, cloister: Cloister) -> None:
    """Control characters in a name are spelled out."""
    remember(host, 1, "\x1b[2Jweb")
    printed = cloister("ps", "-a")[1]
    assert "\x1b" not in printed
    assert "\\x1b[2Jweb" in printed


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (200000, "2 d")]
)
def test_age_has_its_largest_unit(seconds: int, shown: str) -> None:
    """Ages are told in seconds, minutes, hours or days, rounded down."""
    assert age(NOON.isoformat(), NOON + timedelta(seconds=seconds)) == shown
