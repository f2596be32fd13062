"""The way a request has come, by the ``Via`` header (RFC 9110, 7.6.3): so that circles of aggregators end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MARK = "wes-bridge-"
_ENTRY = re.compile(r"\s*\S+\s+(" + _MARK + r"[0-9a-f]+)\s*(?:\(([^()]*)\))?\s*")


@dataclass(frozen=True)
class Way:
    """The aggregators a request has come through.

    Attributes:
        header: the ``Via`` header as it came, all entries.
        ids: of the aggregators, the first first.
        names: theirs.
    """

    header: str = ""
    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def read(cls, headers: Sequence[str]) -> Way:
        """The way that the ``Via`` headers of a request tell."""
        joined = ", ".join(header for header in headers if header.strip())
        found = [match for part in joined.split(",") if (match := _ENTRY.fullmatch(part))]
        return cls(joined, tuple(match[1] for match in found), tuple(match[2] or "?" for match in found))

    def onward(self, own: str, name: str) -> str:
        """The header for requests of ours."""
        entry = f"1.1 {_MARK}{own} ({name})"
        return f"{self.header}, {entry}" if self.header else entry

    def problem(self, own: str, most: int) -> str | None:
        """Why the request must go no further; None when it may."""
        shown = " -> ".join(self.names)
        if _MARK + own in self.ids:
            return f"this request has been here before ({shown}): aggregators ask each other in a circle"
        if len(self.ids) >= most:
            return f"this request has come through {len(self.ids)} aggregators ({shown}); {most} are allowed"
        return None
