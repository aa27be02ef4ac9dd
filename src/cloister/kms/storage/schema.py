"""The store's tables, and the settings of each database connection.

One schema for SQLite and PostgreSQL. ``settings`` holds the schema's version: a newer one is refused.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.pool import StaticPool

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 5000  # milliseconds

METADATA = MetaData()

SETTINGS = Table(
    "settings", METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)  # fmt: skip
KEYS = Table(
    "keys", METADATA,
    Column("key_id", String(40), primary_key=True),
    Column("spec", String(32), nullable=False),
    Column("usage", String(32), nullable=False),
    Column("origin", String(32), nullable=False),
    Column("description", Text, nullable=False),
    Column("state", String(32), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("deletion_ms", BigInteger),
    Column("multi_region", Boolean, nullable=False),
    Column("policy", Text, nullable=False),
)  # fmt: skip
MATERIALS = Table(
    "materials", METADATA,
    Column("key_id", ForeignKey("keys.key_id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("material_id", String(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)  # fmt: skip
TAGS = Table(
    "tags", METADATA,
    Column("key_id", ForeignKey("keys.key_id"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
)  # fmt: skip
ALIASES = Table(
    "aliases", METADATA,
    Column("name", String(256), primary_key=True),
    Column("key_id", ForeignKey("keys.key_id"), nullable=False, index=True),
    Column("created_ms", BigInteger, nullable=False),
)  # fmt: skip
IDENTITIES = Table(
    "identities", METADATA,
    Column("arn", String(256), primary_key=True),
    Column("unique_id", String(32), nullable=False, unique=True),
)  # fmt: skip
IDENTITY_POLICIES = Table(
    "identity_policies", METADATA,
    Column("arn", ForeignKey("identities.arn"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
)  # fmt: skip
ACCESS_KEYS = Table(
    "access_keys", METADATA,
    Column("access_key_id", String(128), primary_key=True),
    Column("arn", ForeignKey("identities.arn"), nullable=False),
    Column("session_name", String(64)),
    Column("sealed_secret", LargeBinary, nullable=False),
)  # fmt: skip


def sqlite_engine(path: Path, *, writer: bool) -> Engine:
    """Open one SQLite connection: write-ahead log, every commit synchronised to the disk."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    def configure(connection: Any, _record: Any) -> None:
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def begin_immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", configure)
    if writer:
        event.listen(engine, "begin", begin_immediate)
    return engine
