"""Make the KMS's state: root key, database, and one account's administrator and enclave role.

All or nothing: it is built beside its place and moved there in one rename.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloister.errors import CloisterError
from cloister.kms.policy import PolicyDocument
from cloister.kms.storage.rootkey import RootKey
from cloister.kms.storage.store import Credential, Store
from cloister.pki import check_region

ACCOUNT = "000000000000"
REGION = "us-east-1"
ADMINISTRATOR, ENCLAVE = "administrator", "enclave"
SESSION = "cloister"

ROOT_KEY_NAME = "root.key"
DATABASE_NAME = "kms.sqlite3"
CREDENTIALS_NAME = "credentials"

_ADMINISTRATOR_POLICY = """{
  "Version" : "2012-10-17",
  "Statement" : [ { "Sid" : "Administrator", "Effect" : "Allow", "Action" : "kms:*", "Resource" : "*" } ]
}"""
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class KmsStateError(CloisterError):
    """The KMS's state cannot be made as asked, or not here."""


class KmsMissingError(KmsStateError):
    """There is no KMS state yet, or only a part of it."""


@dataclass(frozen=True, slots=True)
class Account:
    """What set-up made: one account in one region, and where its credentials lie."""

    account: str
    region: str
    credentials: Path
    """A directory of AWS shared-credentials files, named after the user and the role."""

    @property
    def administrator(self) -> Path:
        """The administrator's credentials file."""
        return self.credentials / ADMINISTRATOR

    @property
    def enclave(self) -> Path:
        """The enclave role's credentials file."""
        return self.credentials / ENCLAVE


def initialise_kms(directory: Path, *, account: str = ACCOUNT, region: str = REGION) -> Account:
    """Make the KMS's state in a directory, or leave what is there; safe to repeat and to interrupt.

    Raises KmsStateError, and PkiError for a region that is none.
    """
    if not re.fullmatch(r"[0-9]{12}", account):
        raise KmsStateError(f"the account '{account}' is not a number of 12 digits")
    check_region(region)
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory.parent):
        if not (directory / ROOT_KEY_NAME).exists():
            _build(directory, account, region)
        store = open_store(directory)
        try:
            for name, arn in _identities(store.account).items():
                for credential in store.credentials_of(arn)[:1]:
                    _write_credentials(directory / CREDENTIALS_NAME / name, credential)
            return Account(store.account, store.region, directory / CREDENTIALS_NAME)
        finally:
            store.close()


def open_store(directory: Path) -> Store:
    """Open the state that ``initialise_kms`` made; raises KmsMissingError."""
    if not (directory / ROOT_KEY_NAME).exists() or not (directory / DATABASE_NAME).exists():
        raise KmsMissingError(f"there is no KMS state in {directory}: run 'cloister setup'")
    return Store(directory / DATABASE_NAME, RootKey.read(directory / ROOT_KEY_NAME))


def _identities(account: str) -> dict[str, str]:
    return {
        ADMINISTRATOR: f"arn:aws:iam::{account}:user/{ADMINISTRATOR}",
        ENCLAVE: f"arn:aws:iam::{account}:role/{ENCLAVE}",
    }


def _build(directory: Path, account: str, region: str) -> None:
    """Build beside the directory, then rename; an empty directory in the place is replaced."""
    if directory.exists() and any(directory.iterdir()):
        raise KmsStateError(
            f"{directory} holds files but no KMS root key: move them away, then run set-up again"
        )
    for left in directory.parent.glob(f".{directory.name}-*"):  # from an attempt that was killed
        shutil.rmtree(left, ignore_errors=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        root_key = RootKey.create(stage / ROOT_KEY_NAME)
        (stage / CREDENTIALS_NAME).mkdir(mode=0o700)
        store = Store.create(stage / DATABASE_NAME, root_key, account=account, region=region)
        arns = _identities(account)
        store.add_identity(
            arns[ADMINISTRATOR],
            _new_id("AIDA"),
            policies={"AdministratorPolicy": PolicyDocument.identity_policy(_ADMINISTRATOR_POLICY)},
            access_key=(_new_id("AKIA"), secrets.token_urlsafe(30)),
        )
        store.add_identity(
            arns[ENCLAVE],
            _new_id("AROA"),
            policies={},
            access_key=(_new_id("AKIA"), secrets.token_urlsafe(30)),
            session_name=SESSION,
        )
        store.close()
        stage.rename(directory)
        _synchronise(directory.parent)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def _new_id(prefix: str) -> str:
    """Return an identifier in AWS's form: 4 letters that tell its kind, then 16 of base 32."""
    return prefix + "".join(secrets.choice(_BASE32) for _ in range(16))


def _write_credentials(path: Path, credential: Credential) -> None:
    """Write a shared-credentials file, 0600, unless it is there and right."""
    text = (
        "[default]\n"
        f"aws_access_key_id = {credential.access_key_id}\n"
        f"aws_secret_access_key = {credential.secret}\n"
    )
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        if path.read_text() == text and path.stat().st_mode & 0o077 == 0:
            return
    except FileNotFoundError:
        pass
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # 0600 from the start
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    Path(name).rename(path)
    _synchronise(path.parent)


def _synchronise(directory: Path) -> None:
    """Make renames in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time make state."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
