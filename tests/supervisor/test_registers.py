"""The registers an enclave starts with: the image's, the role's, the host's; and which are zero."""

from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.cose import Sign1, decode_cbor
from cloister.measure import Measurements
from cloister.nsm import Attest, NotYetError, SignedDocument, decode_response, encode_request
from cloister.pcrs import extend
from cloister.places import current_places
from cloister.supervisor import RunRequest
from cloister.supervisor.security import make_bank, prepare_security
from cloister.trust import Trust, initialise, set_host

ROLE = "arn:aws:iam::123456789012:role/enclave"
MEASURED = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48, 8: b"\x08" * 48}


def make_trust(directory: Path, role: str | None) -> Trust:
    """Make a root of trust of a host that has a role, or none."""
    instance = "i-1234567890abcdef0"
    return initialise(directory, region="local", instance_id=instance, role_arn=role, now=datetime.now(UTC))


def test_debug_registers_are_zero_but_for_the_hosts(tmp_path: Path) -> None:
    """Debug mode zeroes the image's registers, PCR3 and PCR4 stay; production has them all."""
    trust = make_trust(tmp_path, ROLE)
    host = {3: extend(bytes(48), ROLE.encode()), 4: extend(bytes(48), trust.instance_id.encode())}
    production = make_bank(MEASURED, trust, debug=False).locked()
    debug = make_bank(MEASURED, trust, debug=True).locked()
    assert production == {index: bytes(48) for index in range(16)} | MEASURED | host
    assert debug == {index: bytes(48) for index in range(16)} | host


def test_zero_registers_are_those_of_genuine_documents(tmp_path: Path, shared_vectors: Path) -> None:
    """An enclave like that of each genuine document, in role and mode, has the same zero registers."""
    trust, modes = make_trust(tmp_path, None), set()
    for file in (shared_vectors / "attestation").glob("*.cose"):
        fields = decode_cbor(Sign1.from_bytes(file.read_bytes()).payload)
        if "nitrotpm_pcrs" in fields:
            continue
        filled = {index for index, value in fields["pcrs"].items() if any(value) and index < 16}
        debug = not filled & {0, 1, 2}
        measured = {index: value for index, value in MEASURED.items() if index != 8 or 8 in filled or debug}
        ours = make_bank(
            measured, replace(trust, role_arn=ROLE if 3 in filled else None), debug=debug
        ).locked()
        assert {index for index, value in ours.items() if any(value)} == filled, file.name
        modes.add((debug, 3 in filled))
    assert modes == {(True, True), (True, False), (False, True), (False, False)}


@pytest.mark.parametrize("host_has", [None, ROLE])
@pytest.mark.parametrize("asked", [None, "arn:aws:iam::123456789012:role/other"])
def test_role_and_form_asked_for_stand_before_the_hosts(
    tmp_path: Path, host_has: str | None, asked: str | None
) -> None:
    """PCR3 is the role of the request, else the host's, else zero; so with the form of documents."""
    places = replace(current_places(), state=tmp_path)
    make_trust(places.pki, host_has)
    set_host(places.pki, document_map="definite")
    measuring: Future[Measurements] = Future()
    measuring.set_result(Measurements(b"\1" * 48, b"\2" * 48, b"\3" * 48))
    form = None if asked is None else "indefinite"
    request = RunRequest(Path("web.eif"), 64, cpu_count=1, role_arn=asked, document_map=form)
    _, security = prepare_security(places, 1, measuring, request, complain=print)
    attest = encode_request(Attest())
    with pytest.raises(NotYetError):
        security.handle(attest)
    if (pending := security.pending) is not None:
        pending.result(60)
    answer = decode_response(security.handle(attest))
    assert isinstance(answer, SignedDocument)
    payload = Sign1.from_bytes(answer.document).payload
    role = asked or host_has
    assert decode_cbor(payload)["pcrs"][3] == (extend(bytes(48), role.encode()) if role else bytes(48))
    assert payload[0] == (0xBF if asked else 0xA9)
