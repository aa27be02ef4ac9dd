"""``nitro-cli run-enclave``: start an enclave. Spec: nitro-tools 1.3, 1.4, 1.6, 1.8."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from cloister.cli.nitro.errors import NitroCliError
from cloister.control import EnclaveFailure
from cloister.places import Places, current_places
from cloister.resources import PoolError, load_pool
from cloister.supervisor import RunRequest, launch

U32_MAX = 0xFFFF_FFFF
RESERVED_CIDS = (1, 2, 3, U32_MAX)
SUFFIXES = {"": 1, "M": 1, "G": 1 << 10, "T": 1 << 20}
MAX_CONFIG = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's options; which go together is checked by `run`, for the configuration file counts too."""
    parser.add_argument("--cpu-ids", nargs="+", metavar="cpu-ids", help="CPUs to give to the enclave")
    parser.add_argument("--cpu-count", metavar="cpu-count", help="number of CPUs to give to the enclave")
    parser.add_argument("--memory", metavar="memory", help="memory in MiB, or with the suffix M, G or T")
    parser.add_argument("--eif-path", metavar="eif-path", help="path of the enclave image file")
    parser.add_argument(
        "--enclave-cid", metavar="enclave-cid", help="CID for the enclave; default: automatic"
    )
    parser.add_argument("--debug-mode", action="store_true", help="give the enclave a console")
    parser.add_argument("--attach-console", action="store_true", help="attach to the console (debug mode)")
    parser.add_argument("--enclave-name", metavar="enclave-name", help="name of the enclave")
    parser.add_argument("--config", metavar="json-config", help="file to take everything from")
    parser.set_defaults(parser=parser)


def run(args: argparse.Namespace) -> int:
    """Start an enclave; prints its description on stdout and what goes on on stderr."""
    _check_usage(args, args.parser)
    attach = bool(args.attach_console)
    if args.config is not None:
        request, attach = read_config(Path(args.config), attach=attach)
    else:
        request = request_from(args)
    places = current_places()
    _say_relaxed(places)
    try:
        description = _launch(request, places)
    except EnclaveFailure as failure:
        cause = NitroCliError(failure.code, failure.message, action=failure.action)
        raise NitroCliError(
            "E39",
            "Enclave process connection failure. The process of the enclave has ended; its error is above.",
            action="Run enclave",
        ) from cause
    print(json.dumps(description, indent=2), flush=True)
    if attach:
        from cloister.cli.nitro.console import attach_console  # noqa: PLC0415 -- start-up time of the rest

        attach_console(int(description["EnclaveCID"]), None)
    return 0


def _launch(request: RunRequest, places: Places) -> dict[str, Any]:
    for news in launch(request, places):
        if news.description is not None:
            return news.description
        print(news.text, file=sys.stderr, flush=True)
    raise EnclaveFailure("E36", "Enclave boot failure. The enclave's process said nothing.")


def _say_relaxed(places: Places) -> None:
    try:
        pool = load_pool(places.run)
    except PoolError:
        return  # launching fails with it
    if pool is None:
        text = "no CPU pool is configured (relaxed mode)"
    elif pool.relaxed:
        text = "the CPU pool is relaxed"
    else:
        return
    print(f"Note: {text}: the enclave shares its CPUs with this host.", file=sys.stderr)


def _check_usage(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Apply clap's conflicts and requirements; exits with 2."""
    if args.config is not None:
        for name in ("cpu_ids", "cpu_count", "memory", "eif_path", "enclave_cid", "enclave_name"):
            if getattr(args, name) is not None:
                parser.error(f"argument --{name.replace('_', '-')} cannot be used with --config")
        if args.debug_mode:
            parser.error("argument --debug-mode cannot be used with --config")
        return
    if args.cpu_ids is not None and args.cpu_count is not None:
        parser.error("argument --cpu-count cannot be used with --cpu-ids")
    missing = [
        f"--{name}" for name in ("memory", "eif-path") if getattr(args, name.replace("-", "_")) is None
    ]
    if args.cpu_ids is None and args.cpu_count is None:
        missing.append("<--cpu-count | --cpu-ids | --config>")
    if missing:
        parser.error(f"the following required arguments were not provided: {', '.join(missing)}")


def request_from(args: argparse.Namespace) -> RunRequest:
    """Read the options' values; raises NitroCliError E03."""
    ids = None if args.cpu_ids is None else tuple(_integer("cpu-ids", word) for word in args.cpu_ids)
    count = None if args.cpu_count is None else _integer("cpu-count", args.cpu_count)
    cid = None if args.enclave_cid is None else _integer("enclave-cid", args.enclave_cid, most=(1 << 64) - 1)
    return RunRequest(
        eif_path=Path(args.eif_path),
        memory_mib=parse_memory(args.memory),
        cpu_ids=ids,
        cpu_count=count,
        cid=check_cid(cid),
        debug=bool(args.debug_mode or args.attach_console),
        name=args.enclave_name,
    )


def parse_memory(text: str) -> int:
    """Return MiB; raises NitroCliError E03."""
    match = re.fullmatch(r"([0-9]{1,15})([MmGgTt]?)", text, re.ASCII)
    if match is None:
        raise NitroCliError(
            "E03",
            "Invalid argument provided. The parameter `memory` is not a valid integer "
            f"(`{text}`): expected MiB, or a number with the suffix M, G or T.",
            action="Parse memory",
        )
    return int(match[1]) * SUFFIXES[match[2].upper()]


def check_cid(cid: int | None) -> int | None:
    """Return the CID to ask for, None for an automatic one; raises NitroCliError E03."""
    if cid == 0:
        print("The enclave CID will be auto-generated as the provided CID is 0", file=sys.stderr)
        return None
    if cid is not None and (cid in RESERVED_CIDS or cid > U32_MAX):
        raise NitroCliError(
            "E03",
            f"Invalid argument provided. The parameter `enclave-cid` is not a valid CID (`{cid}`): "
            f"{', '.join(map(str, RESERVED_CIDS))} and numbers above {U32_MAX} cannot be an enclave's.",
            action="Parse CID",
        )
    return cid


def _integer(name: str, text: str, *, most: int = U32_MAX) -> int:
    if re.fullmatch(r"\+?[0-9]{1,20}", text, re.ASCII) is None or int(text) > most:
        raise NitroCliError(
            "E03",
            f"Invalid argument provided. The parameter `{name}` is not a valid integer (`{text}`)",
            action=f"Parse {name}",
        )
    return int(text)


def read_config(path: Path, *, attach: bool) -> tuple[RunRequest, bool]:
    """Read a configuration file; raises NitroCliError E01, E02, E03, E17, E19."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG + 1)
    except OSError as error:
        raise NitroCliError(
            "E19",
            f"File operation failure. The configuration cannot be read: {error.strerror}."
            f"\nFile: '{path}', failing operation: 'Open'.",
            action="Open config file",
        ) from None
    try:
        fields = json.loads(text[:MAX_CONFIG])
        config = _Config(fields)
    except (ValueError, RecursionError, _FieldError) as error:
        raise NitroCliError(
            "E17", f"Serde error. The configuration {path} is not valid: {error}.", action="Parse config file"
        ) from None
    if config.cpu_ids is None and config.cpu_count is None:
        raise NitroCliError(
            "E01",
            "Missing mandatory argument. User did not provide the `cpu-ids` or `cpu-count` argument.",
            action="Parse config file",
        )
    if config.cpu_ids is not None and config.cpu_count is not None:
        raise NitroCliError(
            "E02",
            "Conflicting arguments. User provided both `cpu-ids` and `cpu-count`.",
            action="Parse config file",
        )
    attach = attach or config.attach
    request = RunRequest(
        eif_path=Path(config.eif_path),
        memory_mib=config.memory_mib,
        cpu_ids=config.cpu_ids,
        cpu_count=config.cpu_count,
        cid=check_cid(config.cid),
        debug=config.debug or attach,
        name=config.name,
    )
    return request, attach


class _FieldError(ValueError):
    """A field of the configuration is missing or of the wrong type."""


class _Config:
    """The fields of nitro-tools 1.3; unknown ones are ignored."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise _FieldError("it is not an object")
        self._fields = fields
        self.eif_path: str = self._take("eif_path", str, required=True)
        self.memory_mib: int = self._unsigned("memory_mib", (1 << 64) - 1, required=True)
        self.cid: int | None = self._unsigned("enclave_cid", (1 << 64) - 1)
        self.cpu_count: int | None = self._unsigned("cpu_count", U32_MAX)
        ids = self._take("cpu_ids", list)
        if ids is not None and not all(type(cpu) is int and 0 <= cpu <= U32_MAX for cpu in ids):
            raise _FieldError("`cpu_ids` is not a list of CPU numbers")
        self.cpu_ids: tuple[int, ...] | None = None if ids is None else tuple(ids)
        self.debug = bool(self._take("debug_mode", bool))
        self.attach = bool(self._take("attach_console", bool))
        self.name: str | None = self._take("enclave_name", str)

    def _take(self, name: str, kind: type, *, required: bool = False) -> Any:
        value = self._fields.get(name)
        if value is None and not required:
            return None
        if type(value) is not kind:
            raise _FieldError(f"`{name}` is {json.dumps(value)}; expected {kind.__name__}")
        return value

    def _unsigned(self, name: str, most: int, *, required: bool = False) -> Any:
        value = self._take(name, int, required=required)
        if value is not None and not 0 <= value <= most:
            raise _FieldError(f"`{name}` is {value}; expected 0 to {most}")
        return value
