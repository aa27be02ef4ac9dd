"""``vsock-proxy``: AWS's command line, messages and exit codes (nitro-tools section 7)."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from cloister import __version__
from cloister.errors import CloisterError
from cloister.proxy import Destination, Proxy, ProxyError, find_destination, load_allowlist, resolver

DEFAULT_CONFIG = "/etc/nitro_enclaves/vsock-proxy.yaml"
_LEVELS = {"error": "ERROR", "warn": "WARNING", "info": "INFO", "debug": "DEBUG", "trace": "DEBUG"}

log = logging.getLogger("vsock_proxy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxy; 0 after SIGTERM or SIGINT, 1 for an error, 2 for wrong usage."""
    args = _parser().parse_args(argv)
    level = _LEVELS.get(os.environ.get("RUST_LOG", "error").rpartition("=")[2].lower(), "ERROR")
    logging.basicConfig(level=level, format="[%(asctime)s %(levelname)s vsock_proxy] %(message)s", force=True)
    try:
        local_port = _number(args.local_port, 32, "Local port is not valid")
        remote_port = _number(args.remote_port, 16, "Remote port is not valid")
        if _number(args.num_workers, 64, "Number of workers is not valid") == 0:
            raise ProxyError("Number of workers must not be 0")
        family = socket.AF_INET if args.ipv4 else socket.AF_INET6 if args.ipv6 else socket.AF_UNSPEC
        destination = _allowed(args.remote_addr, remote_port, Path(args.config), family)
        return asyncio.run(_serve(local_port, destination, family))
    except CloisterError as error:
        print(f'Error: "{error}"', file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vsock-proxy", description="Vsock-TCP proxy", allow_abbrev=False)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("-4", "--ipv4", action="store_true", help="Force the proxy to use IPv4 addresses only.")
    only.add_argument("-6", "--ipv6", action="store_true", help="Force the proxy to use IPv6 addresses only.")
    parser.add_argument(
        "-w",
        "--num_workers",
        default="4",
        metavar="workers",
        help="Accepted for compatibility: no connection waits for a worker here. [default: 4]",
    )
    parser.add_argument(
        "--config",
        default=DEFAULT_CONFIG,
        metavar="config_file",
        help=f"YAML file containing the services that can be forwarded. [default: {DEFAULT_CONFIG}]",
    )
    parser.add_argument("-V", "--version", action="version", version=f"Vsock-TCP proxy {__version__}")
    parser.add_argument("local_port", help="Local Vsock port to listen for incoming connections.")
    parser.add_argument("remote_addr", help="Address of the server to be proxyed.")
    parser.add_argument("remote_port", help="Remote TCP port of the server to be proxyed.")
    return parser


def _number(text: str, bits: int, message: str) -> int:
    """Parse an unsigned integer as AWS's tool does; raises ProxyError with its message."""
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()) or int(digits[:32]) >= 1 << bits:
        raise ProxyError(message)
    return int(digits)


def _allowed(host: str, port: int, config: Path, family: socket.AddressFamily) -> Destination:
    log.info("Checking allowlist configuration")
    try:
        return find_destination(load_allowlist(config), host, port, resolver(family))
    except ProxyError as error:
        raise ProxyError(f"Error at checking the allowlist: {error}") from error


async def _serve(local_port: int, destination: Destination, family: socket.AddressFamily) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        proxy = Proxy(local_port, destination, family=family)
    except CloisterError as error:
        raise ProxyError(
            f"Could not listen for connections: Could not bind to port {local_port}: {error}"
        ) from error
    log.info("Proxy is now in listening state")
    serving = asyncio.create_task(proxy.serve())
    await stopped.wait()
    serving.cancel()
    await proxy.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
