"""The lines before a document's first ``---`` take a time that grows with their number, however they end."""

from __future__ import annotations

import time

import pytest

from wes_bridge.bundle.yaml12 import parse


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("line", ["# a licence: 50 % of nothing", "", "  "])
def test_many_lines_and_no_document_start(line: str, end: str) -> None:
    text = f"# 100 %{end}" + f"{line}{end}" * 10_000 + f"cwlVersion: v1.2{end}"
    begun = time.process_time()
    value, _ = parse(text, "tool.cwl")
    assert time.process_time() - begun < 2
    assert value == {"cwlVersion": "v1.2"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_directive_after_comments(end: str) -> None:
    text = end.join(["# by hand", "", "%YAML-1.1", "---", "cwlVersion: v1.2", ""])
    assert parse(text, "tool.cwl")[0] == {"cwlVersion": "v1.2"}
