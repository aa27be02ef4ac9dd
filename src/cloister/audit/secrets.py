"""Likely secrets: forms that are hardly ever anything else, and places where they are usually kept.

A form is looked for by a fixed beginning first, which is fast, and then judged by all of it. Examples of
documentation (keys that end in EXAMPLE) and public keys are no secrets. Forms: AWS's "Understanding unique
ID prefixes", GitHub's "About authentication: token formats", GitLab's "Token overview", Slack's "Token
types", RFC 7468.
"""

import re
from typing import Final

from cloister.audit.findings import Findings
from cloister.mapped import RESIDENT, release

_CHUNK: Final = 1 << 20
_OVERLAP: Final = 512
"""Bytes of the next chunk seen with this one; longer than what any form needs to be recognised."""

# fixed beginning -> (code, form, what it is)
_FORMS: Final[dict[bytes, tuple[str, re.Pattern[bytes], str]]] = {
    beginning: (code, re.compile(form), what)
    for beginning, code, form, what in (
        (
            b"-----BEGIN ",
            "L601",
            rb"-----BEGIN ((RSA|EC|DSA|OPENSSH) )?PRIVATE KEY-----(\s|\\[nr]){1,4}(?!Proc-|DEK-)[\w+/=]{32}",
            "a private key in PEM",
        ),
        (b"AKIA", "L603", rb"AKIA[A-Z2-7]{16}(?![A-Za-z0-9+/=_-])", "a long-term access key id"),
        (b"ASIA", "L603", rb"ASIA[A-Z2-7]{16}(?![A-Za-z0-9+/=_-])", "a session's access key id"),
        (b"ghp_", "L604", rb"ghp_[A-Za-z0-9]{36}(?![A-Za-z0-9_])", "a GitHub token"),
        (b"gho_", "L604", rb"gho_[A-Za-z0-9]{36}(?![A-Za-z0-9_])", "a GitHub token"),
        (b"ghs_", "L604", rb"ghs_[A-Za-z0-9]{36}(?![A-Za-z0-9_])", "a GitHub token"),
        (b"github_pat_", "L604", rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", "a GitHub token"),
        (b"glpat-", "L604", rb"glpat-[A-Za-z0-9_-]{20}", "a GitLab token"),
        (b"xoxb-", "L604", rb"xoxb-[0-9]{10,13}-[0-9]{10,13}-[A-Za-z0-9]{20}", "a Slack token"),
        (b"xoxp-", "L604", rb"xoxp-[0-9]{10,13}-[0-9]{10,13}-[A-Za-z0-9-]{20}", "a Slack token"),
        (b"sk_live_", "L604", rb"sk_live_[A-Za-z0-9]{24}", "a Stripe key"),
        (b"npm_", "L604", rb"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])", "an npm token"),
        (
            b"client-key-data:",
            "L601",
            rb"client-key-data: {1,4}[A-Za-z0-9+/=]{64}",
            "a kubeconfig's private key",
        ),
    )
}
_ENCRYPTED: Final = re.compile(
    rb"-----BEGIN (ENCRYPTED PRIVATE KEY-----(\s|\\[nr]){1,4}[A-Za-z0-9+/=]{32}"
    rb"|(RSA |EC |DSA )PRIVATE KEY-----(\s|\\[nr]){1,4}(Proc-Type|DEK-Info))"
)
_PLACES: Final = re.compile(
    rb"(^|.*/)(\.aws/credentials|\.netrc|\.pgpass|\.git-credentials|\.pypirc|\.docker/config\.json|\.kube/config"
    rb"|\.config/gcloud/credentials\.db|application_default_credentials\.json|\.ssh/(id_[a-z0-9_]+|identity)"
    rb"|etc/ssh/ssh_host_[a-z0-9]+_key|etc/krb5\.keytab|[^/]+\.(p12|pfx|jks|keystore)|\.vault-token)",
    re.DOTALL,
)
_VARIABLES: Final = re.compile(
    rb"(^|.*/)\.env(\.(local|prod|production|dev|development|staging))?", re.DOTALL
)
_HISTORY: Final = re.compile(rb"(^|.*/)\.(git|hg|svn)", re.DOTALL)
_SECRET_NAME: Final = re.compile(
    rb"(.*_)?(SECRET|SECRET_KEY|SECRET_ACCESS_KEY|PASSWORD|PASSWD|PASSPHRASE|PRIVATE_KEY|API_?KEY|TOKEN|CREDENTIALS)",
    re.IGNORECASE,
)
_MAX_VARIABLES: Final = 1 << 20


class SecretScanner:
    """Looks at names and bytes, and notes what it finds; the secret itself is never repeated."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def judge_name(self, name: bytes, is_directory: bool, where: str) -> None:
        """Judge where a file is kept."""
        if is_directory:
            if _HISTORY.fullmatch(name):
                self._findings.add("L606", where, "A version-control directory.")
        elif _PLACES.fullmatch(name):
            self._findings.add("L605", where, "Credentials are usually kept in files of this name.")
        elif _VARIABLES.fullmatch(name):
            self._findings.add("L607", where, "A file of variables.")

    def judge_variables(self, content: memoryview, where: str) -> None:
        """Judge the names in the enclave's ``env``: one ``NAME=VALUE`` a line."""
        for line in bytes(content[:_MAX_VARIABLES]).splitlines():
            name, _, value = line.partition(b"=")
            if len(name) <= 256 and value and _SECRET_NAME.fullmatch(name):
                self._findings.add("L608", where, f"{name.decode('ascii', 'backslashreplace')} has a value.")

    def scan(self, content: memoryview, where: str) -> None:
        """Look through a file, a megabyte at a time; each form is told once a file."""
        told = set[tuple[str, str]]()
        for start in range(0, len(content), _CHUNK):
            if start and start % RESIDENT == 0:
                release(content)
            # one byte more at the beginning, to see whether a form starts in the middle of something longer
            first = max(start - 1, 0)
            chunk = bytes(content[first : start + _CHUNK + _OVERLAP])
            for beginning in _FORMS:
                at = chunk.find(beginning, start - first)
                while 0 <= at < start - first + _CHUNK:
                    kind = _judge(chunk, at, beginning)
                    if kind is not None and kind not in told:
                        told.add(kind)
                        code, what = kind
                        self._findings.add(code, where, f"At byte {first + at} there is {what}.")
                    at = chunk.find(beginning, at + len(beginning))


def _judge(chunk: bytes, at: int, beginning: bytes) -> tuple[str, str] | None:
    """Return the code and what it is, if this is the form that begins so."""
    code, form, what = _FORMS[beginning]
    previous = chunk[at - 1 : at] if at else b""
    if code != "L601" and (previous.isalnum() or previous in (b"_", b"+", b"/")):
        return None
    found = form.match(chunk, at)
    if found is not None and b"EXAMPLE" not in found[0]:
        return code, what
    if code == "L601" and _ENCRYPTED.match(chunk, at):
        return "L602", "an encrypted private key in PEM"
    return None
