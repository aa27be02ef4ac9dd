"""What runs in each sandbox, with that sandbox's Python: lay a tree out, build every image, say where we are.

``python inside.py PLAN``, a JSON file that ``sandboxes`` writes. The standard library and the product,
nothing else.
"""

import json
import locale
import os
import platform
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def lay_out(root: Path, entries: list[dict[str, Any]], *, backwards: bool) -> None:
    """Make a tree, files and links in the order given or the other way round, with other times and owners."""
    root.mkdir()
    for entry in [item for item in entries if item["kind"] == "directory"]:
        at(root, entry).mkdir()
    others = [item for item in entries if item["kind"] != "directory"]
    for entry in reversed(others) if backwards else others:
        path, content = at(root, entry), bytes.fromhex(entry["content"])
        match entry["kind"]:
            case "file":
                path.write_bytes(content)
            case "sparse":
                path.touch()
                os.truncate(path, int(content))
            case "symlink":
                path.symlink_to(os.fsdecode(content))
            case "fifo":
                os.mkfifo(path)
    for entry in [item for item in others if item["kind"] == "hardlink"]:
        at(root, entry).hardlink_to(root / os.fsdecode(bytes.fromhex(entry["content"])))
    for entry in reversed(entries):
        path = at(root, entry)
        if os.geteuid() == 0 and not backwards:
            os.chown(path, 1234, 99, follow_symlinks=False)
        if entry["kind"] not in ("symlink", "hardlink"):
            path.chmod(entry["mode"])
        if backwards:
            os.utime(path, (1, 1_000_000_000), follow_symlinks=False)


def at(root: Path, entry: dict[str, Any]) -> Path:
    """Return where an entry is."""
    return root / os.fsdecode(bytes.fromhex(entry["name"]))


def build(verb: str, words: list[str], environment: dict[str, str]) -> int:
    """Run a command of the product in this process."""
    module = {"cloister": "cloister.cli.main", "nitro-cli": "cloister.cli.nitro.main"}[verb]
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        code: int = import_module(module).main([os.fsdecode(bytes.fromhex(word)) for word in words])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os.environ.clear()
        os.environ.update(before)
    return code


def file_system(directory: Path) -> str:
    """Return the kind of file system that a directory is on (proc_pid_mountinfo(5))."""
    shown = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    device = directory.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = [line.partition(" - ") for line in shown.splitlines()]
    return next((kind.split()[0] for where, _, kind in lines if where.split()[2] == number), "unknown")


def main() -> int:
    """Follow the plan; what differs between sandboxes goes to ``facts.json``."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="ascii"))
    os.umask(plan["umask"])
    tree = Path(plan["work"], "tree")
    lay_out(tree, plan["entries"], backwards=plan["backwards"])
    os.chdir(plan["directory"])
    for name, verb, words, environment in plan["builds"]:
        if code := build(verb, words, environment):
            print(f"{name} ended with {code}", file=sys.stderr)
            return 1
    facts = {
        "python": platform.python_version(),
        "hostname": platform.node(),
        "c library": os.confstr("CS_GNU_LIBC_VERSION"),
        "encoding": sys.getfilesystemencoding(),
        "locale": locale.setlocale(locale.LC_ALL, ""),
        "listed": [os.fsencode(path.name).hex() for path in tree.iterdir()],
        "umask": os.umask(0),
        "user": os.geteuid(),
        "hash": hash("a string"),
        "zone": time.strftime("%Z %z"),
        "file system": file_system(tree),
    }
    Path(plan["out"], "facts.json").write_text(json.dumps(facts), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
