"""The init: one static program whose bytes depend on its source and the compiler alone."""

import shutil
import struct
from pathlib import Path

import pytest

from cloister.kit import KitError
from cloister.kit.guest_init import build_init
from cloister.kit.kernel import check_configuration, kernel_configuration
from cloister.kit.toolchain import missing_tools, reproducible_environment, run_tool, tool_prefix
from cloister.places import current_places, own_architecture


@pytest.fixture(scope="module")
def source() -> Path:
    """Return the kernel source that the kit was built from."""
    trees = [
        path.parent.parent
        for path in current_places().cache.glob(f"build/{own_architecture()}-*/linux/usr/include")
    ]
    if not trees or shutil.which("gcc") is None:
        pytest.skip("no kernel source in the cache: the kit in use was imported, not built here")
    return trees[0]


def test_two_builds_in_different_directories_are_the_same_bytes(source: Path, tmp_path: Path) -> None:
    """Neither where the sources are nor where the output goes shows in the result."""
    near, far = tmp_path / "a", tmp_path / "somewhere/else/entirely"
    for directory in (near, far):
        directory.mkdir(parents=True)
        shutil.copytree(source / "tools/include/nolibc", directory / "nolibc")
        build_init(directory / "nolibc", source / "usr/include", directory / "init", own_architecture())
    assert (near / "init").read_bytes() == (far / "init").read_bytes()


def test_the_init_is_static_small_and_names_no_path(source: Path, tmp_path: Path) -> None:
    """No interpreter, no dynamic section, no writable and executable segment, no trace of this host."""
    build_init(source / "tools/include/nolibc", source / "usr/include", tmp_path / "init", own_architecture())
    image = (tmp_path / "init").read_bytes()
    assert len(image) < 32 << 10
    offset, size, count = (*struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54))
    headers = [struct.unpack_from("<II", image, offset + index * size) for index in range(count)]
    assert not {kind for kind, _ in headers} & {2, 3}  # PT_DYNAMIC, PT_INTERP
    assert all(flags & 3 != 3 for _, flags in headers)  # writable and executable
    assert str(tmp_path).encode() not in image
    assert str(source).encode() not in image


def test_a_failing_compiler_is_quoted(tmp_path: Path) -> None:
    """The error holds the tool's own complaint."""
    (tmp_path / "x.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(KitError, match=r"gcc failed with exit code 1: .*nothing.* undeclared"):
        run_tool(["gcc", "-c", "x.c"], tmp_path)
    with pytest.raises(KitError, match="cannot run no-such-tool"):
        run_tool(["no-such-tool"], tmp_path)


def test_every_line_of_a_tool_is_reported_in_order(tmp_path: Path) -> None:
    """Progress sees the lines as they come, errors included, and the log keeps them."""
    lines: list[str] = []
    run_tool(
        ["sh", "-c", "echo one; echo two >&2; printf three"],
        tmp_path,
        log=tmp_path / "log",
        on_line=lines.append,
    )
    assert lines == ["one", "two", "three"]
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"


def test_the_environment_of_tools_hides_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locale, time zone, user and compiler flags of the caller do not get through."""
    for name in (
        "LANG",
        "TZ",
        "CFLAGS",
        "KCFLAGS",
        "MAKEFLAGS",
        "KBUILD_BUILD_USER",
        "ARCH",
        "CROSS_COMPILE",
    ):
        monkeypatch.setenv(name, "surprise")
    environment = reproducible_environment()
    assert "surprise" not in environment.values()
    assert environment["KBUILD_BUILD_USER"] == "cloister"


def test_a_kernel_configuration_that_lost_a_line_is_refused() -> None:
    """Kconfig drops silently; the build does not."""
    wanted = "# why\nCONFIG_NSM=y\n# CONFIG_MODULES is not set\n"
    check_configuration(wanted, "CONFIG_NSM=y\n")
    check_configuration(wanted, "CONFIG_NSM=y\n# CONFIG_MODULES is not set\n")
    with pytest.raises(KitError, match="CONFIG_NSM=y"):
        check_configuration(wanted, "# CONFIG_NSM is not set\n")
    with pytest.raises(KitError, match="CONFIG_MODULES"):
        check_configuration(wanted, "CONFIG_NSM=y\nCONFIG_MODULES=y\n")


@pytest.mark.parametrize(("host", "prefix"), [("x86_64", ""), ("aarch64", "x86_64-linux-gnu-")])
def test_another_architecture_is_compiled_by_the_cross_compiler(
    monkeypatch: pytest.MonkeyPatch, host: str, prefix: str
) -> None:
    """The kit of either architecture is built on hosts of either, and what is missing is named."""
    monkeypatch.setattr("cloister.kit.toolchain.own_architecture", lambda: host)
    monkeypatch.setattr("shutil.which", lambda name: None if "linux-gnu" in name else f"/usr/bin/{name}")
    assert tool_prefix("x86_64") == prefix
    assert missing_tools("x86_64") == ([f"{prefix}gcc", f"{prefix}ld"] if prefix else [])


@pytest.mark.parametrize(
    ("architecture", "own"),
    [
        ("x86_64", ["CONFIG_PVH", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES", "CONFIG_SERIAL_8250_CONSOLE"]),
        ("aarch64", ["CONFIG_VIRTIO_CONSOLE", "CONFIG_RANDOMIZE_BASE", "CONFIG_RTC_DRV_PL031"]),
    ],
)
def test_the_guest_kernel_leaves_out_what_an_enclave_must_not_have(architecture: str, own: list[str]) -> None:
    """The shipped configuration asks for the devices of an enclave and for no others."""
    lines = kernel_configuration(architecture).splitlines()
    for wanted in ("CONFIG_NSM", "CONFIG_VIRTIO_VSOCKETS", *own):
        assert f"{wanted}=y" in lines
    for unwanted in (
        "PCI",
        "ACPI",
        "BLOCK",
        "MODULES",
        "DEVMEM",
        "KALLSYMS",
        "USB_SUPPORT",
        "NETDEVICES",
        "KEXEC",
    ):
        assert f"CONFIG_{unwanted}=y" not in lines
    with pytest.raises(KitError, match="no kernel configuration for riscv64"):
        kernel_configuration("riscv64")
