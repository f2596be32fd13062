"""docs/security.md names a test for each attack: each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "security.md"


def test_each_attack_has_a_test_that_is_there() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and ".py" in line]
    assert len(rows) > 50
    missing = [named for row in rows for named in _named(row) if not _is_there(named)]
    assert missing == []
    assert all(_named(row) for row in rows)


def _named(row: str) -> list[str]:
    return re.findall(r"`([\w/]+\.py(?:::\w+)?)`", row.rsplit(" | ", maxsplit=1)[-1])


def _is_there(named: str) -> bool:
    path, _, name = named.partition("::")
    file = TESTS / path
    return file.is_file() and (not name or f"def {name}(" in file.read_text())
