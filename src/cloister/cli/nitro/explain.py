"""``nitro-cli explain``: what an error code means. Codes: nitro-tools 1.9.

The original does not know E57 to E59; whoever meets one here can look it up.
"""

import argparse
import sys

EXPLANATIONS = {
    "E00": ("Unspecified error", "something failed that has no number of its own; the message says what"),
    "E01": ("Missing mandatory argument", "an argument that the command cannot do without was not given"),
    "E02": ("CLI conflicting arguments", "two arguments were given of which only one can be meant"),
    "E03": ("Invalid argument provided", "an argument has a value that is not of its kind or range"),
    "E04": ("Socket pair creation failure", "no channel to the enclave's process could be made"),
    "E05": ("Process spawn failure", "the enclave's process could not be started"),
    "E06": ("Daemonize process failure", "the enclave's process could not leave the terminal"),
    "E07": ("Read from disk failure", "a file could not be read"),
    "E08": ("Unusable connection error", "a connection was there, but could not be used"),
    "E09": ("Socket close error", "a socket could not be closed"),
    "E10": ("Socket connect timeout error", "the other side of a socket did not answer in time"),
    "E11": ("Socket error", "a socket failed; often: there is no enclave with that id"),
    "E12": ("Epoll error", "waiting for events failed"),
    "E13": ("Inotify error", "watching the enclave's socket failed"),
    "E14": ("Invalid command", "the enclave's process got a command it does not know"),
    "E15": ("Lock acquire failure", "a lock could not be taken"),
    "E16": ("Thread join failure", "a thread did not end as it should"),
    "E17": ("Serde error", "a document, such as a configuration file, is not valid JSON of its form"),
    "E18": ("File permissions error", "a file's permissions could not be changed"),
    "E19": ("File operation failure", "a file or directory could not be opened, made or written"),
    "E20": ("Invalid CPU configuration", "the same CPU was named more than once"),
    "E21": ("No such CPU available in the pool", "a CPU was named that the pool does not have"),
    "E22": ("Insufficient CPUs available in the pool", "more CPUs were asked for than the pool has"),
    "E23": ("Malformed CPU ID error", "the list of CPUs cannot be read"),
    "E24": ("CPU error", "the CPUs of this host cannot be told"),
    "E25": ("No such hugepage flag error", "a huge page size that does not exist was asked for"),
    "E26": ("Insufficient memory requested", "an enclave needs at least four times its image's size"),
    "E27": ("Insufficient memory available", "more memory was asked for than this host can give"),
    "E28": ("Invalid enclave descriptor", "the virtual machine could not be created"),
    "E29": ("Ioctl failure", "the hypervisor refused to start the enclave; the message says why"),
    "E30": ("Ioctl image get load info failure", "where the image belongs in memory could not be told"),
    "E31": ("Ioctl set memory region failure", "memory could not be given to the enclave"),
    "E32": ("Ioctl add vCPU failure", "a CPU could not be given to the enclave"),
    "E33": ("Ioctl start enclave failure", "the enclave could not be started"),
    "E34": ("Memory overflow", "the image does not fit where it should"),
    "E35": ("EIF file parsing error", "the file is not an enclave image, or it is damaged"),
    "E36": ("Enclave boot failure", "the enclave sent no heartbeat; its console tells more in debug mode"),
    "E37": ("Enclave event wait error", "waiting for the enclave's events failed"),
    "E38": ("Enclave process command not executed", "the enclave's process refused a command"),
    "E39": ("Enclave process connection failure", "the enclave's process cannot be reached, or is gone"),
    "E40": ("Socket path not found", "the directory of the enclaves' sockets does not exist"),
    "E41": ("Enclave process send reply failure", "the enclave's process could not answer"),
    "E42": ("Enclave mmap error", "the enclave's memory could not be mapped"),
    "E43": ("Enclave munmap error", "the enclave's memory could not be unmapped"),
    "E44": ("Enclave console connection failure", "there is a console in debug mode only"),
    "E45": ("Enclave console read error", "the console's connection broke"),
    "E46": ("Enclave console write output error", "the console's output could not be written here"),
    "E47": ("Integer parsing error", "a number was expected"),
    "E48": ("EIF building error", "the enclave image could not be built"),
    "E49": ("Docker image build error", "the image could not be built from its Dockerfile"),
    "E50": ("Docker image pull error", "the image could not be fetched"),
    "E51": ("Artifacts path environment variable not set", "set NITRO_CLI_ARTIFACTS or HOME"),
    "E52": ("Blobs path environment variable not set", "set NITRO_CLI_BLOBS"),
    "E53": ("Clock skew error", "the system's clock cannot be right"),
    "E54": ("Signal masking error", "signals could not be held back"),
    "E55": ("Signal unmasking error", "signals could not be let through again"),
    "E56": ("Logger error", "the log could not be set up"),
    "E57": ("Hasher error", "a measurement could not be computed"),
    "E58": ("Enclave naming error", "no enclave, or more than one, has that name"),
    "E59": ("EIF signature checker error", "the image's signature or its certificate is not valid"),
    "E60": ("EIF signing error", "the image could not be signed"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare AWS's option."""
    parser.add_argument("--error-code", metavar="error-code", required=True, help="code such as E26")


def run(args: argparse.Namespace) -> int:
    """Print the explanation to stderr, as AWS does."""
    known = EXPLANATIONS.get(args.error_code)
    if known is None:
        print(f"No such error code {args.error_code}", file=sys.stderr)
    else:
        name, meaning = known
        print(f"{name}: {meaning}.", file=sys.stderr)
    return 0
