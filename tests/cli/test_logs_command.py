"""``cloister logs``: consoles of debug enclaves, events of all."""

from cloister.places import Places
from simulators.enclave_process import enclave_process, end
from simulators.enclave_records import Cloister, remember

EVENT = b"[enc-1:7][INFO][2026-03-01T12:00:00.123Z][supervisor] the enclave has booted\n"


def test_dead_debug_enclave_still_shows_its_console(host: Places, cloister: Cloister) -> None:
    """The console is printed byte for byte, and how the enclave ended goes to standard error."""
    remember(host, 1, "job", debug=True).console(b"one\r\ntwo\n")
    code, printed, said = cloister("logs", "job")
    assert (code, printed.encode()) == (0, b"one\r\ntwo\n")
    assert said == "cloister: job: The program exited with status 7.\n"


def test_previous_run_of_the_name(host: Places, cloister: Cloister) -> None:
    """--previous shows the run before the newest of that name."""
    for slot, text in ((1, b"first\n"), (2, b"other\n"), (3, b"last\n")):
        remember(host, slot, "other" if slot == 2 else "job", debug=True).console(text)
    assert cloister("logs", "job")[1] == "last\n"
    assert cloister("logs", "job", "--previous")[1] == "first\n"
    code, _, said = cloister("logs", "other", "--previous")
    assert code == 1
    assert "before the newest" in said


def test_production_enclave_has_events_only(host: Places, cloister: Cloister) -> None:
    """Events come with their times, and it is said why there is no console."""
    remember(host, 1, "job").event(EVENT)
    code, printed, said = cloister("logs", "job")
    assert (code, printed) == (0, "2026-03-01T12:00:00.123Z INFO  the enclave has booted\n")
    assert "production mode" in said


def test_events_of_a_debug_enclave(host: Places, cloister: Cloister) -> None:
    """--events shows them instead of the console."""
    recorder = remember(host, 1, "job", debug=True)
    recorder.console(b"console\n")
    recorder.event(EVENT)
    assert cloister("logs", "job", "--events")[1].endswith("INFO  the enclave has booted\n")


def test_following_ends_with_the_enclave(host: Places, cloister: Cloister) -> None:
    """--follow prints what has been noted and returns when the enclave is over."""
    with enclave_process(host, "web") as process:
        end(process, cause="exited", reason="The program exited with status 0.", exit_status=0)
        code, _, said = cloister("logs", "web", "--follow")
    assert code == 0
    assert said.endswith("cloister: web: The program exited with status 0.\n")


def test_unknown_enclave(cloister: Cloister) -> None:
    """A name that nobody had is one sentence and exit code 1."""
    code, printed, said = cloister("logs", "nobody")
    assert (code, printed) == (1, "")
    assert "'nobody'" in said
