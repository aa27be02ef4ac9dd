"""Takes an image out of everybody's reach and makes of it what a machine boots.

The file is copied once into sealed memory; what is measured, described and booted is that copy.
"""

import ctypes
import fcntl
import mmap
import os
from concurrent.futures import ThreadPoolExecutor

from cloister.control import EnclaveFailure
from cloister.eif import EifError, Image
from cloister.vmm import unpack_kernel

MAX_IMAGE = 16 << 30
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class LoadedImage:
    """An image in sealed memory, with the descriptors a machine boots from."""

    def __init__(self, image: Image, image_fd: int) -> None:
        self._image: Image | None = image
        self._image_fd = image_fd
        pool = ThreadPoolExecutor(max_workers=1)
        self._kernel = pool.submit(_kernel, image)
        pool.shutdown(wait=False)
        self.initrd_fd = _initrd(image)

    @property
    def kernel_fd(self) -> int:
        """What the machine starts; it is unpacked in a thread meanwhile. Raises OSError."""
        return self._kernel.result()

    @property
    def image(self) -> Image:
        """The image, until it is released."""
        assert self._image is not None
        return self._image

    def release(self) -> None:
        """Give the memory back once the guest has its own copy; safe to call again."""
        if self._image is None:
            return
        self._image = None
        for fd in (self.kernel_fd, self.initrd_fd):
            os.ftruncate(fd, 0)  # QEMU still maps them, for a reset that never comes
            os.close(fd)
        os.close(self._image_fd)
        ctypes.CDLL(None).malloc_trim(0)  # unpacking the kernel has left holes of tens of megabytes


def load_image(file_fd: int) -> LoadedImage:
    """Copy, seal and read an image; raises EnclaveFailure E19, E34, E35."""
    image_fd = os.memfd_create("eif", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        size = _copy(file_fd, image_fd)
        fcntl.fcntl(image_fd, fcntl.F_ADD_SEALS, _SEALS)
        image = Image.from_buffer(memoryview(mmap.mmap(image_fd, size, access=mmap.ACCESS_READ)))
        return LoadedImage(image, image_fd)
    except EifError as error:
        os.close(image_fd)
        raise EnclaveFailure("E35", f"EIF parsing error. {error}", action="Parse EIF file") from None
    except OSError as error:
        os.close(image_fd)
        raise EnclaveFailure(
            "E19",
            f"File operation failure. The EIF could not be read: {error.strerror}.",
            action="Read EIF file",
        ) from None


def _copy(source: int, target: int) -> int:
    size = 0
    while sent := os.sendfile(target, source, size, 1 << 24):
        size += sent
        if size > MAX_IMAGE:
            raise EnclaveFailure("E34", f"Memory overflow. The EIF is larger than {MAX_IMAGE >> 30} GiB.")
    if size == 0:
        raise EnclaveFailure("E35", "EIF parsing error. The EIF is empty.", action="Parse EIF file")
    return size


def _kernel(image: Image) -> int:
    unpacked = unpack_kernel(image.kernel)
    return _memory("kernel", [image.kernel if unpacked is None else memoryview(unpacked)])


def _initrd(image: Image) -> int:
    # the kernel reads archives one after another, each at a multiple of 4, and skips zeros between
    parts = [part for disk in image.ramdisks for part in (disk, memoryview(bytes(4 - len(disk) % 4)))]
    return _memory("initrd", parts)


def _memory(name: str, parts: list[memoryview]) -> int:
    handle = os.memfd_create(name, os.MFD_CLOEXEC)
    for part in parts:
        written = 0
        while written < len(part):
            written += os.write(handle, part[written : written + (1 << 24)])
    return handle
