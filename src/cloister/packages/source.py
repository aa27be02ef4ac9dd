"""The distribution's packages without root: private apt state, the host's own mirrors and keys.

apt does what it is good at: it verifies the archive's signature, resolves dependencies against an empty
system and downloads by hash. Only its state directories are ours (apt.conf(5), section "Directories").
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cloister.packages.package import Package, PackageError, parse_uri_line
from cloister.packages.sources import archive_for, host_archives, read_os_release
from cloister.places import Places

APT_HELPER = Path("/usr/lib/apt/apt-helper")
UPDATE_SECONDS = 600
DOWNLOAD_SECONDS = 3600
FRESH_SECONDS = 3600
"""Package indexes younger than this are not fetched again."""

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is being fetched."""


class PackageSource:
    """Some suites of the host's distribution, with dependencies resolved as on an empty system."""

    def __init__(
        self,
        places: Places,
        *,
        suites: Sequence[str],
        architecture: str = "amd64",
        components: Sequence[str] = ("main",),
        offline: bool = False,
    ) -> None:
        self.architecture = architecture
        self.offline = offline
        self.suites = tuple(suites)
        self._components = tuple(components)
        self._downloads = places.downloads
        self._apt = places.cache / "apt"

    def update(self) -> None:
        """Fetch the signed package indexes unless fresh or offline; PackageError if that fails."""
        state, stanzas = self._prepare()
        stamp = state / "updated"
        if self.offline or (stamp.is_file() and time.time() - stamp.stat().st_mtime < FRESH_SECONDS):
            return
        with _locked(state):
            self._run([*self._apt_get(state), "update"], UPDATE_SECONDS, "cannot fetch the package indexes")
            stamp.write_text(stanzas)

    def resolve(self, names: Sequence[str], *, target_suite: str | None = None) -> list[Package]:
        """Return the named packages and all they depend on, by name; PackageError if one cannot be had.

        ``target_suite`` is preferred wherever it has a version (apt-get's ``--target-release``).
        """
        state, _ = self._prepare()
        if not (state / "updated").is_file():
            if self.offline:
                raise PackageError("the package indexes were never fetched: run once without --offline")
            self.update()
        target = ["--target-release", target_suite] if target_suite else []
        command = [*self._apt_get(state), *target, "--print-uris", "install", "--", *names]
        with _locked(state):
            output = self._run(command, UPDATE_SECONDS, f"cannot resolve {', '.join(names)}")
        found = [parse_uri_line(line) for line in output.splitlines() if line.startswith("'")]
        return sorted(found, key=lambda package: package.name)

    def fetch(self, package: Package, *, progress: Progress | None = None) -> Path:
        """Return the package's file, downloaded if need be and always of the right SHA-256."""
        return self.fetch_all([package], progress=progress)[0]

    def fetch_all(self, packages: Sequence[Package], *, progress: Progress | None = None) -> list[Path]:
        """Return the files of many packages, in the same order; PackageError names what cannot be had."""
        self._downloads.mkdir(parents=True, exist_ok=True, mode=0o700)
        missing = [package for package in packages if not self._is_cached(package)]
        total = sum(package.size for package in packages)
        done = total - sum(package.size for package in missing)
        if missing and self.offline:
            raise PackageError(f"{missing[0].filename} is not in the cache: run once without --offline")
        for package in missing:
            self._download(package, partial(_report, progress, done, total, package.name))
            done += package.size
        if progress:
            progress(total, total, "")
        return [self.path_of(package) for package in packages]

    def path_of(self, package: Package) -> Path:
        """Return where the package's file is, or would be, in the cache."""
        return self._downloads / package.sha256 / package.filename

    def _is_cached(self, package: Package) -> bool:
        path = self.path_of(package)
        return path.is_file() and path.stat().st_size == package.size and _sha256(path) == package.sha256

    def _download(self, package: Package, report: Callable[[int], object]) -> None:
        """Let apt's own method (proxies, credentials, https) fetch one file, then check it ourselves."""
        state, _ = self._prepare()
        target = self.path_of(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{os.getpid()}.partial")
        command = [str(APT_HELPER), "-c", str(state / "apt.conf"), "-qq", "download-file"]
        command += [package.uri, str(unfinished), f"SHA256:{package.sha256}"]
        try:
            self._run(
                command,
                DOWNLOAD_SECONDS,
                f"cannot download {package.filename}",
                lambda: report(_size(unfinished)),
            )
            if unfinished.is_symlink():  # a mirror on this disk is linked to; the cache keeps its own copy
                original = unfinished.resolve()
                unfinished.unlink()
                shutil.copyfile(original, unfinished)
            if _size(unfinished) != package.size or _sha256(unfinished) != package.sha256:
                raise PackageError(
                    f"{package.filename} is not what the archive's index promised ({package.sha256})"
                )
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def _prepare(self) -> tuple[Path, str]:
        """Make the private apt directories for exactly these archives and return them with the sources."""
        archives, release = host_archives(), read_os_release()
        stanzas = "\n".join(
            archive_for(suite, archives, release).stanza(suite, self._components) for suite in self.suites
        )
        key = hashlib.sha256(f"{self.architecture}\n{stanzas}".encode()).hexdigest()[:16]
        state = self._apt / key
        for directory in ("lists/partial", "archives/partial", "log", "preferences.d"):
            (state / directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(state / "status", "")
        _write_once(state / "cloister.sources", stanzas)
        _write_once(state / "apt.conf", _configuration(state, self.architecture))
        return state, stanzas

    def _apt_get(self, state: Path) -> list[str]:
        return ["apt-get", "-c", str(state / "apt.conf"), "-qq", "-y"]

    def _run(
        self, command: list[str], seconds: int, failure: str, tick: Callable[[], object] | None = None
    ) -> str:
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                text=True,
            ) as process:
                output, errors = _communicate(process, seconds, tick)
        except FileNotFoundError as error:
            raise PackageError(
                f"{failure}: {command[0]} is missing, this needs a Debian-like host"
            ) from error
        if process.returncode:
            reason = [line for line in errors.splitlines() if line.startswith("E:")] or errors.splitlines()[
                -1:
            ]
            raise PackageError(f"{failure}: {' '.join(reason)[:500] or f'exit code {process.returncode}'}")
        return output


def _communicate(
    process: subprocess.Popen[str], seconds: int, tick: Callable[[], object] | None
) -> tuple[str, str]:
    """Wait for a tool within its time, calling ``tick`` now and then; it is killed on every other way out."""
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                return process.communicate(timeout=0.25 if tick else seconds)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise PackageError(f"{process.args!r} took longer than {seconds} s") from None
                if tick:
                    tick()
    finally:
        if process.poll() is None:
            process.kill()


def _report(progress: Progress | None, before: int, total: int, name: str, got: int) -> None:
    if progress:
        progress(before + got, total, name)


def _configuration(state: Path, architecture: str) -> str:
    """Write apt.conf(5) for private state; the host's own hooks must not run for us."""
    return f"""\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::AllowInsecureRepositories "false";
Acquire::ForceHash "SHA256";
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::State::extended_states "{state}/extended_states";
Dir::State::lists "{state}/lists";
Dir::Cache "{state}";
Dir::Cache::archives "{state}/archives";
Dir::Cache::pkgcache "{state}/pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Log "{state}/log";
Dir::Etc::sourcelist "{state}/cloister.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{state}/preferences.d";
"""


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One apt at a time in one state directory."""
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_once(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
