"""Examining images as a person does: lint, diff, ls, unpack, verify, policy; exit codes, hostile images."""

import bz2
import gzip
import json
import lzma
import re
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.cli.main import main
from cloister.eif import Image, sign_pcr0
from cloister.measure import measure
from simulators.crafted_images import (
    SIGNATURE,
    archive,
    changed,
    directory,
    link,
    loose,
    newc,
    sections,
)
from simulators.image_sources import make_kit, write_directory
from simulators.signing_keys import self_signed, write_signing_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Capture = pytest.CaptureFixture[str]
PROGRAM = stat.S_IFREG | 0o755


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of its own, with a guest kit in this user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    make_kit(tmp_path / "cache/cloister/kits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image(path: str = "x.eif", **parts: Any) -> str:
    Path(path).write_bytes(loose(sections(**parts)))
    return path


def app(*entries: bytes) -> str:
    return image(app=archive(directory(b"rootfs"), *entries))


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def said(capsys: Capture, code: int, *words: str) -> str:
    """Run an image verb that ends with this code and return what it printed."""
    capsys.readouterr()
    assert main(["image", *words]) == code
    return capsys.readouterr().out


SETUID = newc(b"rootfs/su", stat.S_IFREG | 0o4755)


@pytest.mark.parametrize(
    ("entries", "options", "code"),
    [
        ([], [], 0),
        ([], ["--fail-on", "warning"], 0),
        ([SETUID], [], 0),
        ([SETUID], ["--fail-on", "warning"], 1),
        ([SETUID], ["--fail-on", "warning", "--ignore", "L501:rootfs/su"], 0),
        ([newc(b"init")], [], 1),
        ([newc(b"init")], ["--fail-on", "never"], 0),
    ],
)
def test_lint_exit_code_is_the_severity(
    here: Path, capsys: Capture, entries: list[bytes], options: list[str], code: int
) -> None:
    """1 from the severity on that was named, 0 below it."""
    said(capsys, code, "lint", app(*entries), *options)


def test_lint_speaks_to_people_and_programs(here: Path, capsys: Capture) -> None:
    """A table with what to do below it, or JSON; nothing of the image drives the terminal."""
    path = app(newc(b"rootfs/\x1b[2J", stat.S_IFREG | 0o4755))
    text = said(capsys, 0, "lint", path)
    row = r"^L501  warning   ramdisk 2: rootfs/\\x1b\[2J +-rwsr-xr-x, owner 0:0$"
    assert re.search(row, text, re.MULTILINE)
    assert "chmod u-s,g-s" in text
    found = json.loads(said(capsys, 0, "lint", path, "--json"))
    assert [finding["Code"] for finding in found["Findings"]] == ["L501", "L117", "L306", "L701"]
    assert found["NotShown"] == {}


def test_lint_explains_what_is_no_image(here: Path, capsys: Capture) -> None:
    """Any file can be linted, also an empty one; one that cannot be read is trouble, bad words usage."""
    Path("empty").touch()
    assert "L101" in said(capsys, 1, "lint", "empty")
    said(capsys, 2, "lint", "nowhere")
    with pytest.raises(SystemExit, match="2"):
        main(["image", "lint", "empty", "--ignore", "everything"])


def test_diff_exit_code_is_the_answer(here: Path, capsys: Capture) -> None:
    """0 the same, 1 different, 2 trouble; registers and the first file, for people and programs."""
    one, other = app(newc(b"rootfs/a", body=b"a")), "y.eif"
    Path(other).write_bytes(Path(one).read_bytes())
    assert "The images are the same" in said(capsys, 0, "diff", one, other)
    image(other, app=archive(directory(b"rootfs"), newc(b"rootfs/a", body=b"b")))
    text = said(capsys, 1, "diff", one, other)
    assert text.splitlines()[:3] == ["PCR0  DIFFERENT", "PCR1  same", "PCR2  DIFFERENT"]
    assert re.search(r"PCR0 PCR2 +ramdisk 2: rootfs/a +content, byte 0 +61 +62", text)
    told = json.loads(said(capsys, 1, "diff", one, other, "--json"))
    assert (told["Registers"]["PCR1"]["Same"], told["Registers"]["PCR2"]["Same"]) == (True, False)
    assert told["Differences"] == [
        {"Registers": ["PCR0", "PCR2"], "Where": "ramdisk 2: rootfs/a", "Attribute": "content, byte 0",
         "First": "61", "Second": "62"}
    ]  # fmt: skip
    Path(other).write_bytes(changed(Path(one).read_bytes(), 0, b".elf"))
    assert said(capsys, 2, "diff", one, other) == ""


def test_ls_lists_what_is_there(here: Path, capsys: Capture) -> None:
    """Long lines, everything or below a path, with names escaped; JSON that can be read."""
    path = app(
        directory(b"rootfs/etc"),
        newc(b"rootfs/etc/\xff\n\\", body=b"12", mtime=86400, uid=7),
        link(b"rootfs/etc/l", b"\x1b"),
        newc(b"rootfs/etc/n", stat.S_IFCHR | 0o600, rdevmajor=1, rdevminor=3),
        newc(b"rootfs/etcetera"),
    )
    assert said(capsys, 0, "ls", path, "/etc/").splitlines() == [
        "2 drwxr-xr-x   1 0:0                0 1970-01-01 00:00 rootfs/etc",
        r"2 -rw-r--r--   1 7:0                2 1970-01-02 00:00 rootfs/etc/\xff\n\\",
        r"2 lrwxrwxrwx   1 0:0                1 1970-01-01 00:00 rootfs/etc/l -> \x1b",
        "2 crw-------   1 0:0             1, 3 1970-01-01 00:00 rootfs/etc/n",
    ]
    everything = json.loads(said(capsys, 0, "ls", path, "--json"))
    assert [entry["Name"] for entry in everything[:3]] == ["dev", "init", "rootfs"]
    assert len(everything) == 8
    assert said(capsys, 1, "ls", path, "/nothing") == ""


@pytest.mark.parametrize(("options", "listed"), [([], 3), (["/a"], 1), (["/b"], 0)])
def test_ls_of_a_broken_archive_is_whole_json(
    here: Path, capsys: Capture, options: list[str], listed: int
) -> None:
    """What could be read is a list that can be parsed; a sentence and the exit code say that it broke off."""
    path = image(app=newc(b"rootfs/a") + b"broken")
    assert main(["image", "ls", path, *options, "--json"]) == 1
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == listed
    assert printed.err.startswith("cloister: Ramdisk 2 cannot be read further. The archive ends ")
    assert main(["image", "ls", path, *options]) == 1
    assert len(capsys.readouterr().out.splitlines()) == listed


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, zstd.compress])
def test_compressed_ramdisks_are_opened(here: Path, capsys: Capture, pack: Callable[[bytes], bytes]) -> None:
    """ls, lint, diff and unpack see the files in a compressed ramdisk, and leave no temporary file."""
    plain = archive(directory(b"rootfs"), SETUID)
    image("plain.eif", app=plain)
    image("packed.eif", app=pack(plain))
    image("other.eif", app=pack(archive(directory(b"rootfs"), newc(b"rootfs/su", body=b"x"))))
    assert said(capsys, 0, "ls", "packed.eif", "/su") == said(capsys, 0, "ls", "plain.eif", "/su")
    codes = {
        finding["Code"] for finding in json.loads(said(capsys, 0, "lint", "packed.eif", "--json"))["Findings"]
    }
    assert codes == {"L117", "L306", "L409", "L501", "L701"}
    differences = json.loads(said(capsys, 1, "diff", "packed.eif", "other.eif", "--json"))["Differences"]
    assert [it["Attribute"] for it in differences] == ["mode", "size", "content, byte 0"]
    said(capsys, 0, "unpack", "packed.eif", "out")
    assert names(here / "out/root/rootfs") == ["su"]
    assert names(here) == ["cache", "other.eif", "out", "packed.eif", "plain.eif"]


def test_a_ramdisk_that_cannot_be_opened_is_named(here: Path, capsys: Capture) -> None:
    """Another method, a damaged stream: a finding, a difference, and a sentence with exit 1."""
    image("lz4.eif", app=b"\x02\x21\x4c\x18" + bytes(60))
    image("cut.eif", app=gzip.compress(b"x" * 999)[:-4])
    assert "L402" in said(capsys, 0, "lint", "lz4.eif")
    assert "L401" in said(capsys, 1, "lint", "cut.eif")
    assert re.search(
        "PCR0 PCR2 +ramdisk 2 +format +From byte 0", said(capsys, 1, "diff", "lz4.eif", "cut.eif")
    )
    for path, reason in (
        ("lz4.eif", "compressed with lz4, which is not opened"),
        ("cut.eif", "is cut short"),
    ):
        for words in (["ls", path], ["unpack", path, path + ".d"]):
            assert main(["image", *words]) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert reason in line


def stale(path: str, here: Path) -> Path:
    """Write a signed image whose header has another size of the signature, as nitro-cli leaves it."""
    key = ec.generate_private_key(ec.SECP384R1())
    pcr0 = measure(Image.from_buffer(loose(sections()))).pcr0
    signature = sign_pcr0(pcr0, self_signed(key).public_bytes(Encoding.PEM), key).to_bytes()
    whole = loose(sections(more=[(SIGNATURE, signature)]))
    Path(f"whole-{path}").write_bytes(whole)
    Path(path).write_bytes(changed(whole, 284 + 8 * 5, struct.pack(">Q", 7)))
    return here / path


def test_what_nitro_cli_signed_anew_is_told_about(here: Path, capsys: Capture) -> None:
    """describe, ls, unpack and diff read it with a note on standard error; diff tells the size as well."""
    path = str(stale("x.eif", here))
    for words in (["describe", path], ["ls", path], ["unpack", path, "out"], ["describe", path, "--json"]):
        assert main(["image", *words]) == 0
        printed = capsys.readouterr()
        assert "the header says the signature has 7 bytes, but it has " in printed.err
        assert len(printed.err.splitlines()) == 1
    assert json.loads(printed.out)["SignatureCheck"] is True
    found = json.loads(said(capsys, 1, "diff", path, "whole-x.eif", "--json"))["Differences"]
    assert found == [
        {
            "Registers": [],
            "Where": "header",
            "Attribute": "stale size of the signature",
            "First": 7,
            "Second": None,
        }
    ]
    said(capsys, 0, "diff", path, path)
    assert main(["image", "policy", path]) == 1  # what a policy names must be what boots


HOSTILE = [
    newc(b"../outside", PROGRAM, b"x"),
    newc(b"rootfs/../../outside", PROGRAM, b"x"),
    newc(b"..", stat.S_IFDIR | 0o755),
    link(b"up", b".."),
    newc(b"up/outside", PROGRAM, b"x"),
    link(b"victim", b"../../victim"),
    newc(b"rootfs/victim", nlink=2, ino=9),
    link(b"rootfs/victim", b"../../../victim"),
    newc(b"rootfs/second", nlink=2, ino=9, body=b"written"),
    newc(b"rootfs", body=b"no directory any more"),
    newc(b"huge", stat.S_IFREG | 0o644, rdevmajor=0xFFFFFFFF),
    newc(b"odd", 0o30000),
    newc(b"odder", 0),
    *[directory(b"/".join([b"d"] * depth)) for depth in range(1, 260)],
]


def test_unpack_never_leaves_its_directory(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Names, links and hard links that lead outside are left out, each named; the rest is there."""
    (here / "victim").write_text("untouched")
    path = app(*HOSTILE, newc(b"rootfs/good", PROGRAM, b"good"))
    before = sorted(here.iterdir())
    assert main(["image", "unpack", path, "out"]) == 1
    complaints = capfd.readouterr().err.splitlines()
    assert all(line.startswith("cloister: ramdisk 2: ") for line in complaints)
    assert {line.split()[3] for line in complaints} == {
        "../outside", "rootfs/../../outside", "..", "up/outside", "rootfs/second", "rootfs", "odd", "odder",
        "/".join("d" * 258), "/".join("d" * 259),
    }  # fmt: skip
    assert sorted(here.iterdir()) == sorted([*before, here / "out"])
    assert (here / "victim").read_text() == "untouched"
    assert (here / "out/root/rootfs/good").read_bytes() == b"good"
    assert names(here / "out/root") == ["d", "dev", "huge", "init", "rootfs", "up", "victim"]


def test_unpack_is_the_source_again(here: Path, capsys: Capture) -> None:
    """What was built from a directory comes out as that directory; linuxkit makes links of second names."""
    root = write_directory(here / "source")
    assert main(["image", "build", "source", "-o", "x.eif", "--cmd", "/bin/entry"]) == 0
    said(capsys, 0, "unpack", "x.eif", "out")
    for path in sorted(root.rglob("*")):
        again = here / "out/root/rootfs" / path.relative_to(root)
        if path.name in ("again", "entry", "tmp"):  # one is a link to the other; a mount point is 0755
            continue
        assert stat.S_IFMT(again.lstat().st_mode) == stat.S_IFMT(path.lstat().st_mode)
        assert again.lstat().st_mode & 0o777 == path.lstat().st_mode & 0o777
        assert not path.is_symlink() or again.readlink() == path.readlink()
        assert path.is_symlink() or path.is_dir() or again.read_bytes() == path.read_bytes()
    assert (here / "out/root/rootfs/bin/again").samefile(here / "out/root/rootfs/bin/entry")
    assert (here / "out/root/cmd").read_text() == "/bin/entry\n"
    assert names(here / "out/sections") == [
        "1-kernel", "2-cmdline", "3-metadata.json", "4-ramdisk.cpio", "5-ramdisk.cpio",
    ]  # fmt: skip


def test_unpack_goes_into_no_directory_that_holds_something(here: Path, capsys: Capture) -> None:
    """A full directory, a file and a link are refused; an empty directory is filled; no rest is left."""
    path = app(newc(b"rootfs/null", stat.S_IFCHR | 0o600), SETUID)
    (here / "full").mkdir()
    (here / "full/file").touch()
    (here / "empty").mkdir()
    (here / "link").symlink_to("empty")
    for target in ("full", "full/file", "link", "no/where"):
        said(capsys, 1, "unpack", path, target)
    assert "1 device nodes left out" in said(capsys, 0, "unpack", path, "empty")
    assert stat.S_IMODE((here / "empty/root/rootfs/su").stat().st_mode) == 0o755
    assert not list(here.glob(".*"))


def test_verify_proves_where_an_image_comes_from(here: Path, capsys: Capture) -> None:
    """The same source gives the same registers; another gives 1 and the file that differs."""
    write_directory(here / "source")
    build = ["--cmd", "/bin/entry"]
    assert main(["image", "build", "source", "-o", "x.eif", "--name", "n", *build]) == 0
    assert "comes from source" in said(capsys, 0, "verify", "x.eif", "--rebuild", "source", *build)
    (here / "source/etc/passwd").write_text("other")
    text = said(capsys, 1, "verify", "x.eif", "--rebuild", "source", *build)
    assert re.search(r"PCR0 PCR2 +ramdisk 2: rootfs/etc/passwd +size +24 +5", text)
    told = json.loads(said(capsys, 1, "verify", "x.eif", "--rebuild", "source", *build, "--json"))
    assert told["Verified"] is False
    assert told["Registers"]["PCR1"]["Same"] is True
    assert not list(here.glob("cloister-verify-*"))


def test_verify_looks_past_the_signature(here: Path, capsys: Capture) -> None:
    """A signed image comes from its source as well as an unsigned one: the source need not be signed."""
    write_directory(here / "source")
    files = write_signing_files(here / "keys", ec.generate_private_key(ec.SECP384R1()))
    keys = ["--signing-certificate", str(files.certificate), "--private-key", str(files.private_key)]
    assert main(["image", "build", "source", "-o", "x.eif", "--cmd", "/a", *keys]) == 0
    told = json.loads(said(capsys, 0, "verify", "x.eif", "--rebuild", "source", "--cmd", "/a", "--json"))
    assert (told["Verified"], list(told["Registers"]), told["Differences"]) == (
        True,
        ["PCR0", "PCR1", "PCR2"],
        [],
    )


def test_verify_takes_the_kit_that_the_image_names(here: Path, capsys: Capture) -> None:
    """An image of a kit that is not on this host is refused, by the kit's name."""
    write_directory(here / "source")
    assert main(["image", "build", "source", "-o", "x.eif", "--cmd", "/a"]) == 0
    (here / "cache/cloister/kits").rename(here / "cache/cloister/elsewhere")
    assert main(["image", "verify", "x.eif", "--rebuild", "source", "--cmd", "/a"]) == 1
    assert "that the image's metadata names is not on this host" in capsys.readouterr().err


def test_policy_for_a_signer_needs_a_signature(here: Path, capsys: Capture) -> None:
    """PCR8 of an unsigned image is zero: naming it would lock everybody out, or let in the unsigned."""
    assert main(["image", "policy", image(), "--signer"]) == 1
    assert "not signed" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["image", "policy", "x.eif", "--action", "kms:Encrypt"])
