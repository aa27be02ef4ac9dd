"""Seconds that describe-enclaves takes with sixteen enclaves, against one; alternating, in one run."""

import statistics
import tempfile
import time
from pathlib import Path

from boot import EnclaveBench, build_program
from cloister.build import Recipe, build_image
from cloister.kit import find_kit
from cloister.places import current_places

MANY = 16
MEMORY_MIB = 128


class Host(EnclaveBench):
    """A run directory with some enclaves."""

    def start(self) -> None:
        """Start one more."""
        self.nitro_cli(
            "run-enclave", "--eif-path", str(self.image), "--cpu-count", "1", "--memory", str(MEMORY_MIB)
        )

    def seconds_to_describe(self) -> float:
        """Describe all of them."""
        start = time.perf_counter()
        self.nitro_cli("describe-enclaves")
        return time.perf_counter() - start


def bench_describe(rounds: int = 15) -> None:
    """Print both medians and their ratio."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        _, root = build_program(scratch)
        image = scratch / "bench.eif"
        build_image(root, image, kit=find_kit(current_places()), recipe=Recipe(cmd=["/init"]))
        one, many = Host(scratch / "one", image), Host(scratch / "many", image)
        try:
            one.start()
            for _ in range(MANY):
                many.start()
            pairs = [(one.seconds_to_describe(), many.seconds_to_describe()) for _ in range(rounds)]
        finally:
            for host in (one, many):
                host.nitro_cli("terminate-enclave", "--all")
    single, sixteen = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"describe: {MANY} enclaves {sixteen * 1000:.0f} ms; one {single * 1000:.0f} ms; "
        f"ratio {sixteen / single:.2f}"
    )
