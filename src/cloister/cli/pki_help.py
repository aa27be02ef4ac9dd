"""What the sub-verbs of ``cloister pki`` say of themselves: what each does, an example, how it ends."""

from typing import Final

EXIT_STATUSES: Final = (
    "Exit status: 0 done; 1 refused, or it could not be done; 2 wrong usage; 130 interrupted."
)

DESCRIPTIONS: Final = {
    "init": """Make this host's root of trust, unless there is one; mend what can be mended.

  cloister pki init --region eu-west-1
  cloister pki init --offline /media/usb/root.key --for 365d    the root's key is never on this host
  cloister pki init --instance-id ID --region REGION            also after host.json was lost
""",
    "show": """Print the chain of enclaves started now, where the root's key lives, what is renewed when.

  cloister pki show
  cloister pki show --json
""",
    "export-root": """Print what verifiers need, the root's certificate; nothing in it is secret.

  cloister pki export-root root.pem
  cloister pki export-root --all --fingerprint    of all roots that this host accepts

A file that is there already with other content stays as it is.
""",
    "rotate": """Replace the root, or an authority below it.

  cloister pki rotate                       the old root's documents are accepted for a day
  cloister pki rotate --distrust-old        every older root is refused at once: somebody has a key
  cloister pki rotate --level regional --root-key /media/usb/root.key --for 365d
                                            for another year without the root's key

The new key lies on this host unless --offline or --key says otherwise.
""",
    "take-offline": """Issue regional authorities for some time, then carry the root's key away.

  cloister pki take-offline /media/usb/root.key --for 365d

The file is written, read back and tried first; then the key leaves this host. Authorities come in steps of
14 days, so that the last of them may serve longer than asked for.
""",
    "import": """Take a root's key back, or a bundle of another host, and issue under it.

  cloister pki import /media/usb/root.key
  cloister pki import b.bundle --replace    give up the root that is here; it is accepted for a day
""",
    "delegate": """Write a bundle that lets another host issue under this root, in one region and for a while.

  cloister pki delegate --region eu-west-1 --for 90d --out b.bundle
  cloister pki import b.bundle              there; then remove the file

Who has the bundle can issue until it ends: protect it as a key.
""",
}
