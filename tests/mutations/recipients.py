"""Mutated documents at the key service's door: admitted by the verifier's rules, or refused."""

from dataclasses import replace

from cloister.attestation import STEPS, Document, VerificationError
from cloister.aws import Fault
from cloister.kms.recipient import Recipient, Trust
from mutations.corpus import Corpus
from mutations.mutate import Mutation, mutate
from mutations.oracle import Verdict, judge


def recipient_of(seed: int, index: int, corpus: Corpus) -> Mutation:
    """Return the document of this number, to be held against the clock that the service has."""
    return replace(mutate(seed, index, corpus), own_time=False)


def judge_recipient(mutation: Mutation, corpus: Corpus) -> Verdict:
    """Hold what the service admits against the verifier's oracle; every other fault is a crash."""
    return judge(mutation, corpus, _admit)


def _admit(mutation: Mutation) -> Document:
    """Go as far as a Decrypt request does: conditions, log entry, sealed answer."""
    info = {"AttestationDocument": mutation.document, "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    try:
        recipient = Recipient.admit(info, Trust(lambda _now: mutation.subject.roots), mutation.subject.now)
    except Fault as fault:
        if fault.code != "ValidationException":
            raise
        if isinstance(fault.__cause__, VerificationError):
            raise fault.__cause__ from fault
        raise VerificationError(STEPS.index("public_key") + 1, "public_key", fault.message) from fault
    recipient.condition_keys()
    recipient.summary()
    recipient.seal(bytes(32))
    return recipient.document
