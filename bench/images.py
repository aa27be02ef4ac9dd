"""Megabytes a second of building, measuring and describing images, against OpenSSL's SHA-384 and one copy.

The limit is one stream: every byte of the image is read, hashed once with SHA-384 and, beside building,
written to another file. An image has each byte hashed twice (PCR0, and PCR1 or PCR2) and once more for its
CRC-32, so that one core can reach half of it; the same with two hashes at once, on two cores, is told too.
Ours is told as the call that does the work, and as the whole command with its start. All is in the page
cache.
"""

import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cloister.build import Recipe, build_image, measure_image
from cloister.kit import find_kit
from cloister.places import current_places

SIZES = {"64 MB": 64_000_000, "1 GB": 1_000_000_000}
ROUNDS = {"64 MB": 9, "1 GB": 5}
CHUNK = 1 << 20
CLOISTER = Path(sys.executable).with_name("cloister")
HERE = Path(__file__).parent


def bench_images() -> None:
    """Print rates, ratios and peaks for both sizes."""
    for name, size in SIZES.items():
        # not /tmp, which may be memory
        with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="cloister-bench-") as directory:
            ImageBench(Path(directory), name, size).run()


class ImageBench:
    """One root file system and its image."""

    def __init__(self, directory: Path, name: str, size: int) -> None:
        self._root, self._name, self._rounds = directory / "root", name, ROUNDS[name]
        self._image, self._copy = directory / "image.eif", directory / "copy"
        files = make_root(self._root, size)
        print(f"images, {name}: {files} files")
        self._peaks = dict[str, int]()

    def run(self) -> None:
        """Measure all three, each in turns with its limit."""
        self._report("build", self._build, self._build_command, copy=self._copy)
        describe = partial(self._command, "describe", str(self._image))
        self._report("measure", self._measure, partial(self._command, "policy", str(self._image)), copy=None)
        self._report("describe", self._measure, describe, copy=None)

    def _report(
        self, what: str, call: Callable[[], object], command: Callable[[], object], copy: Path | None
    ) -> None:
        call()  # what follows finds everything in the page cache
        limits = [partial(read_and_hash, self._image, streams, copy) for streams in (1, 2)]
        actions: list[Callable[[], object]] = [call, command, *limits]
        seconds, processor = alternating_seconds(actions, rounds=self._rounds, before=self._tidy)
        size = self._image.stat().st_size / 1e6
        ours, whole, one, two = (size / each for each in seconds)
        peak = max(self._peaks.values())
        self._peaks.clear()
        floor = "SHA-384" if copy is None else "SHA-384 and a copy"
        idle = processor[2] / max(processor[0] / 2, processor[2])
        print(
            f"images, {what} {self._name}: {ours:.0f} MB/s, the whole command {whole:.0f} MB/s; {floor} "
            f"{one:.0f} MB/s (two at once {two:.0f} MB/s); ratio {ours / one:.2f}, the whole command "
            f"{whole / one:.2f} (to two at once {ours / two:.2f}); processor time {processor[0]:.2f} s to "
            f"{processor[2]:.2f} s, which two idle processors could make {idle:.2f}; peak {peak / 1e6:.0f} MB"
        )

    def _tidy(self, action: Callable[[], object]) -> None:
        """Take away what the action is going to write, so that nobody's time is spent on it."""
        self._copy.unlink(missing_ok=True)
        if action in (self._build, self._build_command):
            self._image.unlink(missing_ok=True)

    def _build(self) -> None:
        build_image(self._root, self._image, kit=find_kit(current_places()), recipe=Recipe(cmd=["/init"]))

    def _build_command(self) -> None:
        self._command("build", str(self._root), "-o", str(self._image), "--cmd", "/init")

    def _measure(self) -> None:
        measure_image(self._image)

    def _command(self, verb: str, *words: str) -> None:
        argv = [sys.executable, "-S", "-E", str(HERE / "peak.py"), str(CLOISTER), "image", verb, *words]
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
        code, _, peak = json.loads(done.stderr.splitlines()[-1])
        if code:
            sys.exit(f"bench: {verb} failed: {done.stderr}")
        self._peaks[verb] = max(peak, self._peaks.get(verb, 0))


def make_root(root: Path, size: int) -> int:
    """Make the same tree every time, and return how many files it has.

    A third of the bytes is in small files of up to 64 KiB, the rest in files of up to 32 MiB, of which there
    are as many between 2 and 4 MiB as between 4 and 8.
    """
    dice, left, files = random.Random(384), size, 0
    for share, largest in ((size // 3, 1 << 16), (size, 1 << 25)):
        end = size - share
        while left > end:
            length = min(int(256 * (largest / 256) ** dice.random()), left - end)
            path = root / f"{files // 1000}" / f"{files % 1000}"
            if files % 1000 == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(dice.randbytes(length))
            left, files = left - length, files + 1
    return files


def read_and_hash(path: Path, streams: int, copy: Path | None) -> None:
    """Read a file, hash it with SHA-384 in so many threads, and write it to another file if there is one."""
    digests = [hashlib.sha384() for _ in range(streams)]
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(streams) as threads:
        out = None if copy is None else copy.open("wb", buffering=0)
        while chunk := file.read(CHUNK):
            if streams == 1:
                digests[0].update(chunk)
            else:
                list(threads.map(lambda digest, data=chunk: digest.update(data), digests))
            if out is not None:
                out.write(chunk)
        if out is not None:
            out.close()


def alternating_seconds(
    actions: Sequence[Callable[[], object]], *, rounds: int, before: Callable[[Callable[[], object]], None]
) -> tuple[list[float], list[float]]:
    """Return each action's median seconds, and seconds of this process's processors, taken in turns."""
    taken = [list[tuple[float, float]]() for _ in actions]
    for _ in range(rounds):
        for action, both in zip(actions, taken, strict=True):
            before(action)
            start, spent = time.perf_counter(), time.process_time()
            action()
            both.append((time.perf_counter() - start, time.process_time() - spent))
    wall, processor = ([statistics.median(each[of] for each in both) for both in taken] for of in (0, 1))
    return wall, processor
