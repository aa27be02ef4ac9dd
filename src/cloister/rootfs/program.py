"""A small C program becomes a static one, with the compiler that also builds the guest kit.

For an architecture that is not the host's it is Debian's cross compiler.
"""

import os
import shutil
import subprocess
from pathlib import Path

from cloister.places import own_architecture
from cloister.rootfs.recipe import RecipeError

COMPILE_SECONDS = 120.0


def compile_program(source: Path, target: Path, architecture: str) -> None:
    """Compile one source file; raises RecipeError. The same compiler and C library give the same bytes."""
    own = architecture == own_architecture()
    compiler = shutil.which("gcc" if own else f"{architecture}-linux-gnu-gcc")
    if compiler is None:
        advice = "apt-get install gcc libc6-dev" if own else f"run 'cloister setup --arch {architecture}'"
        raise RecipeError(f"{source.name} needs a C compiler for {architecture}: {advice}")
    words = [compiler, "-static", "-Os", "-s", "-Wall", "-Wl,--build-id=none", "-o", str(target), source.name]
    try:
        done = subprocess.run(
            words,
            cwd=source.parent,  # so that no path of this host gets into the program
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=COMPILE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RecipeError(f"{source} cannot be compiled: {error}") from error
    if done.returncode:
        raise RecipeError(f"{source} cannot be compiled: {done.stderr.strip()[:1000]}")
    target.chmod(0o755)
