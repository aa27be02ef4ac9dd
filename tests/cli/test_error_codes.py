"""Each of nitro-cli's error codes that can be provoked without a machine is provoked; none is forgotten.

docs/reference/error-codes.md says of all 61 codes which test provokes them, or why they cannot arise.
"""

import errno
import json
import os
import re
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.build import Recipe, build_image
from cloister.cli.explain import ADVICE
from cloister.cli.main import main as cloister
from cloister.cli.nitro.codes import NAMES, TEXTS
from cloister.cli.nitro.console import copy_console, write_console
from cloister.cli.nitro.errors import NitroCliError
from cloister.control import EnclaveFailure, Register, Reply
from cloister.signers import PemSigner
from cloister.supervisor import RunRequest
from cloister.supervisor.loading import load_image
from cloister.supervisor.starting import load_and_check
from simulators.image_sources import make_kit, write_directory
from simulators.signing_keys import write_signing_files
from simulators.supervisor import supervisor

Run = Callable[..., tuple[int, str, str]]
TESTS = Path(__file__).resolve().parents[1]
TABLE = TESTS.parent / "docs/reference/error-codes.md"
OUT = ("--output-file", "y.eif")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a file of 3 MiB that is no image; what is checked before it is read needs no more."""
    path = tmp_path / "some.eif"
    path.write_bytes(bytes(3 << 20))
    return path


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        ("E01", ["sign-eif"], "User did not provide the `eif-path` argument."),
        ("E03", ["run-enclave", "--eif-path", "x", "--memory", "1K", "--cpu-count", "1"],
         "The parameter `memory` is not a valid integer (`1K`)"),
        ("E03", ["run-enclave", "--eif-path", "x", "--memory", "1", "--cpu-ids", "1", "x"],
         "The parameter `cpu-id` is not a valid integer (`x`)"),
        ("E11", ["terminate-enclave", "--enclave-id", "i-1-enc2"], "There is no running enclave with the id"),
        ("E11", ["console", "--enclave-id", "i-1-enc2"], "There is no running enclave with the id"),
        ("E19", ["run-enclave", "--config", "none.json"], "File: 'none.json', failing operation: 'Open'."),
        ("E19", ["describe-eif", "--eif-path", "none.eif"], "File: 'none.eif', failing operation: 'Open'."),
        ("E48", ["build-enclave", "--docker-uri", "oci:none", *OUT], "EIF building error."),
        ("E49", ["build-enclave", "--docker-uri", "x", "--docker-dir", "none", *OUT], "named Dockerfile"),
        ("E50", ["build-enclave", "--docker-uri", "127.0.0.1:9/none:latest", *OUT], "127.0.0.1:9/none"),
        ("E58", ["terminate-enclave", "--enclave-name", "n"], "No enclave matched the given name."),
        ("E58", ["console", "--enclave-name", "n"], "No enclave matched the given name."),
        ("E60", ["sign-eif", "--eif-path", "x.eif"], "missing"),
    ],
)  # fmt: skip
def test_command_line_provokes(
    run: Run, monkeypatch: pytest.MonkeyPatch, code: str, words: list[str], text: str
) -> None:
    """What is wrong with the arguments or the files they name has its code, which is the exit code."""
    monkeypatch.chdir("/proc/self")  # nothing of these names is here, and nothing can be made
    status, out, err = run(*words)
    assert (status, out) == (int(code[1:]), "")
    assert f"[ {code} ] " in err
    assert text in err


@pytest.mark.parametrize(
    ("code", "options", "text"),
    [
        ("E20", ["--cpu-ids", "0", "0", "--memory", "128"], "`cpu-ids` contains same CPU(s) (CPU(s) 0)"),
        ("E21", ["--cpu-ids", "4095", "--memory", "128"], "No such CPU available in the pool."),
        ("E22", ["--cpu-count", "4096", "--memory", "128"], "`cpu-count` is 4096, which is more than"),
        ("E26", ["--cpu-count", "1", "--memory", "11"], "`memory` is 11 MB, but based on the EIF"),
        ("E26", ["--cpu-count", "1", "--memory", "0"], "`memory` is 0 MB, and memory should be"),
        ("E27", ["--cpu-count", "1", "--memory", "64T"], "`memory` is 67108864 MB, which is more than the"),
    ],
)  # fmt: skip
def test_impossible_resources_provoke(
    run: Run, image: Path, code: str, options: list[str], text: str
) -> None:
    """What a host cannot give is refused before anything is started, then the lost process is told."""
    status, out, err = run("run-enclave", "--eif-path", image, *options)
    assert (status, out) == (39, "")
    first, _, second = err.partition("Failed connections: 1\n")
    assert f"[ {code} ] " in first
    assert text in first
    assert second.startswith("[ E39 ] ")


@pytest.mark.parametrize(
    "text",
    ["12K", "1.5G", "-1", "", "0x10", "+5", "G", "1GG", "\u0661", f"{1 << 64}", "9" * 5000, f"{1 << 44}T"],
)  # fmt: skip
def test_memory_that_is_none_is_e03(run: Run, text: str) -> None:
    """Memory is a whole number with at most one suffix of M, G and T."""
    code, _, err = run("run-enclave", "--eif-path", "x", f"--memory={text}", "--cpu-count", "1")
    assert code == 3
    assert (
        f"[ E03 ] Invalid argument provided. The parameter `memory` is not a valid integer (`{text}`)" in err
    )


@pytest.mark.parametrize("option", ["cpu-count", "enclave-cid"])
@pytest.mark.parametrize("text", ["two", "", "-1", "1 ", "0x1", "18446744073709551616"])
def test_numbers_that_are_none_are_e03(run: Run, option: str, text: str) -> None:
    """A number is what Rust's unsigned integers are read from."""
    given = {"memory": "1", "cpu-count": "1", "eif-path": "x"} | {option: text}
    code, _, err = run("run-enclave", *(f"--{name}={value}" for name, value in given.items()))
    assert code == 3
    assert f"The parameter `{option}` is not a valid integer (`{text}`)\n" in err


@pytest.mark.parametrize("cid", ["1", "2", "3", "4294967295", "4294967296"])
def test_reserved_cids_are_e03(run: Run, cid: str) -> None:
    """The CIDs with a meaning, and those beyond 32 bits, are refused, and the message says which they are."""
    code, _, err = run(
        "run-enclave", "--eif-path", "x", "--memory", "1", "--cpu-count", "1", "--enclave-cid", cid
    )
    assert code == 3
    assert "\n1, 2, 3, 4294967295 and numbers above 4294967295 cannot be an enclave's CID.\n" in err


def test_cid_zero_is_automatic(run: Run) -> None:
    """CID 0 means any, and the command says so before it goes on (to an image that is absent)."""
    code, _, err = run(
        "run-enclave", "--eif-path", "x", "--memory", "1", "--cpu-count", "1", "--enclave-cid", "0"
    )
    assert code == 39
    assert err.startswith("The enclave CID will be auto-generated as the provided CID is 0\n")


CONFIG: dict[str, object] = {"eif_path": "x.eif", "memory_mib": 256, "cpu_count": 2}


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"eif_path": "x", "memory_mib": 1}, "E01"),
        (CONFIG | {"cpu_count": None}, "E01"),
        (CONFIG | {"cpu_ids": [1]}, "E02"),
        (CONFIG | {"enclave_cid": 3}, "E03"),
        (CONFIG | {"memory_mib": "256"}, "E17"),
        (CONFIG | {"memory_mib": 256.0}, "E17"),
        (CONFIG | {"memory_mib": -1}, "E17"),
        (CONFIG | {"memory_mib": 1 << 64}, "E17"),
        (CONFIG | {"eif_path": None}, "E17"),
        (CONFIG | {"cpu_count": True}, "E17"),
        (CONFIG | {"cpu_ids": "1"}, "E17"),
        (CONFIG | {"cpu_ids": [-1]}, "E17"),
        (CONFIG | {"debug_mode": 1}, "E17"),
        (CONFIG | {"debug_mode": None}, "E17"),
        (CONFIG | {"enclave_name": 7}, "E17"),
        ({"memory_mib": 1, "cpu_count": 1}, "E17"),
        ([], "E17"),
        ("{", "E17"),
        ('{"eif_path": "x", "memory_mib": 1, "memory_mib": 1, "cpu_count": 1}', "E17"),
        ('{"eif_path": "x", "memory_mib": 1, "cpu_count": 1} x', "E17"),
        ('{"eif_path": "x", "memory_mib": 1, "cpu_count": 1, "x": NaN}', "E17"),
        ("[" * 100_000, "E17"),
    ],
)
def test_bad_configuration_provokes(run: Run, tmp_path: Path, config: object, code: str) -> None:
    """A configuration that is not one is refused with the original's codes."""
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    status, out, err = run("run-enclave", "--config", path)
    assert (status, out) == (int(code[1:]), "")
    assert err.startswith(f"[ {code} ] ")


def test_directory_of_sockets_that_cannot_be_read_provokes(run: Run, tmp_path: Path) -> None:
    """A directory of sockets that is none is E07."""
    (tmp_path / "run").write_text("not a directory")
    code, out, err = run("describe-enclaves")
    assert (code, out) == (7, "")
    assert "[ E07 ]" in err
    assert "cannot be read: Not a directory." in err


def test_oversized_image_provokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image beyond what an enclave may hold is E34 (a smaller limit here: the copy is in memory)."""
    monkeypatch.setattr("cloister.supervisor.loading.MAX_IMAGE", 1 << 20)
    (tmp_path / "large.eif").write_bytes(bytes((1 << 20) + 1))
    with (tmp_path / "large.eif").open("rb") as large, pytest.raises(EnclaveFailure) as refused:
        load_image(large.fileno())
    assert refused.value.code == "E34"


def test_unstartable_images_provoke(tmp_path: Path) -> None:
    """A file that is no image is E35, an enclave without CPUs E29, a certificate that has expired E59."""
    (tmp_path / "none.eif").write_bytes(bytes(4096))
    kit = make_kit(tmp_path / "kits")
    root = write_directory(tmp_path / "root")
    keys = write_signing_files(tmp_path / "keys", ec.generate_private_key(ec.SECP384R1()), days=-3)
    then = datetime.now(UTC) - timedelta(days=2)
    signer = PemSigner.load(keys.certificate, keys.private_key, then)
    recipe = Recipe(cmd=["/bin/entry"])
    build_image(root, tmp_path / "plain.eif", kit=kit, recipe=recipe)
    build_image(root, tmp_path / "signed.eif", kit=kit, recipe=recipe, signer=signer)
    for name, cpus, code in (("none", 1, "E35"), ("plain", 0, "E29"), ("signed", 1, "E59")):
        request = RunRequest(tmp_path / f"{name}.eif", 128, cpu_count=cpus)
        with request.eif_path.open("rb") as file, pytest.raises(EnclaveFailure) as refused:
            load_and_check(request, file.fileno())
        assert refused.value.code == code


def described(flags: str) -> dict[str, Any]:
    return {"EnclaveName": "hello", "EnclaveID": "i-1-enc1", "State": "RUNNING", "Flags": flags}


def test_refusing_supervisor_provokes(run: Run, tmp_path: Path) -> None:
    """Another user's enclave refuses: E38 for one, no failure for all of one's own."""
    with supervisor(tmp_path / "run", "1", reply=Reply(errno.EACCES, {})) as enclave:
        code, out, err = run("terminate-enclave", "--enclave-id", enclave["EnclaveID"])
        assert (code, out) == (38, "")
        assert "enclaves belong to the user who started them" in err
        assert run("terminate-enclave", "--all") == (0, "[]\n", "")


def test_unreachable_supervisor_provokes(run: Run, tmp_path: Path) -> None:
    """A supervisor that hangs up is E39, after what the others said and how many are lost."""
    directory = tmp_path / "run"
    with (
        supervisor(directory, "1", reply=Reply(0, described("NONE"))),
        supervisor(directory, "2", reply=None) as silent,
    ):
        code, out, err = run("describe-enclaves")
        assert code == 39
        assert json.loads(out) == [described("NONE")]
        assert err.startswith("Failed connections: 1\n[ E39 ] ")
        code, out, err = run("terminate-enclave", "--enclave-id", silent["EnclaveID"])
        assert (code, out) == (39, "")
        assert err.startswith("Failed connections: 1\n[ E39 ] ")


def test_supervisor_without_socket_provokes(run: Run, tmp_path: Path) -> None:
    """A supervisor that lives but has no socket is E39, not an enclave less."""
    registration = Register(tmp_path / "run").enter("1", "i-1-enc1", "hello", 16)
    try:
        assert run("describe-enclaves")[:2] == (39, "[]\n")
    finally:
        registration.close()


def test_stale_record_is_removed(run: Run, tmp_path: Path) -> None:
    """What a killed supervisor left is gone after the next look, and is no enclave."""
    directory = tmp_path / "run"
    registration = Register(directory).enter("1", "i-1-enc1", "hello", 16)
    record = (directory / "1.json").read_bytes()
    registration.close()
    (directory / "1.json").write_bytes(record)
    (directory / "1.sock").touch()
    assert run("describe-enclaves") == (0, "[]\n", "")
    assert sorted(path.name for path in directory.iterdir()) == [".lock"]


def test_stale_sockets_are_removed(run: Run, tmp_path: Path) -> None:
    """A socket at which nobody listens is deleted by the next look; one that answers is left."""
    directory = tmp_path / "run"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as alive:
        dead.bind(str(directory / "1.sock"))
        alive.bind(str(directory / "2.sock"))
        alive.listen()
        assert run("terminate-enclave", "--all") == (0, "[]\n", "")
        assert [path.name for path in directory.iterdir()] == ["2.sock"]


def test_names_are_numbered_and_found(run: Run, tmp_path: Path) -> None:
    """The second enclave of a name is name_1, and each is found by its own name."""
    directory = tmp_path / "run"
    ended = Reply(0, {"EnclaveName": "hello", "EnclaveID": "x", "Terminated": True})
    with supervisor(directory, "1", reply=ended), supervisor(directory, "2", reply=ended) as second:
        assert second["EnclaveName"] == "hello_1"
        found = [record.name for record in Register(directory).live()]
        assert found == ["hello", "hello_1"]
        assert run("console", "--enclave-name", "hello_2")[0] == 58


def test_console_without_debug_mode_provokes(run: Run, tmp_path: Path) -> None:
    """The console of a production enclave is E44, with AWS's hint; a wrong time limit is E03 before it."""
    with supervisor(tmp_path / "run", "1", reply=Reply(0, described("NONE"))):
        code, out, err = run("console", "--enclave-name", "hello")
        assert (code, out) == (44, "")
        hint = "include '--debug-mode' in the run-enclave command"
        assert f"The enclave was not started with the debug flag set, {hint}" in err
        assert run("console", "--enclave-name", "hello", "--disconnect-timeout", "x")[0] == 3


def test_debug_enclave_is_described_with_a_warning(run: Run, tmp_path: Path) -> None:
    """The registers of a debug enclave are its image's, as AWS's are; stderr says that documents differ."""
    with supervisor(tmp_path / "run", "1", reply=Reply(0, described("DEBUG_MODE"))):
        code, out, err = run("describe-enclaves", "--metadata")
    assert code == 0
    assert json.loads(out) == [described("DEBUG_MODE")]
    assert err.startswith("Warning: the PCRs shown for an enclave in debug mode are its image's;")


def refused(code: str, act: Callable[[], object]) -> str:
    with pytest.raises(NitroCliError) as error:
        act()
    assert error.value.code == code
    return error.value.to_detail()


def test_broken_console_provokes() -> None:
    """A console whose connection fails is E45."""
    with socket.socket() as unconnected:
        assert "\n" in refused("E45", lambda: copy_console(unconnected, None))


def test_full_output_provokes() -> None:
    """Console output that cannot be written is E46."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        assert "No space left on device" in refused("E46", lambda: write_console(full, b"x"))
    finally:
        os.close(full)


def test_absent_home_provokes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """build-enclave without HOME and without NITRO_CLI_ARTIFACTS is E51."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("NITRO_CLI_ARTIFACTS", raising=False)
    code, out, err = run("build-enclave", "--docker-uri", "dir:none", *OUT)
    assert (code, out) == (51, "")
    assert "[ E51 ] Artifacts path environment variable not set." in err


@pytest.mark.parametrize("value", ["nitro_cli=loud", "a=b=c", "nitro cli=info"])
def test_malformed_rust_log_provokes(run: Run, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A RUST_LOG that is no list of levels is E56."""
    monkeypatch.setenv("RUST_LOG", value)
    code, out, err = run("describe-enclaves")
    assert (code, out) == (56, "")
    assert f"RUST_LOG is '{value}'" in err


def test_certificate_that_is_none_provokes(run: Run, tmp_path: Path) -> None:
    """Pcr of a certificate that is none is E57."""
    (tmp_path / "c.pem").write_text("no certificate")
    code, out, err = run("pcr", "--signing-certificate", tmp_path / "c.pem")
    assert (code, out) == (57, "")
    assert "[ E57 ]" in err


def test_explain_knows_what_aws_s_knows(run: Run) -> None:
    """nitro-cli explain says AWS's meaning of each code but E57 to E59, on stderr, and never fails."""
    for code, text in TEXTS.items():
        status, out, err = run("explain", "--error-code", code)
        assert (status, out) == (0, "")
        unknown = code in ("E57", "E58", "E59")
        assert err.splitlines()[0] == (f"No such error code {code}" if unknown else text)
    for unknown_code in ("E61", "e01", "E1", "", "19"):
        assert run("explain", "--error-code", unknown_code) == (0, "", f"No such error code {unknown_code}\n")


def test_cloister_explains_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Cloister explain names each code, its meaning and what to do here; what is no code is refused."""
    assert list(ADVICE) == list(TEXTS)
    for number, code in enumerate(TEXTS):
        assert cloister(["explain", code.lower()]) == 0
        shown = capsys.readouterr().out
        assert shown == f"{code} {NAMES[number]}\n\nMeaning: {TEXTS[code]}\n\nOn this host: {ADVICE[code]}\n"
    assert cloister(["explain", "E61"]) == 1
    assert capsys.readouterr().err == "cloister: There is no error code E61; expected E00 to E60.\n"


ROW = re.compile(r"\| (E\d\d) \| (\w+) \| (?:`tests/([\w/]+\.py)::(\w+)`|Cannot arise: (.+)\.) \|")


def rows() -> Sequence[tuple[str, ...]]:
    return ROW.findall(TABLE.read_text())


def test_table_names_every_code_once() -> None:
    """The reference has a row for each of the 61 codes, with AWS's name."""
    assert [(code, name) for code, name, *_ in rows()] == list(zip(TEXTS, NAMES, strict=True))


def test_table_names_tests_that_exist() -> None:
    """Each provoking test exists, in a file that speaks of its code."""
    for code, _, file, test, _ in rows():
        if file:
            text = (TESTS / file).read_text()
            assert f"def {test}(" in text
            assert code in text


def test_advice_agrees_with_the_table() -> None:
    """What cannot arise according to the table cannot arise according to cloister explain."""
    never = {code for code, _, file, *_ in rows() if not file}
    assert {code for code, advice in ADVICE.items() if advice.startswith("It cannot arise here: ")} == never
