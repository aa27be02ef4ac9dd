"""A remembered chain saves signatures, and nothing that can change: time, roots, revocation."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from cloister.errors import CloisterError
from cloister.pki import CertificateCache, ChainError, Revocation, issue_root, validate_chain
from simulators.local_chain import MODULE_ID, NOW, der, local_chain, new_key, reissue

CHAIN = local_chain()
AUTHORITIES = (CHAIN.root, CHAIN.regional, CHAIN.zonal, CHAIN.instance)
CREDENTIALS = CHAIN.credentials(NOW)
LEAF, BUNDLE = CREDENTIALS.certificate, CREDENTIALS.cabundle
ROOTS = [CHAIN.root.certificate]
SECOND = timedelta(seconds=1)


def refusal(cache: CertificateCache, *, at: datetime = NOW, **others: object) -> str:
    """Return the check that refuses a chain."""
    chosen = {"leaf": LEAF, "cabundle": BUNDLE, "roots": ROOTS, **others}
    with pytest.raises(ChainError) as caught:
        validate_chain(at=at, cache=cache, **chosen)  # type: ignore[arg-type]  # named one by one above
    return caught.value.check


def warm() -> CertificateCache:
    """Return a cache that knows the chain."""
    cache = CertificateCache()
    validate_chain(LEAF, BUNDLE, ROOTS, NOW, cache=cache)
    assert len(cache) == 1
    return cache


def test_a_known_chain_comes_back_the_same() -> None:
    """The answer does not depend on the cache."""
    cache = warm()
    again = validate_chain(LEAF, BUNDLE, ROOTS, NOW, cache=cache)
    assert again == validate_chain(LEAF, BUNDLE, ROOTS, NOW)
    assert len(cache) == 1


@pytest.mark.parametrize("place", range(5))
def test_every_expiry_is_checked_of_a_known_chain(place: int) -> None:
    """The certificate that ends first decides, be it root, authority or leaf; its last second counts."""
    end = NOW.replace(microsecond=0) + timedelta(minutes=1)
    ders = [*BUNDLE, LEAF]
    certificate = x509.load_der_x509_certificate(ders[place])
    again = reissue(certificate, AUTHORITIES[max(place - 1, 0)].key, end=end)
    ders[place] = der(again)
    roots = [again] if place == 0 else ROOTS
    cache = CertificateCache()
    for moment in (NOW, end, end + SECOND - timedelta(microseconds=1)):
        validate_chain(ders[4], ders[:4], roots, moment, cache=cache)
    assert refusal(cache, leaf=ders[4], cabundle=ders[:4], roots=roots, at=end + SECOND) == "validity"
    validate_chain(ders[4], ders[:4], roots, end, cache=cache)


def test_every_beginning_is_checked_of_a_known_chain() -> None:
    """Before the leaf's first second the chain is refused, known or not."""
    first = x509.load_der_x509_certificate(LEAF).not_valid_before_utc
    assert refusal(warm(), at=first - SECOND) == "validity"


def test_the_root_must_still_be_pinned() -> None:
    """A chain that was accepted under one root is refused once that root is no longer trusted."""
    cache = warm()
    assert refusal(cache, roots=[]) == "root"
    assert refusal(cache, roots=[issue_root(CHAIN.root.key, serial=1, now=NOW)]) == "root"


def test_revocation_is_checked_of_a_known_chain() -> None:
    """What the operator revokes is refused from that moment on."""
    assert refusal(warm(), revoked={Revocation.of(CHAIN.zonal.certificate)}) == "revocation"


def test_only_the_very_same_bytes_are_known() -> None:
    """Any other bit is another chain, and is refused as it would be without a cache."""
    cache = warm()
    for position in range(0, len(LEAF), 29):
        changed = bytearray(LEAF)
        changed[position] ^= 0x40
        assert refusal(cache, leaf=bytes(changed))
    assert refusal(cache, cabundle=BUNDLE[:3]) == "order"
    assert refusal(cache, leaf=b"", cabundle=(*BUNDLE, LEAF)) == "certificates"


def test_refusals_are_not_remembered() -> None:
    """A chain that is refused once, for its signature or its time, leaves nothing behind."""
    cache = CertificateCache()
    forged = der(reissue(x509.load_der_x509_certificate(LEAF), new_key()))
    assert refusal(cache, leaf=forged) == "chain signatures"
    assert refusal(cache, at=NOW + timedelta(days=1)) == "validity"
    assert len(cache) == 0
    assert refusal(cache, leaf=forged) == "chain signatures"


def test_the_cache_is_bounded_and_keeps_what_is_in_use() -> None:
    """However many chains come, at most ``size`` stay, and the one that is asked for again is among them."""
    cache = CertificateCache(size=4)
    link = CHAIN.credentials(NOW, MODULE_ID)
    validate_chain(link.certificate, link.cabundle, ROOTS, NOW, cache=cache)
    key = (*link.cabundle, link.certificate)
    chain = cache.recall(key)
    assert chain is not None
    for number in range(100):
        cache.remember((b"%d" % number,), chain)
        assert cache.recall(key) is chain
        assert len(cache) <= 4
    assert cache.recall((b"0",)) is None
    with pytest.raises(CloisterError, match="at least 2"):
        CertificateCache(size=1)


def test_threads_share_one_cache() -> None:
    """Many threads at once, with more chains than there is room for, all get their own answers."""
    cache = CertificateCache(size=4)
    several = [CHAIN.credentials(NOW, f"{MODULE_ID[:-1]}{number}") for number in range(8)]

    def ask(number: int) -> bool:
        one = several[number % len(several)]
        chain = validate_chain(one.certificate, one.cabundle, ROOTS, NOW, cache=cache)
        return der(chain[-1]) == one.certificate

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(96)))
    assert len(cache) <= 4 + 8
