"""What the commands for images can be told has an example in the how-to pages, which the VM tests run."""

import argparse
import re
from pathlib import Path

import pytest

from cloister.cli.image import build, describe, diff, lint, ls, policy, unpack, verify
from cloister.cli.nitro import build_enclave, describe_eif, pcr, sign_eif

PAGES = Path(__file__).resolve().parents[2] / "docs/how-to"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IMAGE = {
    "build": build, "describe": describe, "lint": lint, "diff": diff, "ls": ls, "unpack": unpack,
    "policy": policy, "verify": verify,
}  # fmt: skip
NITRO = {"build-enclave": build_enclave, "describe-eif": describe_eif, "pcr": pcr, "sign-eif": sign_eif}
SELF_EXPLAINING = {"--help", "--json", "--limit", "--devices"}
SOURCES = (
    "oci:", "oci-archive:", "docker-archive:", "containers-storage:", "docker://", "$REGISTRY/", "root.tar",
    "greet:latest", "--docker-dir ", "pkcs11:", '--private-key "$key"', "--compat aws", "--rebuild ",
)  # fmt: skip


BLOCKS = [block for page in sorted(PAGES.glob("*.md")) for block in BLOCK.findall(page.read_text())]


def examples(command: str) -> str:
    """Return the lines of every page that run a command."""
    return "\n".join(line for block in BLOCKS for line in block.splitlines() if f"{command} " in line)


def has(option: str, text: str) -> bool:
    return re.search(rf"{option}(?![a-z-])", text) is not None


@pytest.mark.parametrize("verb", IMAGE)
def test_every_option_of_image_has_an_example(verb: str) -> None:
    """Each option of ``cloister image VERB`` is in a block that runs; verify's are those of build."""
    parser = argparse.ArgumentParser()
    IMAGE[verb].add_arguments(parser)
    options = {name for action in parser._actions for name in action.option_strings if name.startswith("--")}
    text = examples(f"cloister image {verb}")
    if verb == "verify":
        text += examples("cloister image build")
    assert text
    assert [option for option in sorted(options - SELF_EXPLAINING) if not has(option, text)] == []


@pytest.mark.parametrize("command", NITRO)
def test_every_option_of_nitro_cli_for_images_has_an_example(command: str) -> None:
    """Each option of the four commands that need no enclave is in a block that runs."""
    text = examples(f"nitro-cli {command}")
    assert [one.name for one in NITRO[command].OPTIONS if not has(f"--{one.name}", text)] == []


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source_and_signer_has_an_example(source: str) -> None:
    """Each place an image comes from, and each place a signing key lies, is in a block that runs."""
    assert any(source in block for block in BLOCKS if "cloister image " in block or "nitro-cli " in block)
