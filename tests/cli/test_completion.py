"""Completion scripts: bash itself is asked what follows."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cloister.cli.main import main
from cloister.cli.nitro.main import COMMANDS, command

Capture = pytest.CaptureFixture[str]


def complete(script: str, function: str, directory: Path, *words: str) -> set[str]:
    """Return what bash offers for the last word."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is absent")
    asked = (
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'{function} "$1" "${{@: -1}}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        [bash, "-c", f"{script}\n{asked}", "bash", *words],
        capture_output=True, text=True, timeout=20, check=True, cwd=directory,
    )  # fmt: skip
    return set(done.stdout.split())


def test_nitro_cli_is_completed(tmp_path: Path, capsys: Capture) -> None:
    """Bash offers nitro-cli's commands, a command's options, and files where a file is meant."""
    assert main(["completion", "bash", "nitro-cli"]) == 0
    script = capsys.readouterr().out
    function = "_shtab_nitro_cli"
    assert set(COMMANDS) <= complete(script, function, tmp_path, "nitro-cli", "")
    for name in COMMANDS:
        options = {f"--{option.name}" for option in command(name).options}
        assert options <= complete(script, function, tmp_path, "nitro-cli", name, "--")
    (tmp_path / "hello.eif").touch()
    words = ("nitro-cli", "run-enclave", "--eif-path", "he")
    assert complete(script, function, tmp_path, *words) == {"hello.eif"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
@pytest.mark.parametrize("program", [[], ["cloister"], ["nitro-cli"]])
def test_every_shell_has_its_script(capsys: Capture, shell: str, program: list[str]) -> None:
    """Each shell gets a script for either program, cloister's unless asked otherwise."""
    assert main(["completion", shell, *program]) == 0
    script = capsys.readouterr().out
    assert ("run-enclave" in script) is (program == ["nitro-cli"])
    assert ("attestation" in script) is (program != ["nitro-cli"])
