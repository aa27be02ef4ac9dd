"""Roots are read from PEM, one or several, or DER; what holds none is refused."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.pki import RootsError, issue_root, load_roots
from simulators.local_chain import NOW, der, local_chain, new_key

ROOT = local_chain().root.certificate
OTHER = issue_root(new_key(), serial=9, now=NOW)
PEM = ROOT.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("data", "roots"),
    [
        (PEM, (ROOT,)),
        (der(ROOT), (ROOT,)),
        (b"# ours\n" + PEM + b"\n# theirs\n" + OTHER.public_bytes(Encoding.PEM), (ROOT, OTHER)),
    ],
    ids=["PEM", "DER", "two in PEM with remarks"],
)
def test_roots_are_read_in_either_form(data: bytes, roots: tuple[object, ...]) -> None:
    """Every certificate comes back, in order."""
    assert load_roots(data) == roots


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"root",
        PEM[:-40],
        der(ROOT)[:-1],
        der(ROOT) + b"\x00",
        PEM.replace(b"CERT", b"MERT"),
        bytes(1 << 21),
    ],
    ids=["nothing", "text", "cut PEM", "cut DER", "trailing byte", "another label", "2 MiB"],
)
def test_what_holds_no_root_is_refused(data: bytes) -> None:
    """An empty set of roots is never returned."""
    with pytest.raises(RootsError):
        load_roots(data)
