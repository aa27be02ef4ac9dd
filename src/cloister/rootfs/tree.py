"""Trees of files: what is left out, what is compiled beforehand, what is copied in.

A finished tree is a function of its ingredients alone: modes are normalised, Python is compiled by the tree's
own interpreter with a fixed hash seed into unchecked-hash files (PEP 552), so no time stamp and no host gets
in.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cloister.errors import CloisterError

COMPILE_SECONDS = 300
MODULES = "usr/lib/python3/dist-packages"
"""Where Debian's Python looks for packages that are not its own."""


class TreeError(CloisterError):
    """A root filesystem could not be put together."""


def entries(root: Path) -> Iterator[Path]:
    """Yield every file and link below ``root``, in one order on every machine."""
    for directory, names, files in os.walk(root):
        names.sort()
        links = [name for name in names if Path(directory, name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(directory, name)


def prune(root: Path, *, keep: Sequence[str], leave_out: Sequence[str]) -> None:
    """Remove what no ``keep`` pattern names (when there is one), and what a ``leave_out`` pattern names."""
    for path in list(entries(root)):
        name = path.relative_to(root).as_posix()
        if (keep and not _named(name, keep)) or _named(name, leave_out):
            path.unlink()
    for directory in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not directory.is_symlink() and not any(directory.iterdir()):
            directory.rmdir()


def _named(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, pattern + "/*") for pattern in patterns)


def copy_library(source: Path, root: Path, rooms: Iterable[str]) -> None:
    """Copy this library's ``.py`` files of the named rooms into the tree."""
    target = root / MODULES / "cloister"
    for path in library_files(source, rooms):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def library_files(source: Path, rooms: Iterable[str]) -> list[Path]:
    """Return the ``.py`` files of the named rooms, sorted."""
    found = [source / "__init__.py"]
    for room in rooms:
        module = source / f"{room}.py"
        found += [module] if module.is_file() else list((source / room).rglob("*.py"))
    return sorted(found)


def precompile(root: Path) -> None:
    """Compile every module with the tree's own interpreter, if it has one; TreeError when that fails."""
    interpreter = next(iter(sorted(root.glob("usr/bin/python3.*"))), None)
    if interpreter is None:
        return
    loader = next(iter(sorted(root.glob("usr/lib/*/ld-linux-*.so.*"))), None)
    if loader is None:
        raise TreeError(f"{root} holds {interpreter.name} but no dynamic loader to start it with")
    modules = [str(path) for path in (root / "usr/lib" / interpreter.name, root / MODULES) if path.is_dir()]
    command = [
        str(loader),
        "--inhibit-cache",
        "--library-path",
        str(loader.parent),
        str(interpreter),
        "-B",
        "-s",
        "-S",
    ]
    command += ["-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(root), "-p", "/", *modules]
    environment = {
        "PYTHONHOME": str(root / "usr"),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/bin",
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TreeError(
            f"{interpreter.name} of the new root filesystem does not run here: {error}"
        ) from error
    if done.returncode != 0:
        said = ((done.stdout + done.stderr).strip().splitlines() or ["nothing"])[-1]
        raise TreeError(f"compiling the new root filesystem's modules failed: {said}")


def normalise(root: Path) -> None:
    """Give every file and directory one of two modes, whatever the umask was."""
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)


def make_directories(directory: Path, root: Path) -> None:
    """Make the directories down to one below ``root`` where they are missing, whatever the umask is."""
    for path in reversed([directory, *directory.parents]):
        if path.is_relative_to(root) and not path.exists():
            path.mkdir()
            path.chmod(0o755)


def link_tree(source: Path, target: Path) -> None:
    """Make a second tree of the same files (hard links: nothing is copied); for adding files to."""
    try:
        shutil.copytree(source, target, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    except (shutil.Error, OSError):
        shutil.rmtree(target)
        shutil.copytree(source, target, symlinks=True)
