"""What a workflow gives is stored as it is, also where JSON has no word for it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.numbers import dumps, loads
from wes_bridge.store.runs import (
    NewRun,
    TaskRow,
    claim_runs,
    create_run,
    get_run,
    journal,
    put_tasks,
    set_run_state,
)
from wes_bridge.store.tables import SERVICE

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_values_come_back(value: Any) -> None:
    text = dumps(value)
    json.loads(text, parse_constant=pytest.fail)
    assert repr(loads(text)) == repr(value)
    assert repr(loads(text.encode())) == repr(value)


def test_outputs_and_journal_keep_nan(url: str) -> None:
    database = Database(url, SERVICE)
    outputs = {"flux": [1.5, math.nan, math.inf, -math.inf], "text": "NaN \ud800 \x00"}
    with database.write() as connection:
        create_run(connection, NewRun("run", "local", {"workflow_params": {"x": math.nan}}, {}, "w"))
        (row,) = claim_runs(connection, "w", 60, 1, 0.0)
        task = TaskRow("run", "t", 1, "t", "t", outcome={"outputs": outputs, "status": "success"})
        assert put_tasks(connection, [task]) == frozenset()
        set_run_state(connection, "run", row.fence, State.COMPLETE, outputs=outputs)
    found = get_run(database, "run")
    assert found is not None
    assert repr(found.outputs) == repr(outputs)
    assert repr(found.request) == repr({"workflow_params": {"x": math.nan}})
    assert repr(journal(database, "run")[0].outcome) == repr({"outputs": outputs, "status": "success"})
    database.close()
