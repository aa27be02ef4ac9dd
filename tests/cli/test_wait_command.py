"""``cloister wait`` and ``cloister stop``: an enclave's end, awaited and brought about."""

import json
from typing import Any

import pytest

from cloister.places import Places
from simulators.enclave_process import enclave_process, end
from simulators.enclave_records import Cloister, remember


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"exit_status": 0}, 0),
        ({"exit_status": 7}, 7),
        ({"cause": "killed-by-signal", "exit_status": None, "signal": 11}, 139),
        ({"cause": "terminated", "exit_status": None}, 143),
        ({"cause": "init-failed", "exit_status": None}, 126),
        ({"cause": "panic", "exit_status": None}, 125),
        ({"cause": "supervisor-killed", "exit_status": None}, 125),
    ],
)
def test_waiting_for_what_is_over_returns_at_once(
    host: Places, cloister: Cloister, fields: dict[str, Any], code: int
) -> None:
    """The exit code is the program's status, or says what else ended the enclave."""
    remember(host, 1, "job", **fields)
    assert cloister("wait", "job")[0] == code


def test_waiting_for_a_living_enclave(host: Places, cloister: Cloister) -> None:
    """The end is awaited, and the record read after it; --json prints that."""
    with enclave_process(host, "web") as process:
        end(process, cause="exited", exit_status=3)
        code, printed, _ = cloister("wait", "web", "--json")
    assert code == 3
    assert json.loads(printed)["ExitCode"] == 3


def test_waiting_has_a_limit(host: Places, cloister: Cloister) -> None:
    """At the limit the exit code is 124 and the enclave goes on."""
    with enclave_process(host, "web") as process:
        code, _, said = cloister("wait", "web", "--timeout", "0.01")
        assert process.poll() is None
    assert code == 124
    assert "has not ended within 0.01 s" in said


@pytest.mark.parametrize("words", [("wait", "nobody"), ("stop", "nobody")])
def test_unknown_enclaves_are_a_sentence(cloister: Cloister, words: tuple[str, ...]) -> None:
    """Nobody of that name: wait exits with 125, for other codes may be a program's; stop with 1."""
    code, _, said = cloister(*words)
    assert code == {"wait": 125, "stop": 1}[words[0]]
    assert "'nobody'" in said


@pytest.mark.parametrize(("manner", "how"), [("obedient", 0), ("deaf", 0), ("stubborn", -9)])
def test_every_enclave_can_be_stopped(host: Places, cloister: Cloister, manner: str, how: int) -> None:
    """Asked, or signalled where nobody listens, or killed where signals are ignored; nothing is left."""
    with enclave_process(host, "web", manner=manner) as process:
        code, printed, said = cloister("stop", "web", "--timeout", "0.3" if manner == "stubborn" else "20")
        process.wait()
    assert (code, printed) == (0, "web\n")
    assert process.returncode == how
    assert ("was killed" in said) == (how != 0)
    assert [path.name for path in host.run.iterdir() if path.name != ".lock"] == []


def test_stopping_needs_no_logs(host: Places, cloister: Cloister, monkeypatch: pytest.MonkeyPatch) -> None:
    """All enclaves can be ended when the log directory is unusable."""
    with enclave_process(host, "web") as process:
        monkeypatch.setenv("NITRO_CLI_LOGS_PATH", "/dev/null/none")
        assert cloister("stop", "--all")[:2] == (0, "web\n")
        assert process.wait() == 0


def test_a_wrong_name_does_not_keep_the_others_alive(host: Places, cloister: Cloister) -> None:
    """Those that there are end; the name that is nobody's is told and makes the exit code 1."""
    with enclave_process(host, "web") as process:
        code, printed, said = cloister("stop", "nobody", "web")
        assert process.wait() == 0
    assert (code, printed) == (1, "web\n")
    assert "'nobody'" in said


def test_stopping_the_dead_is_no_failure(host: Places, cloister: Cloister) -> None:
    """What is over already is said to be, with exit code 0."""
    remember(host, 1, "job")
    code, printed, said = cloister("stop", "job")
    assert (code, printed) == (0, "")
    assert "over already" in said


@pytest.mark.parametrize("words", [("stop",), ("stop", "--all", "web"), ("wait", "web", "--timeout", "-1")])
def test_wrong_usage(cloister: Cloister, words: tuple[str, ...]) -> None:
    """What cannot be meant is refused with exit code 2."""
    assert cloister(*words)[0] == 2
