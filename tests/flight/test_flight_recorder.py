"""What is kept of enclaves after their death, and how it is found."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.flight import (
    FlightError,
    FlightRecord,
    FlightRecorder,
    find_record,
    list_records,
    mark_supervisor_killed,
    read_console,
    read_events,
)
from cloister.flight.recorder import CONSOLE_SIZE, EVENTS_SIZE

NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
ENDED: dict[str, Any] = {"ended": NOW, "cause": "exited", "reason": "The program exited with status 7."}


def record_one(logs: Path, slot: int, name: str = "web", **fields: Any) -> FlightRecorder:
    """Record an enclave that was started so many seconds after noon."""
    recorder = FlightRecorder(logs, f"i-1-enc{slot:x}")
    recorder.update(enclave_name=name, started=NOW + timedelta(seconds=slot), **fields)
    return recorder


def test_record_is_written_with_nitro_clis_names(tmp_path: Path) -> None:
    """What is in the file is what is known, in order, with times in UTC to the millisecond."""
    recorder = FlightRecorder(tmp_path, "i-1-enca1")
    recorder.update(
        enclave_name="web",
        cid=16,
        cpu_ids=(1, 3),
        memory_mib=512,
        debug=True,
        image="web.eif",
        measurements={"PCR0": "00"},
        started=NOW,
        exit_status=7,
        **ENDED,
    )
    file = tmp_path / "enclaves/i-1-enca1/record.json"
    assert list(json.loads(file.read_text()).items()) == [
        ("EnclaveName", "web"),
        ("EnclaveID", "i-1-enca1"),
        ("ProcessID", os.getpid()),
        ("EnclaveCID", 16),
        ("NumberOfCPUs", 2),
        ("CPUIDs", [1, 3]),
        ("MemoryMiB", 512),
        ("Debug", True),
        ("Image", "web.eif"),
        ("Measurements", {"PCR0": "00"}),
        ("Started", "2026-03-01T12:00:00.123Z"),
        ("Booted", None),
        ("Ended", "2026-03-01T12:00:00.123Z"),
        ("Cause", "exited"),
        ("Reason", "The program exited with status 7."),
        ("ExitStatus", 7),
        ("Signal", None),
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file.parent.parent)] == [0o700] * 2
    assert list_records(tmp_path) == [recorder.record]


def test_the_newest_is_found_and_the_one_before_it(tmp_path: Path) -> None:
    """A name means its newest enclave; the previous one is the one before it of the same name."""
    for slot, name in ((3, "web"), (1, "web"), (2, "other"), (4, "other")):
        record_one(tmp_path, slot, name)
    assert [record.enclave_id for record in list_records(tmp_path)] == [f"i-1-enc{n}" for n in (1, 2, 3, 4)]
    assert find_record(tmp_path, "web").enclave_id == "i-1-enc3"
    assert find_record(tmp_path, "web", previous=True).enclave_id == "i-1-enc1"
    assert find_record(tmp_path, "i-1-enc1").enclave_id == "i-1-enc1"
    with pytest.raises(FlightError, match="before"):
        find_record(tmp_path, "i-1-enc1", previous=True)
    with pytest.raises(FlightError, match="nobody"):
        find_record(tmp_path, "nobody")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"EnclaveName": 7}', b"[" * 100_000, b"\xff"],
)
def test_damaged_records_are_skipped(tmp_path: Path, content: bytes) -> None:
    """What is no record is left out, whatever it is."""
    record_one(tmp_path, 1)
    damaged = tmp_path / "enclaves/i-1-enc2"
    damaged.mkdir()
    (damaged / "record.json").write_bytes(content)
    (tmp_path / "enclaves/file").touch()
    (tmp_path / "enclaves/link").symlink_to(tmp_path)
    assert [record.enclave_id for record in list_records(tmp_path)] == ["i-1-enc1"]


def test_a_record_under_another_enclaves_id_is_not_believed(tmp_path: Path) -> None:
    """A record lies in the directory of its own enclave."""
    record_one(tmp_path, 1)
    (tmp_path / "enclaves/i-1-enc1").rename(tmp_path / "enclaves/i-1-enc2")
    assert list_records(tmp_path) == []


def test_events_and_console_are_read_back(tmp_path: Path) -> None:
    """Lines and output come back as they went in, in order."""
    recorder = record_one(tmp_path, 1)
    recorder.event(b"one\n")
    recorder.console(b"Linux version 6\n")
    recorder.event(b"two\n")
    recorder.console(b"Hello\n")
    recorder.close()
    recorder.console(b"last")
    recorder.close()
    assert read_events(recorder.record) == "one\ntwo\n"
    assert read_console(recorder.record) == b"Linux version 6\nHello\nlast"


def test_console_keeps_the_newest_and_is_bounded(tmp_path: Path) -> None:
    """Whatever a guest prints, the last MiB is there and never more than two."""
    recorder = record_one(tmp_path, 1)
    whole = bytearray()
    for number in range(60):
        piece = f"{number:06}".encode() * 10_000
        whole += piece
        recorder.console(piece)
        kept = read_console(recorder.record)
        assert whole.endswith(kept)
        assert min(len(whole), CONSOLE_SIZE) <= len(kept) <= 2 * CONSOLE_SIZE
    recorder.console(b"x" * (3 * CONSOLE_SIZE))
    assert len(read_console(recorder.record)) <= 2 * CONSOLE_SIZE
    recorder.close()


def test_events_are_bounded(tmp_path: Path) -> None:
    """An enclave's events take no more than their size."""
    recorder = record_one(tmp_path, 1)
    for _ in range(20):
        recorder.event(b"x" * (EVENTS_SIZE // 10))
    assert len(read_events(recorder.record)) == EVENTS_SIZE // 10 * 10


def test_what_cannot_be_written_is_complained_of_once(tmp_path: Path) -> None:
    """Without a place to record nothing fails; when there is one again the record is whole."""
    logs = tmp_path / "logs"
    logs.write_text("a file")
    complaints: list[str] = []
    recorder = FlightRecorder(logs, "i-1-enc1", complain=complaints.append)
    recorder.update(enclave_name="web")
    recorder.event(b"one\n")
    recorder.console(b"Hello")
    assert len(complaints) == 1
    assert "cannot be written" in complaints[0]
    logs.unlink()
    recorder.update(**ENDED)
    assert find_record(logs, "web").cause == "exited"


def test_a_directory_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    """Whoever removes the logs of a living enclave still learns its end."""
    recorder = record_one(tmp_path, 1)
    (recorder.record.directory / "record.json").unlink()
    recorder.record.directory.rmdir()
    recorder.update(**ENDED)
    assert [record.reason for record in list_records(tmp_path)] == ["The program exited with status 7."]


def test_an_id_does_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    """Ids come from files that anybody may have written."""
    for enclave_id in ("", "..", "../../etc", "a\0b"):
        with pytest.raises(FlightError, match="not an enclave's id"):
            FlightRecorder(tmp_path, enclave_id)


def test_a_killed_supervisors_record_says_so(tmp_path: Path) -> None:
    """Whoever cleans up ends the record; an end that is known stays; an unknown enclave is no error."""
    living, over = record_one(tmp_path, 1), record_one(tmp_path, 2, exit_status=7, **ENDED)
    for enclave_id in (living.record.enclave_id, over.record.enclave_id, "i-1-enc3"):
        mark_supervisor_killed(tmp_path, enclave_id, NOW)
    first, second = list_records(tmp_path)
    assert (first.cause, first.reason, first.ended) == (
        "supervisor-killed",
        "The enclave's supervisor was killed.",
        NOW,
    )
    assert second.cause == "exited"


def test_at_most_a_hundred_ended_enclaves_are_kept(tmp_path: Path) -> None:
    """The oldest are forgotten first, one that lives never."""
    record_one(tmp_path, 1, "old but alive")
    for slot in range(2, 110):
        record_one(tmp_path, slot, **ENDED)
    newest = record_one(tmp_path, 110)
    newest.retire_others()
    records: list[FlightRecord] = list_records(tmp_path)
    assert sum(record.is_over for record in records) <= 100
    assert records[0].enclave_name == "old but alive"
    assert records[1].enclave_id == f"i-1-enc{11:x}"
    assert records[-1] == newest.record
