"""``python -m peers.docker_daemon SOCKET [COUNT]``: ramdisks against a real Docker daemon and linuxkit.

Each generated image is loaded into the daemon, created, exported, laid out and removed again, by which
tests/simulators/docker_export.py is compared with what it stands in for..
"""

import hashlib
import http.client
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from cloister.places import current_places
from peers.building import find_peers
from peers.test_ramdisk_layout import CMD, ENV, generated, ours
from simulators.image_sources import image_config, tar_of, write_docker_archive

NAME = "docker.io/library/cloister-ramdisk-test:v1"


class Daemon(http.client.HTTPConnection):
    """The Engine API at a socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Open the socket instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the answer, or say what the daemon says."""
        self.request(method, path, body, {"Content-Type": "application/x-tar"})
        answer = self.getresponse()
        text = answer.read()
        if answer.status >= 300 or b"errorDetail" in text:
            raise SystemExit(f"{method} {path}: {text.decode()}")
        return text


def main(path: str, count: str = "60") -> int:
    """Compare and count."""
    daemon, dice, equal = Daemon(path), random.Random("docker"), 0
    linuxkit = find_peers(current_places()).directory / "linuxkit"
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        (scratch / "cmd").write_text("".join(f"{word}\n" for word in CMD))
        (scratch / "env").write_text("".join(f"{item}\n" for item in ENV))
        for number in range(int(count)):
            items = generated(dice)
            layers = [tar_of([item.member() for item in items], tarfile.GNU_FORMAT)]
            config = image_config(layers, {})
            identity = hashlib.sha256(config).hexdigest()
            archive = write_docker_archive(scratch / "image.tar", layers, config=config)
            daemon.ask("POST", "/images/load", archive.read_bytes())
            daemon.ask("POST", f"/images/{identity}/tag?repo={NAME.removesuffix(':v1')}&tag=v1")
            done = subprocess.run(
                [linuxkit],
                input=f"{NAME} {scratch}/cmd {scratch}/env {scratch}/theirs\n",
                env=os.environ | {"DOCKER_HOST": f"unix://{path}"},
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            daemon.ask("DELETE", f"/images/{identity}?force=true")
            if done.stdout != "done\n":
                raise SystemExit(done.stdout + done.stderr)
            if ours(items, scratch) == (scratch / "theirs").read_bytes():
                equal += 1
            else:
                print(f"image {number} differs: {items}")
    print(f"{equal} of {count} ramdisks are equal")
    return 0 if equal == int(count) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
