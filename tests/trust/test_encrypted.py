"""Keys under a passphrase: standard, slow to guess, and never readable without it."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cloister.trust.encrypted import ROUNDS, encrypt_key
from simulators.local_chain import new_key

PASSPHRASE = "correct horse, \N{LATIN SMALL LETTER U WITH DIAERESIS}".encode()


@pytest.mark.parametrize("rounds", [1, 127, 128, 255, 32768, ROUNDS])
def test_the_library_reads_what_is_written(rounds: int) -> None:
    """Any number of rounds makes a file that the library opens with this passphrase and no other."""
    key = new_key()
    pem = encrypt_key(key, PASSPHRASE, rounds=rounds)
    opened = load_pem_private_key(pem, PASSPHRASE)
    assert isinstance(opened, ec.EllipticCurvePrivateKey)
    assert opened.private_numbers() == key.private_numbers()
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(pem, PASSPHRASE[:-1])
    assert pem != encrypt_key(key, PASSPHRASE, rounds=rounds)


def test_openssl_reads_it_and_counts_the_rounds(tmp_path: Path) -> None:
    """``openssl`` opens the file, and shows the rounds, the hash and the cipher that were meant."""
    path = tmp_path / "key.pem"
    path.write_bytes(encrypt_key(new_key(), PASSPHRASE))
    (tmp_path / "pass").write_bytes(PASSPHRASE)
    words = ["openssl", "pkey", "-in", str(path), "-passin", f"file:{tmp_path / 'pass'}", "-noout", "-text"]
    assert "secp384r1" in subprocess.run(words, check=True, capture_output=True, text=True).stdout
    words = ["openssl", "asn1parse", "-in", str(path)]
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    for part in (f":{ROUNDS:06X}", "PBKDF2", "hmacWithSHA512", "aes-256-cbc"):
        assert part in shown
