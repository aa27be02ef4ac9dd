"""``python -m peers.comparing``: hold the verifiers against the negative corpus and write what came out.

The page, docs/reference/verifiers-compared.md, is made of runs of ``corpus/attestation/run.py`` alone.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cloister.errors import CloisterError
from cloister.places import current_places
from peers.building import find_peers
from peers.verifiers import NITRITE, VERACRUZ, pinned_verifiers

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY / "corpus/attestation"
PAGE = REPOSITORY / "docs/reference/verifiers-compared.md"
LEVELS = {
    "document": "a document that does not follow the specifications, an unsound chain, a signature that does"
    " not match",
    "strictness": "what Cloister refuses by a decision of its own; others may well take it",
}
"""The levels at which a document, a root and a time are all that a verifier is told."""
NAMES = {
    "cloister": "`cloister.attestation`",
    "nitrite": f"`{NITRITE}`",
    "veracruz": f"`{VERACRUZ}`",
    "openssl": "`openssl`, by `tests/peers/openssl.sh`",
}
MARKS = {"accept": "accepts", "crash": "crashes", "timeout": "does not end", "refuse": "", "skip": "skipped"}

INTRODUCTION = """\
# Verifiers compared

What some verifiers of attestation documents say about the documents of `corpus/attestation`, each of which is
wrong in one way or, to be fair, in none. Each verifier was told a document, a root and a time.
One may accept more than another for good reasons: it leaves a check to its caller, or to another step.
The script around `openssl` looks at the envelope, the header, the chain, the leaf's curve and the signature,
and at no other field of a document. `openssl verify` counts the very second of notAfter as past.

| Verifier | Version | Time |
|---|---|---|
{rows}

Not here: `evervault-attestation-bindings`, whose root is AWS's and cannot be exchanged here; and the
corpus's level `expectations`, since only Cloister's verifier is told which PCRs, nonce and age to expect.

Corpus {corpus}. Written by `make peers`, then `PYTHONPATH=tests .venv/bin/python -m peers.comparing`.
"""

Finding = Mapping[str, Any]


class CorpusRunError(CloisterError):
    """The runner could not ask a verifier."""


def run_corpus(verifier: str, *, only: str = "") -> list[Finding]:
    """Return the runner's findings about one verifier, by name."""
    ours = CORPUS / "adapters/cloister_adapter.py"
    command: list[str | Path] = (
        [sys.executable, ours]
        if verifier == "cloister"
        else [sys.executable, "-m", "peers.answering", verifier]
    )
    words = [sys.executable, CORPUS / "run.py", "--json", "--lines", "--timeout", "60", "--only", only]
    levels = [word for level in LEVELS for word in ("--level", level)]
    done = subprocess.run(
        [*map(str, words), *levels, "--", *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "tests")},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise CorpusRunError(f"run.py could not ask '{verifier}': {done.stderr.strip()[-500:]}")
    findings: list[Finding] = json.loads(done.stdout)
    return findings


def corpus_digest() -> str:
    """Name the corpus by its manifest."""
    return hashlib.sha256((CORPUS / "manifest.json").read_bytes()).hexdigest()[:16]


def write_page(versions: Mapping[str, str], runs: Mapping[str, Sequence[Finding]]) -> str:
    """Return the page."""
    return "\n".join([*_introduction(versions), *_counts(runs), *_differences(runs)]) + "\n"


def _introduction(versions: Mapping[str, str]) -> Iterator[str]:
    times = {"veracruz": "by the clock, which was set for it"}
    rows = [
        f"| {NAMES[name]} | {version} | {times.get(name, 'an argument')} |"
        for name, version in versions.items()
    ]
    yield INTRODUCTION.format(rows="\n".join(rows), corpus=corpus_digest())


def _counts(runs: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
    yield "## Counts"
    yield ""
    yield f"| Documents | | {' | '.join(runs)} |"
    yield f"|---|--:|{'--:|' * len(runs)}"
    first = next(iter(runs.values()))
    sound = {name: [f for f in found if f["expected"] == "accept"] for name, found in runs.items()}
    yield _count_row("sound, accepted", len(sound[next(iter(runs))]), sound.values(), "accept")
    for level in LEVELS:
        wrong = {n: [f for f in found if _is_wrong(f, level)] for n, found in runs.items()}
        size = sum(_is_wrong(finding, level) for finding in first)
        yield _count_row(f"wrong at the level {level}, accepted", size, wrong.values(), "accept")
        yield _count_row(f"wrong at the level {level}, crashed on", size, wrong.values(), "crash")
    yield ""
    for level, meaning in LEVELS.items():
        yield f"- Level `{level}`: {meaning}."
    yield ""


def _is_wrong(finding: Finding, level: str) -> bool:
    return bool(finding["expected"] == "refuse" and finding["level"] == level)


def _count_row(title: str, size: int, columns: Iterable[Sequence[Finding]], got: str) -> str:
    counts = [str(sum(finding["got"] == got for finding in column)) for column in columns]
    return f"| {title} | {size} | {' | '.join(counts)} |"


def _differences(runs: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
    """List every case on which some verifier differs from the corpus's verdict."""
    for level in LEVELS:
        rows = [row for row in zip(*runs.values(), strict=True) if row[0]["level"] == level]
        for expected, title in (("refuse", "Wrong and accepted"), ("accept", "Sound and refused")):
            chosen = [
                row
                for row in rows
                if row[0]["expected"] == expected and any(f["got"] != expected for f in row)
            ]
            if not chosen:
                continue
            yield f"## {title}, level {level}"
            yield ""
            yield f"| Case | What about it | {' | '.join(runs)} |"
            yield f"|---|---|{'---|' * len(runs)}"
            for row in chosen:
                marks = " | ".join(
                    ("refuses" if f["got"] == "refuse" else "") if expected == "accept" else MARKS[f["got"]]
                    for f in row
                )
                what = row[0]["wrong"] or "nothing is wrong with it"
                yield f"| `{row[0]['id']}` | {what.replace('|', chr(92) + '|')} | {marks} |"
            yield ""


def main() -> int:
    """Run everything and write the page."""
    try:
        peers = pinned_verifiers(find_peers(current_places()))
        versions = {"cloister": "this repository"} | {peer.name: peer.version for peer in peers}
        with ThreadPoolExecutor(2) as pool:
            runs = dict(zip(versions, pool.map(run_corpus, versions), strict=True))
    except CloisterError as error:
        sys.exit(f"peers: {error}")
    PAGE.write_text(write_page(versions, runs))
    print(f"{PAGE} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
