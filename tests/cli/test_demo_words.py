"""What the demonstration says of a step's place."""

from __future__ import annotations

import pytest

from wes_bridge.demo.words import brief


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "nothing is free before 2026-11-23T00:29:06.600Z",
            "nothing is free before 2026-11-23T00:29:06.600Z",
        ),
        ("cheapest: costs 0.0749999", "cheapest: costs 0.075"),
        ("gamma cannot be reached at http://127.0.0.1:4711/requests", "gamma cannot be reached"),
    ],
)
def test_figures_are_short_and_times_stay_times(reason: str, said: str) -> None:
    assert brief({"placement": {"reason": reason}}) == said
