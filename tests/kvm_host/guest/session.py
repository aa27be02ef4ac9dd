"""The test host's init once its root is there: run the tests as root and as an ordinary user, then end.

Only the standard library: this is process 1. What it has to do comes in ``/run/exchange/session.json``; the
reports go back the same way, and the machine ends by rebooting. Both sessions run at once, for an emulated
processor is slow and there is more than one.
"""

import ctypes
import json
import os
import subprocess
import threading
import traceback
from pathlib import Path
from typing import IO, Any

EXCHANGE = Path("/run/exchange")
CGROUP = Path("/sys/fs/cgroup")
SCRATCH = Path("/run/scratch")
USER = 1000
KVM_GROUP = 993
"""Any number serves: what counts is that the user has /dev/kvm through a group, as on a real host."""
RB_AUTOBOOT = 0x01234567


def prepare(task: dict[str, Any]) -> Path:
    """Give the machine's controllers, devices and files the rights of a real host; return the user's home."""
    controllers = (CGROUP / "cgroup.controllers").read_text().split()
    (CGROUP / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    os.chown("/dev/kvm", 0, KVM_GROUP)
    Path("/dev/kvm").chmod(0o660)
    cache = Path(task["cache"])
    for path in (Path(task["repository"]), Path(task["python_home"]), cache / "jails", cache / "kits"):
        for directory in (path, *path.parents):
            directory.chmod(0o755)  # in the overlay alone: the host's own files are read-only
    own = Path("/run/user-home")
    (own / ".cache/cloister").mkdir(parents=True)
    for name in ("jails", "kits"):
        (own / ".cache/cloister" / name).symlink_to(cache / name)
    for directory in (own, own / ".cache", own / ".cache/cloister"):
        os.chown(directory, USER, USER)
    return own


def start(
    task: dict[str, Any], name: str, home: Path, cache: Path, **identity: Any
) -> subprocess.Popen[bytes]:
    """Start one session of tests."""
    scratch = SCRATCH / name
    scratch.mkdir(mode=0o700, parents=True)
    if identity:
        os.chown(scratch, USER, USER)
    environment = {
        "HOME": str(home), "XDG_CACHE_HOME": str(cache), "PATH": str(task["path"]),
        "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8", "CI": "true", "CLOISTER_TEST_HOST": str(EXCHANGE),
        "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(scratch),
    }  # fmt: skip
    words = [str(task["python"]), "-m", "pytest", "-v", "-p", "no:cacheprovider", "--color=no"]
    words += [f"--junitxml={scratch}/report.xml", *task[name]]
    session = subprocess.Popen(
        words,
        env=environment,
        cwd=str(task["repository"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **identity,
    )
    threading.Thread(target=tell, args=(name, session.stdout), daemon=True).start()
    return session


def tell(name: str, output: IO[bytes]) -> None:
    """Print what a session says, line by line, so that two of them can be read at once."""
    for line in output:
        print(name, "|", line.decode(errors="replace").rstrip(), flush=True)


def bury(sessions: set[int]) -> None:
    """Reap everything, orphans too, until the sessions have ended."""
    while sessions:
        pid, _ = os.wait()
        sessions.discard(pid)


def main() -> None:
    """Run both sessions and hand their reports over."""
    task = json.loads((EXCHANGE / "session.json").read_text())
    own = prepare(task)
    sessions = [
        start(task, "root", Path("/root"), Path(task["cache"]).parent),
        start(task, "user", own, own / ".cache", user=USER, group=USER, extra_groups=[KVM_GROUP]),
    ]
    bury({session.pid for session in sessions})
    for name in ("root", "user"):
        report = SCRATCH / name / "report.xml"
        if report.is_file():
            (EXCHANGE / f"{name}.xml").write_bytes(report.read_bytes())


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001 -- process 1 has nobody to tell but the console
        traceback.print_exc()
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(RB_AUTOBOOT)
