"""Other people's verifiers, and linuxkit, built once a host: ``<cache>/peers/<digest of the recipe>/``.

The Go toolchain is the distribution's, unpacked beside its cache for as long as the build takes; the modules
are pinned by go.sum. libfaketime, which sets the clock of a verifier that takes no time, is the host's own
release's, because it is loaded into the host's own Python. Decision 0126.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import CloisterError
from cloister.kit import Progress
from cloister.packages import Package, PackageSource, read_os_release, unpack_package
from cloister.places import Places

GO_SUITES = ("trixie", "trixie-updates", "trixie-security")
"""The same Go on every host: what crypto/x509 accepts changes from one to the next."""
GO_PACKAGE = re.compile(r"golang-1\.[0-9]+-(go|src)")
SOURCES = Path(__file__).parent / "go"
PROGRAMS = {"nitrite": (), "veracruz": ("-tags", "faketime"), "linuxkit": ()}
"""Each program and what its build takes besides."""
CLOCK = "libfaketime.so.1"
BUILD_SECONDS = 540.0


class PeersMissingError(CloisterError):
    """Nobody has built them on this host yet."""


class PeersBuildError(CloisterError):
    """They cannot be had."""


@dataclass(frozen=True, slots=True)
class Peers:
    """A directory with all of them."""

    directory: Path

    @property
    def go_version(self) -> str:
        """The toolchain, such as ``go1.24.4``."""
        return (self.directory / "go-version").read_text()

    @property
    def clock(self) -> Path:
        """The library that sets the clock of the program it is preloaded into."""
        return self.directory / CLOCK

    def module_version(self, path: str) -> str:
        """Return the pinned version of a Go module."""
        found = re.search(rf"^\s+{re.escape(path)} (\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
        assert found is not None, path
        return found[1]


def find_peers(places: Places) -> Peers:
    """Return what was built; PeersMissingError says how to build it."""
    directory = _home(places) / _digest()
    if not all((directory / name).is_file() for name in (*PROGRAMS, CLOCK, "go-version")):
        raise PeersMissingError("other people's verifiers have not been built on this host: run 'make peers'")
    return Peers(directory)


def build_peers(places: Places, progress: Progress) -> Peers:
    """Fetch, build and keep what is not there yet; PackageError or PeersBuildError when it cannot be had."""
    home = _home(places)
    with _only_builder(home, progress), tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
        try:
            return find_peers(places)
        except PeersMissingError:
            pass
        root, done = Path(scratch, "root"), Path(scratch, "done")
        done.mkdir()
        progress(0.0, "fetching Go")
        _unpack(places, GO_SUITES, ["golang-go"], GO_PACKAGE, root)
        own = read_os_release().get("VERSION_CODENAME", "unknown")
        _unpack(places, [own], ["libfaketime"], re.compile("libfaketime"), root)
        shutil.copyfile(next(root.glob(f"usr/lib/*/faketime/{CLOCK}")), done / CLOCK)
        go = next(root.glob("usr/lib/go-1.*/bin/go"))
        environment = _environment(go, Path(scratch))
        version = _run([str(go), "env", "GOVERSION"], environment).strip()
        for number, (name, options) in enumerate(PROGRAMS.items()):
            progress(0.4 + 0.2 * number, f"building {name}")
            words = [str(go), "build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false"]
            _run([*words, *options, "-o", str(done / name), f"./{name}"], environment)
        (done / "go-version").write_text(version)
        for other in home.glob("[0-9a-f]*"):
            shutil.rmtree(other)
        done.rename(home / _digest())
    return find_peers(places)


def _unpack(
    places: Places, suites: Sequence[str], names: Sequence[str], wanted: re.Pattern[str], root: Path
) -> None:
    """Unpack those of the named packages and their dependencies that are wanted."""
    source = PackageSource(places, suites=suites)
    source.update()
    packages: list[Package] = [p for p in source.resolve(names) if wanted.fullmatch(p.name)]
    for file in source.fetch_all(packages):
        unpack_package(file, root)


def _environment(go: Path, scratch: Path) -> dict[str, str]:
    """Keep where modules come from as the host has it; everything that is written goes to the scratch."""
    return os.environ | {
        "GOROOT": str(go.parents[1]),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "GOPATH": str(scratch / "go"),
        "GOMODCACHE": str(scratch / "go/modules"),
        "GOCACHE": str(scratch / "go/build"),
    }


def _run(words: list[str], environment: dict[str, str]) -> str:
    """Run Go in the programs' directory and return what it prints; its own last words are the error."""
    try:
        done = subprocess.run(
            words,
            cwd=SOURCES,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PeersBuildError(f"'go {words[1]}' took longer than {BUILD_SECONDS:.0f} s") from error
    if done.returncode:
        raise PeersBuildError(f"'go {words[1]}' failed: {' '.join(done.stderr.splitlines()[-1:])[:500]}")
    return done.stdout


def _home(places: Places) -> Path:
    return places.cache / "peers"


def _digest() -> str:
    """Name what is built after what it is built from."""
    recipe = hashlib.sha256(f"{GO_SUITES} {PROGRAMS}".encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        recipe.update(f"\0{path.relative_to(SOURCES)}\0".encode() + path.read_bytes())
    return recipe.hexdigest()[:32]


@contextmanager
def _only_builder(home: Path, progress: Progress) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lock").open("w") as lock:
        progress(None, "waiting for another build to end")
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home.glob(".making-*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
