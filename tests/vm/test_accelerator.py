"""What the probe of the accelerator concludes from a boot that does not come to its end."""

import os
from collections.abc import Iterator

import pytest

from cloister.kit import Kit
from cloister.vmm import Jail, MachineError, accelerator, probe_footing, unpack_kernel

pytestmark = pytest.mark.vm


@pytest.fixture
def kernel_fd(kit: Kit) -> Iterator[int]:
    """Put the kit's kernel into a memory file."""
    fd = os.memfd_create("kernel")
    image = kit.kernel.read_bytes()
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(unpack_kernel(image) or image)
    yield fd
    os.close(fd)


def test_slow_kernel_does_not_cost_the_machine_its_own_user(
    jail: Jail, kernel_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When time runs out while the kernel boots, no accelerator is tried again with less isolation."""
    monkeypatch.setattr(accelerator, "PROBE_SECONDS", 0.0)
    with pytest.raises(MachineError) as refusal:
        probe_footing(jail, kernel_fd)
    tried = str(refusal.value).count("the kernel did not boot")
    assert tried == (2 if os.access("/dev/kvm", os.R_OK | os.W_OK) else 1)
