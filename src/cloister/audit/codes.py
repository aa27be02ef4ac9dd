"""The table of lint codes. ``docs/reference/lint-codes.md`` is this table for readers; a test compares."""

from typing import Final, NamedTuple


class Code(NamedTuple):
    """One kind of finding."""

    severity: str
    meaning: str
    fix: str


_REBUILD: Final = "Build the image anew with a tool that writes it correctly, such as `cloister image build`."
_DAMAGED: Final = "Fetch or build the file again; it was cut short, damaged or changed by hand."
_ROTATE: Final = (
    "Take it out of the source, replace it wherever it is used, and give it to the enclave through KMS "
    "after attestation."
)

CODES: Final[dict[str, Code]] = {
    "L101": Code("error", "The file is no enclave image: too short, or another magic number.", _DAMAGED),
    "L102": Code("error", "The format's version is not 4: no checksum, signature or metadata.", _REBUILD),
    "L103": Code("error", "Unknown flags in the file's header: loaders refuse or misread it.", _REBUILD),
    "L104": Code("error", "The number of sections is not between 1 and 32.", _REBUILD),
    "L105": Code("error", "Bytes of the header that must be zero are not.", _REBUILD),
    "L106": Code(
        "error", "Bytes between sections belong to none: some readers skip, some parse them.", _REBUILD
    ),
    "L107": Code("error", "Two sections share bytes.", _REBUILD),
    "L108": Code(
        "error", "Bytes follow the last section; some readers refuse, others ignore them.", _REBUILD
    ),
    "L109": Code("error", "A section is longer than the rest of the file.", _DAMAGED),
    "L110": Code(
        "error",
        "Walking the sections and reading the header's tables give different sections: what is measured is "
        "not what is booted.",
        _REBUILD,
    ),
    "L111": Code("error", "A section of a type that nobody has defined.", _REBUILD),
    "L112": Code("error", "A section's flags are not zero.", _REBUILD),
    "L113": Code("error", "The checksum is wrong; loaders refuse the image.", _DAMAGED),
    "L114": Code("error", "A section that may be there once is there more often.", _REBUILD),
    "L115": Code("error", "Sections in an order in which registers or readers are ambiguous.", _REBUILD),
    "L116": Code("error", "There is no kernel, no command line or no ramdisk.", _REBUILD),
    "L117": Code(
        "note",
        "PCR0 hashes the sections without their lengths, so it does not say where one ends and the next "
        "begins.",
        "Name PCR0, PCR1 and PCR2 together in policies: `cloister image policy` prints such a statement.",
    ),
    "L118": Code(
        "error",
        "The beginning of a ramdisk is no archive's: its boundary can be shifted under the same PCR0.",
        _REBUILD,
    ),
    "L119": Code(
        "error",
        "The header's size of the signature is not the signature's, as nitro-cli leaves it when it signs an "
        "image again; readers that go by the header cut the signature short.",
        "Sign the image again with this project's `nitro-cli sign-eif`, which writes the header correctly.",
    ),
    "L201": Code(
        "error",
        "The kernel is not what loaders boot: a bzImage on x86_64, a flat Image on aarch64.",
        "Give the builder arch/x86/boot/bzImage or arch/arm64/boot/Image instead of vmlinux.",
    ),
    "L202": Code(
        "warning",
        "The kernel section is longer than the kernel in it, so bytes between it and the command line could "
        "belong to either.",
        "Give the builder the kernel as it was built, without anything appended.",
    ),
    "L203": Code("error", "The kernel section is shorter than the kernel says it is.", _DAMAGED),
    "L204": Code(
        "error",
        "The command line is empty of meaning to a kernel: NUL, line break, not ASCII, or too long.",
        "Give the builder one line of at most 2047 ASCII characters.",
    ),
    "L205": Code(
        "note",
        "The serial console is on, as on AWS: the parent reads it when the enclave runs in debug mode.",
        "Leave it for development; print no secrets to it.",
    ),
    "L206": Code(
        "warning",
        "The command line turns on a console or output beyond the usual serial one.",
        "Take the words out of the command line.",
    ),
    "L207": Code(
        "error",
        "The command line turns on a debugger or a shell.",
        "Take the words out of the command line.",
    ),
    "L208": Code(
        "warning",
        "The command line chooses another first program than /init.",
        "Let the first ramdisk's /init start the program.",
    ),
    "L209": Code(
        "warning",
        "The command line switches off a protection of the kernel.",
        "Take the words out of the command line.",
    ),
    "L301": Code("error", "The signature section cannot be read.", "Sign the image again."),
    "L302": Code("error", "The signature is not valid.", "Sign the image again."),
    "L303": Code("error", "The signature was made for another image.", "Sign the image again."),
    "L304": Code(
        "error",
        "The signing certificate is expired, or not valid yet: the image does not start.",
        "Sign with a certificate that is valid while the image is in use.",
    ),
    "L305": Code(
        "warning",
        "The signing certificate expires within 30 days; after that the image does not start any more.",
        "Sign with a certificate that is valid while the image is in use.",
    ),
    "L306": Code(
        "note",
        "The image is not signed: PCR8 is zero.",
        "Sign it if policies name a signer: `nitro-cli sign-eif`.",
    ),
    "L307": Code("error", "The metadata cannot be read.", _REBUILD),
    "L401": Code(
        "error",
        "A ramdisk cannot be unpacked beyond some byte; what follows is missing in the enclave.",
        _REBUILD,
    ),
    "L402": Code(
        "warning",
        "A ramdisk is compressed in a way that cannot be opened here, or unpacks to more than is examined.",
        "Build with uncompressed ramdisks, as AWS's tools do.",
    ),
    "L403": Code(
        "warning",
        "One ramdisk holds several archives; tools that stop at the first trailer see less than the kernel.",
        "Put all files of a ramdisk into one archive.",
    ),
    "L404": Code(
        "warning",
        "A name is in the ramdisk twice; the later one replaces the earlier.",
        "Build with each name once.",
    ),
    "L405": Code(
        "error",
        "A later ramdisk replaces a file of the first: PCR1 does not measure what boots.",
        "Give the customer's ramdisk no names of the bootstrap's.",
    ),
    "L406": Code(
        "warning",
        "A name is absolute or goes through `..`; careless tools write outside when they unpack it.",
        "Build with plain relative names.",
    ),
    "L407": Code(
        "error",
        "There is no /init in the first ramdisk: nothing starts.",
        "Build with a bootstrap ramdisk, such as a guest kit's.",
    ),
    "L408": Code(
        "error",
        "A file's directory is not in the ramdisk before it: the kernel leaves the file out without a word.",
        "Build with an entry for every directory.",
    ),
    "L409": Code(
        "warning",
        "A ramdisk is compressed; it was unpacked to be examined. Only a kernel that was built with that "
        "method unpacks it.",
        "Build with uncompressed ramdisks, as AWS's tools do.",
    ),
    "L501": Code(
        "warning",
        "A program runs with its owner's or group's rights, whoever starts it.",
        "Remove the bit (`chmod u-s,g-s`) unless the enclave runs programs as other users on purpose.",
    ),
    "L502": Code(
        "warning", "A file that every user of the enclave may change.", "Remove the bit: `chmod o-w`."
    ),
    "L503": Code(
        "warning",
        "A directory in which every user may replace others' files.",
        "Set the sticky bit (`chmod +t`) or remove the right to write.",
    ),
    "L504": Code(
        "warning",
        "A device node outside /dev.",
        "Leave device nodes to devtmpfs, which the init mounts on /dev.",
    ),
    "L601": Code("error", "A private key.", _ROTATE),
    "L602": Code("warning", "An encrypted private key: its passphrase is needed somewhere near.", _ROTATE),
    "L603": Code("error", "An AWS access key.", _ROTATE),
    "L604": Code("error", "A token whose form belongs to a known service.", _ROTATE),
    "L605": Code("warning", "A file where credentials are usually kept.", _ROTATE),
    "L606": Code(
        "warning", "A version-control directory: history, and whatever was ever in it.", "Leave it out."
    ),
    "L607": Code("warning", "A file of variables, where settings and secrets are kept.", _ROTATE),
    "L608": Code("warning", "A variable of the enclave whose name says that it is a secret.", _ROTATE),
    "L701": Code(
        "note",
        "How much memory the enclave needs at least.",
        "Give run-enclave at least that much with `--memory`; the program's own needs come on top.",
    ),
    "L702": Code(
        "warning",
        "The enclave needs more memory than the header's default, which some loaders go by.",
        "Make the root filesystem smaller, or always name the memory when starting the enclave.",
    ),
}
