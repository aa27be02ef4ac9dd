"""The demo's stage: private directories, so that it neither disturbs nor needs anybody's enclaves."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cloister.demo.leftovers import belonging
from cloister.demo.session import DemoError, Session
from cloister.demo.story import Story
from cloister.errors import CloisterError
from cloister.kms import initialise_kms
from cloister.places import Places
from cloister.rootfs import EXAMPLES
from cloister.trust import open_trust

KEPT_LOGS = 5
END_SECONDS = 15.0


def run_demo(places: Places, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Play the demo; DemoError says which step failed and why, after everything was cleaned up."""
    with open_stage(places, environ, say) as story:
        say(f"Everything below happens in {story.work}; its logs stay.")
        try:
            story.tell()
        except CloisterError as error:
            raise DemoError(f"{story.session.step} failed: {error}") from error


@contextmanager
def open_stage(places: Places, environ: Mapping[str, str], say: Callable[[str], None]) -> Iterator[Story]:
    """Yield a story that has not begun; whatever it starts is ended with the block.

    Kit, jail, root filesystems and the local root of trust are this user's; all else is fresh and private.
    """
    open_trust(places.pki)
    with _directories(places) as work:
        state = work / "state"
        environment = {
            **environ,
            "NITRO_CLI_SOCKETS_PATH": str(work / "run"),
            "NITRO_CLI_LOGS_PATH": str(work / "logs"),
            "NITRO_CLI_ARTIFACTS": str(work / "artifacts"),
            "XDG_STATE_HOME": str(state),
            "XDG_CACHE_HOME": str(places.cache.parent),
            "TMPDIR": str(work / "tmp"),
        }
        account = initialise_kms(state / "cloister/kms")
        session = Session(say, work, environment)
        try:
            yield Story(session, work, work / "run", account)
        finally:
            session.stop_all()
            _end_enclaves(session, work / "run")
            session.stop_all()


@contextmanager
def _directories(places: Places) -> Iterator[Path]:
    """Make the directories, and take all but the logs away afterwards."""
    base = places.state / "demo"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in sorted(base.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_LOGS]:
        if [path.name for path in old.iterdir()] == ["logs"]:
            shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=base, prefix="run-"))
    try:
        for name in ("run/vsock", "logs", "artifacts", "tmp", "state/cloister"):
            (work / name).mkdir(parents=True, mode=0o700)
        (work / "state/cloister/pki").symlink_to(places.pki)
        (work / "examples").symlink_to(EXAMPLES)
        yield work
    finally:
        for path in work.iterdir():
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.name != "logs":
                shutil.rmtree(path, ignore_errors=True)


def _end_enclaves(session: Session, run: Path) -> None:
    """End what still runs in the private run directory; only a demo that was cut short leaves anything to do.

    An enclave that is just starting has no socket yet, so this looks for processes until there are none.
    """
    deadline = time.monotonic() + END_SECONDS
    while pids := belonging(run):
        if time.monotonic() > deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        if list(run.glob("*.sock")):
            with suppress(CloisterError):
                session.finish(session.spawn("nitro-cli", "terminate-enclave", "--all"))
        time.sleep(0.1)
