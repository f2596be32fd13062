"""What workers tell of brokers is kept for the API, also in a database made before there was a place."""

import math
import time

from wes_bridge.store.brokers import forget_brokers, list_brokers, put_brokers
from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE


def test_the_newest_report_of_each_worker(url: str) -> None:
    database = Database(url, SERVICE)
    now = time.time()
    with database.write() as connection:
        put_brokers(
            connection, "w1", {"alpha": ("http://a", {"asked": 1}), "old": ("http://o", {})}, now - 200
        )
        put_brokers(connection, "w2", {"alpha": ("http://a", {"asked": 5})}, now - 100)
        put_brokers(connection, "w1", {"alpha": ("http://a", {"asked": 2})}, now)
    assert [(r.worker, r.name, r.report) for r in list_brokers(database, math.inf)] == [
        ("w1", "alpha", {"asked": 2}),
        ("w2", "alpha", {"asked": 5}),
    ]
    assert [r.worker for r in list_brokers(database, 50.0)] == ["w1"]
    with database.write() as connection:
        forget_brokers(connection, now - 50)
    assert len(list_brokers(database, math.inf)) == 1
    database.close()
