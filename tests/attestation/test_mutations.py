"""A slice of the mutation campaign (``make fuzz`` runs the whole), and the campaign's own parts."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from cloister.attestation import STEPS, Document
from cloister.cose import Sign1
from mutations.__main__ import judged as judged_campaign
from mutations.__main__ import main
from mutations.campaign import TARGETS, Tally, judge_range, report, share_past_cbor
from mutations.cbor_tree import Item
from mutations.content_kinds import equivalents, other_s
from mutations.corpus import Corpus, load_corpus, own_certificates
from mutations.der_tree import Node
from mutations.mutate import KINDS, RESIGNED, Mutation, mutate
from mutations.oracle import EQUIVALENT, PERMITTED, Verdict, cold, judge
from mutations.second_reading import breaches

CORPUS = load_corpus(None)
SEED = 20
REACHED = set(STEPS[STEPS.index("envelope") : STEPS.index("timestamp") + 1]) - {"revocation"}


def judged(target: str, count: int, corpus: Corpus = CORPUS) -> Tally:
    """Judge the first mutations of the campaign, none of which may be at fault."""
    tally = judge_range(TARGETS[target], SEED, corpus, range(count))
    assert not tally.faults, "\n".join(report(tally))
    return tally


def first(kind: str, verdict: str = "") -> Mutation:
    """Return the campaign's first mutation of a kind, if asked for one with such a verdict."""
    for index in range(10_000):
        mutation = mutate(SEED, index, CORPUS)
        if mutation.kind == kind and verdict in judge(mutation, CORPUS, cold).outcome:
            return mutation
    raise LookupError(kind)


def accept_everything(mutation: Mutation) -> Document:
    """Verify as one does who checks no signature."""
    return Document.from_bytes(Sign1.from_bytes(mutation.document).payload)


def test_a_slice_of_the_campaign_finds_nothing() -> None:
    """Of 3000 none is accepted wrongly, crashes or is dear; every kind occurs, every step refuses some."""
    tally = judged("documents", 3000)
    assert set(tally.outcomes) == {*KINDS, *RESIGNED}
    assert set(tally.total) >= REACHED | {EQUIVALENT, PERMITTED}
    assert share_past_cbor(tally) > 1 / 3


def test_genuine_documents_are_mutated_as_well(shared_vectors: Path) -> None:
    """The same holds of AWS's own documents, one of which has a signature that never verifies."""
    corpus = load_corpus(shared_vectors)
    assert sum(subject.content is None for subject in corpus.subjects) == 1
    judged("documents", 500, corpus)


def test_a_cache_changes_no_answer() -> None:
    """A verifier that remembers good chains answers every mutation as one that does not."""
    assert judged("cached", 300).total[EQUIVALENT]


def test_the_key_service_admits_what_the_verifier_accepts() -> None:
    """A mutated Recipient is a ValidationException, or admitted under the same oracle and sealed to."""
    assert judged("recipients", 500).total[PERMITTED]


def test_mutated_requests_are_answered() -> None:
    """Every mutated request to the security module has a well-formed, bounded answer."""
    outcomes = set(judged("requests", 1500).total)
    assert outcomes >= {"Attestation", "ExtendPCR", "Error InvalidOperation", "Error InputTooLarge"}


def test_a_mutation_follows_from_its_number() -> None:
    """Seed and index give the same mutation again, from a corpus made again."""
    again = load_corpus(None)
    for index in range(300):
        one, other = (mutate(SEED, index, corpus) for corpus in (CORPUS, again))
        assert (one.kind, one.description, one.document) == (other.kind, other.description, other.document)
    assert mutate(SEED, 0, CORPUS).document != mutate(SEED + 1, 0, CORPUS).document


def test_one_command_shows_a_mutation(capsys: pytest.CaptureFixture[str]) -> None:
    """A campaign says how each fault is had again: by seed and index, with its bytes and its verdict."""
    assert main(["documents", "--own", "--seed", str(SEED), "--index", "7"]) == 0
    shown = capsys.readouterr().out
    assert mutate(SEED, 7, CORPUS).document.hex() in shown
    assert "as it should be" in shown
    faulty = Tally()
    faulty.add(7, "bytes", Verdict("crash", 0.001, "crashed with KeyError: 1"))
    assert judged_campaign("documents", faulty, "python -m mutations documents --index", 1.0) == 1
    assert "--index 7" in capsys.readouterr().out


def test_a_campaign_runs_on_two_processes() -> None:
    """What several processes judged adds up to what was asked for."""
    command = [sys.executable, "-m", "mutations", "requests", "--own", "--count", "1200", "--jobs", "2"]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "1,200 in " in done.stdout
    assert "\n0 faults" in done.stdout


def test_a_mutation_is_a_change() -> None:
    """No mutation is the document that it began with."""
    for index in range(1000):
        mutation = mutate(SEED, index, CORPUS)
        assert mutation.document != mutation.subject.document


def test_the_trees_write_what_they_read() -> None:
    """Documents, payloads and certificates pass through the mutator's trees unchanged."""
    for subject in CORPUS.subjects:
        payload = Sign1.from_bytes(subject.document).payload
        for data in (subject.document, payload):
            assert Item.read(data).write() == data
    for der in own_certificates(CORPUS):
        assert b"".join(node.write() for node in Node.read(der)) == der


def test_all_four_forms_are_accepted() -> None:
    """Tag 18 or none, s or n - s: four byte strings, one statement, one content."""
    subject = CORPUS.subjects[0]
    forms = equivalents(subject.document)
    assert len(forms) == 4
    assert other_s(other_s(subject.document)) == subject.document
    for form in forms:
        assert (
            cold(replace(first("bytes"), document=form, subject=subject, own_time=False)) == subject.content
        )


@pytest.mark.parametrize("kind", ["signature", "re-encoded", "certificates exchanged"])
def test_the_oracle_catches_a_verifier_that_skips_the_signature(kind: str) -> None:
    """Whoever accepts what nobody signed is found out."""
    verdict = judge(first(kind), CORPUS, accept_everything)
    assert "no named form" in verdict.fault


def test_the_oracle_catches_other_content() -> None:
    """Whoever accepts the right bytes but returns something else is found out."""

    def confused(mutation: Mutation) -> Document:
        return replace(accept_everything(mutation), nonce=b"another")

    assert "other content" in judge(first("equivalent form"), CORPUS, confused).fault
    assert "not what the document says" in judge(first("signed: fields", "accepted"), CORPUS, confused).fault


def test_the_oracle_catches_lenient_chains() -> None:
    """Whoever accepts any chain that is signed is found out by the second reading."""
    verdict = judge(first("signed: certificate", "authorities"), CORPUS, accept_everything)
    assert "although" in verdict.fault or "second reading fails" in verdict.fault


def test_the_oracle_catches_crashes_and_waste() -> None:
    """Any exception but a refusal is a fault, and so are 50 ms of CPU, thrice."""

    def crash(mutation: Mutation) -> Document:
        raise RecursionError

    def waste(mutation: Mutation) -> Document:
        until = time.thread_time() + 0.051
        while time.thread_time() < until:
            pass
        return cold(mutation)

    assert "RecursionError" in judge(first("bytes"), CORPUS, crash).fault
    assert "ms of CPU" in judge(first("equivalent form"), CORPUS, waste).fault


def test_the_second_reading_agrees_with_the_first() -> None:
    """It finds nothing wrong with our own documents, and something with each of these."""
    subject = CORPUS.subjects[0]
    root = own_certificates(CORPUS)[0]
    assert subject.content is not None
    assert not list(breaches(subject.document, subject.content, root, subject.now))
    late = x509.load_der_x509_certificate(subject.content.certificate).not_valid_after_utc.replace(year=2060)
    assert list(breaches(subject.document, subject.content, root, late))
    assert list(breaches(subject.document, subject.content, b"another root", subject.now))
    assert list(breaches(subject.document, replace(subject.content, timestamp=1), root, subject.now))
