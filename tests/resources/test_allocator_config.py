"""``allocator.yaml``: AWS's grammar and messages."""

import pytest

from cloister.resources import AllocatorError, Reservation, parse_config

SHIPPED = """---
# Enclave configuration file.
#
# How much memory to allocate for enclaves (in MiB).
memory_mib: 512
#
# How many CPUs to reserve for enclaves.
cpu_count: 2
#
# cpu_pool: 2,3,6-9
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHIPPED, Reservation(512, 2)),
        ("nonsense\n---\nmemory_mib: 512\ncpu_pool: 2,3,6-9\n", Reservation(512, None, "2,3,6-9")),
        ('---\n  memory_mib:   "1024"\n\ncpu_pool: "2-3"', Reservation(1024, None, "2-3")),
        ("---\nmemory_mib:64\ncpu_count:4\nmemory_mib:128\n", Reservation(128, 4)),
    ],
    ids=["as shipped", "text before the start", "quotes and spaces", "the last one counts"],
)
def test_configuration_is_read(text: str, expected: Reservation) -> None:
    """Every way of writing that AWS's allocator takes means the same here."""
    assert parse_config(text, "a.yaml") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Config error: missing memory reservation (`memory_mib`)."),
        ("memory_mib: 512\ncpu_count: 2\n", "Config error: missing memory reservation (`memory_mib`)."),
        (
            "---\nmemory_mib: 512\n",
            "Config error: missing CPU reservation (either `cpu_count` or `cpu_pool`).",
        ),
        (
            "---\nmemory_mib: 1\ncpu_count: 2\ncpu_pool: 2\n",
            "Config error: `cpu_count` conflicts with `cpu_pool`.",
        ),
        ("---\n# one\nmemory_mb: 512\n", "Error in /a/b.yaml:3 - unexpected: memory_mb"),
        ("---\nMemory_MiB: 512\n", "Error in /a/b.yaml:2 - unexpected: Memory_MiB"),
        ("---\n- memory_mib: 512\n", "Error in /a/b.yaml:2 - unexpected: -"),
        ("---\nmemory_mib:\n", "Error in /a/b.yaml:2 - missing value for memory_mib"),
        ("---\nmemory_mib: lots\ncpu_count: 2\n", "The needed memory amount (lots) is invalid."),
        ("---\nmemory_mib: 0\ncpu_count: 2\n", "The needed memory amount (0) is invalid."),
        ("---\nmemory_mib: 5 # MiB\ncpu_count: 2\n", "The needed memory amount (5 # MiB) is invalid."),
        ("---\nmemory_mib: 512\ncpu_count: two\n", "The CPU count value (two) is invalid."),
        ("---\nmemory_mib: 512\ncpu_count: 0\n", "Provided CPU count is not higher than 0."),
        ("---\nmemory_mib: 9999999999999\ncpu_count: 2\n", "The needed memory amount (9999999999999) is invalid."),  # noqa: E501
    ],
)  # fmt: skip
def test_mistakes_are_told_in_the_allocators_words(text: str, message: str) -> None:
    """What cannot be meant is refused with AWS's text, file and line where it has them."""
    with pytest.raises(AllocatorError) as refused:
        parse_config(text, "/a/b.yaml")
    assert refused.value.message == message
