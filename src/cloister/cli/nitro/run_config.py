"""The file of ``run-enclave --config``, read as serde reads it. Spec: nitro-tools 1.3."""

import json
from pathlib import Path
from typing import Any

from cloister.cli.nitro.errors import NitroCliError
from cloister.cli.nitro.numbers import U32_MAX, U64_MAX, check_cid
from cloister.supervisor import RunRequest

MAX_CONFIG = 1 << 20
_ACTION = "Failed to construct RunEnclave arguments"


def read_config(path: Path, *, attach: bool) -> tuple[RunRequest, bool]:
    """Read a configuration file; raises NitroCliError E01, E02, E03, E17, E19."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG)
    except OSError as error:
        raise NitroCliError(
            "E19",
            f"File operation failure. The configuration cannot be read: {error.strerror}."
            f"\nFile: '{path}', failing operation: 'Open'.",
            action=_ACTION,
        ) from None
    try:
        config = _Config(json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        raise NitroCliError(
            "E17", f"Serde error. The configuration {path} is not valid: {error}.", action=_ACTION
        ) from None
    if config.cpu_ids is None and config.cpu_count is None:
        raise NitroCliError(
            "E01",
            "Missing mandatory argument. User did not provide the `cpu-ids` or `cpu-count` argument.",
            action=_ACTION,
        )
    if config.cpu_ids is not None and config.cpu_count is not None:
        raise NitroCliError(
            "E02",
            "Conflicting arguments. User provided both `cpu-ids` and `cpu-count`.",
            action=_ACTION,
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _FieldError("a key is given twice")
    return fields


def _no_constant(text: str) -> float:
    raise _FieldError(f"{text} is not JSON")


class _Config:
    """The fields of nitro-tools 1.3; unknown ones are ignored."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise _FieldError("it is not an object")
        self._fields = fields
        self.eif_path: str = self._take("eif_path", str, required=True)
        self.memory_mib: int = self._unsigned("memory_mib", U64_MAX, required=True)
        self.cid: int | None = self._unsigned("enclave_cid", U64_MAX)
        self.cpu_count: int | None = self._unsigned("cpu_count", U32_MAX)
        ids = self._take("cpu_ids", list)
        if ids is not None and not all(type(cpu) is int and 0 <= cpu <= U32_MAX for cpu in ids):
            raise _FieldError("`cpu_ids` is not a list of CPU numbers")
        self.cpu_ids: tuple[int, ...] | None = None if ids is None else tuple(ids)
        self.debug: bool = "debug_mode" in fields and self._take("debug_mode", bool, required=True)
        self.attach: bool = "attach_console" in fields and self._take("attach_console", bool, required=True)
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
