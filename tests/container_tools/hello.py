"""The first example of AWS's documentation, and a base image for it that needs no registry."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from container_tools.unpacking import ContainerTools

DOCKERFILE = """\
FROM busybox

ENV HELLO="Hello from the enclave side!"
COPY hello.sh /bin/hello.sh

CMD ["/bin/hello.sh"]
"""
SCRIPT = """\
#!/bin/sh

count=1
while true; do
    printf "[%4d] $HELLO\\n" $count
    count=$((count+1))
    sleep 5
done
"""
SECONDS = 120


def run(words: list[str], environment: Mapping[str, str], directory: Path) -> str:
    """Run a tool and return what it prints."""
    done = subprocess.run(
        words,
        cwd=directory,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_example(directory: Path) -> Path:
    """Write the Dockerfile and the script."""
    directory.mkdir()
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "hello.sh").write_text(SCRIPT)
    (directory / "hello.sh").chmod(0o755)
    return directory


def store_busybox(tools: ContainerTools, environment: Mapping[str, str], directory: Path) -> None:
    """Put the distribution's busybox into the container store, under the name that Dockerfiles know."""
    context = directory / "busybox"
    (context / "bin").mkdir(parents=True)
    (context / "bin/busybox").write_bytes((tools.root / "bin/busybox").read_bytes())
    (context / "bin/busybox").chmod(0o755)
    for name in ("sh", "sleep", "printf"):
        (context / "bin" / name).symlink_to("busybox")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY bin /bin\nCMD ["sh"]\n')
    run(["buildah", "build", "--timestamp", "0", "-t", "busybox", str(context)], environment, directory)
