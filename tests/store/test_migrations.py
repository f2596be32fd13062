"""A database made by any release becomes today's, with what is in it."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import MetaData, create_engine, insert, inspect, text

from tests.store.conftest import Urls
from wes_bridge.store.aggregator import AGGREGATOR
from wes_bridge.store.database import Database, Schema, migrate, revisions
from wes_bridge.store.node_sessions import NODE
from wes_bridge.store.tables import SERVICE

SCHEMAS = {"service": SERVICE, "node": NODE, "aggregator": AGGREGATOR}
EACH = [
    pytest.param(schema, revision, id=f"{name}-{revision}")
    for name, schema in SCHEMAS.items()
    for revision in revisions(schema.migrations)
]
VALUES = {"VARCHAR": "x", "TEXT": "x", "JSON": {"a": 1}, "INTEGER": 1, "BIGINT": 1, "BOOLEAN": True}


def shape(url: str, schema: Schema) -> dict[str, object]:
    """Columns and indexes of all tables."""
    engine = create_engine(url)
    look = inspect(engine)
    found: dict[str, object] = {}
    for table in schema.metadata.tables:
        columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in look.get_columns(table)}
        indexes = {i["name"]: i["column_names"] for i in look.get_indexes(table)}
        found[table] = columns, indexes
    engine.dispose()
    return found


def fill(url: str) -> dict[str, dict[str, object]]:
    """A row in each table, as far as the tables of that release go."""
    engine = create_engine(url)
    there = MetaData()
    there.reflect(engine)
    rows: dict[str, dict[str, object]] = {}
    with engine.begin() as connection:
        for table in there.sorted_tables:
            if table.name != "alembic_version":
                row = {c.name: VALUES.get(str(c.type).partition("(")[0], 1.5) for c in table.columns}
                connection.execute(insert(table), row)
                rows[table.name] = row
    engine.dispose()
    return rows


@pytest.mark.parametrize(("schema", "revision"), EACH)
def test_from_every_revision(new_url: Urls, schema: Schema, revision: str) -> None:
    old, made = new_url(), new_url()
    engine = create_engine(old)
    migrate(engine, schema.migrations, revision)
    engine.dispose()
    rows = fill(old)
    database = Database(old, schema)
    Database(made, schema).close()
    assert shape(old, schema) == shape(made, schema)
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == schema.head
        for name, row in rows.items():
            (found,) = connection.execute(schema.metadata.tables[name].select()).mappings()
            assert json.dumps({key: found[key] for key in row}) == json.dumps(row), name
    database.close()


def test_the_head_is_the_newest_revision() -> None:
    assert {name: revisions(name)[-1] for name in SCHEMAS} == {n: s.head for n, s in SCHEMAS.items()}
