"""The image commands' peak memory, which no size of an image may raise; each is a real process."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.image_sources import make_kit
from simulators.signing_keys import write_signing_files

SIZE = 256 << 20
LIMIT = 100_000_000
PEAK = """
import json, os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(); print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]))
"""
"""Asks through a small process: a child begins with the peak of whoever started it."""
BUILD = "cloister image build root -o big.eif --cmd /big"
COMMANDS = {
    "build": BUILD,
    "describe": "cloister image describe big.eif",
    "sign-eif": "nitro-cli sign-eif --eif-path big.eif --signing-certificate {cert} --private-key {key}",
    "pcr": "nitro-cli pcr --input big.eif",
    "ls": "cloister image ls big.eif",
}
LONGER = {
    "build from a packed tar": "cloister image build root.tar.gz -o built.eif --cmd /big",
    "lint": "cloister image lint big.eif --fail-on never",
    "diff": "cloister image diff big.eif other.eif",
    "unpack": "cloister image unpack big.eif unpacked",
    "verify": "cloister image verify big.eif --rebuild root --cmd /big",
}


@dataclass(frozen=True)
class Workplace:
    """A directory with a large root file system and an image of it."""

    directory: Path
    environ: dict[str, str]
    names: dict[str, Path]
    peaks: dict[str, int] = field(default_factory=dict)
    """Of commands that were run already."""

    def peak(self, command: str) -> int:
        """Run a command, which must succeed, and return its peak resident memory in bytes."""
        if command in self.peaks:
            return self.peaks[command]
        program, *words = command.format(**self.names).split()
        argv = [sys.executable, "-c", PEAK, str(Path(sys.executable).parent / program), *words]
        done = subprocess.run(
            argv, cwd=self.directory, env=self.environ, capture_output=True, text=True, check=True
        )
        code, peak = json.loads(done.stdout.splitlines()[-1])
        assert code == int(command.endswith("other.eif")), done.stderr  # diff tells that they differ
        self.peaks[command] = int(peak)
        return int(peak)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Make a tree of 256 MiB, in one large file without blocks and a thousand small ones, and its image."""
    directory = tmp_path_factory.mktemp("big")
    make_kit(directory / "cache/cloister/kits")
    (directory / "root/many").mkdir(parents=True)
    for number in range(1000):
        (directory / f"root/many/{number}").write_bytes(number.to_bytes(2, "big") * 4096)
    with (directory / "root/big").open("wb") as big:
        big.truncate(SIZE - 1000 * 8192)
    keys = write_signing_files(directory / "keys", ec.generate_private_key(ec.SECP384R1()))
    environ = {**os.environ, "XDG_CACHE_HOME": str(directory / "cache")}
    for name in ("SOCKETS", "LOGS"):
        environ[f"NITRO_CLI_{name}_PATH"] = str(directory / name.lower())
    place = Workplace(directory, environ, {"cert": keys.certificate, "key": keys.private_key})
    place.peak(BUILD)
    yield place
    for image in directory.glob("*.eif"):
        image.unlink()  # pytest would keep them


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_memory_does_not_grow_with_the_image(command: str, workplace: Workplace) -> None:
    """With 256 MiB to go through, a command never holds 100 MB."""
    assert workplace.peak(command) < LIMIT


@pytest.mark.soak
@pytest.mark.parametrize("command", LONGER.values(), ids=LONGER)
def test_memory_stays_small_whatever_is_examined(command: str, workplace: Workplace) -> None:
    """The same for what looks at every file."""
    if not (workplace.directory / "root.tar.gz").exists():
        with tarfile.open(workplace.directory / "root.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(workplace.directory / "root", ".")
        (workplace.directory / "root/many/0").write_bytes(bytes(5))
        workplace.peak("cloister image build root -o other.eif --cmd /big")
        (workplace.directory / "root/many/0").write_bytes(bytes(8192))
    assert workplace.peak(command) < LIMIT
