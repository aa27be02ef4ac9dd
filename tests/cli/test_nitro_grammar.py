"""nitro-cli's grammar, texts and exit codes, as far as they need no virtual machine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.explain import EXPLANATIONS
from cloister.cli.nitro.main import COMMANDS, build_parser, main
from cloister.cli.nitro.run_enclave import parse_memory, read_config

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run nitro-cli with directories of its own and return exit code, stdout and stderr."""
    monkeypatch.setenv("NITRO_CLI_LOGS_PATH", str(tmp_path / "logs"))
    monkeypatch.setenv("NITRO_CLI_SOCKETS_PATH", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("BACKTRACE", raising=False)

    def call(*words: str | Path) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


RUN = ["run-enclave", "--eif-path", "/nonexistent.eif", "--memory", "128"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such-command"],
        ["run-enclave"],
        ["run-enclave", "--eif-path", "x", "--memory", "1"],
        ["run-enclave", "--eif-path", "x", "--cpu-count", "1"],
        ["run-enclave", "--memory", "1", "--cpu-count", "1"],
        [*RUN, "--cpu-count", "1", "--cpu-ids", "1"],
        [*RUN, "--cpu-ids"],
        [*RUN, "--cpu-count", "1", "--config", "x"],
        ["run-enclave", "--config", "x", "--debug-mode"],
        ["run-enclave", "--config", "x", "--memory", "1"],
        ["run-enclave", "--config", "x", "--eif-path", "1"],
        ["run-enclave", "--config", "x", "--enclave-cid", "1"],
        ["run-enclave", "--config", "x", "--enclave-name", "1"],
        ["run-enclave", "--config", "x", "--cpu-ids", "1"],
        [*RUN, "--cpu-co", "1"],
        [*RUN, "-m", "1"],
        [*RUN, "--cpu-count", "1", "stray"],
        ["terminate-enclave"],
        ["terminate-enclave", "--all", "--enclave-id", "x"],
        ["terminate-enclave", "--enclave-name", "x", "--enclave-id", "x"],
        ["describe-enclaves", "--all"],
        ["console"],
        ["console", "--enclave-id", "x", "--enclave-name", "y"],
        ["explain"],
        ["explain", "E26"],
        ["build-enclave"],
        ["describe-eif"],
        ["pcr"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, words: list[str]) -> None:
    """What the grammar does not allow exits with 2, prints nothing to stdout and something to stderr."""
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err != ""


@pytest.mark.parametrize(
    "words",
    [
        [*RUN, "--cpu-count", "1"],
        [*RUN, "--cpu-ids", "1", "3", "--debug-mode", "--enclave-name", "a b", "--enclave-cid", "16"],
        [*RUN, "--cpu-count", "2", "--attach-console"],
        ["run-enclave", "--config", "x", "--attach-console"],
        ["terminate-enclave", "--all"],
        ["terminate-enclave", "--enclave-id=x"],
        ["describe-enclaves", "--metadata"],
        ["console", "--enclave-name", "x", "--disconnect-timeout", "3"],
        ["explain", "--error-code", "E00"],
        ["sign-eif"],
    ],
)
def test_right_usage_is_understood(words: list[str]) -> None:
    """What scripts for the original say is accepted."""
    assert build_parser("*").parse_args(words).command == words[0]


def test_every_command_is_listed(run: Run) -> None:
    """The help names the nine commands, and no command at all shows it on stderr."""
    code, out, _ = run("--help")
    assert code == 0
    assert run()[2].startswith("usage:")
    for name in COMMANDS:
        assert name in out


def test_version(run: Run) -> None:
    """The version is that of the original that is followed."""
    assert run("--version")[:2] == (0, "Nitro CLI 1.5.0\n")


@pytest.mark.parametrize(
    ("text", "mib"), [("512", 512), ("1G", 1024), ("2g", 2048), ("3M", 3), ("3m", 3), ("1T", 1 << 20)]
)
def test_memory_has_suffixes(text: str, mib: int) -> None:
    """Memory is in MiB, or with M, G and T in either case."""
    assert parse_memory(text) == mib


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "12K"], ["--memory", "1.5G"], ["--memory", "-1"], ["--memory", ""], ["--memory", "0x10"],
        ["--cpu-count", "two"], ["--cpu-count", "4294967296"], ["--enclave-cid", "3"], ["--enclave-cid", "1"],
        ["--enclave-cid", "2"], ["--enclave-cid", "4294967295"], ["--enclave-cid", "4294967296"],
        ["--enclave-cid", "x"],
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_e03(run: Run, words: list[str]) -> None:
    """A value of the wrong kind is E03, and the exit code is 3."""
    given = {"--memory": "128", "--cpu-count": "1"} | {words[0]: words[1]}
    options = [f"{name}={value}" for name, value in given.items()]
    code, out, err = run("run-enclave", "--eif-path", "/nonexistent.eif", *options)
    assert (code, out) == (3, "")
    assert "[ E03 ] Invalid argument provided." in err


def test_cid_zero_is_automatic(run: Run) -> None:
    """CID 0 means any, and the command says so."""
    code, _, err = run(*RUN, "--cpu-count", "1", "--enclave-cid", "0")
    assert code == 39, "the image is absent"
    assert "The enclave CID will be auto-generated as the provided CID is 0" in err


def test_failed_run_tells_its_error_then_the_lost_process(run: Run, tmp_path: Path) -> None:
    """As with the original, the real error comes first and the exit code is that of the connection."""
    code, out, err = run(*RUN, "--cpu-count", "1")
    assert (code, out) == (39, "")
    first, second, third = (err.index(text) for text in ("[ E19 ]", "Failed connections: 1", "[ E39 ]"))
    assert first < second < third
    assert "File: '/nonexistent.eif', failing operation: 'Open'." in err
    assert "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E19" in err
    logs = sorted((tmp_path / "logs").glob("err*.log"))
    assert len(logs) == 2
    assert f'please provide the error log found at "{logs[0]}"' in err
    text = logs[0].read_text()
    assert text.startswith("  Action: ")
    assert "\n  Subactions:" in text
    assert text.rstrip().endswith("  Version: 1.5.0")
    assert "Backtrace:" not in err


def test_backtrace_is_shown_on_demand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """BACKTRACE=1 prints what the error log holds."""
    monkeypatch.setenv("BACKTRACE", "1")
    assert "Backtrace:\n  Action: Open EIF file" in run(*RUN, "--cpu-count", "1")[2]


@pytest.mark.parametrize("command", [["describe-enclaves"], ["explain", "--error-code", "E01"], ["pcr"]])
def test_every_command_needs_its_log(run: Run, tmp_path: Path, command: list[str]) -> None:
    """A log directory that cannot be written is E19 for every command."""
    (tmp_path / "logs").write_text("not a directory")
    code, out, err = run(*command)
    assert (code, out) == (19, "")
    assert "[ E19 ]" in err


def test_nothing_runs(run: Run) -> None:
    """Without enclaves describe and terminate --all print empty lists; unknown ones have their codes."""
    assert run("describe-enclaves")[:2] == (0, "[]\n")
    assert run("terminate-enclave", "--all")[:2] == (0, "[]\n")
    assert run("terminate-enclave", "--enclave-id", "i-1-enc2")[0] == 11
    assert run("console", "--enclave-name", "x")[0] == 58


def test_codes_are_explained(run: Run) -> None:
    """Every code from E00 to E60 has its line on stderr; unknown ones are said to be so; both exit 0."""
    assert sorted(EXPLANATIONS) == [f"E{number:02}" for number in range(61)]
    code, out, err = run("explain", "--error-code", "E26")
    assert (code, out) == (0, "")
    assert "four times" in err
    assert run("explain", "--error-code", "E61") == (0, "", "No such error code E61\n")


CONFIG = {"eif_path": "x.eif", "memory_mib": 256, "cpu_count": 2}


def test_configuration_file_gives_everything(tmp_path: Path) -> None:
    """A configuration says what the options say; a console implies debug mode; unknown keys do not matter."""
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(CONFIG | {"enclave_cid": 0, "attach_console": True, "enclave_name": "n", "x": 1})
    )
    request, attach = read_config(path, attach=False)
    assert attach
    assert (request.debug, request.cid, request.name, request.cpu_count) == (True, None, "n", 2)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"eif_path": "x", "memory_mib": 1}, "E01"),
        (CONFIG | {"cpu_ids": [1]}, "E02"),
        (CONFIG | {"enclave_cid": 3}, "E03"),
        (CONFIG | {"memory_mib": "256"}, "E17"),
        (CONFIG | {"memory_mib": -1}, "E17"),
        (CONFIG | {"cpu_count": True}, "E17"),
        (CONFIG | {"cpu_ids": "1"}, "E17"),
        (CONFIG | {"cpu_ids": [-1]}, "E17"),
        (CONFIG | {"debug_mode": 1}, "E17"),
        ({"memory_mib": 1, "cpu_count": 1}, "E17"),
        ([], "E17"),
        ("{", "E17"),
    ],
)
def test_bad_configuration_has_its_code(tmp_path: Path, config: object, code: str) -> None:
    """A configuration that is not one is refused with the original's codes."""
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(NitroCliError) as refused:
        read_config(path, attach=False)
    assert refused.value.code == code


def test_absent_configuration_is_e19(run: Run, tmp_path: Path) -> None:
    """A configuration file that cannot be read is E19 and exits with 19."""
    assert run("run-enclave", "--config", tmp_path / "none.json")[0] == 19


def test_backtrace_lists_subactions() -> None:
    """The error log holds the action, then what it was part of."""
    error = NitroCliError("E36", "text", action="inner", subactions=["middle", "outer"])
    assert error.exit_code == 36
    assert error.to_backtrace() == ("  Action: inner\n  Subactions:\n    middle\n    outer\n  Version: 1.5.0")
