"""Takes an image out of everybody's reach and makes of it what a machine boots.

The file is copied once into sealed memory; what is measured, described and booted is that copy.
"""

import ctypes
import fcntl
import mmap
import os
import signal

from cloister.control import EnclaveFailure
from cloister.eif import EifError, Image
from cloister.mapped import pieces
from cloister.vmm import unpack_kernel

MAX_IMAGE = 16 << 30
UNPACK_SECONDS = 60
_PR_SET_PDEATHSIG = 1
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class LoadedImage:
    """An image in sealed memory, with the descriptors a machine boots from.

    The kernel is still being unpacked: ``gate_fd`` is the read end of a pipe that ends when it is done.
    """

    def __init__(self, image: Image, image_fd: int) -> None:
        self._image: Image | None = image
        self._image_fd = image_fd
        self.kernel_fd = os.memfd_create("kernel", os.MFD_CLOEXEC)
        self.gate_fd, opener = os.pipe()
        self._unpacker: int | None = _unpack_apart(image, self.kernel_fd, opener)
        os.close(opener)
        self.initrd_fd = _initrd(image)

    def await_kernel(self) -> int:
        """Return the kernel's descriptor once it is unpacked; raises EnclaveFailure E35."""
        if self._unpacker is not None:
            _, status = os.waitpid(self._unpacker, 0)
            self._unpacker = None
            if status:
                raise EnclaveFailure(
                    "E35", "EIF parsing error. The kernel could not be unpacked.", action="Load kernel"
                )
        return self.kernel_fd

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


def _unpack_apart(image: Image, target: int, gate: int) -> int:
    """Unpack the kernel in a process of its own, whose end opens the gate; return its process id.

    Nothing waits for it but QEMU, where it matters, and its memory goes with it.
    """
    starter = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            # with the supervisor's locks in its hands it would make a dead one look alive
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != starter:
                os._exit(1)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(UNPACK_SECONDS)
            unpacked = unpack_kernel(image.kernel)
            _fill(target, [image.kernel if unpacked is None else memoryview(unpacked)])
            os.write(gate, b"open")
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- a process of one step: its status tells
            os._exit(1)
    return child


def _initrd(image: Image) -> int:
    # the kernel reads archives one after another, each at a multiple of 4, and skips zeros between
    parts = [part for disk in image.ramdisks for part in (disk, memoryview(bytes(4 - len(disk) % 4)))]
    handle = os.memfd_create("initrd", os.MFD_CLOEXEC)
    _fill(handle, parts)
    return handle


def _fill(handle: int, parts: list[memoryview]) -> None:
    for part in parts:
        for piece in pieces(part):
            rest = piece
            while rest:
                rest = rest[os.write(handle, rest) :]
