"""The bank of registers against the rules of nitro-tools.md, section 5.3."""

import hashlib

import pytest

from cloister.pcrs import PCR_COUNT, ZERO_PCR, PcrBank, PcrError, PcrIndexError, PcrLockedError, extend


def test_extending_hashes_old_value_and_data() -> None:
    """An extended register is SHA384(old || data), so the order of extensions counts."""
    first = hashlib.sha384(ZERO_PCR + b"a").digest()
    assert extend(ZERO_PCR, b"a") == first
    assert extend(first, b"b") == hashlib.sha384(first + b"b").digest()


def test_extending_something_else_than_a_register_is_refused() -> None:
    """A value that is not 48 bytes is no register."""
    with pytest.raises(PcrError, match="48 bytes, not 47"):
        extend(bytes(47), b"")


def test_a_new_bank_has_its_first_sixteen_registers_locked() -> None:
    """Registers 0 to 15 are locked at boot, 16 to 31 are open and zero."""
    bank = PcrBank({0: b"\x01" * 48, 4: b"\x04" * 48})
    assert [bank.describe(index)[0] for index in range(PCR_COUNT)] == [True] * 16 + [False] * 16
    assert bank.describe(4) == (True, b"\x04" * 48)
    assert list(bank.locked()) == list(range(16))
    assert bank.locked()[0] == b"\x01" * 48


def test_an_open_register_is_extended_until_it_is_locked() -> None:
    """Extending works on 16 and above, and never after locking."""
    bank = PcrBank()
    value = bank.extend(16, b"data")
    assert bank.describe(16) == (False, value)
    bank.lock(16)
    with pytest.raises(PcrLockedError, match="PCR16 is locked"):
        bank.extend(16, b"data")
    assert bank.describe(16) == (True, value)
    assert bank.locked()[16] == value


@pytest.mark.parametrize("index", [0, 15])
def test_boot_registers_do_not_change(index: int) -> None:
    """Neither extending nor locking again works on registers locked at boot."""
    bank = PcrBank()
    with pytest.raises(PcrLockedError):
        bank.extend(index, b"x")
    with pytest.raises(PcrLockedError):
        bank.lock(index)


def test_locking_a_range_skips_nothing_and_repeats_harmlessly() -> None:
    """A range locks from 0, over registers that already are locked, and 32 locks all."""
    bank = PcrBank()
    bank.lock_range(0)
    assert len(bank.locked()) == 16
    bank.lock_range(18)
    bank.lock_range(18)
    assert list(bank.locked()) == list(range(18))
    bank.lock_range(32)
    assert len(bank.locked()) == 32


@pytest.mark.parametrize("index", [-1, 32, 65536])
def test_registers_that_do_not_exist_are_refused(index: int) -> None:
    """Numbers other than 0 to 31 name no register."""
    bank = PcrBank()
    for action in (bank.describe, bank.lock, lambda i: bank.extend(i, b"")):
        with pytest.raises(PcrIndexError):
            action(index)
    with pytest.raises(PcrIndexError):
        PcrBank({index: ZERO_PCR})


def test_a_range_beyond_the_bank_is_refused() -> None:
    """LockPCRs with 33 locks nothing."""
    bank = PcrBank()
    with pytest.raises(PcrIndexError):
        bank.lock_range(33)
    assert len(bank.locked()) == 16


def test_a_bank_takes_whole_values_only() -> None:
    """An initial value of a wrong length is refused."""
    with pytest.raises(PcrError, match="PCR3 holds 48 bytes, not 32"):
        PcrBank({3: bytes(32)})
