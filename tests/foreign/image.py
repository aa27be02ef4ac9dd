"""Images as AWS's build-enclave makes them, and what they measure, computed by nothing but hashlib.

Order, ramdisks and metadata follow nitro-tools 2.1, 2.4 and 3.
"""

import hashlib
import io
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cloister.build.content import Literal
from cloister.build.cpio import CpioArchive, CpioEntry
from cloister.build.tree import Kind
from cloister.eif import BuildMetadata, ImageMetadata, SectionSource, SectionType, write_eif

HERE = Path(__file__).parent
CMDLINES = {
    "x86_64": "reboot=k panic=30 pci=off nomodules console=ttyS0 i8042.noaux i8042.nomux i8042.nopnp "
    "i8042.dumbkbd random.trust_cpu=on",
    "aarch64": "reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on root=/dev/ram0",
}
"""AWS's own, word for word (nitro-tools 3); what they call ``nomodules`` no kernel knows."""
COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
MOUNT_POINTS = ("dev", "run", "sys", "var", "proc", "tmp")


@dataclass(frozen=True)
class ForeignImage:
    """The measured parts of one image."""

    kernel: bytes
    ramdisks: tuple[bytes, ...]
    name: str
    release: str
    cmdline: str = CMDLINES["x86_64"]
    architecture: str = "x86_64"

    def to_bytes(self) -> bytes:
        """Return the file: kernel, command line, metadata, ramdisks, nothing between them."""
        out = io.BytesIO()
        sections = [
            (SectionType.KERNEL, self.kernel),
            (SectionType.CMDLINE, self.cmdline.encode()),
            (SectionType.METADATA, self._metadata()),
            *((SectionType.RAMDISK, ramdisk) for ramdisk in self.ramdisks),
        ]
        write_eif(
            out,
            [SectionSource.of(kind, payload) for kind, payload in sections],
            architecture=self.architecture,
        )
        return out.getvalue()

    def registers(self) -> dict[str, str]:
        """Return PCR0 to PCR2 in hexadecimal (nitro-tools 2.2)."""
        boot = (self.kernel, self.cmdline.encode(), self.ramdisks[0])
        return {
            "PCR0": _extend(*boot, *self.ramdisks[1:]),
            "PCR1": _extend(*boot),
            "PCR2": _extend(*self.ramdisks[1:]),
        }

    def _metadata(self) -> bytes:
        build = BuildMetadata(
            "2024-05-06T07:08:09.123456789+00:00", "nitro-cli", "1.4.2", "Linux", self.release
        )
        docker = {
            "Id": f"sha256:{'5a' * 32}", "RepoTags": [f"{self.name}:latest"], "RepoDigests": [], "Parent": "",
            "Os": "linux", "Architecture": {"x86_64": "amd64", "aarch64": "arm64"}[self.architecture],
            "Config": {"Cmd": ["program"], "Env": None},
        }  # fmt: skip
        return ImageMetadata(self.name, "5a" * 32, build, docker_info=docker).to_bytes()


def boot_ramdisk(init: bytes, driver: bytes | None) -> bytes:
    """Return the first ramdisk: a directory ``dev``, ``init``, ``nsm.ko`` if there is one."""
    return _archive({"dev": None, "init": init} | ({} if driver is None else {"nsm.ko": driver}))


def customer_ramdisk(
    files: Mapping[str, bytes], cmd: Sequence[str] | None, env: Sequence[str] | None
) -> bytes:
    """Return the second ramdisk: a tree below ``rootfs/``, with ``cmd`` and ``env`` beside it unless None."""
    entries: dict[str, bytes | None] = {f"rootfs/{name}": None for name in MOUNT_POINTS}
    entries |= {f"rootfs/{name}": content for name, content in files.items()}
    for name, lines in (("cmd", cmd), ("env", env)):
        if lines is not None:
            entries[name] = "".join(f"{line}\n" for line in lines).encode()
    return _archive(entries)


def compile_static(source: Path, output: Path, architecture: str = "x86_64") -> bytes:
    """Compile a program that needs nothing around it, and return it."""
    command = [
        COMPILERS[architecture],
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wno-unused-result",
        "-static",
        "-s",
    ]
    subprocess.run([*command, "-o", output, source], check=True, timeout=120)
    return output.read_bytes()


def _archive(entries: Mapping[str, bytes | None]) -> bytes:
    """Write a cpio archive; None is a directory. It ends with its last entry: not all pad to a block."""
    names = dict[str, bytes | None]()
    for name, content in entries.items():
        names |= {str(parent): None for parent in reversed(PurePosixPath(name).parents[:-1])}
        names[name] = content
    made = [
        CpioEntry(name.encode(), Kind.DIRECTORY, 0o755)
        if content is None
        else CpioEntry(name.encode(), Kind.FILE, 0o755, Literal(content))
        for name, content in names.items()
    ]
    return b"".join(CpioArchive(made).chunks()).rstrip(b"\0") + b"\0"


def _extend(*parts: bytes) -> str:
    digest = hashlib.sha384(b"".join(parts)).digest()
    return hashlib.sha384(bytes(48) + digest).hexdigest()
