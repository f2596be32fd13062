"""Opening a database: one URL in, an SQLAlchemy engine at the newest schema out.

SQLite runs in WAL mode with foreign keys on. PostgreSQL is told to end a transaction that somebody has left
lying about, since its locks would stop all others. It must not know any table: the caller gives the metadata
and the folder of migrations.
"""

from __future__ import annotations

import logging
import time
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.engine import make_url

from wes_bridge.lasting import in_one_line
from wes_bridge.private_files import make_private, private_file
from wes_bridge.store.numbers import dumps, loads
from wes_bridge.store.outage import OUTAGE

logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it names each plug-in
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT = 30.0
"""Seconds a SQLite writer waits for another process's transaction."""
CONNECT_TIMEOUT = 5
"""Seconds a PostgreSQL server has to answer a new connection."""
_POSTGRESQL = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of libpq: a server whose machine is gone is noticed, rather than waited for as long as TCP would."""
_SESSION = "SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '30s'"


@dataclass(frozen=True)
class Schema:
    """A set of tables and where its migrations are.

    Attributes:
        metadata: the tables as they are at ``head``.
        migrations: name of the folder below ``store/migrations``.
        head: the newest Alembic revision.
    """

    metadata: MetaData
    migrations: str
    head: str


class NewerDatabaseError(Exception):
    """The database was made, or brought up to date, by a newer version of wes-bridge."""


class Database:
    """A database at its newest schema.

    Args:
        url: SQLAlchemy URL, for example ``sqlite:///runs.db`` or ``postgresql+psycopg://host/name``. The
            folder of a SQLite file is made if missing.
        schema: the tables it must hold.

    Raises:
        sqlalchemy.exc.OperationalError: it cannot be opened.
        NewerDatabaseError: this version does not know its schema.
    """

    def __init__(self, url: str, schema: Schema) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database not in (None, "", ":memory:"):
            file = Path(str(self.url.database))
            make_private(file.parent)
            if not file.exists():  # SQLite gives what belongs to it, its log of writes, the same mode
                private_file(file)
        self.engine = _engine(url, self.is_sqlite)
        self._reader = self.engine.execution_options(writes=False)
        _bring_to_head(self.engine, schema)

    def read(self) -> AbstractContextManager[Connection]:
        """A connection to read with; it waits for no writer."""
        return self._reader.connect()

    def write(self) -> AbstractContextManager[Connection]:
        """A connection in a transaction that commits at the end of the block."""
        return self.engine.begin()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def clock(connection: Connection) -> float:
    """Seconds since the epoch by the clock that all who share the database see: leases are told by it.

    PostgreSQL's own, since workers on several machines need not agree; with SQLite all are on one machine.
    """
    if connection.dialect.name == "postgresql":
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return time.time()


def one_at_a_time(connection: Connection, what: str) -> None:
    """Wait until no other transaction does this; SQLite's writers are alone anyway."""
    if connection.dialect.name == "postgresql":
        key = zlib.crc32(f"wes-bridge {what}".encode())
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def cannot_open(error: Exception) -> str:
    """What keeps a database from being opened, in the words of its driver, without what SQLAlchemy adds."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("psycopg"):
        return "cannot open the database: PostgreSQL's driver is not installed: pip install psycopg[binary]"
    return f"cannot open the database: {in_one_line(error)}"


def _engine(url: str, is_sqlite: bool) -> Engine:
    json = {"json_serializer": dumps, "json_deserializer": loads}
    if not is_sqlite:
        return _postgresql(url, json)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False}, **json)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A reader that turns writer inside a deferred transaction can fail with SQLITE_BUSY at once;
        # taking the write lock first makes it wait instead.
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: str, json: Any) -> Engine:
    engine = create_engine(url, pool_pre_ping=True, pool_size=10, connect_args=dict(_POSTGRESQL), **json)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
        connection.commit()

    @event.listens_for(engine, "checkout")
    def on_checkout(*_: object) -> None:  # the connection has just been tried
        OUTAGE.over()

    return engine


def _bring_to_head(engine: Engine, schema: Schema) -> None:
    current = _revision(engine)
    if current == schema.head:
        return
    if current is None and _made_new(engine, schema):
        return
    known = revisions(schema.migrations)
    if current is not None and current not in known:
        raise NewerDatabaseError(
            f"its schema is {current!r}, and this version of wes-bridge knows those up to {known[-1]!r}:"
            " a newer version has used it, and there is no way back. Start that version again, or restore the"
            " backup that was made before the update"
        )
    migrate(engine, schema.migrations)


def _made_new(engine: Engine, schema: Schema) -> bool:
    """Make the tables of an empty database; false when it is not empty (or not any more).

    Several processes open a new database at once: who comes first makes the tables, in one transaction.
    """
    with engine.begin() as connection:
        one_at_a_time(connection, "schema")
        if inspect(connection).has_table("alembic_version"):
            return True
        if inspect(connection).get_table_names():
            return False
        schema.metadata.create_all(connection)
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(
            text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": schema.head}
        )
    return True


def _revision(engine: Engine) -> str | None:
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: Engine, migrations: str, revision: str = "head") -> None:
    """Run the Alembic migrations in folder ``migrations`` up to ``revision``.

    Imported late: Alembic costs half a second and a database at its newest schema never needs it.
    """
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS / migrations))
    with engine.begin() as connection:
        one_at_a_time(connection, "schema")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def revisions(migrations: str) -> list[str]:
    """All Alembic revisions in folder ``migrations``, oldest first."""
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS / migrations))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
