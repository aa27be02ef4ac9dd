"""``cloister run``: what is refused, and how an image becomes a request; running is for the VM tests."""

import os
import re
from pathlib import Path

import pytest

from cloister.cli.completion import run as print_completion
from cloister.cli.main import build_parser
from cloister.cli.run import default_name
from cloister.places import Places
from simulators.enclave_records import Cloister


@pytest.fixture
def eif(tmp_path: Path) -> Path:
    """Return a file that begins as an image does."""
    path = tmp_path / "small.eif"
    path.write_bytes(b".eif")
    os.truncate(path, (40 << 20) + 4)
    return path


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--cpus", "0"),
        ("--cpus", "two"),
        ("--memory", "1X"),
        ("--memory", "-5"),
        ("--memory", "999999999999999T"),
        ("--cid", "3"),
        ("--cid", "4294967295"),
        ("--timeout", "0"),
        ("--timeout", "nan"),
        ("--restart", "sometimes"),
        ("--role-arn", "role/web"),
        ("--role-arn", "arn:aws:iam::123456789012:user/web"),
        ("--document-map", "both"),
        ("--detach", "--timeout", "5"),
        ("--detach", "--restart", "always"),
        ("--deb",),
    ],
)
def test_wrong_usage(cloister: Cloister, words: tuple[str, ...]) -> None:
    """What cannot be meant is refused with exit code 2 and a sentence, before anything is built."""
    code, printed, said = cloister("run", *(["image.eif"] if words else []), *words)
    assert (code, printed) == (2, "")
    assert "error:" in said


def test_empty_image_is_not_the_directory_one_is_in(cloister: Cloister) -> None:
    """A script whose variable is unset is told so; nothing of the current directory is built or run."""
    code, printed, said = cloister("run", "")
    assert (code, printed) == (2, "")
    assert "error: IMAGE is empty" in said


def test_image_that_is_not_there(cloister: Cloister, host: Places) -> None:
    """What cannot be built is the builder's one sentence, exit code 125, and leaves no scratch."""
    code, printed, said = cloister("run", "/nonexistent/image")
    assert (code, printed, said) == (125, "", "cloister: The source /nonexistent/image does not exist.\n")
    assert list(host.artifacts.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("docker://127.0.0.1:9/team/hello:v1", "hello"),
        ("team/hello:v1", "hello"),
        ("docker-daemon:hello", "hello"),
        ("oci:layout:v1", "layout"),
        ("docker-archive:some/app.tar:hello:v1", "app"),
    ],
)
def test_enclave_is_named_after_its_image(source: str, name: str) -> None:
    """Not after the place it comes from, nor after the tag."""
    assert default_name(source) == name


def test_damaged_image(cloister: Cloister, eif: Path) -> None:
    """An image that cannot be started is told with its code; memory is chosen, and how is said."""
    code, printed, said = cloister("run", str(eif), "--debug")
    assert (code, printed) == (125, "")
    assert "256 MiB of memory" in said
    assert "[E35]" in said
    assert said.count("\n") == 2


def test_memory_is_four_times_a_large_image(cloister: Cloister, eif: Path) -> None:
    """Above 64 MiB the image decides."""
    with eif.open("r+b") as file:
        file.truncate(100 << 20)
    assert "400 MiB of memory for an image of 100.0 MiB" in cloister("run", str(eif))[2]


def test_too_little_memory(cloister: Cloister, eif: Path) -> None:
    """nitro-cli's rule is applied to what is asked for."""
    code, _, said = cloister("run", str(eif), "--memory", "100")
    assert code == 125
    assert "based on the EIF file size" in said
    assert said.endswith("[E26]\n")


def test_measured_command_cannot_be_replaced(cloister: Cloister, eif: Path) -> None:
    """An EIF's command is part of its measurements."""
    code, _, said = cloister("run", str(eif), "--cmd", "/bin/sh")
    assert code == 125
    assert "part of what is measured" in said


def test_production_mode_says_where_the_output_went(cloister: Cloister, eif: Path) -> None:
    """Without a console it is said, once, how to get one and what that costs."""
    assert cloister("run", str(eif))[2].count("--debug shows") == 1
    assert "--debug shows" not in cloister("run", str(eif), "--debug")[2]


def test_help_has_the_table_of_exit_codes(cloister: Cloister) -> None:
    """The codes are where they are looked for."""
    _, printed, _ = cloister("run", "--help")
    for code in ("124", "125", "126", "130", "143"):
        assert f"{code}" in printed


def test_completion_knows_the_new_verbs(capfd: pytest.CaptureFixture[str]) -> None:
    """The script for bash offers the verbs and their options."""
    print_completion(build_parser("completion").parse_args(["completion", "bash"]))
    script = capfd.readouterr().out
    (verbs,) = re.findall(r"^_shtab_cloister_subparsers=\((.*)\)$", script, re.MULTILINE)
    assert {"run", "ps", "logs", "wait", "stop", "top"} <= set(verbs.split())
    for option in ("run_option_strings=(-h --help --cpus", "--restart", "--previous", "--interval"):
        assert option in script
    assert "_shtab_cloister_run_pos_0_COMPGEN=_shtab_compgen_files" in script
