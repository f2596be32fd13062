"""Messages hold what a workflow's author wrote: making them readable takes no longer than they are long."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cwltool.errors import WorkflowException

from wes_bridge.cwl.tools.uncollected import why_not_collected
from wes_bridge.data.readable import Readable

SECONDARY = 'Missing required secondary file \'a\' from file object: {\n    "basename": "x"\n '


def readable(text: str) -> str:
    return Readable(Path("/srv/run/attachments"))(text)


def collecting(text: str) -> str:
    return why_not_collected(WorkflowException(text), Path("/srv/run/out"), "/wb-0123")


@pytest.mark.parametrize("words", [readable, collecting])
@pytest.mark.parametrize(
    "text",
    [
        "Missing required secondary file 'a",
        SECONDARY,
        "Output file path ",
        "Output file path a must be within designated output directory (",
        "Did not find output file with glob pattern: [",
        "'utf-8' codec can't decode byte 0 in position ",
        "\n in [",
        "/a:1:",
        "file:///a",
        "object id 'a ",
    ],
)
def test_a_text_that_repeats_a_beginning_holds_nobody_up(words: Callable[[str], str], text: str) -> None:
    begun = time.process_time()
    told = words("the reason: " + text * (1_000_000 // len(text)))
    assert time.process_time() - begun < 2
    assert told.startswith("the reason: ")
    assert len(told) < 20_000


@pytest.mark.parametrize("words", [readable, collecting])
def test_what_is_left_out_of_a_long_text_is_told(words: Callable[[str], str]) -> None:
    assert words("a" * 10_123).endswith("a ... (123 more characters)")
