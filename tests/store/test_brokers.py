"""What workers tell of brokers is kept for the API, also in a database made before there was a place."""

from pathlib import Path

from sqlalchemy import inspect, text

from wes_bridge.store.brokers import forget_brokers, list_brokers, put_brokers
from wes_bridge.store.database import Database, migrate
from wes_bridge.store.tables import SERVICE


def test_the_newest_report_of_each_worker(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", SERVICE)
    with database.write() as connection:
        put_brokers(connection, "w1", {"alpha": ("http://a", {"asked": 1}), "old": ("http://o", {})}, 10.0)
        put_brokers(connection, "w2", {"alpha": ("http://a", {"asked": 5})}, 20.0)
        put_brokers(connection, "w1", {"alpha": ("http://a", {"asked": 2})}, 30.0)
    assert [(r.worker, r.name, r.report) for r in list_brokers(database, 0.0)] == [
        ("w1", "alpha", {"asked": 2}),
        ("w2", "alpha", {"asked": 5}),
    ]
    assert [r.worker for r in list_brokers(database, 25.0)] == ["w1"]
    with database.write() as connection:
        forget_brokers(connection, 25.0)
    assert len(list_brokers(database, 0.0)) == 1
    database.close()


def test_an_older_database_gets_the_table(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    database = Database(url, SERVICE)
    with database.write() as connection:
        SERVICE.metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    migrate(database.engine, SERVICE.migrations, "0001")
    database.close()
    again = Database(url, SERVICE)
    columns = {column["name"] for column in inspect(again.engine).get_columns("brokers")}
    assert columns == {"worker", "name", "url", "report", "seen"}
    migrate(again.engine, SERVICE.migrations)
    again.close()
