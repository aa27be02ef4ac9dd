"""docs/reference/verifiers-compared.md says what the verifiers say today."""

import re

import pytest

from peers.building import Peers
from peers.comparing import CORPUS, PAGE, corpus_digest, run_corpus
from peers.verifiers import pinned_verifiers

ROW = re.compile(r"\| `(?P<id>[^`]+)` \|.*")
QUICK = ("nitrite", "veracruz")


def column_of(name: str, verdict: str) -> set[str]:
    """Return the cases that have a word in a verifier's column."""
    found = set()
    columns: list[str] = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == ["Case"]:
            columns = cells
        elif ROW.fullmatch(line) and columns and cells[columns.index(name)] == verdict:
            found.add(cells[0].strip("`"))
    return found


def test_page_is_about_this_corpus_and_these_versions(peers: Peers) -> None:
    """The page names the corpus's digest and the versions of the modules that were built."""
    page = PAGE.read_text()
    assert f"Corpus {corpus_digest()}." in page, "write the page again: it says how"
    for verifier in pinned_verifiers(peers):
        assert verifier.name == "openssl" or f"| {verifier.version} |" in page


@pytest.mark.parametrize("name", QUICK)
def test_page_lists_what_a_verifier_says(peers: Peers, name: str) -> None:
    """Asked again, the Go modules accept, refuse and crash as the page lists."""
    findings = run_corpus(name)
    for got, expected, word in (
        ("accept", "refuse", "accepts"),
        ("crash", "refuse", "crashes"),
        ("refuse", "accept", "refuses"),
    ):
        said = {f["id"] for f in findings if (f["got"], f["expected"]) == (got, expected)}
        assert said == column_of(name, word)


def test_our_verifier_has_no_place_in_the_lists() -> None:
    """Cloister's own column is empty: it agrees with the corpus."""
    assert (CORPUS / "manifest.json").is_file()
    for word in ("accepts", "crashes", "refuses"):
        assert column_of("cloister", word) == set()
