"""``nitro-enclaves-allocator``: reserve CPUs and memory for enclaves (nitro-tools 6.3).

Without options it does what AWS's does, to its messages, on stdout as there. The options are ours.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloister import __version__
from cloister.cli.streams import flush_help, open_closed_streams, silence_both, tell_failure
from cloister.errors import CloisterError
from cloister.places import current_places
from cloister.resources import (
    CONFIG,
    MAX_CONFIG,
    AllocatorError,
    ClaimError,
    HostView,
    Pool,
    RuleError,
    allocate,
    clear,
    live_claims,
    load_pool,
    locked_claims,
    parse_config,
)

DESCRIPTION = """Reserve CPUs and memory for enclaves, as the configuration file says.

The pool is made of full cores of one NUMA node, without CPU 0 and its siblings. It cannot change while an
enclave runs. Exit code 0 when everything was reserved, 1 when not (then there is no pool, and enclaves share
this host's CPUs), 2 for wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Allocate, show or clear; 0 done, 1 refused, 2 wrong usage."""
    open_closed_streams()
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except SystemExit:  # argparse's, after help or wrong usage
        flush_help()
        raise
    except BrokenPipeError:
        silence_both()
        return 1
    except OSError as error:
        tell_failure("nitro-enclaves-allocator", error)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.json and not args.show:
        _parser().error("--json goes with --show")
    run = current_places().run
    host = HostView(sysfs=args.sysfs, cgroups=args.cgroups)
    try:
        if args.show:
            return _show(run, as_json=args.json)
        if args.clear:
            clear(run, host)
            print("Cleared the Nitro Enclaves resources: there is no pool.")
            return 0
        return _allocate(args.config, run, host, relaxed=args.relaxed)
    except CloisterError as error:
        print(f"Error: {error}")
        if isinstance(error, RuleError):
            print("There is no pool now: enclaves share this host's CPUs. --relaxed makes one all the same.")
        return 1


def _parser() -> argparse.ArgumentParser:
    prefix = os.environ.get("NITRO_CLI_INSTALL_DIR", "")
    view = HostView()
    parser = argparse.ArgumentParser(
        prog="nitro-enclaves-allocator",
        description=DESCRIPTION,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        default=f"{prefix}/{CONFIG}",
        metavar="FILE",
        help="what to reserve (default: %(default)s)",
    )
    parser.add_argument(
        "--relaxed", action="store_true",
        help="where a rule for CPUs cannot be kept, break it and say so: enclaves share such a pool's CPUs",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--show", action="store_true", help="show the pool and what enclaves have of it")
    what.add_argument("--clear", action="store_true", help="give everything back")
    parser.add_argument("--json", action="store_true", help="with --show: for machines")
    parser.add_argument(
        "--sysfs", type=Path, default=view.sysfs, help="where sysfs is (default: %(default)s)"
    )
    parser.add_argument(
        "--cgroups", type=Path, default=view.cgroups, help="where cgroup v2 is (default: %(default)s)"
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"nitro-enclaves-allocator {__version__}"
    )
    return parser


def _allocate(config: str, run: Path, host: HostView, *, relaxed: bool) -> int:
    try:
        with Path(config).open("rb") as file:
            text = file.read(MAX_CONFIG + 1)
    except OSError as error:
        raise AllocatorError(f"{config} cannot be read: {error.strerror}.") from None
    if len(text) > MAX_CONFIG:
        raise AllocatorError(f"{config} is longer than {MAX_CONFIG} bytes.")
    wanted = parse_config(text.decode(errors="replace"), config)
    pool = allocate(wanted, run, host, lambda line: print(line, flush=True), relaxed=relaxed)
    for rule in pool.relaxed:
        print(f"Relaxed: {rule}.")
    for note in pool.notes:
        print(f"Note: {note}")
    print(f"Successfully allocated Nitro Enclaves resources: {wanted.memory_mib} MiB, {wanted.cpus_text}")
    return 0


def _show(run: Path, *, as_json: bool) -> int:
    pool = load_pool(run)
    shares = []
    if run.is_dir():
        with suppress(ClaimError), locked_claims(run) as directory:  # they are their owner's to look into
            shares = live_claims(directory)
    claims = [
        {"CPUIDs": list(s.cpus), "MemoryMiB": s.memory_mib, "HugePageKiB": s.huge_page_kib} for s in shares
    ]
    if as_json:
        shown = None if pool is None else _pool_json(pool)
        print(json.dumps({"Pool": shown, "Claims": claims}, indent=2))
        return 0
    if pool is None:
        print("There is no pool: enclaves share this host's CPUs and memory.")
    else:
        pages = ", ".join(f"{count} pages of {size} kB" for size, count in pool.pages) or "ordinary memory"
        print(f"CPUs {', '.join(map(str, pool.cpus))} of node {pool.node}; {pool.memory_mib} MiB ({pages})")
        for line in (*(f"Relaxed: {rule}." for rule in pool.relaxed), *pool.notes):
            print(line)
    for share in shares:
        print(f"claimed: CPUs {', '.join(map(str, share.cpus))}; {share.memory_mib} MiB")
    return 0


def _pool_json(pool: Pool) -> dict[str, Any]:
    return {
        "CPUIDs": list(pool.cpus),
        "Cores": [list(core) for core in pool.cores],
        "NUMANode": pool.node,
        "MemoryMiB": pool.memory_mib,
        "HugePages": {str(size): count for size, count in pool.pages},
        "Exclusive": pool.exclusive,
        "Partition": pool.cgroup,
        "Relaxed": list(pool.relaxed),
        "Notes": list(pool.notes),
    }


if __name__ == "__main__":
    sys.exit(main())
