"""Whole builds: every form of one tree gives one image, the same anywhere, and a failure leaves nothing."""

import gzip
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.build import (
    BuildError,
    Limits,
    Recipe,
    UnsupportedSourceError,
    build_image,
    build_time_from,
    map_image,
)
from cloister.eif import Image, SignatureError, SignatureSection
from cloister.errors import CloisterError
from cloister.kit import Kit
from cloister.measure import measure
from cloister.signers import PemSigner
from simulators.image_sources import (
    CONFIG,
    image_config,
    make_kit,
    member,
    sample_layers,
    tar_of,
    write_archive_of,
    write_directory,
    write_docker_archive,
    write_oci_layout,
)
from simulators.openssl_check import openssl_check
from simulators.ramdisks import ramdisk_entries
from simulators.signing_keys import write_signing_files

PLAIN_CONFIG = {key: CONFIG[key] for key in ("Entrypoint", "Cmd", "Env")}
EPOCH_5 = build_time_from({"SOURCE_DATE_EPOCH": "5"})
COMMAND = ("/bin/entry", "--flag", "value")


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return make_kit(tmp_path / "kits")


def write_tar(root: Path, target: Path) -> Path:
    """Archive a directory as a root file system, owned by root and from 1970."""

    def owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        return info

    with tarfile.open(target, "w") as archive:
        archive.add(root, ".", filter=owned_by_root)
    return target


def members(image: Image) -> dict[str, bytes]:
    """Return the bytes of each name of the customer's ramdisk."""
    return {entry.name.decode(): entry.body for entry in ramdisk_entries(bytes(image.ramdisks[1]))}


def test_every_form_of_a_tree_gives_one_image(tmp_path: Path, kit: Kit) -> None:
    """Directory, tar, packed tar, OCI layout and archive, docker-archive: the same PCRs."""
    layers = sample_layers()
    config = image_config(layers, PLAIN_CONFIG)
    root = write_directory(tmp_path / "root")
    tar = write_tar(root, tmp_path / "root.tar")
    packed = tmp_path / "root.tar.gz"
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    layout = write_oci_layout(tmp_path / "oci", layers, config=config)
    flat = write_oci_layout(tmp_path / "flat", layers, config=config, pack=lambda layer: layer)
    trees = [root, tar, packed]
    images = [layout, flat, write_archive_of(layout, tmp_path / "oci.tar")]
    images += [write_docker_archive(tmp_path / "docker.tar", layers, config=config)]
    own = Recipe(cmd=COMMAND, env=PLAIN_CONFIG["Env"])
    measured = {build_image(source, tmp_path / "x.eif", kit=kit, recipe=own) for source in trees}
    measured |= {build_image(source, tmp_path / "x.eif", kit=kit) for source in images}
    (only,) = measured
    assert only == measure(map_image(tmp_path / "x.eif"))


def test_layout_is_awss(tmp_path: Path, kit: Kit) -> None:
    """The ramdisk has cmd and env at its root, the tree below rootfs/, and every mount point."""
    layout = write_oci_layout(tmp_path / "oci", sample_layers())
    build_image(f"oci:{layout}:hello:v1", tmp_path / "x.eif", kit=kit)
    found = members(map_image(tmp_path / "x.eif"))
    assert found["cmd"] == b"/bin/entry\n--flag\nvalue\n"
    assert found["env"] == b"PATH=/bin\nLANG=C\n"
    assert (found["workdir"], found["user"]) == (b"/srv\n", b"app:app\n")
    assert found["rootfs/bin/sh"] == b"entry"
    assert found["rootfs/bin/again"].startswith(b"#!")
    assert found["rootfs/bin/entry"] == b"again"
    assert {f"rootfs/{name}" for name in ("dev", "run", "sys", "var", "proc", "tmp")} < found.keys()
    assert not {"rootfs/etc/old", "rootfs/srv/junk"} & found.keys()


def test_times_are_the_layers(tmp_path: Path, kit: Kit) -> None:
    """A time is its layer's, in whole seconds, or linuxkit's own; what lies in a directory is from 1970."""
    layer = tar_of([member("f", pax_headers={"mtime": "1700000000.9"}), member("etc/hosts", mtime=5)])
    build_image(write_docker_archive(tmp_path / "x.tar", [layer]), tmp_path / "x.eif", kit=kit)
    entries = ramdisk_entries(bytes(map_image(tmp_path / "x.eif").ramdisks[1]))
    times = {entry.name: entry.mtime for entry in entries}
    assert times[b"rootfs/f"] == 1_700_000_000
    assert times[b"rootfs/etc/hosts"] == times[b"rootfs/tmp"] == times[b"cmd"] == 1_492_533_000
    root = write_directory(tmp_path / "root")
    build_image(root, tmp_path / "y.eif", kit=kit, recipe=Recipe(cmd=COMMAND))
    entries = ramdisk_entries(bytes(map_image(tmp_path / "y.eif").ramdisks[1]))
    assert {entry.mtime for entry in entries} == {0, 1_492_533_000}


def test_like_aws_cmd_wins_and_the_rest_is_ignored(tmp_path: Path, kit: Kit) -> None:
    """Bug for bug: with both set ENTRYPOINT is lost, WORKDIR and USER are not written."""
    layout = write_oci_layout(tmp_path / "oci", sample_layers())
    build_image(layout, tmp_path / "x.eif", kit=kit, recipe=Recipe(like_aws=True))
    found = members(map_image(tmp_path / "x.eif"))
    assert found["cmd"] == b"--flag\nvalue\n"
    assert not {"workdir", "user"} & found.keys()


def test_overrides_replace_cmd_and_variables(tmp_path: Path, kit: Kit) -> None:
    """A given CMD follows the image's ENTRYPOINT; a given variable replaces its namesake in place."""
    layout = write_oci_layout(tmp_path / "oci", sample_layers())
    build_image(
        layout, tmp_path / "x.eif", kit=kit, recipe=Recipe(cmd=["new"], env=["PATH=/usr/bin", "A=b=c"])
    )
    found = members(map_image(tmp_path / "x.eif"))
    assert found["cmd"] == b"/bin/entry\nnew\n"
    assert found["env"] == b"PATH=/usr/bin\nLANG=C\nA=b=c\n"


@pytest.mark.parametrize(
    ("recipe", "command"),
    [
        (Recipe(), ["/bin/entry", "--flag", "value"]),
        (Recipe(entrypoint=["new", "-x"]), ["new", "-x"]),
        (Recipe(entrypoint=["new"], cmd=["arg"]), ["new", "arg"]),
        (Recipe(entrypoint=[], cmd=["arg"]), ["arg"]),
        (Recipe(cmd=[]), ["/bin/entry"]),
        (Recipe(like_aws=True), ["--flag", "value"]),
        (Recipe(entrypoint=["new"], like_aws=True), ["new"]),
        (Recipe(entrypoint=["new"], cmd=["arg"], like_aws=True), ["arg"]),
    ],
)
def test_entrypoint_and_cmd_combine(recipe: Recipe, command: list[str], tmp_path: Path, kit: Kit) -> None:
    """ENTRYPOINT comes before CMD, another ENTRYPOINT drops the image's CMD; AWS takes one of them."""
    layout = write_oci_layout(tmp_path / "oci", sample_layers())
    build_image(layout, tmp_path / "x.eif", kit=kit, recipe=recipe)
    assert members(map_image(tmp_path / "x.eif"))["cmd"].decode().splitlines() == command


def test_workdir_and_user_are_replaced(tmp_path: Path, kit: Kit) -> None:
    """A given WORKDIR is freed of detours and made where it is missing; a given USER wins."""
    layers = [tar_of([member("lnk", tarfile.SYMTYPE, linkname="/real")])]
    source = write_docker_archive(tmp_path / "x.tar", layers, config=image_config(layers))
    build_image(source, tmp_path / "x.eif", kit=kit, recipe=Recipe(workdir="/lnk/../at/it", user="7"))
    found = members(map_image(tmp_path / "x.eif"))
    assert (found["workdir"], found["user"]) == (b"/at/it\n", b"7\n")
    assert found["rootfs/at/it/"] == b""


def test_metadata_says_where_the_image_comes_from(tmp_path: Path, kit: Kit) -> None:
    """Name, version and time are the image's own unless given; the kit is named by digest."""
    layout = write_oci_layout(tmp_path / "oci", sample_layers())
    build_image(layout, tmp_path / "x.eif", kit=kit)
    metadata = map_image(tmp_path / "x.eif").metadata
    assert metadata is not None
    assert (metadata.image_name, len(metadata.image_version)) == ("hello", 64)
    assert metadata.build.build_time == "2024-02-03T04:05:06.123456+00:00"
    assert metadata.kit_digest == kit.digest
    assert metadata.docker_info["Config"] == CONFIG
    given = Recipe(
        name="n", version="v", custom={"a": 1}, build_time=build_time_from({"SOURCE_DATE_EPOCH": "5"})
    )
    build_image(layout, tmp_path / "x.eif", kit=kit, recipe=given)
    metadata = map_image(tmp_path / "x.eif").metadata
    assert metadata is not None
    assert (metadata.image_name, metadata.image_version, metadata.custom) == ("n", "v", {"a": 1})
    assert metadata.build.build_time == "1970-01-01T00:00:05+00:00"


BUILD = """
import os, sys, time
from pathlib import Path
from simulators.image_sources import make_kit, write_directory
from cloister.build import Recipe, build_image
os.umask(int(sys.argv[2], 8)); time.tzset()
here = Path(sys.argv[1]); here.mkdir()
root = write_directory(here / "root")
names = sorted("abcdefgh", reverse=sys.argv[3] == "down")
for name in names:
    (root / name).write_text(name); (root / name).chmod(0o644)
build_image(root, here / "x.eif", kit=make_kit(here / "kits"), recipe=Recipe(cmd=["/bin/entry"]))
"""


def test_same_input_same_bytes(tmp_path: Path) -> None:
    """Umask, time zone, locale, file order and place make no difference to a single byte."""
    images = []
    for umask, zone, language, order in (
        ("022", "UTC", "C", "up"),
        ("077", "Asia/Tokyo", "de_CH.UTF-8", "down"),
    ):
        here = tmp_path / umask
        environment = {"TZ": zone, "LC_ALL": language, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", BUILD, here, umask, order], env=environment, check=True)
        images.append((here / "x.eif").read_bytes())
    assert images[0] == images[1]


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=["P-256", "P-384", "P-521"]
)
def test_openssl_accepts_the_signature(tmp_path: Path, kit: Kit, curve: ec.EllipticCurve) -> None:
    """A script of openssl, od and awk finds PCR0 in the image's bytes and the signature over it genuine."""
    files = write_signing_files(tmp_path / "keys", ec.generate_private_key(curve))
    signer = PemSigner.load(files.certificate, files.private_key, datetime.now(UTC))
    root = write_directory(tmp_path / "root")
    measured = build_image(root, tmp_path / "x.eif", kit=kit, recipe=Recipe(cmd=["/x"]), signer=signer)
    assert openssl_check(tmp_path / "x.eif") == {"PCR0": measured.pcr0, "PCR8": measured.pcr8}


class _RefusingSigner:
    def sign(self, pcr0: bytes) -> SignatureSection:
        raise SignatureError(f"The key for {pcr0.hex()} is out of reach.")


def test_failing_signer_fails_the_build(tmp_path: Path, kit: Kit) -> None:
    """No unsigned image is left where a signed one was asked for."""
    root = write_directory(tmp_path / "root")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(SignatureError, match="out of reach"):
        build_image(root, out / "x.eif", kit=kit, recipe=Recipe(cmd=["/x"]), signer=_RefusingSigner())
    assert list(out.iterdir()) == []


def damage(layout: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Change a layout's index."""
    index = json.loads((layout / "index.json").read_text())
    change(index["manifests"][0])
    (layout / "index.json").write_text(json.dumps(index))
    return layout


def flip_largest_blob(layout: Path) -> Path:
    blob = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    return layout


def oci(here: Path, **changes: object) -> Path:
    """Write a layout whose manifest's descriptor is changed."""
    return damage(write_oci_layout(here / "oci", sample_layers()), lambda manifest: manifest.update(changes))


def docker(here: Path, layers: list[bytes], config: bytes) -> Path:
    return write_docker_archive(here / "docker", layers, config=config)


PROC = [tar_of([member("proc")])]
ARM = {"os": "linux", "architecture": "arm64"}
SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda here: here / "nowhere", "does not exist"),
    "empty": (lambda _: "", "'' names nothing"),
    "empty after its prefix": (lambda _: "dir:", "'dir:' names nothing"),
    "registry": (lambda _: "docker://registry.invalid/hello:v1", "is not a directory, tar,"),
    "no command": (lambda here: write_directory(here / "root"), "no command to run"),
    "not tar": (
        lambda here: (here / "junk").write_bytes(b"junk" * 999) and here / "junk",
        "not a tar archive",
    ),
    "file as oci": (lambda here: f"oci:{docker(here, [], image_config([]))}", "not a directory"),
    "directory as tar": (lambda here: f"tar:{here}", "expects a file"),
    "wrong digest": (lambda here: flip_largest_blob(oci(here)), "has the digest"),
    "wrong size": (lambda here: oci(here, size=1), "bytes long; expected 1"),
    "climbing digest": (lambda here: oci(here, digest="sha256:../../x"), "no SHA-256 digest"),
    "other platform": (lambda here: oci(here, platform=ARM), "holds no image"),
    "unknown name": (lambda here: f"oci:{oci(here)}:other", "holds no image"),
    "few diff ids": (lambda here: docker(here, PROC, image_config([])), "has 1 layers"),
    "wrong diff id": (lambda here: docker(here, PROC, image_config([b"other"])), "has the digest"),
    "line break": (lambda here: docker(here, [], image_config([], {"Cmd": ["a\nb"]})), "holds a line break"),
    "nothing": (lambda _here: "", "names nothing"),
    "nothing after a prefix": (lambda _here: "dir:", "names nothing"),
    "relative workdir": (
        lambda here: docker(here, [], image_config([], {"Cmd": ["a"], "WorkingDir": "b"})),
        "expected an absolute path",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_bad_sources_are_one_sentence_and_leave_nothing(tmp_path: Path, kit: Kit, name: str) -> None:
    """Whatever is wrong with a source is said in one sentence, and no file is left, not even for a while."""
    make, message = SOURCES[name]
    source = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(CloisterError, match=message) as refused:
        build_image(str(source), out / "x.eif", kit=kit)
    assert "\n" not in str(refused.value)
    assert list(out.iterdir()) == []


def test_remote_sources_have_their_own_error() -> None:
    """A registry is told apart: the builder reads, it does not fetch."""
    with pytest.raises(UnsupportedSourceError):
        build_image("docker-daemon:hello", Path("x.eif"), kit=None)  # type: ignore[arg-type] # refused before


def test_absurd_trees_are_refused(tmp_path: Path, kit: Kit) -> None:
    """Limits hold for directories, tars and layers alike."""
    sources = [write_directory(tmp_path / "root"), write_oci_layout(tmp_path / "oci", sample_layers())]
    for source in sources:
        for limits, message in (
            (Limits(entries=3), "more than 3 files"),
            (Limits(size=30), "more than 30 bytes"),
        ):
            with pytest.raises(BuildError, match=message):
                build_image(source, tmp_path / "x.eif", kit=kit, recipe=Recipe(cmd=["/x"]), limits=limits)


@pytest.mark.parametrize("packed", [False, True], ids=["layout", "packed archive"])
def test_layers_share_what_may_be_unpacked(tmp_path: Path, kit: Kit, packed: bool) -> None:
    """Each layer is given what the others and a packed archive left of the limit, on disk too."""
    layers = [tar_of([member(f"file{number}", body=os.urandom(4096) * 100)]) for number in range(4)]
    source = write_oci_layout(tmp_path / "oci", layers)
    if packed:
        tar = write_archive_of(source, tmp_path / "oci.tar")
        tar.write_bytes(gzip.compress(tar.read_bytes()))
        source = tar
    limits, written = Limits(size=1 << 20), [0]

    def note(what: str, done: int, _total: int) -> None:
        if what.startswith("unpacking"):
            written.append(done)

    with pytest.raises(BuildError, match="all that it may take here"):
        build_image(source, tmp_path / "x.eif", kit=kit, limits=limits, progress=note)
    taken = sum(new - old if new > old else new for old, new in pairwise(written))
    assert limits.size // 2 < taken <= limits.size
    build_image(source, tmp_path / "x.eif", kit=kit, limits=Limits(size=4 << 20))


def test_want_of_space_is_told_before_anything_is_written(tmp_path: Path, kit: Kit) -> None:
    """What an archive says it unpacks to is compared with what is free, and no file is left."""
    source = tmp_path / "root.tar.zst"
    source.write_bytes(b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 60).to_bytes(8, "little") + b"\1\0\0")
    with pytest.raises(BuildError, match=r"unpacked, needs 1,152,921,504,606,846,976 bytes in .* are free"):
        build_image(source, tmp_path / "x.eif", kit=kit, recipe=Recipe(cmd=["/x"]))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["root.tar.zst"]


def test_several_images_need_a_name(tmp_path: Path, kit: Kit) -> None:
    """One image under two names is no question; two images are."""
    layers = sample_layers()
    layout = write_oci_layout(tmp_path / "oci", layers, names=("hello:v1", "hello:latest"))
    build_image(layout, tmp_path / "x.eif", kit=kit)
    other = write_oci_layout(tmp_path / "other", layers[:1], names=("other:v1",))
    index = json.loads((layout / "index.json").read_text())
    index["manifests"] += json.loads((other / "index.json").read_text())["manifests"]
    (layout / "index.json").write_text(json.dumps(index))
    for blob in (other / "blobs/sha256").iterdir():
        blob.rename(layout / "blobs/sha256" / blob.name)
    with pytest.raises(BuildError, match="several images: hello:latest, hello:v1, other:v1"):
        build_image(layout, tmp_path / "x.eif", kit=kit)
    build_image(f"oci:{layout}:other:v1", tmp_path / "x.eif", kit=kit)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(cmd=["\ud800"]),
        Recipe(cmd=["/bin/entry"], env=["A=\ud800"]),
        Recipe(cmd=["/bin/entry"], workdir="/\ud800"),
        Recipe(cmd=["/bin/entry"], user="\ud800"),
    ],
    ids=["cmd", "env", "workdir", "user"],
)
def test_half_a_character_is_refused(recipe: Recipe, tmp_path: Path, kit: Kit) -> None:
    """JSON can name a lone surrogate, which has no bytes; other bytes that are no UTF-8 are taken."""
    tree = write_directory(tmp_path / "tree")
    with pytest.raises(BuildError, match=r"^The image's .* holds half a character"):
        build_image(tree, tmp_path / "x.eif", kit=kit, recipe=recipe)
    assert not (tmp_path / "x.eif").exists()
