"""The customer's ramdisk against linuxkit itself, byte for byte."""

import os
import random
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.build.content import open_region
from cloister.build.layers import apply_layer
from cloister.build.ramdisk import customer_ramdisk
from cloister.build.tree import Limits, Tree
from peers.building import Peers
from simulators.docker_export import Item, create, export, lay_out
from simulators.image_sources import tar_of
from simulators.ramdisks import ramdisk_entries

CMD, ENV = ("/bin/entry", "--flag"), ("PATH=/bin", "A=")
NAMES = (
    *("etc", "dev", "proc", "sys", "tmp", "var", "run", "usr", "a", "a-b", "a.b", "B", "Dockerfile", "boot"),
    *(".dockerenv", "x" * 120, "ä", "\udcff\udcfe", "rootfs", "cmd", "TRAILER!!!", "lib"),
)
BELOW = ("hosts", "hostname", "resolv.conf", "mtab", "console", "pts", "shm", "null", "kernel", "b", "é")
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away and make devices")


def generated(dice: random.Random) -> list[Item]:
    """Return an image full of what Docker and linuxkit treat specially."""
    items = list[Item]()
    directories, files, devices = [""], list[str](), list[str]()
    for _ in range(dice.randrange(40)):
        parent = dice.choice(directories)
        path = f"{parent}/{dice.choice((*NAMES, *BELOW) if parent else NAMES)}".lstrip("/")
        if path in (*directories, *files, *devices) or path.count("/") > 5:
            continue
        kinds = (tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
        item = Item(
            path,
            dice.choices(kinds, (8, 8, 3, 1, 1))[0],
            mode=dice.choice((0o644, 0o755, 0o4711, 0o1777, 0o600, 0)),
            uid=dice.choice((0, 1000, 3_000_000_000)),
            gid=dice.choice((0, 7)),
            mtime=dice.choice((0, 1, 1_700_000_000, 0xFFFFFFFF)),
        )
        if files and dice.random() < 0.2:
            items.append(replace(item, type=tarfile.LNKTYPE, link=dice.choice(files)))
            files.append(path)
        elif item.type == tarfile.DIRTYPE:
            items.append(item)
            directories.append(path)
        else:
            if item.type == tarfile.REGTYPE:
                item = replace(item, body=dice.randbytes(dice.choice((0, 1, 3, 5000))))
            elif item.type == tarfile.SYMTYPE:
                item = replace(item, link=dice.choice(("/etc", "../..", "nowhere", "t" * 200)), mode=0o777)
            elif item.type == tarfile.CHRTYPE:
                item = replace(item, major=5, minor=dice.randrange(256))
            items.append(item)  # nobody links to a device: tarfile could not write its numbers
            (devices if item.type == tarfile.CHRTYPE else files).append(path)
    return items


def ours(items: Iterable[Item], scratch: Path) -> bytes:
    """Return the ramdisk that Cloister makes of an image of one layer."""
    layer = scratch / "layer.tar"
    layer.write_bytes(tar_of([item.member() for item in items], tarfile.GNU_FORMAT))
    tree = Tree("the image", Limits())
    file, region = open_region(layer)
    with file:
        apply_layer(tree, region, Limits())
        return b"".join(customer_ramdisk(tree.root, CMD, ENV).chunks())


def linuxkits(images: Sequence[list[Item]], peers: Peers, scratch: Path) -> list[bytes]:
    """Return the ramdisks that linuxkit makes of what Docker exports."""
    (scratch / "cmd").write_text("".join(f"{word}\n" for word in CMD))
    (scratch / "env").write_text("".join(f"{item}\n" for item in ENV))
    for number, items in enumerate(images):
        root = scratch / f"{number}.root"
        root.mkdir()
        lay_out(items, root)
        create(root)
        with (scratch / f"{number}.tar").open("wb") as target:
            export(root, target)
    orders = [
        f"{scratch}/{n}.tar {scratch}/cmd {scratch}/env {scratch}/{n}.img\n" for n in range(len(images))
    ]
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    done = subprocess.run(
        [peers.directory / "linuxkit"],
        input="".join(orders), capture_output=True, text=True, check=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.stdout == "done\n" * len(images), done.stdout + done.stderr[-500:]
    return [(scratch / f"{number}.img").read_bytes() for number in range(len(images))]


def test_ramdisks_are_linuxkits(peers: Peers, tmp_path: Path) -> None:
    """Of a hundred images made to hurt, every ramdisk is linuxkit's to the byte."""
    dice = random.Random("ramdisks")
    images = [generated(dice) for _ in range(100)]
    differing = list[object]()
    for items, theirs in zip(images, linuxkits(images, peers, tmp_path), strict=True):
        mine = ours(items, tmp_path)
        if mine != theirs:
            pairs = zip(ramdisk_entries(mine), ramdisk_entries(theirs), strict=False)
            differing.append(next(((a, b) for a, b in pairs if a != b), items))
    assert not differing
    kinds = {item.type for items in images for item in items}
    assert len(kinds) == 6  # every kind has been there
