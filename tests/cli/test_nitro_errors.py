"""nitro-cli's error model, log and streams: what a script or a person sees when something fails."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.nitro.codes import NAMES, PARAMETRISED, TEXTS
from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.json_text import print_json
from cloister.log_levels import level_from

Run = Callable[..., tuple[int, str, str]]
RUN = ("run-enclave", "--eif-path", "/nonexistent.eif", "--memory", "128", "--cpu-count", "1")
PAGE = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html"
LINE = re.compile(
    r"\[nitro-cli:\d+\]\[(ERROR|WARN|INFO|DEBUG|TRACE)\]"
    r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]\[cloister/[a-z_/]+\.py:\d+\] \S.*"
)


def block(code: str, detail: str, log: str) -> str:
    """Return what stderr shows of one error (nitro-tools 1.1)."""
    return (
        f"[ {code} ] {detail}\n\nFor more details, please visit {PAGE}#{code}\n\n"
        f'If you open a support ticket, please provide the error log found at "{log}"\n'
    )


def test_failed_run_tells_its_error_then_the_lost_process(run: Run, tmp_path: Path) -> None:
    """As with the original, the real error comes first and the exit code is that of the connection."""
    code, out, err = run(*RUN)
    assert (code, out) == (39, "")
    first, second = sorted(str(path) for path in (tmp_path / "logs").glob("err*.log"))
    real = (
        f"{TEXTS['E19']}\nFile: '/nonexistent.eif', failing operation: 'Open'."
        "\nThe EIF could not be opened: No such file or directory."
    )
    lost = f"{TEXTS['E39']}\nFailed to connect to 1 enclave processes: it has ended, and its error is above."
    expected = block("E19", real, first) + "Failed connections: 1\n" + block("E39", lost, second)
    assert err.endswith(expected)


def test_error_log_says_what_was_done_and_where_it_failed(run: Run, tmp_path: Path) -> None:
    """The error log has AWS's five parts; the root error is where our own source raised it."""
    run(*RUN)
    first, second = sorted((tmp_path / "logs").glob("err*.log"))
    stamp = r"err\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00\.log"
    assert re.fullmatch(stamp, first.name)
    assert re.fullmatch(
        "  Action: Run Enclave\n  Subactions:\n    Open EIF file\n"
        r"    File operation failure\. The EIF could not be opened: No such file or directory\. File: "
        r"'/nonexistent\.eif', failing operation: 'Open'\.\n"
        r"  Root error file: cloister/supervisor/request\.py\n  Root error line: \d+\n  Version: 1\.5\.0",
        first.read_text(),
    )
    assert "\n  Root error file: cloister/cli/nitro/run_enclave.py\n" in second.read_text()


def test_subactions_are_most_recent_first() -> None:
    """The error log lists what was being done, the outermost step first, the failure itself last."""
    error = NitroCliError("E36", "text", action="inner", subactions=["outer", "middle"], where="a.py:7")
    assert error.exit_code == 36
    assert error.to_backtrace("Run Enclave") == (
        "  Action: Run Enclave\n  Subactions:\n    outer\n    middle\n    inner\n    text\n"
        "  Root error file: a.py\n  Root error line: 7\n  Version: 1.5.0"
    )


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False), ("true", False)])
def test_backtrace_is_shown_on_demand(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, *, shown: bool
) -> None:
    """BACKTRACE=1, and nothing else, prints what the error log holds, between the link and its path."""
    monkeypatch.setenv("BACKTRACE", value)
    err = run("terminate-enclave", "--enclave-id", "i-1-enc2")[2]
    (log,) = (tmp_path / "logs").glob("err*.log")
    told = f"{PAGE}#E11\n\nBacktrace:\n{log.read_text()}\n\nIf you open a support ticket" in err
    assert told is shown
    assert ("Backtrace" in err) is shown


def test_every_code_has_aws_s_text_first() -> None:
    """Each code's message begins with AWS's text; what happened here follows in a sentence of our own."""
    assert list(TEXTS) == [f"E{number:02}" for number in range(61)]
    assert len(NAMES) == len(TEXTS)
    for code, text in TEXTS.items():
        detail = NitroCliError(code, f"{text.partition('. ')[0]}. It broke: 7.").to_detail()
        if code in PARAMETRISED:
            assert detail.endswith("It broke: 7.")
        else:
            assert detail == f"{text}\nIt broke: 7."


COMMAND_LINES = {
    "run-enclave": RUN[1:],
    "terminate-enclave": ("--all",),
    "build-enclave": ("--docker-uri", "u", "--output-file", "o"),
    "describe-eif": ("--eif-path", "x"),
    "describe-enclaves": (),
    "console": ("--enclave-id", "x"),
    "pcr": ("--input", "x"),
    "explain": ("--error-code", "E01"),
    "sign-eif": (),
}


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_every_command_needs_its_log(run: Run, tmp_path: Path, command: str) -> None:
    """A log that cannot be written is E19 for every command, and then there is no error log to name."""
    (tmp_path / "logs").write_text("not a directory")
    code, out, err = run(command, *COMMAND_LINES[command])
    assert (code, out) == (19, "")
    path = tmp_path / "logs/nitro_enclaves.log"
    assert err == (
        f"[ E19 ] {TEXTS['E19']}\nFile: '{path}', failing operation: 'Open'.\n"
        f"The log cannot be opened: File exists.\n\nFor more details, please visit {PAGE}#E19\n"
    )


@pytest.mark.parametrize("words", [["pcr"], ["run-enclave"], ["--help"], ["explain", "-h"], ["-V"]])
def test_usage_is_looked_at_before_the_log(run: Run, tmp_path: Path, words: list[str]) -> None:
    """Wrong usage and questions for help are answered even where nothing can be logged."""
    (tmp_path / "logs").write_text("not a directory")
    assert run(*words)[0] in (0, 2)


def test_log_lines_have_aws_s_form(run: Run, tmp_path: Path) -> None:
    """Each line has id, level, time in milliseconds and source line; the log is the user's alone."""
    run("terminate-enclave", "--enclave-name", "two\nlines\x1b[2J")
    log = tmp_path / "logs/nitro_enclaves.log"
    lines = log.read_text().splitlines()
    assert [LINE.fullmatch(line) is not None for line in lines] == [True, True]
    assert lines[0].endswith("Start Nitro CLI")
    assert "[ERROR]" in lines[1]
    assert "[ E58 ]" in lines[1]
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("value", "levels"),
    [
        (None, {"INFO", "ERROR"}),
        ("trace", {"INFO", "DEBUG", "ERROR"}),
        ("debug", {"INFO", "DEBUG", "ERROR"}),
        ("INFO", {"INFO", "ERROR"}),
        ("warn", {"ERROR"}),
        ("error", {"ERROR"}),
        ("off", set()),
        ("off,nitro_cli=info", {"INFO", "ERROR"}),
    ],
)
def test_rust_log_is_honoured(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, levels: set[str]
) -> None:
    """RUST_LOG says from which level on lines are kept; without it, from info on."""
    if value is not None:
        monkeypatch.setenv("RUST_LOG", value)
    run("terminate-enclave", "--enclave-id", "i-1-enc2")
    lines = (tmp_path / "logs/nitro_enclaves.log").read_text().splitlines()
    found = (LINE.fullmatch(line) for line in lines)
    assert {match[1] for match in found if match} == levels


@pytest.mark.parametrize(
    ("specification", "level"),
    [
        ("", "OFF"), ("nitro_cli", "TRACE"), ("nitro_cli=", "TRACE"), ("other=trace", "OFF"),
        ("warn, nitro_cli= debug", "DEBUG"), ("nitro=error,info", "ERROR"), ("info/filter", "INFO"),
    ],
)  # fmt: skip
def test_rust_log_specifications(specification: str, level: str) -> None:
    """Levels may be given for modules; the longest module that is ours wins."""
    assert level_from(specification, strict=True) == level


def test_unexpected_failures_show_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is E00 in one message, is logged with its place, and does not exit with 0."""

    def faulty(_value: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("cloister.cli.nitro.describe_enclaves.print_json", faulty)
    monkeypatch.setenv("BACKTRACE", "1")
    code, out, err = run("describe-enclaves")
    assert (code, out) == (1, "")
    assert err.startswith(f"[ E00 ] {TEXTS['E00']}\nZeroDivisionError in nitro-cli: by nothing\n\n")
    assert "\n  Action: Describe Enclave\n" in err
    assert "Traceback" not in err


def program(tmp_path: Path, *words: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run nitro-cli as a program."""
    places = {name: str(tmp_path / name) for name in ("NITRO_CLI_LOGS_PATH", "NITRO_CLI_SOCKETS_PATH")}
    return subprocess.run(
        [sys.executable, "-m", "cloister.cli.nitro.main", *words],
        env=os.environ | places, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("words", "code"), [(["describe-enclaves"], 141), (["--help"], 0)])
def test_reader_that_went_away_is_no_traceback(tmp_path: Path, words: list[str], code: int) -> None:
    """Where nobody reads standard output the command ends as a shell's would, in silence."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = program(tmp_path, *words, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize(
    ("words", "code"), [("describe-enclaves", 0), ("terminate-enclave --enclave-id x", 11)]
)
def test_closed_streams_do_no_harm(tmp_path: Path, closed: str, words: str, code: int) -> None:
    """A command whose standard streams are closed does its work, and writes into no file of its own."""
    places = {name: str(tmp_path / name) for name in ("NITRO_CLI_LOGS_PATH", "NITRO_CLI_SOCKETS_PATH")}
    line = f"{sys.executable} -m cloister.cli.nitro.main {words} {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert "E00" not in done.stderr
    log = (tmp_path / "NITRO_CLI_LOGS_PATH/nitro_enclaves.log").read_text()
    assert all(LINE.fullmatch(line) for line in log.splitlines())


def test_full_disk_is_e19(tmp_path: Path) -> None:
    """Output that cannot be written is a failed file operation."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = program(tmp_path, "describe-enclaves", stdout=full)
    finally:
        os.close(full)
    assert done.returncode == 19
    assert "File: 'standard output', failing operation: 'Write'.\nNo space left on device." in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_printed_as_serde_does(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Two spaces, keys in their order, text as it is; an empty list is two brackets."""
    assert run("describe-enclaves")[:2] == (0, "[]\n")
    assert run("terminate-enclave", "--all")[:2] == (0, "[]\n")
    print_json([{"b": "é", "a": [1, 3]}])
    expected = '[\n  {\n    "b": "é",\n    "a": [\n      1,\n      3\n    ]\n  }\n]\n'
    assert capsys.readouterr().out == expected
    print_json({"lone": "\ud800"})
    assert json.loads(capsys.readouterr().out) == {"lone": "\ud800"}
