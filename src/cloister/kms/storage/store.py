"""The store: keys, aliases and identities behind one small interface, over SQLAlchemy Core.

Reads are cached for as long as the database says that nobody, this process included, has written to it. A
method that writes returns only after its transaction is on the disk.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from cloister.errors import CloisterError
from cloister.kms.keys import Key, KeyState, Material, key_arn
from cloister.kms.policy import Caller, PolicyDocument
from cloister.kms.storage.rootkey import RootKey
from cloister.kms.storage.schema import (
    ACCESS_KEYS,
    ALIASES,
    IDENTITIES,
    IDENTITY_POLICIES,
    KEYS,
    MATERIALS,
    METADATA,
    SCHEMA_VERSION,
    SETTINGS,
    TAGS,
    sqlite_engine,
)

T = TypeVar("T")
MAX_CACHED = 10_000


class StoreError(CloisterError):
    """The database is not one that this version can use."""


class AliasTakenError(CloisterError):
    """An alias of that name exists."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key with its secret and the caller it stands for."""

    access_key_id: str
    secret: str = field(repr=False)
    caller: Caller
    unique_id: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a key."""

    name: str
    key_id: str
    created: datetime


class Store:
    """One account's keys and identities in one region."""

    def __init__(self, path: Path, root_key: RootKey) -> None:
        self._root_key = root_key
        self._reader = sqlite_engine(path, writer=False).connect()
        self._reader = self._reader.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = sqlite_engine(path, writer=True)
        self._version_cursor = self._reader.connection.cursor()
        self._cache: dict[tuple[str, str], Any] = {}
        self._cached_version = -1
        settings = self._read_settings()
        self.account = settings["account"]
        self.region = settings["region"]

    @classmethod
    def create(cls, path: Path, root_key: RootKey, *, account: str, region: str) -> "Store":
        """Make a database with its tables, 0600 as its log will be, for one account and region."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        engine = sqlite_engine(path, writer=True)
        with engine.begin() as connection:
            METADATA.create_all(connection)
            settings = {"schema_version": str(SCHEMA_VERSION), "account": account, "region": region}
            connection.execute(insert(SETTINGS), [{"name": n, "value": v} for n, v in settings.items()])
        engine.dispose()
        return cls(path, root_key)

    def close(self) -> None:
        """Close the database."""
        self._version_cursor.close()
        self._reader.close()
        self._reader.engine.dispose()
        self._writer.dispose()

    def _read_settings(self) -> dict[str, str]:
        rows = self._reader.execute(select(SETTINGS.c.name, SETTINGS.c.value)).all()
        settings = {row.name: row.value for row in rows}
        version = settings.get("schema_version")
        if version != str(SCHEMA_VERSION):
            raise StoreError(
                f"the KMS database has schema {version}; this version reads schema {SCHEMA_VERSION}"
            )
        return settings

    # --- keys

    def key(self, key_id: str) -> Key | None:
        """Return a key by its id."""
        return self._cached("key", key_id, self._load_key)

    def keys(self, *, after: str, limit: int) -> list[str]:
        """Return key ids in order, those after one id."""
        query = select(KEYS.c.key_id).where(KEYS.c.key_id > after).order_by(KEYS.c.key_id).limit(limit)
        return list(self._reader.execute(query).scalars())

    def add_key(self, key: Key) -> None:
        """Store a new key with its material and tags."""
        with self._writer.begin() as connection:
            connection.execute(
                insert(KEYS).values(
                    key_id=key.key_id,
                    spec=key.spec,
                    usage=key.usage,
                    origin=key.origin,
                    description=key.description,
                    state=key.state.value,
                    created_ms=_ms(key.created),
                    multi_region=key.multi_region,
                    policy=key.policy.text,
                )
            )
            connection.execute(
                insert(MATERIALS),
                [
                    {
                        "key_id": key.key_id,
                        "generation": material.generation,
                        "material_id": material.material_id,
                        "sealed": self._root_key.seal(
                            material.secret, _owner(key.key_id, material.generation)
                        ),
                    }
                    for material in key.materials.values()
                ],
            )
            if key.tags:
                rows = [{"key_id": key.key_id, "name": n, "value": v} for n, v in key.tags.items()]
                connection.execute(insert(TAGS), rows)

    def set_policy(self, key_id: str, policy: PolicyDocument) -> None:
        """Replace a key's policy."""
        with self._writer.begin() as connection:
            connection.execute(update(KEYS).where(KEYS.c.key_id == key_id).values(policy=policy.text))

    def set_state(self, key_id: str, state: KeyState, deletion: datetime | None = None) -> None:
        """Move a key to another state."""
        values = {"state": state.value, "deletion_ms": None if deletion is None else _ms(deletion)}
        with self._writer.begin() as connection:
            connection.execute(update(KEYS).where(KEYS.c.key_id == key_id).values(values))

    # --- aliases

    def alias(self, name: str) -> Alias | None:
        """Return an alias by its name, ``alias/`` included."""
        return self._cached("alias", name, self._load_alias)

    def aliases(self, *, after: str, limit: int, key_id: str | None = None) -> list[Alias]:
        """Return aliases in order of name, those after one name, perhaps of one key only."""
        query = select(ALIASES).where(ALIASES.c.name > after).order_by(ALIASES.c.name).limit(limit)
        if key_id is not None:
            query = query.where(ALIASES.c.key_id == key_id)
        return [_alias(row) for row in self._reader.execute(query)]

    def add_alias(self, alias: Alias) -> None:
        """Store a new alias; raises AliasTakenError."""
        values = {"name": alias.name, "key_id": alias.key_id, "created_ms": _ms(alias.created)}
        try:
            with self._writer.begin() as connection:
                connection.execute(insert(ALIASES).values(values))
        except IntegrityError as error:
            raise AliasTakenError(f"an alias {alias.name} exists already") from error

    # --- identities

    def credential(self, access_key_id: str) -> Credential | None:
        """Return an access key by its id."""
        return self._cached("credential", access_key_id, self._load_credential)

    def credentials_of(self, arn: str) -> list[Credential]:
        """Return the access keys of one identity, in order."""
        query = select(ACCESS_KEYS.c.access_key_id).where(ACCESS_KEYS.c.arn == arn)
        ids = sorted(self._reader.execute(query).scalars())
        return [credential for i in ids if (credential := self.credential(i)) is not None]

    def has_identity(self, arn: str) -> bool:
        """Tell whether a user or role of this ARN exists."""
        return self._cached("identity", arn, self._load_identity) is not None

    def add_identity(
        self,
        arn: str,
        unique_id: str,
        *,
        policies: dict[str, PolicyDocument],
        access_key: tuple[str, str],
        session_name: str | None = None,
    ) -> None:
        """Store a user or role with its policies and one access key (id and secret)."""
        access_key_id, secret = access_key
        with self._writer.begin() as connection:
            connection.execute(insert(IDENTITIES).values(arn=arn, unique_id=unique_id))
            for name, policy in policies.items():
                connection.execute(insert(IDENTITY_POLICIES).values(arn=arn, name=name, document=policy.text))
            connection.execute(
                insert(ACCESS_KEYS).values(
                    access_key_id=access_key_id,
                    arn=arn,
                    session_name=session_name,
                    sealed_secret=self._root_key.seal(secret.encode(), access_key_id),
                )
            )

    # --- reading

    def _cached(self, kind: str, name: str, load: Callable[[str], T]) -> T:
        """Return what was loaded before, unless the database has changed since."""
        version = self._version_cursor.execute("PRAGMA data_version").fetchone()[0]
        if version != self._cached_version or len(self._cache) > MAX_CACHED:
            self._cache.clear()
            self._cached_version = version
        entry = (kind, name)
        if entry not in self._cache:
            value = load(name)
            if value is None:
                return value
            self._cache[entry] = value
        found: T = self._cache[entry]
        return found

    def _load_key(self, key_id: str) -> Key | None:
        row = self._reader.execute(select(KEYS).where(KEYS.c.key_id == key_id)).one_or_none()
        if row is None:
            return None
        materials = self._reader.execute(select(MATERIALS).where(MATERIALS.c.key_id == key_id)).all()
        tags = self._reader.execute(select(TAGS).where(TAGS.c.key_id == key_id)).all()
        names = self._reader.execute(select(ALIASES.c.name).where(ALIASES.c.key_id == key_id)).scalars()
        return Key(
            key_id=key_id,
            arn=key_arn(self.region, self.account, key_id),
            account=self.account,
            region=self.region,
            spec=row.spec,
            usage=row.usage,
            origin=row.origin,
            description=row.description,
            state=KeyState(row.state),
            created=_moment(row.created_ms),
            deletion=None if row.deletion_ms is None else _moment(row.deletion_ms),
            policy=PolicyDocument.key_policy(row.policy, kept=True),
            materials={m.generation: self._open_material(key_id, m) for m in materials},
            tags={tag.name: tag.value for tag in tags},
            aliases=tuple(sorted(names)),
            multi_region=row.multi_region,
        )

    def _open_material(self, key_id: str, row: Any) -> Material:
        secret = self._root_key.open(row.sealed, _owner(key_id, row.generation))
        return Material(generation=row.generation, material_id=row.material_id, secret=secret)

    def _load_alias(self, name: str) -> Alias | None:
        row = self._reader.execute(select(ALIASES).where(ALIASES.c.name == name)).one_or_none()
        return None if row is None else _alias(row)

    def _load_identity(self, arn: str) -> str | None:
        query = select(IDENTITIES.c.unique_id).where(IDENTITIES.c.arn == arn)
        return self._reader.execute(query).scalar_one_or_none()

    def _load_credential(self, access_key_id: str) -> Credential | None:
        query = select(ACCESS_KEYS).where(ACCESS_KEYS.c.access_key_id == access_key_id)
        row = self._reader.execute(query).one_or_none()
        if row is None:
            return None
        secret = self._root_key.open(row.sealed_secret, access_key_id).decode()
        policies = self._reader.execute(
            select(IDENTITY_POLICIES)
            .where(IDENTITY_POLICIES.c.arn == row.arn)
            .order_by(IDENTITY_POLICIES.c.name)
        ).all()
        documents = {p.name: PolicyDocument.identity_policy(p.document) for p in policies}
        arn, role_arn = row.arn, None
        if row.session_name is not None:
            role_arn = row.arn
            name = role_arn.rpartition("/")[2]
            arn = f"arn:aws:sts::{self.account}:assumed-role/{name}/{row.session_name}"
        caller = Caller(arn=arn, account=self.account, role_arn=role_arn, policies=documents)
        unique_id = self._load_identity(row.arn) or ""
        return Credential(access_key_id=access_key_id, secret=secret, caller=caller, unique_id=unique_id)


def _owner(key_id: str, generation: int) -> str:
    return f"key {key_id} generation {generation}"


def _alias(row: Any) -> Alias:
    return Alias(name=row.name, key_id=row.key_id, created=_moment(row.created_ms))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
