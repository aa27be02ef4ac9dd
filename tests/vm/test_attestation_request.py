"""A running enclave is asked what it is: ``cloister attestation request`` against examples/hello."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.nitro_host import NitroHost

pytestmark = pytest.mark.vm

HELLO = Path(__file__).resolve().parents[2] / "examples/hello"


def attestation(host: NitroHost, *words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``cloister attestation`` and insist on its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "cloister.cli.main", "attestation", *map(str, words)],
        env=host.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_an_enclave_says_what_it_is(tmp_path: Path) -> None:
    """By name, id and CID it is verified; wrong registers and debug mode are refused."""
    host = NitroHost.make(tmp_path)
    image, _ = host.build("hello", (HELLO / "hello.c").read_text(), ["/bin/hello"])
    try:
        enclave = host.start(image)
        ways = ("hello", enclave["EnclaveID"], str(enclave["EnclaveCID"]))
        for way, nonce in zip(ways, ("07" * 16, "0a" * 23, "0b" * 64), strict=True):
            words = ("request", way, "--image", image, "--nonce", nonce, "--json")
            told = json.loads(attestation(host, *words).stdout)
            assert told["ModuleId"].replace("-enc0", "-enc") == enclave["EnclaveID"]
            assert told["Nonce"] == nonce
        kept = tmp_path / "hello.cose"
        attestation(host, "request", "hello", "--image", image, "--output", kept)
        attestation(host, "verify", kept, "--image", image, "--max-age", "600")
        attestation(host, "diff", kept, image)
        assert "its chain and signature hold" in attestation(host, "show", kept).stdout
        refused = attestation(host, "request", "hello", "--pcr", f"0={'11' * 48}", code=1)
        assert "(pcrs): PCR0 is " in refused.stderr
        example: list[str | Path] = [sys.executable, HELLO / "attest.py", str(enclave["EnclaveCID"])]
        asked = subprocess.run(example, env=host.environment, capture_output=True, check=True, timeout=60)
        (tmp_path / "asked.cose").write_bytes(asked.stdout)
        nonce = asked.stderr.decode().removeprefix("nonce ").strip()
        attestation(host, "verify", tmp_path / "asked.cose", "--image", image, "--nonce", nonce)
        host.cli("terminate-enclave", "--all")
        ended = attestation(host, "request", "hello", "--any-pcrs", code=2)
        assert "does not run any more" in ended.stderr
        host.start(image, "--debug-mode")
        assert "(debug)" in attestation(host, "request", "hello", "--image", image, code=1).stderr
        debug = attestation(host, "request", "hello", "--any-pcrs", "--allow-debug").stdout
        assert "WARNING     debug mode" in debug
    finally:
        host.cli("terminate-enclave", "--all")
    assert host.left() == []
