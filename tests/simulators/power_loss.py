"""Lose power, or be killed, before each change that a command makes to files, one child a change.

``python power_loss.py SCENARIO DIRECTORY KIND...`` prepares a root of trust, forks a child for the first
change, the second and so on, each on its own copy, and prints how many there were. Killed, all done so far
stays and a write is cut in half; without power, what was not synced is gone too: content, renames, removals.
"""

import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cloister.trust import (
    Host,
    InFile,
    Offline,
    bring_in,
    delegate,
    establish,
    initialise,
    make_root,
    open_trust,
    rotate_below,
    rotate_root,
    take_offline,
)

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
REGION = "eu-central-1"
HOST = Host(REGION, "i-0123456789abcdef0")
MODULE_ID = f"{HOST.instance_id}-enc0198bc503b57519e"
SPAN = timedelta(days=28)
FINISHED, CUT = 0, 9


def _root(directory: Path) -> None:
    initialise(directory / "pki", region=REGION, instance_id=HOST.instance_id, now=NOW)


def _root_that_left(directory: Path) -> None:
    _root(directory)
    take_offline(directory / "pki", directory / "usb.key", NOW, span=SPAN)


def _root_and_bundle(directory: Path) -> None:
    _root(directory)
    initialise(directory / "other", region=REGION, instance_id="i-00000000", now=NOW)
    (directory / "bundle").write_bytes(delegate(directory / "other", REGION, NOW, span=SPAN))


def _init(directory: Path) -> None:
    establish(directory / "pki", HOST, lambda: make_root(InFile(), region=REGION, now=NOW), NOW)


def _init_offline(directory: Path) -> None:
    home = Offline(directory / "usb.key", None)
    establish(directory / "pki", HOST, lambda: make_root(home, region=REGION, now=NOW, span=SPAN), NOW)


def _rotate(directory: Path) -> None:
    rotate_root(directory / "pki", lambda: make_root(InFile(), region=REGION, now=NOW), NOW)


def _rotate_offline(directory: Path) -> None:
    home = Offline(directory / "usb.key", None)
    rotate_root(directory / "pki", lambda: make_root(home, region=REGION, now=NOW, span=SPAN), NOW)


def _import_bundle(directory: Path) -> None:
    bring_in(directory / "pki", (directory / "bundle").read_bytes(), NOW, replace=True)


SCENARIOS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "init": (lambda _: None, _init),
    "init --offline": (lambda _: None, _init_offline),
    "rotate": (_root, _rotate),
    "rotate --offline": (_root, _rotate_offline),
    "rotate --level regional": (_root, lambda at: rotate_below(at / "pki", "regional", NOW)),
    "rotate --level zonal": (_root, lambda at: rotate_below(at / "pki", "zonal", NOW)),
    "take-offline": (_root, lambda at: take_offline(at / "pki", at / "usb.key", NOW, span=SPAN)),
    "import key": (_root_that_left, lambda at: bring_in(at / "pki", (at / "usb.key").read_bytes(), NOW)),
    "import bundle": (_root_and_bundle, _import_bundle),
    "renewal": (
        _root,
        lambda at: open_trust(at / "pki").enclave_credentials(MODULE_ID, NOW + timedelta(days=15)),
    ),
}


class Disk:
    """Counts the changes that go through ``os`` and ends the process before one of them."""

    def __init__(self, last: int, *, power: bool) -> None:
        self._left = last
        self._power = power
        self._open: dict[int, Path] = {}
        self._unsynced: set[Path] = set()
        self._undo: list[tuple[Path, Callable[[], Any]]] = []
        for name in ("open", "write", "fsync", "replace", "unlink", "mkdir", "chmod"):
            setattr(os, name, self._counting(getattr(os, name), getattr(self, f"_{name}", None)))

    def _counting(self, real: Callable[..., Any], watch: Callable[..., Any] | None) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if real.__name__ != "open" or arguments[1] & os.O_CREAT:
                if self._left == 0:
                    self._end(real, arguments)
                self._left -= 1
            after = watch(*arguments) if watch is not None and real.__name__ != "open" else None
            result = real(*arguments, **options)
            if real.__name__ == "open":
                self._open[result] = Path(arguments[0])
                if arguments[1] & os.O_CREAT:
                    self._unsynced.add(Path(arguments[0]))
            if after is not None:
                after()
            return result

        return call

    def _fsync(self, descriptor: int) -> Callable[[], Any]:
        path = self._open[descriptor]

        def done() -> None:
            self._unsynced.discard(path)
            self._undo = [entry for entry in self._undo if entry[0] != path]

        return done

    def _replace(self, source: Path, target: Path) -> None:
        before = Path(target).read_bytes() if Path(target).exists() else None
        moved = Path(source).read_bytes()

        def undo() -> None:
            Path(source).write_bytes(moved)
            Path(source).chmod(0o600)
            _put(Path(target), before)

        self._undo.append((Path(target).parent, undo))
        if Path(source) in self._unsynced:
            self._unsynced.discard(Path(source))
            self._unsynced.add(Path(target))

    def _unlink(self, path: Path) -> None:
        content = Path(path).read_bytes() if Path(path).exists() else None
        self._undo.append((Path(path).parent, lambda: _put(Path(path), content)))

    def _end(self, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if real.__name__ == "write":
            real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        if self._power:
            for path in self._unsynced:
                if path.exists():
                    os.truncate(path, 0)
            self._left = 1 << 30  # what follows puts back what the disk never learned
            for _, undo in reversed(self._undo):
                undo()
        os._exit(CUT)


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
        path.chmod(0o600)


def main(name: str, directory: Path, *kinds: str) -> int:
    """Cut a scenario short everywhere, in each kind of way, ``kill`` or ``power``."""
    prepare, act = SCENARIOS[name]
    start = directory / "start"
    start.mkdir()
    os.umask(0)
    prepare(start)
    cuts = 0
    for kind in kinds:
        for number in range(1000):
            place = directory / f"{kind}-{number}"
            shutil.copytree(start, place)
            child = os.fork()
            if child == 0:
                Disk(number, power=kind == "power")
                act(place)
                os._exit(FINISHED)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code not in (FINISHED, CUT):
                return 1
            if code == FINISHED:
                break
            cuts += 1
    print(cuts)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
