"""The register of enclaves, with processes that live and die."""

import fcntl
import json
import os
import resource
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cloister.control import ControlError, Register, Reply, Request, ask, ask_all, mark_children
from cloister.flight import FlightRecorder, find_record


def enter_and_die(run: Path, slot: str, cid: int) -> None:
    """Let another process enter an enclave, leave its sockets about, and die without a word."""
    child = os.fork()
    if child == 0:
        registration = Register(run).enter(slot, f"i-1-enc{slot}", "dead", cid)
        socket.socket(socket.AF_UNIX).bind(str(registration.socket_path))
        (run / f"vsock/{cid}").mkdir(parents=True)
        (run / f"vsock/{cid}/mux").touch()
        (run / f"vsock/{cid}.lock").touch()
        os._exit(0)
    os.waitpid(child, 0)


def test_taken_names_get_a_number(tmp_path: Path) -> None:
    """The first enclave has the name, the next ones name_1 and name_2; a freed name is given again."""
    register = Register(tmp_path)
    entered = [register.enter(f"{slot:x}", f"id-{slot}", "web", 16 + slot) for slot in range(3)]
    assert [record.name for record in register.live()] == ["web", "web_1", "web_2"]
    entered[1].close()
    again = register.enter("9", "id-9", "web", 30)
    assert again.record.name == "web_1"
    for registration in (entered[0], entered[2], again):
        registration.close()
    assert register.live() == []
    assert not list(tmp_path.glob("*.json"))


def test_the_dead_are_cleaned_away_by_whoever_looks(tmp_path: Path) -> None:
    """A killed supervisor's record, socket and addresses are removed, a living one's are not."""
    register = Register(tmp_path)
    enter_and_die(tmp_path, "a1", 16)
    assert (tmp_path / "a1.sock").exists()
    living = register.enter("b2", "i-1-encb2", "alive", 17)
    (tmp_path / "vsock/17").mkdir()
    assert [record.name for record in register.live()] == ["alive"]
    assert not list(tmp_path.glob("a1*"))
    assert not (tmp_path / "vsock/16").exists()
    assert not (tmp_path / "vsock/16.lock").exists()
    assert (tmp_path / "vsock/17").exists()
    living.close()


def test_a_supervisor_killed_before_it_was_named_is_cleaned_away(tmp_path: Path) -> None:
    """A place that was reserved before anything was started leads to what was started since."""
    child = os.fork()
    if child == 0:
        Register(tmp_path).reserve("a1")
        claim(tmp_path, 16)
        os._exit(0)
    os.waitpid(child, 0)
    living = Register(tmp_path).reserve("b2")
    held = claim(tmp_path, 17)
    assert Register(tmp_path).live() == []
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {".b2", ".lock", "vsock", "vsock/.lock", "vsock/17", "vsock/17.lock"}
    os.close(held)
    living.close()


def test_strays_of_a_dead_supervisor_are_killed_and_no_others(tmp_path: Path) -> None:
    """What a dead supervisor's child left waiting is found by its mark; a living one's is not touched."""
    hear, told = os.pipe()
    child = os.fork()
    if child == 0:
        mark_children(Register(tmp_path).reserve("a1").slot)
        subprocess.Popen(["sh", "-c", "echo $$; exec sleep 100"], stdout=told)
        signal.pause()
    os.close(told)
    stray = os.pidfd_open(int(os.read(hear, 100)))
    other = subprocess.Popen(["sleep", "100"], env={"CLOISTER_SLOT": "b2"})
    living = Register(tmp_path).reserve("b2")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert Register(tmp_path).live() == []
    assert select.select([stray], [], [], 10)[0], "it still runs"
    assert other.poll() is None
    other.kill()
    other.wait()
    living.close()
    os.close(stray)
    os.close(hear)


def claim(run: Path, cid: int) -> int:
    """Hold a CID as a supervisor does."""
    (run / f"vsock/{cid}").mkdir(parents=True)
    lock = os.open(run / f"vsock/{cid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_a_killed_supervisors_flight_record_ends_when_somebody_looks(tmp_path: Path) -> None:
    """Whoever cleans up after a dead supervisor notes its death where that kept its records."""
    logs = tmp_path / "logs"
    child = os.fork()
    if child == 0:
        FlightRecorder(logs, "i-1-enca1").update(enclave_name="web")
        Register(tmp_path / "run").reserve("a1").enter("i-1-enca1", "web", 16, logs=logs)
        os._exit(0)
    os.waitpid(child, 0)
    assert not find_record(logs, "web").is_over
    assert Register(tmp_path / "run").live() == []
    assert find_record(logs, "web").cause == "supervisor-killed"


def test_who_has_left_is_not_seen_but_still_found_when_dead(tmp_path: Path) -> None:
    """While an enclave is undone nobody sees it; its place stays until everything is gone."""
    registration = Register(tmp_path).enter("a1", "i-1-enca1", "web", 16)
    registration.leave()
    assert Register(tmp_path).live() == []
    assert (tmp_path / ".a1").exists()
    registration.close()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_an_enclave_that_ends_while_it_is_asked_has_not_failed(tmp_path: Path) -> None:
    """Who was there when the question was put and is gone before the answer is left out of the answers."""
    registration = Register(tmp_path).enter("a1", "i-1-enca1", "web", 16)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(registration.socket_path))
        listener.listen()

        def end() -> None:
            client, _ = listener.accept()
            registration.close()
            client.close()

        thread = threading.Thread(target=end)
        thread.start()
        assert ask_all(tmp_path, Request("describe")) == []
        thread.join()


def test_what_is_no_record_is_left_alone(tmp_path: Path) -> None:
    """Other files, damaged and misnamed records neither appear nor vanish."""
    (tmp_path / "c3.json").write_text("{")
    (tmp_path / "d4.json").write_text('{"slot":"e5","enclave_id":"x","name":"x","cid":1,"pid":1}')
    assert Register(tmp_path).live() == []
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_silent_supervisor_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    """An enclave whose socket nobody serves is an answer without a reply."""
    registration = Register(tmp_path).enter("f6", "i-1-encf6", "mute", 16)
    (answer,) = ask_all(tmp_path, Request("describe"))
    assert answer.record.name == "mute"
    assert answer.reply is None
    registration.close()


def test_a_forged_record_removes_nothing(tmp_path: Path) -> None:
    """A record whose CID is a path does not lead whoever looks out of the directory."""
    run, precious = tmp_path / "run", tmp_path / "precious"
    (run / "vsock").mkdir(parents=True)
    precious.mkdir()
    forged = {"slot": "a1", "enclave_id": "x", "name": "x", "cid": "../../precious", "pid": 1}
    (run / "a1.json").write_text(json.dumps(forged))
    assert Register(run).live() == []
    assert precious.exists()


def test_a_hung_supervisor_does_not_cost_the_others_their_answers(tmp_path: Path) -> None:
    """An answer that came while a silent supervisor, asked first, used up the time is still taken."""
    silent, prompt = (Register(tmp_path).enter(slot, f"id-{slot}", slot, 16) for slot in ("a1", "b2"))
    with socket.socket(socket.AF_UNIX) as mute, socket.socket(socket.AF_UNIX) as quick:
        for listener, registration in ((mute, silent), (quick, prompt)):
            listener.bind(str(registration.socket_path))
            listener.listen()

        def answer() -> None:
            client, _ = quick.accept()
            with client:
                client.recv(4096)
                client.sendall(Reply(0, {"State": "RUNNING"}).to_bytes())

        thread = threading.Thread(target=answer)
        thread.start()
        answers = ask(tmp_path, [silent.record, prompt.record], Request("describe"), seconds=0.3)
        thread.join()
    assert [answer.reply for answer in answers] == [None, Reply(0, {"State": "RUNNING"})]
    silent.close()
    prompt.close()


def test_a_full_disk_leaves_no_draft(tmp_path: Path) -> None:
    """A record that cannot be written whole is refused, and nothing of it stays."""
    register = Register(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(ControlError, match="full"):
            register.enter("a1", "id-a1", "web", 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_name_that_nobody_could_read_back_is_refused(tmp_path: Path) -> None:
    """What would make a record longer than readers read is not registered."""
    with pytest.raises(ControlError, match="9000 characters"):
        Register(tmp_path).enter("a1", "id-a1", "n" * 9000, 16)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_place_that_is_just_being_taken_is_nobodys_leftover(tmp_path: Path) -> None:
    """Who looks between a place's making and its locking kills nothing that was started on it."""
    register = Register(tmp_path)
    go, told = os.pipe()
    looking = os.fork()
    if looking == 0:
        os.read(go, 1)
        register.live()
        os._exit(0)
    started = subprocess.Popen(["sleep", "100"], env={"CLOISTER_SLOT": "a1"})
    with register.locked():
        (tmp_path / ".a1").touch()  # as far as a supervisor that has not locked it yet
        os.write(told, b".")
        await_waiting_for(tmp_path / ".lock")
        lock = os.open(tmp_path / ".a1", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.waitpid(looking, 0)
    assert started.poll() is None
    assert (tmp_path / ".a1").exists()
    started.kill()
    started.wait()
    for handle in (lock, go, told):
        os.close(handle)


def await_waiting_for(path: Path) -> None:
    """Return when a process waits for a lock on a file (see proc_locks(5))."""
    wanted = f":{path.stat().st_ino} "
    deadline = time.monotonic() + 10
    while not any("->" in line and wanted in line for line in Path("/proc/locks").read_text().splitlines()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_places_are_seen_by_others_whatever_the_umask(tmp_path: Path) -> None:
    """Other users may ask what runs here; nobody could have opened a place before it was locked."""
    before = os.umask(0o077)
    try:
        registration = Register(tmp_path).enter("a1", "i-1-enca1", "web", 16)
    finally:
        os.umask(before)
    assert (tmp_path / "a1.json").stat().st_mode & 0o777 == 0o644
    registration.close()
