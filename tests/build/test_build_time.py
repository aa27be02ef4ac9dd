"""When an image was built, by its own account: never now, and one moment for everybody who reads it."""

import json

import pytest

from cloister.build import BuildError, build_time_from
from cloister.build.config import ImageConfig


@pytest.mark.parametrize(
    "text", ["yesterday", "1.5", "-1", "+1", " 1", "1_0", "\u0665", "1e9", "253402300800", "9" * 5000]
)
def test_source_date_epoch_must_be_seconds_in_digits(text: str) -> None:
    """What other tools would read in another way, or no calendar has, is refused in one sentence."""
    with pytest.raises(BuildError, match=r"^SOURCE_DATE_EPOCH is '.{1,40}'; expected seconds since 1970"):
        build_time_from({"SOURCE_DATE_EPOCH": text})


def test_source_date_epoch_may_be_absent() -> None:
    """Nothing set, or set to nothing, is nothing asked; the last second that can be told is in 9999."""
    assert build_time_from({}) is None
    assert build_time_from({"SOURCE_DATE_EPOCH": ""}) is None
    last = build_time_from({"SOURCE_DATE_EPOCH": "253402300799"})
    assert last is not None
    assert last.isoformat() == "9999-12-31T23:59:59+00:00"


def config(created: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": list[str]()}
    return json.dumps({"architecture": "amd64", "os": "linux", "created": created, "rootfs": rootfs}).encode()


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2024-02-03T04:05:06.123456789Z", "2024-02-03T04:05:06.123456+00:00"),
        ("2024-02-03t04:05:06z", "2024-02-03T04:05:06+00:00"),
        ("2024-02-03T04:05:06.5+13:45", "2024-02-02T14:20:06.500000+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_creation_is_a_moment(created: str, expected: str) -> None:
    """RFC 3339 with any zone and as many digits as Go writes, also Go's zero."""
    read = ImageConfig.from_bytes(config(created), "it").created
    assert read is not None
    assert read.isoformat() == expected


@pytest.mark.parametrize(
    "created",
    [
        "2024-02-03T04:05:06", "2024-02-03", "2024-W05-6T04:05:06Z", "20240203T040506Z", "now",
        "2024-02-03T24:00:00Z", "2024-02-30T00:00:00Z", "2024-02-03T04:05:06.Z", "0001-01-01T00:00:00+01:00",
        "2024-02-03T04:05:06.\u0665Z", "2024-02-03T04:05:06Z\n",
    ],
)  # fmt: skip
def test_creation_that_is_no_moment_is_refused(created: str) -> None:
    """What would be another time in another zone, or for another Python, is an error in one sentence."""
    with pytest.raises(BuildError, match=r"created is '.*', which is not a time\.$"):
        ImageConfig.from_bytes(config(created), "it")
