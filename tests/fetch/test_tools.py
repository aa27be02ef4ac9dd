"""Programs are run so that they can neither hang, nor flood the disk, nor be heard in control characters."""

import os
from pathlib import Path

import pytest

from cloister.fetch import FetchError, tools
from cloister.fetch.tools import ToolFailedError, Watch, require_tool, run_tool


def shell(script: str, workspace: Path, watch: Watch | None = None, **environ: str) -> None:
    run_tool(
        ["/bin/sh", "-c", script], workspace, {"PATH": os.environ["PATH"], **environ}, watch or Watch(60)
    )


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("exit 3", "sh exited with 3"),
        ("echo first; echo the reason; exit 3", "sh exited with 3: the reason"),
        ("echo 'Error: no such thing.' >&2; echo after; exit 1", "no such thing"),
        ('cat <<\'X\'\ntime="2026" level=fatal msg="it \\"broke\\":\\nhere"\nX\nexit 1', 'it "broke": here'),
        (r"printf 'Error: \033[2Jgone\n'; exit 1", " [2Jgone"),
        ("kill -9 $$", "sh was killed by signal 9"),
        (
            r"""printf 'level=error msg="%s"\n' 'no newgidmap' '(Unable to determine exit status)'; exit 1""",
            "no newgidmap; ordinary users need 'apt-get install uidmap'",
        ),
    ],
)
def test_failure_is_the_programs_own_last_word(tmp_path: Path, script: str, complaint: str) -> None:
    """One printable line, whatever else was printed."""
    with pytest.raises(ToolFailedError) as error:
        shell(script, tmp_path)
    assert str(error.value).strip() == complaint.strip()
    assert str(error.value).isprintable()


def test_silent_program_is_stopped_with_its_children(tmp_path: Path) -> None:
    """No byte and no word for the time given: the whole session of processes ends."""
    with pytest.raises(FetchError, match="brought and said nothing"):
        shell("sleep 1000 & echo $! > child; echo $$ > self; wait", tmp_path, Watch(0.5))
    for name in ("child", "self"):
        pid = int((tmp_path / name).read_text())
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_program_that_ignores_being_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM is a request, SIGKILL is none."""
    monkeypatch.setattr(tools, "_MERCY_SECONDS", 0.2)
    with pytest.raises(FetchError, match="brought and said nothing"):
        shell("trap '' TERM; echo $$ > self; while :; do sleep 0.05; done", tmp_path, Watch(0.5))
    assert not Path(f"/proc/{(tmp_path / 'self').read_text().strip()}").exists()


def test_program_that_floods_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and output count alike."""
    monkeypatch.setattr(tools, "MAX_BYTES", 1 << 20)
    for script in ("while :; do head -c 1000000 /dev/zero >> file; done", "yes"):
        with pytest.raises(FetchError, match="more than 1048576 bytes"):
            shell(script, tmp_path)


def test_environment_is_what_the_tools_are_configured_by(tmp_path: Path) -> None:
    """Whatever else is in our environment does not reach them; temporary files stay in here."""
    shell(
        "env > seen",
        tmp_path,
        MY_SECRET="secret",
        AWS_PROFILE="ecr",
        HTTPS_PROXY="http://proxy",
        HOME="/home/me",
    )
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines())
    assert set(seen) - {"PWD", "_", "OLDPWD", "SHLVL"} == {
        "PATH",
        "HTTPS_PROXY",
        "AWS_PROFILE",
        "HOME",
        "LC_ALL",
        "TMPDIR",
    }
    assert seen["TMPDIR"] == str(tmp_path / "tmp")


def test_output_is_passed_on_without_control_characters(tmp_path: Path) -> None:
    """Lines stay lines; what could drive a terminal does not arrive."""
    said = list[str]()
    shell(r"printf 'one\ntwo\033[2J\n'", tmp_path, Watch(60, on_output=said.append))
    assert "".join(said) == "one\ntwo [2J\n"


def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence with the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FetchError, match=r"^skopeo is needed to fetch hello; install it with 'apt-get install skopeo'\.$"
    ):
        require_tool("skopeo", "to fetch hello")
