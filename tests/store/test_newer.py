"""A database that a newer version has used is refused in words, and left as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.store.conftest import Urls
from wes_bridge.store.aggregator import AGGREGATOR
from wes_bridge.store.database import Database, NewerDatabaseError, Schema
from wes_bridge.store.node_sessions import NODE
from wes_bridge.store.tables import SERVICE

WORDS = (
    "its schema is '0999', and this version of wes-bridge knows those up to",
    "Start that version again, or restore the backup",
)


def made_newer(url: str, schema: Schema) -> None:
    Database(url, schema).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    engine.dispose()


@pytest.mark.parametrize("schema", [SERVICE, NODE, AGGREGATOR], ids=["service", "node", "aggregator"])
def test_it_is_refused(new_url: Urls, schema: Schema) -> None:
    url = new_url()
    made_newer(url, schema)
    for _ in range(2):
        with pytest.raises(NewerDatabaseError) as refused:
            Database(url, schema)
        assert all(words in str(refused.value) for words in WORDS)


@pytest.mark.parametrize(
    ("words", "name", "schema"),
    [
        (["wes_bridge.cli.main", "serve", "--port", "0", "--state"], "wes-bridge.db", SERVICE),
        (["wes_bridge.cli.main", "clean", "--state"], "wes-bridge.db", SERVICE),
        (
            ["wes_bridge.node.main", "--config-json", '{"name": "n", "port": 0}', "--state-dir"],
            "node.db",
            NODE,
        ),
    ],
    ids=["serve", "clean", "node"],
)
def test_commands_say_so(tmp_path: Path, words: list[str], name: str, schema: Schema) -> None:
    made_newer(f"sqlite:///{tmp_path / name}", schema)
    done = subprocess.run(
        [sys.executable, "-m", *words, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    shutil.rmtree(tmp_path)
    assert done.returncode != 0
    assert all(said in done.stderr for said in WORDS), done.stderr
    assert "Traceback" not in done.stderr
