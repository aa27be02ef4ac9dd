"""The fuzz targets on a few hundred inputs, the same ones every time: a taste of ``make fuzz``."""

import random
from collections import deque
from collections.abc import Iterator
from types import ModuleType

import pytest

from cloister.audit import Findings
from cloister.eif import Image
from cloister.measure import Measurements
from fuzzing import eif, eif_seeds, layers
from simulators.crafted_images import changed

MUTATIONS = 300


def inputs(target: ModuleType, number: int) -> Iterator[bytes]:
    """Yield every seed, and then seeds with some bytes changed, cut out, doubled or spliced."""
    seeds, dice = list(target.seeds()), random.Random(5)
    yield from seeds
    for _ in range(number):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            at, size = dice.randrange(len(data)), dice.choice((1, 1, 2, 4, 8, 512))
            match dice.randrange(6):
                case 0:
                    data[at] ^= 1 << dice.randrange(8)
                case 1:
                    data[at : at + size] = dice.randbytes(size)
                case 2:
                    data[at : at + size] = dice.choice((b"\0", b"\xff", b"0")) * size
                case 3 if len(data) > 1024:
                    del data[at : at + size]
                case 4:
                    data[at:at] = data[at : at + size]
                case _:
                    other = dice.choice(seeds)
                    data[at : at + size] = other[at : at + size] or b"\0"
        yield bytes(data)


@pytest.mark.parametrize("target", [eif, layers], ids=["eif", "layers"])
def test_hostile_inputs_do_what_they_may(target: ModuleType) -> None:
    """Nothing but sentences, and nothing untrue of what is accepted."""
    for data in inputs(target, MUTATIONS):
        target.try_input(data)


def test_seeds_reach_what_they_are_for() -> None:
    """They are the same every time; most are accepted as they are or once they are put right."""
    assert list(eif.seeds()) == list(eif.seeds())
    accepted = [
        image
        for data in eif.seeds()
        if (image := eif.image_or_none(eif.repaired(data[0] | 5, data[1:]), {})) is not None
    ]
    assert len(accepted) > 30
    assert {image.architecture for image in accepted} == {"x86_64", "aarch64"}
    assert {len(image.ramdisks) for image in accepted} >= {1, 2, 5}
    curves = {image.signature.certificate.public_key().curve.name for image in accepted if image.signature}  # type: ignore[union-attr] # every one is on a curve
    assert curves == {"secp256r1", "secp384r1", "secp521r1"}


def test_repairs_make_an_image_of_damage() -> None:
    """Magic, tables, signature and checksum are put right, so that changes behind them are read."""
    broken = changed(changed(eif_seeds.signed_image(1), 0, b"junk"), 28, bytes(500))
    for number, curve in enumerate(("secp256r1", "secp384r1", "secp521r1")):
        image = Image.from_buffer(eif.repaired(0b1111 | number << 4, broken))
        assert image.signature is not None
        assert image.signature.certificate.public_key().curve.name == curve  # type: ignore[union-attr] # as above
        image.signature.verify(eif.pcr0_of([(int(it.kind), bytes(it.payload)) for it in image.sections]))


FAULTS = {
    "a register is wrong": ("measure", lambda _: Measurements(bytes(48), bytes(48), bytes(48))),
    "an image is not written alike": ("written_again", lambda _: b""),
    "lint overlooks everything": ("lint", lambda *_, **__: Findings()),
    "diff sees no difference": ("compare", lambda *_, **__: iter(())),
    "describing makes no JSON": ("describe", lambda *_: {"Size": float("inf")}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_target_would_notice(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fault in what it calls, the target objects to one of its seeds."""
    monkeypatch.setattr(eif, *FAULTS[fault])
    with pytest.raises(AssertionError):
        deque(map(eif.try_input, eif.seeds()), 0)
