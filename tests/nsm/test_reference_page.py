"""The page on the security module says what the code does: its tables of requests, limits and errors."""

import re
from pathlib import Path

import pytest

from cloister.nsm import MAX_REQUEST, MAX_RESPONSE, RENEW_BEFORE, ErrorCode, Refusal, SecurityModule
from cloister.nsm import decode_response as decode
from cloister.nsm.messages import _REQUESTS, _RESPONSES, _Fields
from cloister.nsm.module import MAX_FIELD, RANDOM_SIZE
from cloister.pcrs import LOCKED_AT_BOOT, PCR_COUNT, PCR_SIZE, PcrBank
from simulators.local_chain import MODULE_ID, NOW, local_chain

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/nsm.md").read_text()
WORDS: dict[type | tuple[type, ...], str] = {
    int: "number",
    bytes: "bytes",
    bool: "truth",
    str: "text",
    list: "list",
    (bytes, type(None)): "bytes or null",
}


def table(first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading this is."""
    (body,) = re.findall(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]


def in_words(fields: _Fields) -> str:
    """Say fields as the page does."""
    return ", ".join(f"{name}: {WORDS[kind]}" for name, kind in fields.items())


def test_requests() -> None:
    """Each request, its fields and its answer's, in their order."""
    assert table("Request") == [
        [f"`{name}`", in_words(fields), in_words(_RESPONSES[name][1])]
        for name, (_, fields) in _REQUESTS.items()
    ]


def test_limits() -> None:
    """Each limit is the code's."""
    credentials = local_chain().credentials(NOW)
    assert [int(value) for _, value in table("Limit")] == [
        MAX_REQUEST,
        MAX_RESPONSE,
        MAX_FIELD,
        PCR_COUNT,
        LOCKED_AT_BOOT,
        PCR_SIZE,
        RANDOM_SIZE,
        (credentials.not_after - NOW.replace(microsecond=0)).total_seconds(),
        RENEW_BEFORE.total_seconds(),
    ]


def test_errors_are_listed() -> None:
    """Every code of the module has its row, in their order."""
    assert [code for code, _, _ in table("Error")] == [f"`{code.value}`" for code in ErrorCode]


@pytest.mark.parametrize("row", [row for row in table("Error") if row[2]], ids=lambda row: row[0])
def test_examples_of_errors(row: list[str]) -> None:
    """Each example gets its error."""
    module = SecurityModule(module_id=MODULE_ID, bank=PcrBank(), credentials=local_chain().credentials)
    answer = decode(module.handle(bytes.fromhex(row[2].strip("`")), now=NOW, random=bytes))
    assert answer == Refusal(ErrorCode(row[0].strip("`")))
