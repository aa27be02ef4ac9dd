"""``cloister kit``: the kernel, init and command line that images are built from."""

import argparse
import json
from pathlib import Path

from cloister.cli.progress import show_progress
from cloister.kit import (
    ARCHITECTURES,
    Kit,
    KitMissingError,
    build_kit,
    choose_kit,
    export_kit,
    find_kit,
    import_kit,
    list_kits,
    use_kit,
)
from cloister.places import Places, current_places, own_architecture

HELP = """The guest kit: build it from the distribution's kernel source, move it between hosts, choose one.

A kit is named by the SHA-256 of its manifest, which names every file by its own SHA-256.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs."""
    verbs = parser.add_subparsers(dest="kit_verb", metavar="VERB", required=True)
    build = verbs.add_parser("build", help="build the kit from source and use it")
    build.add_argument(
        "--arch",
        choices=ARCHITECTURES,
        default=own_architecture(),
        help="the enclaves' architecture (default: this host's)",
    )
    build.add_argument("--offline", action="store_true", help="use only what is in the cache")
    verbs.add_parser("list", help="list the kits of this host")
    use = verbs.add_parser("use", help="make a kit the one in use")
    use.add_argument("digest", help="its digest, or the beginning of it")
    show = verbs.add_parser("show", help="print a kit's manifest")
    show.add_argument(
        "digest", nargs="?", default="", help="its digest, or the beginning of it (default: in use)"
    )
    export = verbs.add_parser("export", help="write a kit to one file, the same bytes every time")
    export.add_argument("file", type=Path, help="the file to write")
    export.add_argument(
        "--digest", default="", help="the kit's digest, or the beginning of it (default: in use)"
    )
    load = verbs.add_parser("import", help="read a kit from a file, check it and use it")
    load.add_argument("file", type=Path, help="the file to read")
    load.add_argument("--digest", default="", help="refuse any kit but this one")


def run(args: argparse.Namespace) -> int:
    """Do one sub-verb."""
    places = current_places()
    match args.kit_verb:
        case "build":
            with show_progress("guest kit") as report:
                kit = build_kit(places, progress=report, architecture=args.arch, offline=args.offline)
            print(_describe(kit, used=True))
        case "list":
            _list(places)
        case "use":
            kit = choose_kit(places, args.digest)
            use_kit(places, kit)
            print(_describe(kit, used=True))
        case "show":
            kit = _chosen(places, args.digest)
            kit.verify()
            print(json.dumps({"digest": kit.digest, **json.loads(kit.manifest.to_bytes())}, indent=2))
        case "export":
            kit = _chosen(places, args.digest)
            export_kit(kit, args.file)
            print(f"{args.file}: {_describe(kit, used=False)}")
        case "import":
            kit = import_kit(places, args.file, digest=args.digest or None)
            use_kit(places, kit)
            print(_describe(kit, used=True))
    return 0


def _chosen(places: Places, digest: str) -> Kit:
    return choose_kit(places, digest) if digest else find_kit(places)


def _list(places: Places) -> None:
    in_use = set()
    for architecture in ARCHITECTURES:
        try:
            in_use.add(find_kit(places, architecture).digest)
        except KitMissingError:
            continue
    for kit in list_kits(places):
        print(_describe(kit, used=kit.digest in in_use))


def _describe(kit: Kit, *, used: bool) -> str:
    source = f"{kit.manifest.source_package} {kit.manifest.source_version}"
    return (
        f"{kit.digest}  {kit.architecture}  Linux {kit.kernel_version} ({source}){'  in use' if used else ''}"
    )
