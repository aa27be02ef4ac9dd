"""The house rules: who may import whom, which rooms stay pure, how big a file may grow.

ARCHITECTURE.md explains the plan; this file enforces it.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "cloister"

# Every room may import `errors`; everything else is listed.
MAY_IMPORT = {
    "errors": "",
    "pcrs": "", "cose": "", "cms": "", "vsock": "", "aws": "", "pki": "", "vhost": "", "places": "",
    "mapped": "",
    "eif": "cose mapped",
    "measure": "eif mapped pcrs",
    "cpio": "mapped",
    "audit": "eif cpio mapped pcrs",
    "attestation": "cose pcrs pki",
    "nsm": "cose pcrs attestation",
    "transport": "vsock places",
    "devices": "vhost vsock nsm",
    "packages": "places",
    "tokens": "",
    "trust": "pki places attestation nsm tokens",
    "kit": "packages places",
    "rootfs": "packages places",
    "vmm": "places",
    "fetch": "",
    "build": "eif measure pcrs pki kit",
    "signers": "build eif tokens",
    "log_levels": "",
    "flight": "",
    "inspection": "",
    "resources": "places",
    "control": "transport places flight resources",
    "supervisor": "log_levels control flight vmm devices vhost nsm trust eif measure mapped pcrs"
    " transport places resources",
    "running": "control flight supervisor transport places",
    "kms": "aws attestation cms pki pcrs cose places",
    "proxy": "transport",
    "sdk": "nsm attestation cms cose aws transport",
    "demo": "*",
    "setup": "packages kit vmm rootfs trust kms places build resources",
    "cli": "*",
}  # fmt: skip

PURE = {
    "errors",
    "log_levels",
    "pcrs",
    "cose",
    "cms",
    "vsock",
    "aws",
    "pki",
    "mapped",
    "eif",
    "cpio",
    "audit",
    "measure",
    "attestation",
    "nsm",
}
WORLD = {"asyncio", "http", "multiprocessing", "os", "random", "secrets", "select", "shutil", "socket"} | {
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
NOT_ROOMS = ("__init__", "__main__", "examples", "guest")
FORBIDDEN_NAMES = {"utils", "common", "helpers", "base", "manager", "handler", "data", "misc"}


def room_of(path: Path) -> str:
    """Return the room a file stands in."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Return a file's syntax tree, flat."""
    return list(ast.walk(ast.parse(path.read_text())))


def imported(path: Path) -> Iterator[str]:
    """Yield every name a module imports, `cloister.room.thing` in full."""
    for node in nodes(path):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{n.name}" for n in names)
            case ast.ImportFrom():
                pytest.fail(f"{path}: imports are absolute in this house")


FILES = [path for path in sorted(SRC.rglob("*.py")) if "examples" not in path.relative_to(SRC).parts]
MODULES = [
    pytest.param(room_of(path), path, id=str(path.relative_to(SRC)))
    for path in FILES
    if room_of(path) not in NOT_ROOMS
]


def test_the_plan_is_acyclic() -> None:
    """Rooms can be built in some order."""
    rooms = set(MAY_IMPORT) - {"cli"}
    order = list(TopologicalSorter({r: rooms & set(MAY_IMPORT[r].split()) for r in rooms}).static_order())
    assert set(order) == rooms


@pytest.mark.parametrize(("room", "path"), MODULES)
def test_room_imports_only_its_neighbours(room: str, path: Path) -> None:
    """A module imports its own room, `errors`, and the rooms the plan names."""
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("cloister.")} - {"__version__"}
    allowed = set(MAY_IMPORT) if MAY_IMPORT[room] == "*" else {room, "errors", *MAY_IMPORT[room].split()}
    assert rooms <= allowed


@pytest.mark.parametrize(("room", "path"), MODULES)
def test_rooms_are_entered_by_the_front_door(room: str, path: Path) -> None:
    """Across rooms only `from cloister.room import Name` is used, never a room's inner module."""
    foreign = [name for name in imported(path) if name.startswith("cloister.") and name.split(".")[1] != room]
    assert not [name for name in foreign if name.count(".") > 2]


@pytest.mark.parametrize(("room", "path"), MODULES)
def test_pure_room_does_not_touch_the_world(room: str, path: Path) -> None:
    """Formats and judgements take bytes, clocks and randomness as arguments."""
    if room in PURE:
        assert not {name.split(".")[0] for name in imported(path)} & WORLD
        assert "datetime.now(" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_fits_in_a_head(path: Path) -> None:
    """No module outgrows 400 lines, no function 50, and no name hides what is inside."""
    source = path.read_text()
    assert source.count("\n") <= 400
    assert path.stem not in FORBIDDEN_NAMES
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 50, node.name
