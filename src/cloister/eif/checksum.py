"""CRC-32 of concatenated parts, so that a header written last can still be covered first.

An EIF's checksum runs over the header and then every section, yet the header's tables are complete only
when the last section is known. CRC-32 is linear over GF(2): appending n bytes multiplies by x^(8n), so two
checksums can be joined without reading either part again. Polynomial 0xEDB88320 (CRC-32/ISO-HDLC, the one
of zlib; nitro-tools 2.1).
"""

from typing import Final

_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31
"""x^0 in the reflected representation, where the highest bit is the lowest power."""


def combine_crc32(first: int, second: int, second_size: int) -> int:
    """Return the checksum of two parts from each one's; ``second_size`` is in bytes."""
    return _multiply(_power_of_x(second_size * 8), first) ^ second


def _multiply(left: int, right: int) -> int:
    """Multiply two polynomials modulo the CRC's, bit-reflected."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product


def _power_of_x(exponent: int) -> int:
    """Return x to a power by squaring."""
    result, factor = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            result = _multiply(factor, result)
        factor = _multiply(factor, factor)
        exponent >>= 1
    return result
