"""What ``wes-bridge show`` says of choices."""

from wes_bridge.cli.steps import choices


def test_why_not_elsewhere_and_what_went_before_one_line_for_equal_ones() -> None:
    refused = {"node": "swift", "offers": 0, "reason": "it costs up to 10, over max_cost 3"}
    tasks = [
        {
            "name": f"measure[{n}]",
            "node": "green",
            "placement": {"asked": [refused, {"node": "green", "offers": 1}]},
        }
        for n in range(3)
    ]
    earlier = [{"attempt": 1, "node": "old", "problem": "cannot be reached"}]
    tasks += [
        {"name": "plot", "node": "green", "placement": {"asked": [], "earlier": earlier}},
        {"name": "odd"},
        {"name": "image", "node": "green", "placement": {"notes": ["inputs come from old directly"]}},
    ]
    assert choices(tasks) == [
        "measure[0] and 2 more  not swift: it costs up to 10, over max_cost 3",
        "plot  attempt 1 on old: cannot be reached",
        "image  inputs come from old directly",
    ]
