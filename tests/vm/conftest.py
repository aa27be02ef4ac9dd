"""What every test that boots a machine may ask for."""

import pytest

from cloister.kit import Kit, KitMissingError, find_kit
from cloister.places import current_places
from cloister.vmm import Jail, JailMissingError, find_jail


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Return the kit in use on this host."""
    try:
        return find_kit(current_places())
    except KitMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def jail() -> Jail:
    """Return the jail root of this host."""
    try:
        return find_jail(current_places())
    except JailMissingError as error:
        pytest.skip(str(error))
