"""``cloister run``: an image, from whatever it is made of, run as an enclave to its end."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cloister.cli.options import FILES, seconds
from cloister.control import EnclaveFailure
from cloister.errors import CloisterError
from cloister.nsm import DOCUMENT_MAPS
from cloister.places import Places, current_places
from cloister.running import (
    FAILED,
    BackOff,
    Outcome,
    Output,
    RestartPolicy,
    RunningError,
    Signals,
    find_enclave,
    run_in_foreground,
    start,
    stop_enclaves,
)
from cloister.supervisor import RunRequest

HELP = """Run an image as an enclave, to its end, and exit with its program's status.

  cloister run hello.eif --debug                     show what it prints (its documents then show zeros)
  cloister run examples/secret --memory 512          build first: a directory with an enclave.toml,
  cloister run oci:layout:latest --timeout 60        an OCI layout, a tar, a docker-archive,
  cloister run docker://HOST/hello:v1                an image in a registry, a daemon or a container store
  cloister run root/ --cmd "/greet --loud" --debug
  cloister run web.eif --restart on-failure:5
  cloister run web.eif --detach                      print the enclave's id and leave it running

The first SIGINT or SIGTERM ends the enclave, the second kills it. A console that nobody reads any more ends
it too, as SIGPIPE ends other programs."""

EPILOG = """exit codes:
  0 to 255  the program's own status; 128+N when signal N killed it
  2         wrong usage of this command
  124       the time limit was reached
  125       the enclave or Cloister failed, not the program: the reason is on standard error
  126, 127  the guest's init could not get as far as starting the program; there is no such program
  128+N     ended by signal N to this command (130: SIGINT, 143: SIGTERM), or 143 by 'cloister stop'"""

MAGIC: Final = b".eif"
MIN_MEMORY_MIB: Final = 256
"""Given where nobody asks for more: a small image's program needs room of its own."""
MAX_MEMORY_MIB: Final = 1 << 32
"""2^52 bytes: processors have no longer physical addresses."""
MEMORY_PER_IMAGE: Final = 4
"""nitro-cli's rule (nitro-tools 6.2)."""
USUAL_CPUS: Final = 2
SUFFIXES: Final = {"": 1, "M": 1, "G": 1 << 10, "T": 1 << 20}
MIN_CID: Final = 4
MAX_CID: Final = 0xFFFF_FFFE


class _BuildFailed(Exception):  # noqa: N818 -- the builder has said why
    """No image could be built."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    image = parser.add_argument(
        "image", metavar="IMAGE", help="an EIF, or what 'cloister image build' makes one of"
    )
    image.complete = FILES  # type: ignore[attr-defined] # shtab's way
    parser.add_argument("--cpus", metavar="N", type=_count, help="number of CPUs; default: 2 if there are")
    parser.add_argument(
        "--memory", metavar="M", type=_memory, help="MiB, or with M, G, T; default: 4 times the image, 256"
    )
    parser.add_argument(
        "--debug", "--console", action="store_true", help="debug mode: show the console; documents show zeros"
    )
    parser.add_argument("--name", metavar="N", help="name of the enclave; default: the image's")
    parser.add_argument("--cid", metavar="C", type=_cid, help="context id, from 4; default: the first free")
    parser.add_argument(
        "--role-arn", metavar="ARN", type=_role, help="the role that PCR3 is made of; default: the host's"
    )
    parser.add_argument(
        "--document-map",
        choices=DOCUMENT_MAPS,
        help="how documents are encoded: as AWS since June 2025, or before; default: the host's way",
    )
    parser.add_argument(
        "--detach", "-d", action="store_true", help="print the id of the booted enclave and leave it running"
    )
    parser.add_argument(
        "--restart", metavar="POLICY", default="no", help="no (default), always, on-failure, on-failure:N"
    )
    parser.add_argument("--timeout", metavar="S", type=seconds, help="end the enclave after so many seconds")
    build = parser.add_argument_group("when an image has to be built")
    build.add_argument("--cmd", metavar="COMMAND", help="what to run: shell words or a JSON array")
    build.add_argument("--env", metavar="K=V", action="append", default=[], help="set a variable; repeatable")
    build.add_argument("--offline", action="store_true", help="for enclave.toml: use what is cached, or fail")
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run the image and return the code of the table."""
    try:
        policy = RestartPolicy.parse(args.restart)
    except RunningError as error:
        args.usage_error(str(error))
    if args.detach and (policy.mode != "no" or args.timeout is not None):
        args.usage_error("--restart and --timeout need this command to stay: not with --detach")
    if not args.image:  # an unset variable of a script; '.' is the directory one is in
        args.usage_error("IMAGE is empty")
    places = current_places()
    with Signals() as signals:
        if args.timeout is not None:
            signals.limit(args.timeout)
        try:
            with _image(args, places, signals) as (eif, name):
                request = _request(args, eif, name)
                if args.detach:
                    return _run_detached(request, places, signals)
                return _run_attached(request, policy, places, signals)
        except _BuildFailed:
            pass
        except EnclaveFailure as failure:
            _say(f"{' '.join(failure.message.split())} [{failure.code}]")
        except (CloisterError, OSError) as error:
            _say(str(error))
        return signals.exit_code or FAILED


def _run_detached(request: RunRequest, places: Places, signals: Signals) -> int:
    description = start(request, places)
    name, enclave_id = str(description["EnclaveName"]), str(description["EnclaveID"])
    if signals.exit_code is not None:
        stop_enclaves(places, [entry for entry in [find_enclave(places, enclave_id).entry] if entry], 10.0)
        return signals.exit_code
    print(enclave_id, flush=True)
    _say(f"{name} runs with CID {description['EnclaveCID']}; 'cloister stop {name}' ends it.")
    return 0


def _run_attached(request: RunRequest, policy: RestartPolicy, places: Places, signals: Signals) -> int:
    if not request.debug:
        _say("production mode has no console; --debug shows what is printed, and documents show zeros then.")
    output = Output(sys.stdout.fileno()) if request.debug else None
    back_off, ran = BackOff(), False
    while True:
        try:
            outcome = run_in_foreground(request, places, signals, output, _say)
            ran = True
        except EnclaveFailure as failure:
            if not ran:  # what never started will not start by trying again
                raise
            outcome = Outcome(FAILED, f"{request.wanted_name}: {' '.join(failure.message.split())}", 0.0)
        if outcome.code != 0:
            _say(outcome.sentence)
        back_off.ended(outcome.lasted)
        stopped = signals.exit_code is not None or outcome.is_stopped
        if stopped or not policy.wants(outcome.code, back_off.restarts):
            return outcome.code
        seconds = back_off.pause()
        most = "" if policy.most is None else f" of {policy.most}"
        _say(f"restarting {request.wanted_name} in {seconds:g} s (restart {back_off.restarts}{most})")
        if not signals.pause(seconds):
            return signals.exit_code or FAILED


@contextmanager
def _image(args: argparse.Namespace, places: Places, signals: Signals) -> Iterator[tuple[Path, str]]:
    """Give the image file and the enclave's name; one that had to be built is removed with the block."""
    path = Path(args.image)
    if _is_eif(path):
        if args.cmd is not None or args.env:
            raise RunningError(
                f"{path} is an EIF: its command and environment are part of what is measured; "
                "--cmd and --env are for building one."
            )
        yield path, args.name or _name(path.name)
        return
    name = args.name or default_name(args.image)
    places.artifacts.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=places.artifacts, prefix="run-") as scratch:
        eif = Path(scratch, f"{name.replace('/', '-')[:100]}.eif")
        _build(args, eif, signals)
        yield eif, name


def _is_eif(path: Path) -> bool:
    try:
        if not path.is_file():  # 'cloister image build' says what is wrong with it, if anything
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise RunningError(f"The image {path} cannot be read: {error.strerror}.") from None


def default_name(source: str) -> str:
    """Return what the enclave of a source is called; raises FetchError."""
    return _name(_base(source))


def _base(source: str) -> str:
    """Return the image's name, or the file's in ``PATH`` or ``TRANSPORT:PATH[:NAME]``; raises FetchError."""
    from cloister.fetch import image_named  # noqa: PLC0415 -- brings HTTP along, which no EIF needs

    if (image := image_named(source)) is not None:
        return image.short.rpartition("/")[2]
    if not Path(source).exists() and (match := re.match(r"[a-z-]+:([^:]+)", source)):
        source = match[1]
    return Path(source).resolve().name


def _name(file: str) -> str:
    stem = re.sub(r"(\.(eif|tar|tgz|gz|oci))+$", "", file)
    return stem or "enclave"


def _build(args: argparse.Namespace, eif: Path, signals: Signals) -> None:
    """Build in a process of its own: a supervisor is forked from this one and should carry no builder."""
    words = [sys.executable, "-m", "cloister.cli.main", "image", "build", args.image, "--output", str(eif)]
    words += [] if args.cmd is None else [f"--cmd={args.cmd}"]
    words += [f"--env={assignment}" for assignment in args.env]
    words += ["--offline"] if args.offline else []
    if signals.exit_code is not None:
        raise RunningError("Interrupted before the image was built.")
    # in a session of its own, it gets a terminal's Ctrl-C once: from here
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True) as process:
        builder = os.pidfd_open(process.pid)
        try:
            signals.aim(builder)
            status = process.wait()
        finally:
            signals.aim(None)
            os.close(builder)
    if signals.exit_code is not None:
        raise RunningError("Interrupted while the image was built.")
    if status < 0:
        raise RunningError(f"The builder of {args.image} was killed by signal {-status}.")
    if status != 0:
        raise _BuildFailed


def _request(args: argparse.Namespace, eif: Path, name: str) -> RunRequest:
    size = eif.stat().st_size
    memory = args.memory
    if memory is None:
        memory = max(MIN_MEMORY_MIB, -(-size * MEMORY_PER_IMAGE >> 20))
        _say(
            f"{memory} MiB of memory for an image of {size / (1 << 20):.1f} MiB: "
            f"{MEMORY_PER_IMAGE} times as much, at least {MIN_MEMORY_MIB}; --memory sets it."
        )
    return RunRequest(
        eif_path=eif,
        memory_mib=memory,
        cpu_count=args.cpus or min(USUAL_CPUS, len(os.sched_getaffinity(0))),
        cid=args.cid,
        debug=args.debug,
        name=name,
        role_arn=args.role_arn,
        document_map=args.document_map,
    )


def _role(text: str) -> str:
    from cloister.trust import check_role_arn  # noqa: PLC0415 -- brings the cryptography along

    try:
        check_role_arn(text)
    except CloisterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) is None or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text[:50]}' is not a number of CPUs from 1")
    return int(text)


def _memory(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})([MmGgTt]?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"'{text[:50]}' is not a size: expected MiB, or a number with M, G, T"
        )
    mib = int(match[1]) * SUFFIXES[match[2].upper()]
    if mib > MAX_MEMORY_MIB:
        raise argparse.ArgumentTypeError(f"'{text}' is more than the {MAX_MEMORY_MIB} MiB that there can be")
    return mib


def _cid(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) is None or not MIN_CID <= int(text) <= MAX_CID:
        raise argparse.ArgumentTypeError(f"'{text[:50]}' is not a CID from {MIN_CID} to {MAX_CID}")
    return int(text)


def _say(text: str) -> None:
    with suppress(OSError):  # whoever closed standard error does not want to know
        print(f"cloister: {text}", file=sys.stderr, flush=True)
