"""Compile ``guest/init.c``: one small static program, against nolibc of the kernel's own source."""

from importlib.resources import as_file, files
from pathlib import Path

from cloister.kit.toolchain import run_tool, tool_prefix

FLAGS = (
    "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror",
    "-static", "-no-pie", "-fno-pie", "-ffreestanding", "-nostdlib", "-nostartfiles",
    "-fno-ident", "-fno-asynchronous-unwind-tables",
    "-fstack-protector-strong", "-mstack-protector-guard=global",
    "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=4096", "-s",
)  # fmt: skip


def build_init(nolibc: Path, headers: Path, output: Path, architecture: str) -> None:
    """Compile the init; ``nolibc`` is tools/include/nolibc, ``headers`` the kernel's exported headers.

    Raises KitError with the compiler's message.
    """
    with as_file(files("cloister").joinpath("guest")) as guest:
        command = [
            f"{tool_prefix(architecture)}gcc",
            *FLAGS,
            f"-ffile-prefix-map={guest}=guest",
            f"-ffile-prefix-map={nolibc}=nolibc",
        ]
        command += ["-nostdinc", "-isystem", str(headers), "-I", str(nolibc), "-I", str(guest)]
        command += ["-include", str(nolibc / "nolibc.h"), "-o", str(output), str(guest / "init.c")]
        run_tool(command, output.parent)
