"""Where an image goes: a file that appears whole, in the place of nothing but a file."""

import os
import socket
from pathlib import Path

import pytest

from cloister.build import BuildError, Recipe, build_image, check_output
from cloister.build.output import atomic_output
from simulators.image_sources import make_kit, sample_layers, write_directory, write_oci_layout


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A device, pipe or socket stays what it is, also behind a link: /dev/null belongs to everybody."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", Path("/dev/null")):
            with pytest.raises(BuildError, match="is a device, pipe or socket; expected a file"):
                check_output(path)
            with pytest.raises(BuildError), atomic_output(path):
                pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "socket"]


def test_a_link_goes_on_pointing_there(tmp_path: Path) -> None:
    """What is written is the file behind a symbolic link, whether it is there already or not."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.eif"
    link.symlink_to("elsewhere/image.eif")
    for content in (b"one", b"two"):
        with atomic_output(link) as file:
            file.write(content)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere/image.eif").read_bytes() == content
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["image.eif"]


def test_a_link_to_no_directory_is_refused(tmp_path: Path) -> None:
    """The directory that is missing is named."""
    (tmp_path / "link.eif").symlink_to("none/image.eif")
    with pytest.raises(BuildError, match="none does not exist"), atomic_output(tmp_path / "link.eif"):
        pass


def test_output_is_not_put_into_its_source(tmp_path: Path) -> None:
    """Built a second time, the image would hold the first one and be another."""
    kit = make_kit(tmp_path / "kits")
    root = write_directory(tmp_path / "root")
    (tmp_path / "link").symlink_to("root/srv")
    for source, output in (
        (root, root / "x.eif"),
        (root / "../root", root / "srv/x.eif"),
        (root, tmp_path / "link/x.eif"),
    ):
        with pytest.raises(BuildError, match="would be part of its next image"):
            build_image(source, output, kit=kit, recipe=Recipe(cmd=["/x"]))
        assert not output.exists()
    layout = write_oci_layout(tmp_path / "layout", sample_layers())
    build_image(layout, layout / "x.eif", kit=kit)  # whose files are named by its index
