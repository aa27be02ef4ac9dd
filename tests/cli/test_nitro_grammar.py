"""nitro-cli's grammar: what all nine commands accept and refuse, in clap's words and layout.

The expected texts are what clap 4.4.18 prints for the same table of options.
"""

from collections.abc import Callable

import pytest

from cloister.cli.nitro.grammar import UsageExit
from cloister.cli.nitro.main import COMMANDS, command, read
from cloister.cli.nitro.similar import jaro

Run = Callable[..., tuple[int, str, str]]

START = "run-enclave --eif-path x --memory 1 --cpu-count 1"
BUILD = "build-enclave --docker-uri u --output-file o"
MORE = "\nFor more information, try '--help'.\n"


@pytest.mark.parametrize(
    ("line", "given"),
    [
        (START, {"eif_path": "x", "memory": "1", "cpu_count": "1", "cpu_ids": None, "debug_mode": False}),
        ("run-enclave --memory=1 --eif-path=-x --cpu-ids 1 2 3",
         {"eif_path": "-x", "cpu_ids": ["1", "2", "3"]}),
        ("run-enclave --cpu-ids=1 --memory 1 --eif-path -", {"cpu_ids": ["1"], "eif_path": "-"}),
        ("run-enclave --memory= --cpu-count 1 --eif-path x", {"memory": ""}),
        (f"{START} --debug-mode --attach-console", {"debug_mode": True, "attach_console": True}),
        (f"{START} --enclave-cid=-18 --enclave-name n --", {"enclave_cid": "-18", "enclave_name": "n"}),
        ("run-enclave --config c --attach-console", {"config": "c", "attach_console": True, "memory": None}),
        ("terminate-enclave --all", {"all": True, "enclave_id": None, "enclave_name": None}),
        ("terminate-enclave --enclave-id=i", {"all": False, "enclave_id": "i"}),
        ("terminate-enclave --enclave-name n", {"enclave_name": "n"}),
        ("describe-enclaves", {"metadata": False}),
        ("describe-enclaves --metadata", {"metadata": True}),
        ("console --enclave-id i", {"enclave_id": "i", "disconnect_timeout": None}),
        ("console --disconnect-timeout 3 --enclave-name n", {"disconnect_timeout": "3", "enclave_name": "n"}),
        (BUILD, {"docker_uri": "u", "output_file": "o", "docker_dir": None, "name": None, "version": None}),
        (f"{BUILD} --docker-dir d --name n --version 1 --metadata m", {"version": "1", "metadata": "m"}),
        (f"{BUILD} --private-key k --signing-certificate c",
         {"private_key": "k", "signing_certificate": "c"}),
        ("describe-eif --eif-path x", {"eif_path": "x"}),
        ("sign-eif", {"eif_path": None, "private_key": None, "signing_certificate": None}),
        ("sign-eif --eif-path x --private-key k --signing-certificate c", {"private_key": "k"}),
        ("pcr --input f", {"input": "f", "signing_certificate": None}),
        ("pcr --signing-certificate c", {"signing_certificate": "c"}),
        ("explain --error-code E26", {"error_code": "E26"}),
    ],
)  # fmt: skip
def test_right_usage_is_understood(line: str, given: dict[str, object]) -> None:
    """What scripts for the original say is accepted, with these values."""
    words = line.split()
    name, args = read(words)
    assert name == words[0]
    assert given.items() <= vars(args).items()


ABSENT = "the following required arguments were not provided:"
IDS, COUNT, MEMORY, EIF = (
    "--cpu-ids <cpu-ids>...", "--cpu-count <cpu-count>", "--memory <memory>", "--eif-path <eif-path>",
)  # fmt: skip
ID, NAME = "--enclave-id <enclave-id>", "--enclave-name <enclave-name>"
CERTIFICATE, KEY = "--signing-certificate <signing-certificate>", "--private-key <private-key>"
CONFIG = "--config <json-config>"
PLAIN = "run-enclave [OPTIONS]"
TERMINATE = "terminate-enclave [OPTIONS]"
EXPLAIN = "explain --error-code <error-code>"


@pytest.mark.parametrize(
    ("line", "error", "usage"),
    [
        ("run-enclave", f"{ABSENT}\n  {IDS}\n  {COUNT}\n  {MEMORY}\n  {EIF}",
         f"run-enclave {IDS} {COUNT} {MEMORY} {EIF}"),
        ("run-enclave --eif-path x --memory 1", f"{ABSENT}\n  {IDS}\n  {COUNT}",
         f"run-enclave {EIF} {MEMORY} {IDS} {COUNT}"),
        ("run-enclave --eif-path x --cpu-count 1", f"{ABSENT}\n  {MEMORY}",
         f"run-enclave {EIF} {COUNT} {MEMORY}"),
        ("run-enclave --memory 1 --cpu-ids 1", f"{ABSENT}\n  {EIF}", f"run-enclave {MEMORY} {IDS} {EIF}"),
        (f"{START} --cpu-ids 1", f"the argument '{COUNT}' cannot be used with '{IDS}'",
         f"run-enclave {EIF} {MEMORY} {COUNT}"),
        ("run-enclave --config c --debug-mode", f"the argument '{CONFIG}' cannot be used with '--debug-mode'",
         f"run-enclave {CONFIG}"),
        ("run-enclave --config c --memory 1 --eif-path y",
         f"the argument '{CONFIG}' cannot be used with:\n  {MEMORY}\n  {EIF}", f"run-enclave {CONFIG}"),
        ("run-enclave --enclave-name n --config c",
         f"the argument '{NAME}' cannot be used with '{CONFIG}'", f"run-enclave {NAME}"),
        ("run-enclave --config c --enclave-cid 9",
         f"the argument '{CONFIG}' cannot be used with '--enclave-cid <enclave-cid>'",
         f"run-enclave {CONFIG}"),
        ("run-enclave --config c --cpu-ids 9", f"the argument '{CONFIG}' cannot be used with '{IDS}'",
         f"run-enclave {CONFIG}"),
        ("run-enclave --config c --cpu-count 9", f"the argument '{CONFIG}' cannot be used with '{COUNT}'",
         f"run-enclave {CONFIG}"),
        (f"{START} --memory 2", f"the argument '{MEMORY}' cannot be used multiple times", PLAIN),
        (f"{START} --debug-mode --debug-mode", "the argument '--debug-mode' cannot be used multiple times",
         PLAIN),
        ("run-enclave --cpu-ids 1 --cpu-ids 2", f"the argument '{IDS}' cannot be used multiple times", PLAIN),
        ("run-enclave --debug-mode=1", "unexpected value '1' for '--debug-mode' found; no more were expected",
         "run-enclave --debug-mode"),
        (f"{START} stray", "unexpected argument 'stray' found", PLAIN),
        (f"{START} -- stray", "unexpected argument 'stray' found", PLAIN),
        ("run-enclave --cpu-ids=1 2", "unexpected argument '2' found", PLAIN),
        (f"{START} --enclave-cid -18", "unexpected argument '-1' found", PLAIN),
        ("run-enclave -m 1", "unexpected argument '-m' found", PLAIN),
        ("run-enclave -V", "unexpected argument '-V' found", PLAIN),
        ("run-enclave --version", "unexpected argument '--version' found", PLAIN),
        ("terminate-enclave", f"{ABSENT}\n  {ID}\n  --all\n  {NAME}", f"terminate-enclave {ID} --all {NAME}"),
        ("terminate-enclave --all --enclave-id x", f"the argument '--all' cannot be used with '{ID}'",
         "terminate-enclave --all"),
        ("terminate-enclave --enclave-id x --enclave-name y --all",
         f"the argument '{ID}' cannot be used with:\n  {NAME}\n  --all", f"terminate-enclave {ID}"),
        ("terminate-enclave --enclave-id a b", "unexpected argument 'b' found", TERMINATE),
        ("describe-enclaves --metadata x", "unexpected argument 'x' found", "describe-enclaves [OPTIONS]"),
        ("describe-enclaves --all", "unexpected argument '--all' found", "describe-enclaves [OPTIONS]"),
        ("describe-enclaves -- --metadata", "unexpected argument '--metadata' found",
         "describe-enclaves [OPTIONS]"),
        ("console", f"{ABSENT}\n  {ID}\n  {NAME}", f"console {ID} {NAME}"),
        ("console --enclave-id x --enclave-name y", f"the argument '{ID}' cannot be used with '{NAME}'",
         f"console {ID}"),
        ("build-enclave --name n", f"{ABSENT}\n  --docker-uri <docker-uri>\n  --output-file <output-file>",
         "build-enclave --docker-uri <docker-uri> --output-file <output-file> --name <image_name>"),
        (f"{BUILD} --private-key k", f"{ABSENT}\n  {CERTIFICATE}",
         f"build-enclave --docker-uri <docker-uri> --output-file <output-file> {KEY} {CERTIFICATE}"),
        ("build-enclave -V", "unexpected argument '-V' found",
         "build-enclave [OPTIONS] --docker-uri <docker-uri> --output-file <output-file>"),
        ("describe-eif", f"{ABSENT}\n  {EIF}", f"describe-eif {EIF}"),
        ("describe-eif x", "unexpected argument 'x' found", f"describe-eif {EIF}"),
        ("sign-eif --signing-certificate c", f"{ABSENT}\n  {KEY}", f"sign-eif {CERTIFICATE} {KEY}"),
        ("pcr", f"{ABSENT}\n  {CERTIFICATE}\n  --input <input>", f"pcr {CERTIFICATE} --input <input>"),
        ("pcr --input a --signing-certificate b",
         f"the argument '--input <input>' cannot be used with '{CERTIFICATE}'", "pcr --input <input>"),
        ("explain", f"{ABSENT}\n  --error-code <error-code>", EXPLAIN),
        ("explain E26", "unexpected argument 'E26' found", EXPLAIN),
        ("explain --error-code E26 E27", "unexpected argument 'E27' found", EXPLAIN),
        ("nope", "unrecognized subcommand 'nope'", "[COMMAND]"),
        ("help nope", "unrecognized subcommand 'nope'", "[COMMAND]"),
        ("help run-enclave extra", "unrecognized subcommand 'extra'", PLAIN),
        ("--bad", "unexpected argument '--bad' found", "[COMMAND]"),
        ("-x", "unexpected argument '-x' found", "[COMMAND]"),
        ("--version=1", "unexpected value '1' for '--version' found; no more were expected", "--version"),
    ],
)  # fmt: skip
def test_wrong_usage_is_refused_in_claps_words(run: Run, line: str, error: str, usage: str) -> None:
    """Wrong usage exits with 2 and prints what is wrong, the usage and where to read on, all on stderr."""
    assert run(*line.split()) == (2, "", f"error: {error}\n\nUsage: nitro-cli {usage}\n{MORE}")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("run-enclave --memory", MEMORY),
        ("run-enclave --memory --cpu-count 1", MEMORY),
        ("run-enclave --memory -h", MEMORY),
        ("run-enclave --eif-path --", EIF),
        ("run-enclave --cpu-ids", IDS),
        ("run-enclave --cpu-ids --memory 1", IDS),
        ("run-enclave --config", CONFIG),
        ("terminate-enclave --enclave-id", ID),
        ("console --disconnect-timeout", "--disconnect-timeout <disconnect-timeout>"),
        (f"{BUILD} --version", "--version <image_version>"),
        ("pcr --input", "--input <input>"),
        ("explain --error-code", "--error-code <error-code>"),
    ],
)
def test_absent_value_is_refused(run: Run, line: str, option: str) -> None:
    """An option without its value is refused, without a usage line."""
    error = f"error: a value is required for '{option}' but none was supplied\n{MORE}"
    assert run(*line.split()) == (2, "", error)


@pytest.mark.parametrize(
    ("line", "tip", "usage"),
    [
        ("run-enclave --memory 1 --cpu-co 1", "a similar argument exists: '--cpu-count'",
         f"{MEMORY} {COUNT}"),
        ("run-enclave --memroy 1", "a similar argument exists: '--memory'", MEMORY),
        ("--memory 1 run-enclave", "'run-enclave --memory' exists", None),
        ("consol", "a similar subcommand exists: 'console'", None),
        ("describe", "some similar subcommands exist: 'describe-enclaves', 'describe-eif'", None),
        ("-- run-enclave", "subcommand 'run-enclave' exists; to use it, remove the '--' before it", None),
    ],
)  # fmt: skip
def test_near_misses_get_a_tip(run: Run, line: str, tip: str, usage: str | None) -> None:
    """No abbreviation is accepted, but what was meant is named; the last of several is the most similar."""
    code, out, err = run(*line.split())
    shown = "[COMMAND]" if usage is None else f"run-enclave {usage}"
    assert (code, out) == (2, "")
    assert err.partition("\n")[2] == f"\n  tip: {tip}\n\nUsage: nitro-cli {shown}\n{MORE}"


def test_values_must_be_unicode(run: Run) -> None:
    """A value that is not UTF-8 is wrong usage."""
    code, _, err = run("describe-eif", "--eif-path", "a\udcff")
    assert code == 2
    assert err.startswith("error: invalid UTF-8 was detected in one or more arguments\n\nUsage: ")


CONSOLE_HELP = """\
Connect to the console of an enclave

Usage: nitro-cli console [OPTIONS]

Options:
      --enclave-id <enclave-id>
          Enclave ID, used to uniquely identify an enclave
      --disconnect-timeout <disconnect-timeout>
          The time in seconds after the console disconnects from the enclave
      --enclave-name <enclave-name>
          Enclave name, used to uniquely identify an enclave
  -h, --help
          Print help
"""
EXPLAIN_HELP = """\
Display detailed information about an error returned by a misbehaving Nitro CLI command

Usage: nitro-cli explain --error-code <error-code>

Options:
      --error-code <error-code>  Error code, as returned by the misbehaving Nitro CLI command
  -h, --help                     Print help
"""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("console --help", CONSOLE_HELP),
        ("console --enclave-id x -h", CONSOLE_HELP),
        ("help console", CONSOLE_HELP),
        ("explain -hx", EXPLAIN_HELP),
        ("--version", "Nitro CLI 1.5.0\n"),
        ("-V", "Nitro CLI 1.5.0\n"),
    ],
)
def test_help_and_version_go_to_stdout(run: Run, line: str, text: str) -> None:
    """Help has clap's layout: beside the options where it fits, under them where it does not."""
    assert run(*line.split()) == (0, text, "")


def test_every_command_is_listed(run: Run) -> None:
    """The program's help names the nine commands; no command at all shows it on stderr and exits with 2."""
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert out.startswith("CLI for enclave lifetime management\n\nUsage: nitro-cli [COMMAND]\n\nCommands:\n")
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()[:10]]
    assert listed == [*COMMANDS, "help"]
    assert run() == (2, "", out)
    assert run("help") == run("-h") == (0, out, "")


def test_tables_name_only_their_own_options() -> None:
    """Every option that a table speaks of is in it, and conflicts and needs are mutual."""
    for name in COMMANDS:
        options = command(name).options
        own = {option.name: option for option in options}
        assert len(own) == len(options)
        for option in options:
            for other in (*option.unless, *option.conflicts, *option.requires):
                assert other in own
            assert all(option.name in own[other].requires for other in option.requires)


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [
        ("", "", 1.0),
        ("a", "", 0.0),
        ("memory", "memory", 1.0),
        ("martha", "marhta", 0.944),
        ("abc", "xyz", 0.0),
    ],
)
def test_similarity(first: str, second: str, score: float) -> None:
    """Equal words score 1, words without a common letter 0, a swapped pair in between."""
    assert jaro(first, second) == pytest.approx(score, abs=0.001)


@pytest.mark.parametrize(
    "words", [["--" + "a" * 100_000], ["run-enclave", "--" + "m" * 100_000], ["x" * 100_000]]
)
def test_endless_words_are_refused_at_once(words: list[str]) -> None:
    """A word of any length is refused without being compared with every option."""
    with pytest.raises(UsageExit):
        read(words)
