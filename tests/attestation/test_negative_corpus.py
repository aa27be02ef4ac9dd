"""The published corpus: wrong documents are refused at their steps, right ones accepted, all reproducible."""

import hashlib
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cloister.attestation import STEPS, VerificationError, verify
from corpus.attestation.adapters.cloister_adapter import expected
from corpus.attestation.generate import birth_certificate, files
from corpus.attestation.generator.cases import Case
from corpus.attestation.generator.collection import every_case
from corpus.attestation.generator.draft import Draft
from corpus.attestation.run import CRASH_MARKS, LEVELS, answer_of

CORPUS = Path(__file__).resolve().parents[2] / "corpus/attestation"
MANIFEST = json.loads((CORPUS / "manifest.json").read_bytes())["cases"]
ADAPTER = [sys.executable, str(CORPUS / "adapters/cloister_adapter.py")]
WRONG = [pytest.param(case, id=case["id"]) for case in MANIFEST if case["verdict"] == "refuse"]
RIGHT = [pytest.param(case, id=case["id"]) for case in MANIFEST if case["verdict"] == "accept"]
TWINS = [pytest.param(case, id=case.id) for case in every_case() if case.step]


def judged(case: dict[str, Any]) -> None:
    """Verify a published document as its case says."""
    verify(
        (CORPUS / case["file"]).read_bytes(),
        roots=x509.load_pem_x509_certificates((CORPUS / case["roots"]).read_bytes()),
        now=datetime.fromisoformat(case["time"]),
        expect=expected(case["expect"]),
    )


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_document_is_refused_at_its_step(case: dict[str, Any]) -> None:
    """The step that the manifest names refuses, no earlier and no later one."""
    with pytest.raises(VerificationError) as caught:
        judged(case)
    assert caught.value.name == case["step"], caught.value


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_document_is_accepted(case: dict[str, Any]) -> None:
    """A verifier that refuses everything does not pass."""
    judged(case)


@pytest.mark.parametrize("case", TWINS)
def test_without_its_flaw_a_document_is_accepted(case: Case) -> None:
    """Nothing else is wrong with it: the same document without the one change passes."""
    twin = case.twin()
    verify(
        twin.build(),
        roots=[x509.load_der_x509_certificate(twin.root())],
        now=twin.now,
        expect=expected(twin.expect),
    )


def test_the_corpus_is_what_was_asked_for() -> None:
    """At least 120 wrong and 12 right documents, all different, each step of a document among them."""
    wrong = [case for case in MANIFEST if case["verdict"] == "refuse"]
    assert len(wrong) >= 120
    assert len(MANIFEST) - len(wrong) >= 12
    assert (
        len({case["sha256"] for case in MANIFEST}) == len({case["id"] for case in MANIFEST}) == len(MANIFEST)
    )
    assert {case["level"] for case in MANIFEST} == set(LEVELS)
    assert {case["step"] for case in wrong} == set(STEPS)
    assert all(case["wrong"] and case["source"] and case["category"] for case in wrong)


def test_the_corpus_is_made_again_byte_for_byte() -> None:
    """Generation gives exactly the published files, whose digest the birth certificate has."""
    made = files()
    published = {
        str(path.relative_to(CORPUS)): path.read_bytes()
        for path in [CORPUS / "manifest.json", *CORPUS.glob("documents/*"), *CORPUS.glob("roots/*")]
    }
    assert sorted(made) == sorted(published)
    assert [path for path, data in made.items() if published[path] != data] == []
    birth = json.loads((CORPUS / "birth.json").read_bytes())
    again = json.loads(birth_certificate(made, birth["date"]))
    assert again | {"cryptography": ""} == birth | {"cryptography": ""}
    for case in MANIFEST:
        assert hashlib.sha256(published[case["file"]]).hexdigest() == case["sha256"]


def test_nothing_in_the_corpus_is_named_amazon() -> None:
    """The roots are nobody's."""
    for path in CORPUS.glob("roots/*.pem"):
        assert b"amazon" not in path.read_bytes().lower()
        subject = x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
        assert "cloister" in subject
        assert "Amazon" not in subject
    plain = Draft("plain")
    plain_root = x509.load_der_x509_certificate(plain.root())
    assert (CORPUS / "roots/root.pem").read_bytes() == plain_root.public_bytes(Encoding.PEM)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the runner as a user does."""
    return subprocess.run(
        [sys.executable, str(CORPUS / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_our_verifier_passes_the_runner() -> None:
    """The runner finds that our verifier agrees with every case, down to the step."""
    done = run("--lines", "--steps", "--json", "--", *ADAPTER)
    findings = json.loads(done.stdout)
    assert [finding for finding in findings if not finding["agrees"]] == []
    assert len(findings) == len(MANIFEST)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "only", "verdict", "status"),
    [
        (["true"], "^plain$", "accept", 0),
        (["true"], "^signature-der$", "accept", 1),
        (["false"], "^signature-der$", "refuse", 0),
        (["false"], "^plain$", "refuse", 1),
        (["sh", "-c", "exit 77"], "^plain$", "skip", 0),
        (["sh", "-c", "kill -SEGV $$"], "^signature-der$", "crash", 1),
        (["sh", "-c", "echo 'panic: no' >&2; exit 2"], "^signature-der$", "crash", 1),
        (["sh", "-c", "exec sleep 100"], "^signature-der$", "timeout", 1),
        (["sh", "-c", '[ -s "$0" ] && grep -q BEGIN "$1"', "{document}", "{root}"], "^plain$", "accept", 0),
        (["test", "{time}/{unix}", "=", "2026-03-01T12:02:00Z/1772366520"], "^plain$", "accept", 0),
        (["test", "{max_age}", "=", "60"], "^as-old-as-allowed$", "accept", 0),
        (["test", "{allow_debug}", "=", "true"], "^debug-allowed$", "accept", 0),
        (["test", "{nonce}", "=", ""], "^plain$", "accept", 0),
    ],
)
def test_the_runner_judges_a_command_by_how_it_ends(
    command: list[str], only: str, verdict: str, status: int
) -> None:
    """Exit 0 accepts, another refuses, 77 skips; a signal, a panic and silence are findings of their own."""
    timeout = "0.3" if verdict == "timeout" else "60"
    done = run("--json", "--timeout", timeout, "--only", only, "--", *command)
    (finding,) = json.loads(done.stdout)
    assert finding["got"] == verdict
    assert done.returncode == status


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        ("print('{\"accepts\": true}', flush=True); input(); input()", "accept"),
        ('print(\'{"accepts": false, "reason": "no"}\', flush=True); input(); input()', "refuse"),
        ('print(\'{"skip": "no root can be given"}\', flush=True); input(); input()', "skip"),
        ('print(\'{"crash": "index out of range"}\', flush=True); input(); input()', "crash"),
        ("print('yes', flush=True); input(); input()", "crash"),
        ("raise SystemExit(3)", "crash"),
        ("import time; time.sleep(100)", "timeout"),
    ],
)
def test_the_runner_understands_answer_lines(program: str, verdict: str) -> None:
    """An answer line says what the verifier thinks; anything else, an end and silence are findings."""
    words = ["--timeout", "0.3" if verdict == "timeout" else "60", "--only", "^plain$"]
    done = run("--lines", "--json", *words, "--", sys.executable, "-c", program)
    (finding,) = json.loads(done.stdout)
    assert finding["got"] == verdict
    assert done.returncode == (0 if verdict in ("accept", "skip") else 1)


def test_a_verifier_that_ends_is_started_again() -> None:
    """A crash in one case does not hide the cases after it."""
    once = "import sys; sys.stdin.readline(); print('{\"accepts\": true}', flush=True)"
    done = run("--lines", "--json", "--only", "ends-now$", "--", sys.executable, "-c", once)
    findings = json.loads(done.stdout)
    assert len(findings) == 5
    assert {"accept"} < {finding["got"] for finding in findings} <= {"accept", "crash"}


def test_the_table_names_each_difference() -> None:
    """A reader sees the case, what is wrong with it and what the verifier did."""
    done = run("--level", "expectations", "--", "true")
    assert done.returncode == 1
    assert "nonce-other [expectations]: accepted, and must be refused" in done.stdout
    assert "the document's nonce is another than the expected one" in done.stdout
    assert "signature-der" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--", "no-such-verifier-anywhere"],
        ["--lines", "--", "no-such-verifier-anywhere"],
        ["--corpus", "/nonexistent", "--", "true"],
        ["--only", "no-such-case", "--", "true"],
        ["--only", "(", "--", "true"],
        ["--", "sh", "-c", "exit 127"],
        ["--", "true", "{document}", "--at={bogus}"],
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(arguments: list[str]) -> None:
    """A missing command or corpus is neither agreement nor difference."""
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("run.py: ")
    assert done.stderr.count("\n") == 1
    assert "manifest" not in done.stderr or {"--corpus", "no-such-case"} & {*arguments}


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "1e9", "soon"])
def test_a_time_limit_that_is_none_is_wrong_usage(seconds: str) -> None:
    """Every case would time out, or none ever."""
    done = run("--timeout", seconds, "--", "true")
    assert done.returncode == 2
    assert f"'{seconds}' is not a number of seconds above 0" in done.stderr


def test_a_command_that_refuses_everything_may_be_mistyped() -> None:
    """The runner says so when no right document is accepted, and says nothing when one is."""
    done = run("--only", "^(plain|tag-18|nonce-other)$", "--", "sh", "-c", "echo unknown option; exit 2")
    assert done.returncode == 1
    assert done.stderr == (
        "run.py: it refuses every sound document too: is the command right? Its first words: unknown option\n"
    )
    some = 'test "$0" = plain'
    assert run("--only", "^(plain|tag-18)$", "--", "sh", "-c", some, "{id}").stderr == ""
    assert run("--only", "^nonce-other$", "--", "false").stderr == ""


@pytest.mark.parametrize(
    "said",
    [
        "Traceback (most recent call last):\n  File ...",
        "panic: runtime error: index out of range",
        "thread 'main' panicked at src/lib.rs:1",
        'Exception in thread "main" java.lang.NullPointerException',
    ],
)
def test_crashes_of_many_languages_are_recognised(said: str) -> None:
    """A stack trace is not a refusal."""
    assert CRASH_MARKS.search(f"some line\n{said}")


def test_an_answer_without_words_is_enough() -> None:
    """Step and reason are optional."""
    assert answer_of('{"accepts": false}').verdict == "refuse"
    assert answer_of('{"accepts": false, "step": "size"}').step == "size"
