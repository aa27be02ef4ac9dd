"""A small C program becomes a static one, with the compiler that also builds the guest kit."""

import os
import shutil
import subprocess
from pathlib import Path

from cloister.rootfs.recipe import RecipeError

COMPILE_SECONDS = 120.0


def compile_program(source: Path, target: Path) -> None:
    """Compile one source file; raises RecipeError. The same compiler and C library give the same bytes."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RecipeError(f"{source.name} needs a C compiler: apt-get install gcc libc6-dev")
    target.parent.mkdir(parents=True, exist_ok=True)
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
