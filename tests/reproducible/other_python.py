"""Another release of the distribution with its own Python, C library and locales, unpacked once a host.

``<cache>/other-python/<digest of recipe>/`` holds ``root``, where the release's packages are unpacked, and
``modules``, with what this project depends on as that Python wants it. bubblewrap makes a machine of them.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError
from cloister.kit import Progress
from cloister.packages import PackageSource, read_os_release, unpack_package
from cloister.places import Places, own_architecture

REPOSITORY: Final = Path(__file__).resolve().parents[2]
OTHER_RELEASE: Final = {"bookworm": "trixie", "trixie": "bookworm"}
PACKAGES: Final = ("python3", "libc-bin", "locales", "gzip")
LOCALE: Final = ("tr_TR", "ISO-8859-9")
"""Turkish: no UTF-8, and letters whose capitals are not those of ASCII."""
RULES: Final = 1
"""Raise this when the code below makes something else of the same ingredients."""
SECONDS: Final = 600


class OtherPythonMissingError(CloisterError):
    """Nobody has unpacked it on this host yet, or it cannot be had."""


@dataclass(frozen=True, slots=True)
class OtherPython:
    """A directory with all of it."""

    directory: Path

    @property
    def root(self) -> Path:
        """Where the release's packages are unpacked."""
        return self.directory / "root"

    @property
    def modules(self) -> Path:
        """What the project depends on."""
        return self.directory / "modules"

    @property
    def interpreter(self) -> Path:
        """Its Python, as a path inside the root."""
        return Path("/") / find_interpreter(self.root).relative_to(self.root)

    def machine(self, *, writable: bool = False) -> list[str]:
        """Return bubblewrap's words for a machine that has this release's programs alone."""
        words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc"]
        words += ["--dev", "/dev", "--bind" if writable else "--ro-bind", str(self.root / "usr"), "/usr"]
        for name in ("bin", "sbin", "lib", "lib64"):
            words += ["--symlink", f"usr/{name}", f"/{name}"]
        return words


def find_other_python(places: Places) -> OtherPython:
    """Return what was unpacked; OtherPythonMissingError says how to have it."""
    directory = places.cache / "other-python" / _digest()
    if not directory.is_dir():
        raise OtherPythonMissingError("another release's Python is not on this host: run 'make pythons'")
    return OtherPython(directory)


def unpack_other_python(places: Places, progress: Progress) -> OtherPython:
    """Fetch and unpack what is not there yet; raises PackageError or OtherPythonMissingError."""
    home = places.cache / "other-python"
    with _alone(home), tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
        try:
            return find_other_python(places)
        except OtherPythonMissingError:
            pass
        made = OtherPython(Path(scratch, "done"))
        made.root.mkdir(parents=True)
        source = PackageSource(places, suites=[_release()])
        source.update()
        files = source.fetch_all(
            source.resolve(PACKAGES),
            progress=lambda got, total, what: progress(got / max(total, 1), f"fetching {what}"),
        )
        progress(None, "unpacking packages")
        for file in files:
            unpack_package(file, made.root)
        _make_locale(made)
        progress(None, "fetching Python modules")
        _install_modules(made)
        for other in home.glob("[0-9a-f]*"):
            shutil.rmtree(other)
        made.directory.rename(home / _digest())
    return find_other_python(places)


def find_interpreter(root: Path) -> Path:
    """Return the one Python of a root; raises OtherPythonMissingError."""
    link = root / "usr/bin/python3"
    if not link.is_symlink():
        raise OtherPythonMissingError(f"{root} holds no Python.")
    return link.with_name(os.readlink(link))  # noqa: PTH115 - a name beside it


def _release() -> str:
    own = read_os_release().get("VERSION_CODENAME", "unknown")
    if own not in OTHER_RELEASE:
        raise OtherPythonMissingError(f"no other release than {own} is known to have a Python for the tests")
    return OTHER_RELEASE[own]


def _dependencies() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = project["dependencies"]
    return found


def _digest() -> str:
    """Name what is unpacked after what goes into it."""
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    recipe = f"{RULES} {_release()} {PACKAGES} {LOCALE} {_dependencies()} {constraints}"
    return hashlib.sha256(recipe.encode()).hexdigest()[:32]


def _make_locale(made: OtherPython) -> None:
    """Compile the locale with the release's own localedef, which knows its C library's format."""
    name, charset = LOCALE
    target = f"/usr/lib/locale/{name}.{charset.lower().replace('-', '')}"
    (made.root / "usr/lib/locale").mkdir(exist_ok=True)
    words = ["/usr/bin/localedef", "--no-archive", "-i", name, "-f", charset, target]
    _run([*made.machine(writable=True), *words], "the locale cannot be made")


def _install_modules(made: OtherPython) -> None:
    """Have this host's pip, as it is configured, fetch wheels for the other Python."""
    version = find_interpreter(made.root).name.removeprefix("python")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    words += ["--target", str(made.modules), "--constraint", str(REPOSITORY / "constraints.txt")]
    words += ["--implementation=cp", f"--python-version={version}"]
    words += [f"--abi={abi}" for abi in (f"cp{version.replace('.', '')}", "abi3", "none")]
    words += [
        f"--platform={platform}_{own_architecture()}"
        for platform in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
    ]
    _run([*words, *_dependencies()], "pip cannot fetch the modules")


def _run(words: Sequence[str], failure: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OtherPythonMissingError(f"{failure}: {error}") from error
    if done.returncode:
        raise OtherPythonMissingError(f"{failure}: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home.glob(".making-*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
