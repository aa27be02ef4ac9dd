"""Machines that differ in everything an image must not depend on, and one tree that is built on each.

``home`` is this host with the Python of the tests. ``abroad`` is another release of the distribution with its
own Python, C library and locale, on a tmpfs. ``next_door`` is this host for another user: ASCII alone, and an
overlay where root may mount one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from reproducible.other_python import LOCALE, REPOSITORY, OtherPython

SECONDS: Final = 200
INSIDE: Final = Path(__file__).with_name("inside.py")
OVERLAY: Final = """\
mount -t tmpfs none "$1"
mkdir "$1/lower" "$1/upper" "$1/work" "$1/merged"
mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" none "$1/merged"
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Build:
    """One command of the product that writes one image."""

    name: str
    verb: str
    words: tuple[str | bytes, ...]
    """``OUT`` and ``TREE`` at their beginning stand for the sandbox's directories."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """How to run there, and what is peculiar to it."""

    words: list[str]
    python: list[str]
    environment: dict[str, str]
    umask: int
    backwards: bool
    """Whether files are made in the other order, with other times."""
    work: Path
    directory: Path
    """The working directory."""
    tree: str
    """The source's name, seen from there."""
    unshared: Sequence[str] = ()


def home(scratch: Path) -> Machine:
    """Return this host as it is."""
    work = scratch / "work"
    work.mkdir()
    return Machine(
        words=["bwrap", "--dev-bind", "/", "/", "--unshare-uts", "--hostname", "home"],
        python=[sys.executable],
        environment={
            "HOME": str(work), "LC_ALL": "C.UTF-8", "TZ": "UTC0", "PYTHONHASHSEED": "1",
            "PYTHONPATH": str(REPOSITORY / "src"),
        },
        umask=0o022, backwards=False, work=work, directory=work, tree="tree",
    )  # fmt: skip


def abroad(other: OtherPython) -> Machine:
    """Return another release, where nothing of this host is seen but the product's source."""
    name, charset = LOCALE
    words = [*other.machine(), "--hostname", "abroad", "--uid", "4711", "--gid", "4712"]
    words += ["--dir", "/srv/deep/down/work", "--dir", "/etc", "--ro-bind", str(INSIDE), str(INSIDE)]
    words += ["--ro-bind", str(REPOSITORY / "src"), "/product", "--ro-bind", str(other.modules), "/modules"]
    work = Path("/srv/deep/down/work")
    return Machine(
        words=words,
        python=[str(other.interpreter), "-OO"],
        environment={
            "HOME": "/nonexistent", "LC_ALL": f"{name}.{charset}", "LANGUAGE": "tr", "TZ": "FAR-13:45",
            "PYTHONHASHSEED": "4294967295", "PYTHONPATH": "/product:/modules", "COLUMNS": "20",
        },
        umask=0o077, backwards=True, work=work, directory=Path("/proc"), tree=str(work / "tree"),
    )  # fmt: skip


def next_door(scratch: Path) -> Machine:
    """Return this host for a user without a locale, who has another file system if root gives it to him."""
    mounted = scratch / "mounted"
    mounted.mkdir()
    unshared = list[str]()
    work = mounted
    if os.geteuid() == 0:
        unshared = ["unshare", "--mount", "sh", "-euc", OVERLAY, "sh", str(mounted)]
        work = mounted / "merged"
    words = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--uid", "65534", "--gid", "65533"]
    return Machine(
        words=[*words, "--unshare-uts", "--hostname", "next-door"],
        python=[sys.executable, "-O"],
        environment={
            "HOME": "/", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "TZ": "WEST+11",
            "PYTHONHASHSEED": "77", "PYTHONPATH": str(REPOSITORY / "src"), "XDG_RUNTIME_DIR": "/nonexistent",
        },
        umask=0o027, backwards=True, work=work, directory=work, tree="./tree/../tree/", unshared=unshared,
    )  # fmt: skip


def run_on(
    machine: Machine, given: Path, out: Path, entries: Sequence[Mapping[str, Any]], builds: Sequence[Build]
) -> dict[str, Any]:
    """Build everything on a machine into ``out`` and return its facts; ``given`` is read-only there."""
    out.mkdir()

    def spelled(word: str | bytes) -> str:
        raw = word if isinstance(word, bytes) else word.encode()
        return raw.replace(b"OUT", bytes(out)).replace(b"TREE", machine.tree.encode()).hex()

    plan = {
        "umask": machine.umask,
        "backwards": machine.backwards,
        "work": str(machine.work),
        "directory": str(machine.directory),
        "entries": list(entries),
        "out": str(out),
        "builds": [
            (build.name, build.verb, [spelled(word) for word in build.words], dict(build.environment))
            for build in builds
        ],
    }
    (out / "plan.json").write_text(json.dumps(plan))
    own = {
        "PATH": "/usr/bin",
        "XDG_CACHE_HOME": str(given / "cache"),
        "NITRO_CLI_ARTIFACTS": str(out / "artifacts"),
        "NITRO_CLI_LOGS_PATH": str(out / "logs"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    words = [*machine.unshared, *machine.words, "--die-with-parent"]
    words += ["--ro-bind", str(given), str(given), "--bind", str(out), str(out)]
    words += [*machine.python, str(INSIDE), str(out / "plan.json")]
    done = subprocess.run(
        words, env=own | machine.environment, capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    facts: dict[str, Any] = json.loads((out / "facts.json").read_text())
    return facts
