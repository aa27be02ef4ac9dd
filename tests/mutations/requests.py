"""The same treatment for the security module's other door: requests that a guest may send."""

import time
from dataclasses import dataclass
from random import Random
from typing import Any

import cbor2

from cloister.attestation import verify
from cloister.nsm import (
    MAX_RESPONSE,
    Attest,
    Credentials,
    DescribeNsm,
    DescribePcr,
    ExtendPcr,
    GetRandom,
    LockPcr,
    LockPcrs,
    Request,
    SecurityModule,
    SignedDocument,
    decode_response,
    encode_request,
)
from cloister.pcrs import PcrBank
from mutations.byte_edits import EDITS
from mutations.cbor_edits import edit_cbor
from mutations.cbor_tree import MAP, TEXT, Item
from mutations.corpus import ANY, Corpus
from mutations.keys import key_of
from mutations.oracle import MAX_CPU, Verdict
from simulators.local_chain import MODULE_ID, NOW

REQUESTS: tuple[Request, ...] = (
    DescribePcr(0),
    DescribePcr(31),
    ExtendPcr(16, b"data"),
    ExtendPcr(31, bytes(1024)),
    LockPcr(17),
    LockPcrs(20),
    DescribeNsm(),
    GetRandom(),
    Attest(),
    Attest(b"user data", b"nonce", b"key"),
    Attest(bytes(1024), bytes(1024), bytes(1024)),
)
_NAMES = tuple({type(request).__name__: encode_request(request) for request in REQUESTS}.values())


@dataclass(frozen=True, slots=True)
class RequestMutation:
    """A request that is not what it was, and the good ones that the module answered before it."""

    kind: str
    description: str
    document: bytes
    """The request."""
    before: tuple[bytes, ...]


def mutate_request(seed: int, index: int, corpus: Corpus) -> RequestMutation:
    """Return the request of this number in this campaign."""
    rng = Random(f"{seed}/request/{index}")
    before = tuple(encode_request(one) for one in rng.sample(REQUESTS[:7], rng.randrange(4)))
    original = encode_request(rng.choice(REQUESTS))
    match rng.randrange(4):
        case 0:
            kind = "request bytes"
            what, request = rng.choice(EDITS)(rng, original, encode_request(rng.choice(REQUESTS)))
        case 1:
            kind, request = "request noise", rng.randbytes(rng.choice((0, 1, 2, 8, 64, 4096, 4097, 20000)))
            what = f"{len(request)} random bytes"
        case 2:
            kind, (what, request) = "request name", _renamed(rng, original)
        case _:
            kind, root = "request structure", Item.read(original)
            what = " and ".join(edit_cbor(rng, root) for _ in range(rng.choice((1, 1, 2, 3))))
            request = root.write()
    return RequestMutation(kind, what, request, before)


def _renamed(rng: Random, original: bytes) -> tuple[str, bytes]:
    """Put one request's name before another's fields."""
    root, other = Item.read(original), Item.read(rng.choice(_NAMES))
    name = other.items[0] if other.major == MAP else other
    if root.major == MAP:
        root.items[0] = name
    else:
        root = Item(MAP, items=[name, rng.choice((Item(MAP), Item(TEXT), root))])
    return f"fields of another request under {name.content!r}", root.write()


def _module(corpus: Corpus) -> SecurityModule:
    content = corpus.ours[0].content
    assert content is not None
    credentials = Credentials(key_of("leaf"), content.certificate, content.cabundle, NOW.replace(hour=15))
    return SecurityModule(module_id=MODULE_ID, bank=PcrBank(), credentials=lambda _: credentials)


def judge_request(mutation: RequestMutation, corpus: Corpus) -> Verdict:
    """Ask a new module, and hold its answer to what any answer is: well-formed, bounded, true."""
    verdict = _ask(mutation, corpus)
    for _ in range(3):
        if verdict.cpu <= MAX_CPU or verdict.fault:
            return verdict
        verdict = min(verdict, _ask(mutation, corpus), key=lambda one: one.cpu)
    fault = "" if verdict.cpu <= MAX_CPU else f"cost {verdict.cpu * 1000:.1f} ms of CPU"
    return Verdict(verdict.outcome, verdict.cpu, fault)


def _ask(mutation: RequestMutation, corpus: Corpus) -> Verdict:
    module = _module(corpus)
    for request in mutation.before:
        module.handle(request, now=NOW, random=bytes)
    begun = time.thread_time()
    try:
        answer: Any = module.handle(mutation.document, now=NOW, random=bytes)
    except BaseException as error:  # noqa: BLE001 -- any is one too many
        return Verdict("crash", time.thread_time() - begun, f"crashed with {type(error).__name__}: {error}")
    cpu = time.thread_time() - begun
    try:
        outcome, fault = _read(answer, corpus)
    except Exception as error:  # noqa: BLE001 -- likewise
        outcome, fault = "malformed", f"answered {answer[:60].hex()}: {type(error).__name__}: {error}"
    return Verdict(outcome, cpu, fault)


def _read(answer: bytes, corpus: Corpus) -> tuple[str, str]:
    """Name an answer, and say what is wrong with it."""
    if len(answer) > MAX_RESPONSE:
        return "too long", f"answered {len(answer)} bytes, {MAX_RESPONSE} are allowed"
    response, second = decode_response(answer), cbor2.loads(answer)
    if cbor2.dumps(second) != answer:
        return "malformed", "answered in a form that is not the shortest"
    if isinstance(response, SignedDocument):
        verify(response.document, roots=corpus.ours[0].roots, now=NOW, expect=ANY)
    name = second if isinstance(second, str) else next(iter(second))
    return (f"Error {second[name]}" if name == "Error" else str(name)), ""
