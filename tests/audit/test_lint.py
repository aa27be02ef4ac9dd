"""Every lint code is found in an image crafted for it, and nothing but notes in a good one."""

import gzip
import re
import stat
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from cloister.audit import CODES, MAX_PER_CODE, Findings, Severity, lint
from cloister.eif import EifError, Image, SignatureSection, sign_pcr0
from cloister.measure import measure
from simulators.crafted_images import (
    APP,
    CMDLINE,
    KERNEL,
    RAMDISK,
    SIGNATURE,
    archive,
    bzimage,
    changed,
    directory,
    expanded,
    loose,
    metadata,
    newc,
    sealed,
    sections,
)
from simulators.signing_keys import self_signed

NOW = datetime.now(UTC)
GOOD = loose(sections())
REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference/lint-codes.md"
KEY = ec.generate_private_key(ec.SECP256R1())
PLAIN_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SEALED_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
OLD_SEALED_PEM = KEY.private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")
)
SECOND = 548 + 12 + len(bzimage())
"""Where the second section's header is."""


def linted(image: bytes, *ignore: str) -> Findings:
    return lint(memoryview(image), NOW, ignore=ignore, expand=expanded)


def codes(image: bytes, *ignore: str) -> set[str]:
    return {finding.code for finding in linted(image, *ignore).found}


def found_beyond_notes(image: bytes) -> set[str]:
    return {finding.code for finding in linted(image).found if finding.severity > Severity.NOTE}


def with_file(name: bytes, body: bytes = b"", mode: int = stat.S_IFREG | 0o644, **fields: Any) -> bytes:
    """Return a good image whose customer's ramdisk has one file more, and the directories it needs."""
    parts = name.split(b"/")[:-1]
    above = [directory(b"/".join(parts[: end + 1])) for end in range(len(parts)) if parts[end]]
    entries = [newc(b"cmd", body=b"/a\n"), *above, newc(name, mode, body, **fields)]
    return loose(sections(app=archive(*entries)))


def with_cmdline(words: bytes) -> bytes:
    return loose(sections(cmdline=words))


def signed(days: int = 90, *, image: bytes = GOOD) -> list[tuple[int, bytes]]:
    """Return a good image's sections with a signature over the given image."""
    pem = self_signed(KEY, days=days).public_bytes(Encoding.PEM)
    signature = sign_pcr0(measure(Image.from_buffer(image)).pcr0, pem, KEY)
    return sections(more=[(SIGNATURE, signature.to_bytes())])


def forged() -> bytes:
    """Return a signature section whose signature's last bit is another."""
    genuine = SignatureSection.from_bytes(signed()[5][1])
    cose = genuine.cose[:-1] + bytes([genuine.cose[-1] ^ 1])
    return SignatureSection(genuine.certificate_pem, cose).to_bytes()


def table(number: int, offset: int | None = None, size: int | None = None) -> bytes:
    """Return a good image whose header says something else of one section, counted from 0."""
    image = GOOD
    if offset is not None:
        image = changed(image, 28 + 8 * number, struct.pack(">Q", offset))
    if size is not None:
        image = changed(image, 284 + 8 * number, struct.pack(">Q", size))
    return image


def with_gap() -> bytes:
    """Return an image whose tables say where things are, with 8 bytes between kernel and command line."""
    image = GOOD[:SECOND] + bytes(8) + GOOD[SECOND:]
    for number in range(1, 5):
        (offset,) = struct.unpack_from(">Q", image, 28 + 8 * number)
        image = image[: 28 + 8 * number] + struct.pack(">Q", offset + 8) + image[36 + 8 * number :]
    return sealed(image)


SIGNED = loose(signed())
EXAMPLES = [
    ("L101", b"short"),
    ("L101", changed(GOOD, 0, b".elf")),
    ("L102", changed(GOOD, 4, b"\0\3")),
    ("L103", changed(GOOD, 6, b"\0\2")),
    ("L104", changed(GOOD, 26, b"\0\0")),
    ("L104", changed(GOOD, 26, b"\xff\xff")),
    ("L104", loose(sections(), tail=struct.pack(">HHQ", RAMDISK, 0, 0) * 40)),
    ("L105", changed(GOOD, 24, b"\0\1")),
    ("L105", changed(GOOD, 540, b"\1")),
    ("L106", with_gap()),
    ("L107", table(2, offset=600)),
    ("L108", loose(sections(), tail=b"more")),
    ("L108", loose(sections(), tail=bytes(100))),
    ("L109", sealed(GOOD[:-100])),
    ("L109", changed(GOOD, SECOND + 4, struct.pack(">Q", (1 << 64) - 1))),
    ("L110", table(1, size=3)),
    ("L110", table(3, offset=1 << 63)),
    ("L110", changed(GOOD, 26, b"\0\4")),
    ("L111", changed(GOOD, SECOND, b"\0\7")),
    ("L112", changed(GOOD, SECOND + 2, b"\0\1")),
    ("L113", GOOD[:-1] + b"\1"),
    ("L114", loose([*sections(), (CMDLINE, b"quiet")])),
    ("L115", loose([sections()[1], sections()[0], *sections()[2:]])),
    ("L115", loose([*signed()[:4], signed()[5], signed()[4]])),
    ("L116", loose(sections()[:3])),
    ("L116", loose([(KERNEL, b""), *sections()[1:]])),
    ("L117", GOOD),
    ("L118", loose(sections(app=bytes(4) + APP))),
    ("L118", loose(sections(app=b"something"))),
    ("L119", changed(SIGNED, 284 + 8 * 5, struct.pack(">Q", 7))),
    ("L201", loose(sections(kernel=b"\x7fELF" + bytes(2000)))),
    ("L201", loose(sections(kernel=bzimage(x211=b"\0")))),
    ("L201", loose(sections(), architecture="aarch64")),
    ("L202", loose(sections(kernel=bzimage() + b"more"))),
    ("L203", loose(sections(kernel=bzimage()[:-16]))),
    ("L204", with_cmdline(b"reboot=k\npanic=1")),
    ("L204", with_cmdline(b"reboot=k\xff")),
    ("L204", with_cmdline(b"a" * 2048)),
    ("L205", with_cmdline(b"console=ttyS0")),
    ("L206", with_cmdline(b"console=hvc0")),
    ("L206", with_cmdline(b"earlyprintk=serial")),
    ("L206", with_cmdline(b"netconsole=@/,@10.0.0.1/")),
    ("L207", with_cmdline(b"kgdboc=ttyS0")),
    ("L207", with_cmdline(b"init=/bin/sh")),
    ("L208", with_cmdline(b"rdinit=/other")),
    ("L209", with_cmdline(b"mitigations=off")),
    ("L209", with_cmdline(b"nokaslr")),
    ("L301", loose(sections(more=[(SIGNATURE, b"\x80")]))),
    ("L302", loose([*sections(), (SIGNATURE, forged())])),
    ("L303", loose(signed(image=with_cmdline(b"other")))),
    ("L304", loose(signed(-1))),
    ("L305", loose(signed(20))),
    ("L306", GOOD),
    ("L307", loose(sections(meta=b"{}"))),
    ("L401", loose(sections(app=APP[:-100]))),
    ("L401", loose(sections(app=APP + b"rest"))),
    ("L401", loose(sections(app=gzip.compress(APP)[:-9]))),
    ("L401", loose(sections(app=gzip.compress(APP)[:-8] + bytes(8)))),
    ("L401", loose(sections(app=gzip.compress(APP) + b"rest"))),
    ("L402", loose(sections(app=b"\x02\x21\x4c\x18" + bytes(9)))),
    ("L402", loose(sections(app=gzip.compress(bytes(2 << 20))))),
    ("L403", loose(sections(app=APP + archive(newc(b"later"))))),
    ("L404", loose(sections(app=archive(newc(b"x"), newc(b"./x"))))),
    ("L405", loose(sections(app=archive(newc(b"init"))))),
    ("L406", with_file(b"rootfs/../../etc/x")),
    ("L406", with_file(b"/etc/x")),
    ("L407", loose(sections(boot=archive(directory(b"dev"))))),
    ("L408", loose(sections(app=archive(newc(b"rootfs/bin/x"))))),
    ("L408", loose(sections(app=archive(newc(b"a"), newc(b"a/b"))))),
    ("L409", loose(sections(app=gzip.compress(APP)))),
    ("L409", loose(sections(app=APP + gzip.compress(APP)))),
    ("L501", loose(sections(app=gzip.compress(archive(newc(b"su", stat.S_IFREG | 0o4755)))))),
    ("L501", with_file(b"rootfs/su", mode=stat.S_IFREG | 0o4755)),
    ("L502", with_file(b"rootfs/open", mode=stat.S_IFREG | 0o666)),
    ("L503", with_file(b"rootfs/open", mode=stat.S_IFDIR | 0o777)),
    ("L504", with_file(b"rootfs/etc/null", mode=stat.S_IFCHR | 0o600, rdevmajor=1, rdevminor=3)),
    ("L601", with_file(b"rootfs/key", b"#\n" + PLAIN_PEM)),
    ("L601", with_file(b"rootfs/key", bytes((1 << 20) - 9) + PLAIN_PEM)),
    ("L601", loose(sections(meta=metadata(custom=PLAIN_PEM.decode())))),
    ("L602", with_file(b"rootfs/key", SEALED_PEM)),
    ("L602", with_file(b"rootfs/key", OLD_SEALED_PEM)),
    ("L603", with_file(b"rootfs/x", b"id = AKIA" + b"QRST" * 4 + b"\n")),
    ("L603", loose(sections(meta=metadata(custom="ASIA" + "QRST" * 4)))),
    ("L604", with_file(b"rootfs/x", b"token: ghp_" + b"a1B2" * 9)),
    ("L605", with_file(b"rootfs/root/.aws/credentials")),
    ("L605", with_file(b"rootfs/root/.ssh/id_ed25519")),
    ("L606", with_file(b"rootfs/src/.git/config")),
    ("L607", with_file(b"rootfs/app/.env")),
    ("L608", with_file(b"env", b"LANG=C\nDB_PASSWORD=x\n")),
    ("L701", GOOD),
    ("L702", loose(sections(), memory=1 << 20)),
]


@pytest.mark.parametrize(("code", "image"), EXAMPLES)
def test_code_is_found(code: str, image: bytes) -> None:
    """The image that has this fault is told so, with a severity and a fix."""
    findings = linted(image)
    assert code in {finding.code for finding in findings.found}
    assert all(finding.fix and finding.message for finding in findings.found)


def test_every_code_has_an_example() -> None:
    """No code is without an image that shows it."""
    assert {code for code, _ in EXAMPLES} == set(CODES)


def test_good_image_has_notes_alone() -> None:
    """Nothing is wrong with an image as our builder writes them."""
    Image.from_buffer(GOOD)
    assert found_beyond_notes(GOOD) == set()
    assert found_beyond_notes(SIGNED) == set()


INNOCENT = [
    with_file(b"rootfs/x", b"AKIAIOSFODNN7EXAMPLE"),
    with_file(b"rootfs/x", b"zAKIA" + b"QRST" * 4),
    with_file(b"rootfs/x", b"-----BEGIN PRIVATE KEY-----\0-----BEGIN CERTIFICATE-----\nMIIB"),
    with_file(b"rootfs/x", self_signed(KEY).public_bytes(Encoding.PEM)),
    with_file(b"rootfs/root/.ssh/id_ed25519.pub"),
    with_file(b"rootfs/root/.ssh/authorized_keys"),
    with_file(b"rootfs/app/.environment"),
    with_file(b"rootfs/usr/share/doc/x.git"),
    with_file(b"env", b"TOKEN=\nPASSWORD_FILE=/run/x\nLANG=C\n"),
    with_file(b"rootfs/tmp", mode=stat.S_IFDIR | 0o1777),
    with_file(b"rootfs/dev/null", mode=stat.S_IFCHR | 0o666, rdevmajor=1, rdevminor=3),
    with_cmdline(b"console=null panic=1 loglevel=3 init_on_alloc=1"),
]


@pytest.mark.parametrize("image", INNOCENT)
def test_what_only_looks_dangerous_is_not_told(image: bytes) -> None:
    """Documentation's examples, public keys and the usual places raise nothing."""
    assert found_beyond_notes(image) == set()


def test_a_stale_signature_size_is_one_finding() -> None:
    """What re-signing left behind is told once, not as gaps and trailing bytes as well."""
    assert found_beyond_notes(changed(SIGNED, 284 + 8 * 5, struct.pack(">Q", 7))) == {"L119"}


def test_a_compressed_ramdisk_is_examined_only_by_whom_can_unpack_it() -> None:
    """Without anything to unpack it with it is told as not examined; what is in it is measured in memory."""
    packed = loose(sections(app=gzip.compress(archive(newc(b"big", body=bytes(900_000))))))
    assert "L402" in {finding.code for finding in lint(memoryview(packed), NOW).found}
    needed = [finding.message for finding in linted(packed).found if finding.code == "L701"]
    assert needed == [f"At least 4 MiB: its {len(packed)} bytes unpack to 905216 more."]


def test_a_secret_is_not_repeated() -> None:
    """What lint prints may end in a build's log."""
    secret = "AKIA" + "QRST" * 4
    findings = linted(with_file(b"rootfs/x", secret.encode()))
    assert not any(secret in finding.message for finding in findings.found)


def test_findings_are_bounded_and_counted() -> None:
    """A thousand setuid files are fifty findings and a number."""
    entries = [newc(b"f%d" % number, stat.S_IFREG | 0o4755) for number in range(1000)]
    findings = linted(loose(sections(app=archive(*entries))))
    assert sum(finding.code == "L501" for finding in findings.found) == MAX_PER_CODE
    assert findings.not_shown() == {"L501": 1000 - MAX_PER_CODE}


@pytest.mark.parametrize(
    ("rule", "left"),
    [("L501", False), ("L501:rootfs/su", False), ("L501:rootfs/*", False), ("L501:other", True)],
)
def test_what_is_accepted_is_left_out(rule: str, left: bool) -> None:
    """A code, or a code for some files, can be ignored."""
    assert ("L501" in codes(with_file(b"rootfs/su", mode=stat.S_IFREG | 0o4755), rule)) is left


@given(st.data())
def test_whatever_the_strict_reader_refuses_is_explained(data: st.DataObject) -> None:
    """Where image reading raises, lint has an error to tell, and lint itself never raises."""
    image = bytearray(SIGNED if data.draw(st.booleans()) else GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 600), st.integers(0, len(image) - 1)))
        image[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 13, 600]))
    mutated = sealed(bytes(image[: len(image) - cut]) + bytes(data.draw(st.sampled_from([0, 0, 3, 12, 40]))))
    findings = linted(mutated)
    try:
        Image.from_buffer(mutated)
    except EifError:
        assert findings.worst is Severity.ERROR


def test_reference_page_is_the_table() -> None:
    """docs/reference/lint-codes.md lists every code as the program knows it."""
    rows = re.findall(r"^\| (L\d{3}) \| (\w+) \| (.*) \| (.*) \|$", REFERENCE.read_text(), re.MULTILINE)
    assert rows == [(code, *entry) for code, entry in CODES.items()]


def test_certificate_is_judged_at_the_time_given() -> None:
    """The same image is fine today and refused next year."""
    image = memoryview(SIGNED)
    later = lint(image, NOW + timedelta(days=365))
    assert "L304" in {finding.code for finding in later.found}
    assert "L304" not in {finding.code for finding in lint(image, NOW).found}
