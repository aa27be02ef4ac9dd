"""The certificates that a host issues beside the genuine ones, field by field."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import x509

from cloister.cose import Sign1, decode_cbor
from cloister.nsm import Credentials
from cloister.trust import initialise

NOW = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)
INSTANCE_ID = "i-0123456789abcdef0"
MODULE_ID = f"{INSTANCE_ID}-enc0198bc503b57519e"
NAMES = ("root", "regional", "zonal", "instance", "leaf")


def name_shape(name: x509.Name) -> list[list[tuple[str, str]]]:
    """Return the attributes and string types of a name, relative name by relative name."""
    return [
        [(pair["type"].native, type(pair["value"].chosen).__name__) for pair in relative]
        for relative in name.chosen
    ]


def extension_shape(extension: x509.Extension) -> tuple[str, bool, object]:
    """Return an extension's name, criticality and content, what is a key's or host's left out."""
    name, value = extension["extn_id"].native, extension["extn_value"].parsed
    content: object
    match name:
        case "basic_constraints" | "key_usage":
            content = value.dump()
        case "key_identifier":
            content = len(value.native)
        case "authority_key_identifier":
            content = {
                part: len(one) if isinstance(one, bytes) else one for part, one in value.native.items()
            }
        case "crl_distribution_points":
            content = [
                ([general.name for general in point["distribution_point"].chosen], sorted(absent(point)))
                for point in value
            ]
        case _:
            content = value.native
    return name, extension["critical"].native, content


def absent(point: Any) -> Iterator[str]:
    """Yield which parts a distribution point does not have."""
    return (part for part, value in point.native.items() if value is None)


def shape(certificate: bytes) -> dict[str, object]:
    """Return all that is not a key, a number, a time or a name's text."""
    outer = x509.Certificate.load(certificate)
    inner = outer["tbs_certificate"]
    return {
        "version": inner["version"].native,
        "algorithm": [
            part["algorithm"].dotted for part in (inner["signature"], outer["signature_algorithm"])
        ],
        "parameters": [
            part["parameters"].native for part in (inner["signature"], outer["signature_algorithm"])
        ],
        "issuer": name_shape(inner["issuer"]),
        "subject": name_shape(inner["subject"]),
        "times": [inner["validity"][end].name for end in ("not_before", "not_after")],
        "key": inner["subject_public_key_info"]["algorithm"].native,
        "point": len(inner["subject_public_key_info"]["public_key"].native),
        "unique ids": [inner["issuer_unique_id"].native, inner["subject_unique_id"].native],
        "extensions": [extension_shape(extension) for extension in inner["extensions"]],
    }


def serial(certificate: bytes) -> int:
    """Return a certificate's serial number."""
    return int(x509.Certificate.load(certificate)["tbs_certificate"]["serial_number"].native)


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """Return from when to when a certificate is valid."""
    times = x509.Certificate.load(certificate)["tbs_certificate"]["validity"]
    return times["not_before"].native, times["not_after"].native


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Return what an enclave of a new host signs with."""
    trust = initialise(
        tmp_path_factory.mktemp("host") / "pki", region="eu-central-1", instance_id=INSTANCE_ID, now=NOW
    )
    return trust.enclave_credentials(MODULE_ID, NOW)


@pytest.fixture(scope="module")
def ours(credentials: Credentials) -> dict[str, bytes]:
    """Return its chain by name."""
    return dict(zip(NAMES, [*credentials.cabundle, credentials.certificate], strict=True))


@pytest.fixture(scope="module")
def payloads(shared_vectors: Path) -> list[dict[str, Any]]:
    """Return the content of every genuine document, oldest first."""
    files = sorted((shared_vectors / "attestation").glob("*.cose"))
    assert len(files) >= 20
    return [decode_cbor(Sign1.from_bytes(file.read_bytes()).payload) for file in files]


def chain(payload: dict[str, Any]) -> dict[str, bytes]:
    """Return a document's chain by name."""
    return dict(zip(NAMES, [*payload["cabundle"], payload["certificate"]], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_shape_is_that_of_every_genuine_certificate(
    ours: dict[str, bytes], payloads: list[dict[str, Any]], name: str
) -> None:
    """Fields, algorithms, names' parts, string types, extensions, their order and bits are AWS's."""
    expected = shape(ours[name])
    if name == "root":  # ours ends after 2049, when times are GeneralizedTime (RFC 5280, section 4.1.2.5)
        expected["times"] = ["utc_time", "utc_time"]
    for payload in payloads:
        genuine = shape(chain(payload)[name])
        extensions = genuine["extensions"]
        assert isinstance(extensions, list)
        if name == "instance" and len(extensions) == 2:  # without key identifiers, as some have been
            genuine["extensions"] = [*extensions, *shape(ours[name])["extensions"][2:]]  # type: ignore[index]
        assert genuine == expected


def test_newest_instance_certificates_have_key_identifiers(payloads: list[dict[str, Any]]) -> None:
    """Where genuine certificates differ among themselves, ours are like the newest."""
    newest = shape(chain(payloads[-1])["instance"])["extensions"]
    assert isinstance(newest, list)
    assert [name for name, _, _ in newest[2:]] == ["key_identifier", "authority_key_identifier"]


def test_serial_numbers_have_the_genuine_form(
    credentials: Credentials, ours: dict[str, bytes], payloads: list[dict[str, Any]]
) -> None:
    """A leaf's is the module id's last 16 digits, four zero bytes, the time of issue; others are random."""
    documents = [(payload["module_id"], chain(payload)) for payload in payloads]
    for module_id, certificates in [(MODULE_ID, ours), *documents]:
        number = serial(certificates["leaf"]).to_bytes(16, "big")
        assert number[:8].hex() == module_id[-16:]
        issued = int.from_bytes(number[8:], "big")
        start, _ = validity(certificates["leaf"])
        assert number[8:12] == bytes(4)
        assert issued - start.timestamp() in (0, 3)  # the oldest ones start when they are issued
        for name in ("root", "regional", "zonal"):
            assert 64 < serial(certificates[name]).bit_length() <= 128
        assert 144 < serial(certificates["instance"]).bit_length() <= 160
    assert credentials.not_after == validity(ours["leaf"])[1]


def test_lives_are_as_long_as_the_genuine_ones(
    ours: dict[str, bytes], payloads: list[dict[str, Any]]
) -> None:
    """Each lives as long as those of the newest document; a zone's as long as the longest seen."""
    lives = {
        name: {end - start for start, end in (validity(chain(payload)[name]) for payload in payloads)}
        for name in NAMES
    }
    for name in NAMES:
        start, end = validity(ours[name])
        assert end - start == max(lives[name])


def test_names_say_who_is_who(ours: dict[str, bytes], payloads: list[dict[str, Any]]) -> None:
    """Common names are built of the same parts as AWS's, under another root's name."""
    for domain, leafs, certificates in [
        ("local.cloister-enclaves", "local", ours),
        *(("aws.nitro-enclaves", "aws", chain(payload)) for payload in payloads),
    ]:
        subjects = {
            name: x509.Certificate.load(content).subject.native for name, content in certificates.items()
        }
        names = {name: subject["common_name"] for name, subject in subjects.items()}
        region = names["regional"].removesuffix(f".{domain}").partition(".")[2]
        instance = names["instance"].partition(".")[0]
        assert names["root"] == domain
        assert names["regional"].endswith(f".{region}.{domain}")
        assert names["zonal"].endswith(f".zonal.{region}.{domain}")
        for name in ("regional", "zonal"):
            assert re.match(r"[0-9a-f]{8,16}\.", names[name])
        assert names["instance"] == f"{instance}.{region}.{domain}"
        assert names["leaf"].startswith(f"{instance}-")
        assert names["leaf"].endswith(f".{region}.{leafs}")
        for issuer, issued in pairwise(NAMES):
            found = x509.Certificate.load(certificates[issued]).issuer
            assert found == x509.Certificate.load(certificates[issuer]).subject
