"""Where values stand in a document: what reading it remembers, for messages that name the line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """Where a value stands.

    Attributes:
        line: counted from 1.
        start, end: of the value in the text, in characters.
    """

    line: int
    start: int
    end: int
