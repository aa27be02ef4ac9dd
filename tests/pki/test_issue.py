"""The certificates we issue: lives, names, addresses and numbers (see also test_genuine_shape)."""

from datetime import timedelta
from itertools import pairwise

import pytest
from cryptography import x509

from cloister.pki import PkiError, check_instance_id, check_region, issue_leaf, issue_regional
from simulators.local_chain import INSTANCE_ID, MODULE_ID, NOW, REGION, der, local_chain, new_key

CHAIN = local_chain()
LEAF = x509.load_der_x509_certificate(CHAIN.credentials(NOW).certificate)
CERTIFICATES = {
    "root": CHAIN.root.certificate,
    "regional": CHAIN.regional.certificate,
    "zonal": CHAIN.zonal.certificate,
    "instance": CHAIN.instance.certificate,
    "leaf": LEAF,
}


def test_the_certificates_live_as_long_as_the_genuine_ones() -> None:
    """30 years, 20 days and an hour, 6 days, a day, and 3 hours after 3 seconds."""
    lives = [c.not_valid_after_utc - c.not_valid_before_utc for c in CERTIFICATES.values()]
    assert lives == [
        timedelta(days=10958, hours=1),
        timedelta(days=20, hours=1),
        timedelta(days=6),
        timedelta(days=1),
        timedelta(hours=3, seconds=3),
    ]


def test_each_certificate_outlives_and_predates_those_it_issues() -> None:
    """Whoever holds a valid leaf holds a valid chain."""
    certificates = list(CERTIFICATES.values())
    for issuer, issued in pairwise(certificates):
        assert issuer.not_valid_before_utc <= issued.not_valid_before_utc
        assert issued.not_valid_after_utc <= issuer.not_valid_after_utc


def test_the_names_say_local_and_never_amazon() -> None:
    """Authorities are named under local.cloister-enclaves; nothing claims to be AWS's."""
    names = [
        str(c.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        for c in CERTIFICATES.values()
    ]
    assert names == [
        "local.cloister-enclaves",
        f"0123456789abcdef.{REGION}.local.cloister-enclaves",
        f"fedcba9876543210.zonal.{REGION}.local.cloister-enclaves",
        f"{INSTANCE_ID}.{REGION}.local.cloister-enclaves",
        f"{MODULE_ID}.{REGION}.local",
    ]
    for certificate in CERTIFICATES.values():
        content = der(certificate).lower()
        assert not [word for word in (b"amazon", b"aws") if word in content]


def test_the_crl_addresses_can_never_resolve() -> None:
    """Their top-level domain is reserved for names that do not exist."""
    for name in ("regional", "zonal"):
        points = CERTIFICATES[name].extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        url = (points[0].full_name or [])[0]
        assert url.value.startswith("http://")
        assert ".invalid/crl/00010203-0405-0607-0809-0a0b0c0d0e0f.crl" in url.value


def test_the_leaf_serial_is_slot_and_time() -> None:
    """A leaf's serial number is the module id's last 16 digits, then the time of issue as 8 bytes."""
    serial = LEAF.serial_number.to_bytes(16, "big")
    assert serial[:8].hex() == MODULE_ID[-16:]
    assert int.from_bytes(serial[8:], "big") == int(NOW.timestamp())
    assert LEAF.not_valid_before_utc == NOW.replace(microsecond=0) - timedelta(seconds=3)


@pytest.mark.parametrize("region", ["", "EU", "a" * 18, "eu central", "eu-", "-eu", "eu.central"])
def test_a_region_that_names_cannot_hold_is_refused(region: str) -> None:
    """Regions stay within what X.520 allows a common name."""
    with pytest.raises(PkiError, match="region"):
        check_region(region)


@pytest.mark.parametrize(
    "instance_id", ["", "i-", "i-0123456789ABCDEF0", "i-0123456789abcdef01", "enc-01234567"]
)
def test_an_instance_id_of_another_form_is_refused(instance_id: str) -> None:
    """Instance ids are EC2's, 8 to 17 digits."""
    with pytest.raises(PkiError, match="instance id"):
        check_instance_id(instance_id)


@pytest.mark.parametrize(
    "module_id", ["", INSTANCE_ID, f"{INSTANCE_ID}-enc0123", f"{MODULE_ID}0", f" {MODULE_ID}"]
)
def test_a_module_id_of_another_form_is_refused(module_id: str) -> None:
    """A leaf is issued for an instance id, '-enc' and 16 digits."""
    with pytest.raises(PkiError, match="module id"):
        issue_leaf(CHAIN.instance, new_key().public_key(), module_id=module_id, region=REGION, now=NOW)


def test_the_longest_names_fit() -> None:
    """A region of 17 characters still gives names that X.509 allows."""
    region = "us-gov-elsewher-1"
    issue_leaf(CHAIN.instance, new_key().public_key(), module_id=MODULE_ID, region=region, now=NOW)
    with pytest.raises(PkiError, match="16 bytes, not 15"):
        issue_regional(
            CHAIN.root,
            new_key().public_key(),
            label="0" * 16,
            region=region,
            serial=1,
            crl_id=bytes(15),
            now=NOW,
        )
